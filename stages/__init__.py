"""The stages of dvc.yaml, each ``python -m stages.<name>`` from the repository's root.

A stage is argv and params.yaml in, one library call, files out; provenance.json says what they were
made from, and a run in MLflow is made from it.
"""

import argparse
import gc
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# A stage runs the library that lies beside it: a queued or --temp experiment works in a copy of the
# repository, and an installed cxr would be the original's.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's notes on instruction sets

from cxr import params
from cxr.errors import reported
from cxr.tracking import provenance

# To import and trace TensorFlow makes millions of objects that stay; Python would look through them
# for garbage again and again, for a fifth of the time that the import takes.
gc.set_threshold(100_000, 50, 100)

RAW, SPLITS, TENSORS = Path("raw"), Path("splits"), Path("tensors")
WEIGHTS, MODELS, EVALUATIONS = Path("weights"), Path("models"), Path("evaluations")
REPORTS, SOURCES = Path("reports"), Path("sources")


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser that shows a stage's docstring as its help."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def run(work: Callable[..., None], arguments: argparse.ArgumentParser) -> None:
    """Call ``work(params, **arguments)``; an error that a person can mend ends it in one line."""
    given = vars(arguments.parse_args())
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    with reported():
        work(params.load(), **given)


def finish(
    started: provenance.Started,
    folder: Path,
    load: Callable[[Path], Any] | None = None,
    **more: Any,
) -> None:
    """Write provenance.json beside a stage's outputs, and log the stage in MLflow.

    Args:
        started: what the stage started from.
        folder: the stage's own; all files in it are outputs.
        load: gives the Keras model of a folder, where the run is to hold one.
        more: see :func:`cxr.tracking.provenance.finish`.
    """
    provenance.finish(started, folder, **more)
    from cxr.tracking import client  # takes seconds to import MLflow, which the work goes without

    client.write(folder, load)


def add_system(arguments: argparse.ArgumentParser) -> Any:
    """Add the argument that says which system of params.yaml is meant."""
    return arguments.add_argument("system", help="name of a system in params.yaml")
