"""The stages of dvc.yaml: ``python -m stages.<name>`` from the repository's root.

A stage reads argv and params.yaml, calls the library, and writes files. It records how it made them
in provenance.json, from which its MLflow run is built.
"""

import argparse
import gc
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

# Import the library of this repository. A queued or --temp experiment works in a copy of it, and
# the installed cxr belongs to the original.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from cxr import params, quiet
from cxr.errors import Stopped, reported
from cxr.tracking import provenance

quiet.tensorflow()

# Importing and tracing TensorFlow creates millions of long-lived objects. By default, Python scans
# them for garbage again and again, which takes a fifth of the import's time.
gc.set_threshold(100_000, 50, 100)

RAW, SPLITS, TENSORS = Path("raw"), Path("splits"), Path("tensors")
WEIGHTS, FEATURES, MODELS = Path("weights"), Path("features"), Path("models")
SHIFTED, EXTERNALS, SHIFTS = Path("shifted"), Path("externals"), Path("shifts")
EVALUATIONS, ENSEMBLES, AUDITS = Path("evaluations"), Path("ensembles"), Path("audits")
REPORTS, SOURCES = Path("reports"), Path("sources")


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser that shows a stage's docstring as its help."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def run(work: Callable[..., None], arguments: argparse.ArgumentParser) -> None:
    """Call ``work(params, **arguments)``; an error that the user can fix exits with one line."""
    given = vars(arguments.parse_args())
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    signal.signal(signal.SIGTERM, _stop)  # otherwise the process would end without cleaning up
    with reported():
        try:
            work(params.load(), **given)
        finally:
            gc.freeze()  # or Python would scan them once more when it ends, for more than a second


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped("stopped by SIGTERM; nothing half-written is left. Run the same command again")


def finish(
    started: provenance.Started,
    folder: Path,
    load: Callable[[Path], Any] | None = None,
    earlier: Sequence[Path] = (),
    **more: Any,
) -> None:
    """Write provenance.json to a stage's folder, and log the stage in MLflow.

    Args:
        started: from :func:`cxr.tracking.provenance.start`.
        folder: the stage's own; all files in it are outputs.
        load: returns the Keras model of a folder; if None, no model is logged.
        earlier: folders of earlier stages, whose runs are completed if MLflow lacks a part.
        more: see :func:`cxr.tracking.provenance.finish`.
    """
    provenance.finish(started, folder, **more)
    # Imported after the work, which does not need MLflow: that takes seconds to import.
    from cxr.tracking import client

    client.write(folder, *earlier, load=load)


def add_system(arguments: argparse.ArgumentParser) -> Any:
    """Add the argument that names a system of params.yaml."""
    return arguments.add_argument("system", help="name of a system in params.yaml")


def add_shared(arguments: argparse.ArgumentParser) -> None:
    """Add the arguments for what some systems take from the top of params.yaml."""
    arguments.add_argument(
        "--freeze-blocks",
        type=int,
        help="number of frozen blocks of the backbone, for phases with above_freeze_blocks",
    )
    arguments.add_argument(
        "--perturbed",
        action="store_true",
        help="allow phases on perturbed data; the system's line in dvc.yaml has also: perturbation",
    )
