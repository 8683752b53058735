"""dvc.yaml against the code: the dependencies of each stage, and the systems."""

import ast
import re
from pathlib import Path

import grimp
import pytest
from ruamel.yaml import YAML

from cxr import params
from cxr.training import fit

ROOT = Path(__file__).resolve().parents[1]
PIPELINE = YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")["stages"]
# In no list: no result depends on tracking (import-linter checks that) or on what is printed, and
# params.py and system.py are only a schema, with its messages. DVC tracks the values that a
# stage reads.
UNTRACKED = (
    "src/cxr/tracking/", "src/cxr/params.py", "src/cxr/system.py", "src/cxr/mistakes.py",
    "src/cxr/quiet.py",
)  # fmt: skip


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("cxr", cache_dir=None)


def path_of(module: str) -> str:
    folder = ROOT / "src" / Path(*module.split("."))
    file = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    return str(file.relative_to(ROOT))


def has_code(path: str) -> bool:
    """Tell whether a file is more than a docstring; nothing can depend on a docstring."""
    return len(ast.parse((ROOT / path).read_bytes()).body) > 1


def imported(graph: grimp.ImportGraph, stage: str) -> set[str]:
    """Follow a stage's imports through the library, packages that they pass through included."""
    direct = set()
    for script in ("__init__", stage):
        tree = ast.parse((ROOT / "stages" / f"{script}.py").read_bytes())
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "cxr":
                named = {f"{node.module}.{alias.name}" for alias in node.names}
                direct |= (named & graph.modules) or {node.module}
    direct = {module for module in direct - {"cxr"} if not module.startswith("cxr.tracking")}
    found, new = set(), direct
    while new:
        found |= new
        upstream = set().union(*(graph.find_upstream_modules(module) for module in new))
        packages = {m.rpartition(".")[0] for m in found | upstream} - {"cxr", ""}
        new = (upstream | packages) - found
    paths = {path_of(module) for module in found}
    return {p for p in paths if has_code(p) and not p.startswith(UNTRACKED)}


def listed(stage: str) -> set[str]:
    """Return the files of code that dvc.yaml lists for a stage, those of its folders too."""
    code = [dep for dep in body(stage)["deps"] if dep.startswith(("src/", "stages/"))]
    files = [
        str(path.relative_to(ROOT))
        for dep in code
        for path in ([ROOT / dep] if (ROOT / dep).is_file() else sorted((ROOT / dep).rglob("*.*")))
        if "__pycache__" not in path.parts
    ]
    return {file for file in files if not file.endswith(".py") or has_code(file)}


def body(stage: str) -> dict:
    return PIPELINE[stage].get("do", PIPELINE[stage])


@pytest.mark.parametrize("stage", PIPELINE)
def test_stage_depends_on_exactly_the_modules_it_imports(graph, stage):
    scripts = {"stages/__init__.py", f"stages/{stage}.py"}
    folder = ROOT / "src/cxr/report/templates"
    templates = {str(file.relative_to(ROOT)) for file in folder.iterdir()}
    templates = templates if stage == "compare" else set()
    assert listed(stage) == imported(graph, stage) | scripts | templates


@pytest.mark.parametrize("name", ["params.yaml", "dvc.yaml"])
def test_dvc_reads_the_same_values_as_this_project(name):
    """DVC parses with ruamel.yaml.clib, which makes a rebuild with nothing to do faster."""
    text = (ROOT / name).read_text()
    assert YAML(typ="safe").load(text) == YAML(typ="safe", pure=True).load(text)


def test_every_system_is_trained_and_nothing_else():
    assert list(PIPELINE["train"]["foreach"]) == list(params.load(ROOT / "params.yaml").systems)


def test_a_system_depends_on_the_perturbation_where_a_phase_trains_on_it():
    systems = params.load(ROOT / "params.yaml").systems
    lines = PIPELINE["train"]["foreach"]
    asked = {name for name, line in lines.items() if line["also"] == "perturbation"}
    assert asked == {name for name, line in lines.items() if "--perturbed" in line["args"]}
    assert asked == {name for name, system in systems.items() if fit.perturbs(system)}


def test_frozen_features_are_computed_for_the_systems_that_are_trained():
    assert PIPELINE["features"]["foreach"] == PIPELINE["train"]["foreach"]


def test_an_ensemble_depends_on_whatever_its_members_predict():
    deps = body("ensemble")["deps"]
    for stage in ("evaluate", "shift"):
        outputs = [out for out in body(stage)["outs"] if out.endswith((".csv", ".json"))]
        assert outputs and all(out.partition("/")[0] in deps for out in outputs), stage
    assert PIPELINE["ensemble"]["foreach"] == "${ensembles}"
    assert "ensembles.${key}" in body("ensemble")["params"]


def test_frozen_features_depend_on_every_phase():
    systems = params.load(ROOT / "params.yaml").systems
    entries = " ".join(body("features")["params"])
    named, same = (
        set(re.findall(rf"systems\.\$\{{key\}}\.phases\.\$\{{item\.(\w+)\}}\.{key}\b", entries))
        for key in ("data", "trainable")
    )
    assert named == same
    for name, line in PIPELINE["features"]["foreach"].items():
        assert {line[place] for place in named} == set(systems[name].phases), name


def test_training_depends_on_shifted_images_and_not_on_how_they_are_shifted():
    train, shifted = body("train"), body("shifted")
    images = "shifted/${key}/validation"
    assert images in train["deps"] and images in shifted["outs"]
    code = ("src/cxr/shifts", "stages/shifted.py")
    assert not [dep for dep in train["deps"] if dep.startswith(code)]
    assert not [entry for entry in train["params"] if entry.startswith("shift")]
    kinds = {f"src/cxr/shifts/{name}.py" for name in ("images", "kinds", "sets")}
    assert kinds <= listed("shifted")
    assert {"shift.images", "seed", "systems.${key}.phases"} == set(shifted["params"])


def test_every_system_has_its_image_size_cached():
    cached = re.findall(r"systems\.(\w+)\.image_size", str(PIPELINE["preprocess"]["foreach"]))
    assert cached == list(PIPELINE["train"]["foreach"])


@pytest.mark.parametrize("stage", PIPELINE)
def test_stage_has_a_thin_script(stage):
    code = (ROOT / "stages" / f"{stage}.py").read_bytes().splitlines()
    assert len(code) < 95
