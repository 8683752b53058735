"""The command ``cxr``: start the MLflow UI, log and show runs, sweep seeds, and verify files."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cxr.errors import InputError, reported

UI = """\
Start the MLflow UI on this machine, and print the address of each experiment's table of models.
The UI shows mlflow.db at the repository's root. If MLFLOW_TRACKING_URI names a server, the command
only prints the addresses there, because the server has its own UI.
"""
SYNC = """\
Log the runs that MLflow lacks, from the outputs in this repository. Use it after the database was
lost, the server was down, or `dvc pull` or `dvc repro` restored a stage instead of running it. Each
run is built from its stage's provenance.json, so it shows when, where and with which code the stage
ran. Complete runs do not change; incomplete runs are completed; a run that was deleted in MLflow
stays deleted.

With --all also the runs of every other revision in this clone: experiments, branches, tags and
their commits, from DVC's cache or a remote. `make sync` does that. The workspace does not change.
For a teammate's revisions run `git fetch` and `dvc exp pull` first.

Run it from the repository's root. It writes to mlflow.db there, or to MLFLOW_TRACKING_URI.
"""
RUNS = """\
With a revision (commit, branch, tag, DVC experiment; by default the workspace): list its MLflow
runs, and the stages that MLflow lacks.

With the id of an MLflow run, or its first characters: show its commit, DVC experiment, the MD5 of
each input and output, the revisions that have these outputs, and how to rebuild them. A training
has a sitting for each process that began or resumed it.
"""
SEEDS = """\
Run the pipeline once per seed, each as a DVC experiment (seed-0, seed-1, ...), one after the other;
then write sources/seeds.csv, from which the report shows mean and range, and print them. Split,
initial weights and batch order all depend on the seed.

Without seeds, nothing is run: the table is made from the experiments there are. An experiment
counts if it started from HEAD and its parameters differ from params.yaml in the seed alone, so
`dvc exp run --queue -S seed=0,1,2` and `dvc queue start` serve as well.

Run it from the repository's root. What has been computed before is restored from DVC's cache.
"""
CHECK = """\
Read every file in DVC's cache and every output in this repository. Name each that is no longer what
DVC wrote (because of a bad disk, or an edit in place), the outputs it belongs to, and what to do.

Run it from the repository's root. It reads everything and changes nothing.
"""

log = logging.getLogger(__name__)


def main() -> None:
    """Parse the arguments and run the subcommand."""
    parser = argparse.ArgumentParser(
        "cxr", description="Show and log the pipeline's MLflow runs, and verify its files."
    )
    commands = parser.add_subparsers(dest="command", required=True)

    def add(name: str, summary: str, description: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name, help=summary, description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip

    shown = add("ui", "start the MLflow UI", UI)
    shown.add_argument("--port", type=int, default=5000, help="port of the UI (default: 5000)")
    synced = add("sync", "log the runs that MLflow lacks", SYNC)
    synced.add_argument(
        "--all", action="store_true", help="also of every other revision that DVC has"
    )
    listed = add("runs", "revision -> its MLflow runs; MLflow run -> its origin", RUNS)
    listed.add_argument(
        "name", nargs="?", default="workspace", metavar="REV_OR_RUN",
        help="a revision, or the id of an MLflow run (default: workspace)",
    )  # fmt: skip
    swept = add("seeds", "run the pipeline with several seeds, and compare the spreads", SEEDS)
    swept.add_argument(
        "seeds",
        nargs="?",
        default=(),
        type=_numbers,
        help="for example 0,1,2 (default: run nothing)",
    )
    swept.add_argument(
        "targets", nargs="*", help="stages, for example evaluate@probe (default: all)"
    )
    add("check", "verify DVC's cache and the outputs", CHECK)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    with reported():
        match given.command:
            case "ui":
                ui(given.port)
            case "sync":
                sync(given.all)
            case "runs":
                runs(given.name)
            case "seeds":
                seeds(given.seeds, given.targets)
            case "check":
                from cxr import integrity  # here, so that --help does not import DVC

                integrity.check(Path())


def sync(every: bool) -> None:
    """Log the runs that MLflow lacks: of the workspace, or of every revision that DVC has.

    Raises:
        InputError: there are no outputs, MLflow cannot be reached, or a run cannot be built.
    """
    from cxr.tracking import sync  # here, so that --help does not import MLflow

    if every:
        sync.everything(Path(), _load)
    else:
        sync.workspace(Path(), _load)


def runs(name: str) -> None:
    """Show the MLflow runs of a revision, or the origin of an MLflow run.

    Raises:
        InputError: nothing has this name, or MLflow cannot be reached.
    """
    from cxr.tracking import runs

    log.info("%s", runs.describe(name))


def seeds(numbers: Sequence[int], targets: Sequence[str]) -> None:
    """Run the pipeline with each seed, write sources/seeds.csv, and print a summary.

    Args:
        numbers: the seeds; none to collect what there is.
        targets: stages to run; none for all.

    Raises:
        InputError: an experiment failed, or no system has been evaluated.
    """
    from cxr import files, sweep
    from cxr.tracking import seeds

    seeds.run(numbers, targets)
    table = seeds.collect()
    if table.empty:
        message = "no system has been evaluated with these parameters: run `cxr seeds 0,1,2`"
        raise InputError(message)
    path = Path("sources") / sweep.FILE
    files.write_csv(path, table)
    log.info("%s\n%s: %d rows. `dvc repro compare` shows them in the report.",
             sweep.text(sweep.summary(table)), path, len(table))  # fmt: skip


def ui(port: int) -> None:
    """Print the addresses of the tables of models; start the MLflow UI if no server has one.

    The UI replaces this process.

    Args:
        port: the port that the UI listens on.

    Raises:
        InputError: MLflow's database or server cannot be reached.
    """
    from cxr.tracking import server

    served = server.uri().startswith("http")
    root = server.address().rstrip("/") if served else f"http://127.0.0.1:{port}"
    with server.answering():
        pages = server.pages()
    for experiment, page in pages.items():
        log.info("%-20s %s/%s", experiment, root, page)
    if not pages:
        log.info("no runs yet: run `dvc repro` or `make demo`; the UI is at %s", root)
    if not served:
        log.info("starting; press Ctrl-C to stop")
        # Not an argument, which every user of the machine can see: the address of a database may
        # hold a password.
        os.environ["MLFLOW_BACKEND_STORE_URI"] = server.uri()
        # Otherwise it would start six processes of 240 MB for jobs of language models.
        os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
        where = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        os.execvp("mlflow", ["mlflow", "server", *where])


def _numbers(text: str) -> list[int]:
    """Return the seeds of a list such as ``0,1,2``."""
    numbers = [int(part) for part in text.split(",")]
    if min(numbers) < 0:
        raise ValueError(text)
    return numbers


def _load(folder: Path) -> Any:
    """Load a trained model; the first call imports Keras."""
    from cxr import models, quiet

    quiet.tensorflow()
    return models.load(folder)


if __name__ == "__main__":
    main()
