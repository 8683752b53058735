"""dvc.yaml against the code: what a stage depends on, and which systems there are."""

import ast
import re
from pathlib import Path

import grimp
import pytest
import yaml

from cxr import params

ROOT = Path(__file__).resolve().parents[1]
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# No result depends on tracking (import-linter holds that), so an edit to it must train nothing.
UNTRACKED = {"src/cxr/tracking.py"}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("cxr", cache_dir=None)


def path_of(module: str) -> str:
    folder = ROOT / "src" / Path(*module.split("."))
    file = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    return str(file.relative_to(ROOT))


def imported(graph: grimp.ImportGraph, stage: str) -> set[str]:
    """Follow a stage's imports through the library, packages that they pass through included."""
    direct = set()
    for script in ("__init__", stage):
        tree = ast.parse((ROOT / "stages" / f"{script}.py").read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "cxr":
                named = {f"{node.module}.{alias.name}" for alias in node.names}
                direct |= (named & graph.modules) | ({node.module} - {"cxr"})
    direct -= {"cxr.tracking"}
    upstream = set.union(*(graph.find_upstream_modules(module) for module in direct))
    packages = {m.rpartition(".")[0] for m in direct | upstream} - {"cxr"}
    through = set().union(*(graph.find_upstream_modules(package) for package in packages))
    return {path_of(module) for module in direct | upstream | packages | through} - UNTRACKED


def body(stage: str) -> dict:
    return PIPELINE[stage].get("do", PIPELINE[stage])


@pytest.mark.parametrize("stage", PIPELINE)
def test_stage_depends_on_exactly_the_modules_it_imports(graph, stage):
    code = {dep for dep in body(stage)["deps"] if dep.startswith(("src/", "stages/"))}
    scripts = {"stages/__init__.py", f"stages/{stage}.py"}
    templates = {dep for dep in code if dep.endswith(".j2")}
    assert code - templates == imported(graph, stage) | scripts
    assert templates == ({"src/cxr/report/report.html.j2"} if stage == "compare" else set())


def test_every_system_is_trained_and_nothing_else():
    assert list(PIPELINE["train"]["foreach"]) == list(params.load(ROOT / "params.yaml").systems)


def test_a_system_depends_on_the_perturbation_where_a_phase_trains_on_it():
    systems = params.load(ROOT / "params.yaml").systems
    lines = PIPELINE["train"]["foreach"]
    asked = {name for name, line in lines.items() if line["also"] == "perturbation"}
    assert asked == {name for name, line in lines.items() if "--perturbed" in line["args"]}
    assert asked == {name for name, system in systems.items() if system.perturbs}


def test_every_system_has_its_image_size_cached():
    cached = re.findall(r"systems\.(\w+)\.image_size", str(PIPELINE["preprocess"]["foreach"]))
    assert cached == list(PIPELINE["train"]["foreach"])


@pytest.mark.parametrize("stage", PIPELINE)
def test_stage_has_a_thin_script(stage):
    code = (ROOT / "stages" / f"{stage}.py").read_text().splitlines()
    assert len(code) < 95
