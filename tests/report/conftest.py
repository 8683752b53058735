"""Fixtures of the report's tests: one fabricated project, not to be changed by a test."""

from collections.abc import Iterator

import pytest

from cxr import params
from cxr.evaluation import intervals
from cxr.report.results import Context, Result
from tests.report.evidence import write_evidence
from tests.report.fabricate import REPOSITORY, Project, render, write_ensemble, write_project


@pytest.fixture(scope="module", autouse=True)
def fewer_resamples() -> Iterator[None]:
    """Save time: no case here is so close that 2,000 resamples would change it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intervals, "RESAMPLES", 200)
        yield


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A controlled pair whose pretrained system is better, one of two phases, and a probe."""
    root = tmp_path_factory.mktemp("project")
    return write_project(
        root, 120, probe=2.0, vgg16_transfer=4.0, vgg16_scratch=1.2, vgg16_gap_phases=3.0
    )


@pytest.fixture(scope="session")
def results(project: Project) -> list[Result]:
    """The controlled pair."""
    return project.collect("vgg16_transfer", "vgg16_scratch")


@pytest.fixture(scope="session")
def phased(project: Project) -> Result:
    """The system of two phases, features and finetune."""
    (result,) = project.collect("vgg16_gap_phases")
    return result


@pytest.fixture(scope="session")
def probed(project: Project) -> list[Result]:
    """A linear probe, the controlled pair, and the system of two phases."""
    return project.collect("probe", "vgg16_transfer", "vgg16_scratch", "vgg16_gap_phases")


@pytest.fixture(scope="session")
def shared(project: Project) -> Context:
    return project.context()


@pytest.fixture(scope="module")
def page(results: list[Result], phased: Result, shared: Context) -> str:
    return render([*results, phased], shared)


@pytest.fixture(scope="session")
def evident(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that has every file that not every run has."""
    root = tmp_path_factory.mktemp("evident")
    project = write_project(root, 60, probe=3.0, vgg16_transfer=4.0, vgg16_scratch=1.0)
    settings = params.load(REPOSITORY / "params.yaml")
    write_evidence(root, ["probe", "vgg16_transfer", "vgg16_scratch"], settings)
    write_ensemble(root, "views", ["probe", "vgg16_transfer"], 0.875)
    return project


@pytest.fixture(scope="session")
def everything(evident: Project) -> str:
    """Its page."""
    results = evident.collect("probe", "vgg16_transfer", "vgg16_scratch")
    return render(results, evident.context())
