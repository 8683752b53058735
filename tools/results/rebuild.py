"""Run a recorded experiment again with the code of this checkout, and compare the figures.

The archive and the weights must have the SHA-256 of the record. The experiment runs as
`dvc exp run`, in the workspace, under the record's name with `rebuilt-` in front.
"""

import argparse
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from cxr import files
from cxr.errors import InputError, reported
from cxr.tracking import rebuilding
from tools.results import records

COMPARED = {
    "test AUC": ("test", "auc"),
    "test accuracy": ("test", "accuracy"),
    "AUC on perturbed images": ("perturbed", "auc"),
    "validation AUC": ("val", "auc"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Rebuild a record, print both sets of figures, and return DVC's exit code.

    Args:
        argv: arguments; the process's own where None.
    """
    parser = argparse.ArgumentParser(prog="python -m tools.results.rebuild", description=__doc__)
    parser.add_argument("name", help=f"of a record: {', '.join(records.names())}")
    parser.add_argument("--archive", required=True, help="the zip with the X-rays")
    parser.add_argument("--weights", help="the folder with the files of ImageNet's weights")
    parser.add_argument("--dry-run", action="store_true", help="check the files, and only print")
    given = parser.parse_args(argv)
    with reported():
        record = records.read(given.name)
        archive = checked(given.archive, record.about["archive"], "--archive")
        weights = {
            system: shell(checked(in_folder(given.weights, file), file, "--weights"))
            for system, file in record.about["weights"].items()
        }
        commands = record.commands(shell(archive), weights, "rebuilt-")
        print(f"recorded with commit {record.about['commit']}, {_took(record.about)}")
        print("\n".join(commands))
        if given.dry_run:
            return 0
        for command in commands:
            code = subprocess.run(shlex.split(command), check=False, cwd=records.ROOT).returncode
            if code:
                return code
        kind = "ensembles" if record.members else "evaluations"
        folder = records.ROOT / kind / record.system
        print(compare(record.metrics, files.read_json(folder / "metrics.json")))
    return 0


def checked(path: str | None, expected: Mapping[str, str], option: str) -> str:
    """Return the absolute path of a file that has the recorded hash.

    Args:
        path: of the file; None if the option was not given.
        expected: ``name`` and ``sha256`` of the recorded file.
        option: its name in the command line.

    Raises:
        InputError: it is missing, or another file.
    """
    wanted = f"{expected['name']} with SHA-256 {expected['sha256']}"
    if path is None or not Path(path).is_file():
        message = f"{option} is {path or 'missing'}: the run was made from {wanted}; give its path"
        raise InputError(message)
    found = files.file_sha256(path)
    if found != expected["sha256"]:
        message = f"{option} {path} has SHA-256 {found}: the run was made from {wanted}"
        raise InputError(message)
    return str(Path(path).resolve())


def in_folder(folder: str | None, file: Mapping[str, str]) -> str | None:
    """Return the path of a recorded file in a folder; None without a folder."""
    return None if folder is None else str(Path(folder) / file["name"])


def shell(path: str) -> str:
    """Return a path as a shell and then `dvc exp run -S` read it."""
    return shlex.quote(rebuilding.value_text(path))


def compare(recorded: Mapping[str, Any], rebuilt: Mapping[str, Any]) -> str:
    """Return a table of the recorded and the rebuilt figures.

    Args:
        recorded: metrics.json of the record.
        rebuilt: metrics.json of the new run.
    """
    rows = []
    for label, (part, name) in COMPARED.items():
        before, now = recorded[part][name], rebuilt[part][name]
        rows.append([label, f"{before:.4f}", f"{now:.4f}", f"{now - before:+.4f}"])
    headers = ("", "recorded", "rebuilt", "difference")
    return str(tabulate(rows, headers, tablefmt="simple", disable_numparse=True))


def _took(about: Mapping[str, Any]) -> str:
    machine = about["machine"]
    minutes = sum(about["seconds"].values()) / 60
    return f"in {minutes:.0f} minutes on {machine['cores']} cores of {machine['device']}"


if __name__ == "__main__":
    sys.exit(main())
