"""Run the pipeline on the embedded sample as the DVC experiment ``demo``; minutes on two CPU cores.

The pipeline is that of ``dvc repro``: the parameters in demo.yaml are all that differs.
"""

import argparse
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from cxr import params
from cxr.errors import InputError, reported

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "demo"
NAME = "demo"
PRETRAINED = ("probe", "vgg16_transfer")  # VGG16, from ImageNet's weights

# Before the first rebuild there is no dvc.lock, and DVC warns of each output that it cannot check
# out. That cannot be configured away.
NOISE = re.compile(rb"No file hash info found")


def overrides(
    settings: Mapping[str, Any], defaults: Mapping[str, Any], prefix: str = ""
) -> list[str]:
    """Turn nested settings into Hydra's ``a.b=value``.

    Args:
        settings: the values to set, with the nesting of params.yaml.
        defaults: params.yaml. Hydra sets a key inside a mapping only if it is there; a mapping in
            place of a null is set as a whole.
        prefix: of the names.
    """
    found = []
    for key, value in settings.items():
        name, default = f"{prefix}{key}", defaults.get(key)
        if isinstance(value, Mapping) and isinstance(default, Mapping):
            found += overrides(value, default, f"{name}.")
        else:
            found.append(f"{name}={_hydra(value)}")
    return found


def targets(settings: Mapping[str, Any]) -> list[str]:
    """Return the stages that the demo runs, in their order: those of its systems alone."""
    systems = settings["systems"]
    sizes = sorted({system["image_size"] for system in systems.values()})
    stages = ("weights", "features", "shifted", "train", "shift", "evaluate")
    of_systems = [f"{stage}@{name}" for stage in stages for name in systems]
    before = ["download", "split", *(f"preprocess@{size}" for size in sizes)]
    return [*before, *of_systems, "audit", "compare"]


def local(path: str) -> str:
    """Return the absolute path of a weights file: the experiment runs in another folder.

    Raises:
        InputError: it is not a file.
    """
    absolute = Path(path).expanduser().resolve()
    if not absolute.is_file():
        message = (
            f"weights {path} is not a file: give VGG16's weights without its top, such as "
            "make demo WEIGHTS=/path/vgg16.weights.h5, or none for ImageNet's from the network"
        )
        raise InputError(message)
    return str(absolute)


def imagenet() -> str | None:
    """Return ``imagenet`` where those weights are cached or can be downloaded, otherwise None."""
    from cxr.models import weights  # imports TensorFlow

    socket.setdefaulttimeout(15)  # a network that drops packets would hold the demo for minutes
    system = params.load(ROOT / "params.yaml").system("vgg16_transfer")
    with tempfile.TemporaryDirectory() as folder:
        try:
            weights.resolve(system.model_copy(update={"weights": "imagenet"}), Path(folder))
        except InputError:
            print(
                "No network for ImageNet's weights: VGG16 starts from random weights, so this run "
                "cannot show transfer. `make demo WEIGHTS=path` takes a local file.",
                flush=True,
            )
            return None
    return "imagenet"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo and return DVC's exit code.

    Args:
        argv: arguments; the process's own where None.
    """
    parser = argparse.ArgumentParser(prog="python -m tools.demo", description=__doc__)
    parser.add_argument("--weights", help="file with VGG16's weights; otherwise ImageNet's")
    given = parser.parse_args(argv)
    yaml = YAML(typ="safe", pure=True)
    defaults, settings = yaml.load(ROOT / "params.yaml"), yaml.load(ROOT / "tools" / "demo.yaml")
    with reported(), filtered_stderr():
        chosen = local(given.weights) if given.weights else imagenet()
        for name in PRETRAINED:
            settings["systems"][name]["weights"] = chosen
        if chosen:
            print(f"VGG16 starts from {chosen}.", flush=True)
        _dvc("pull", "--quiet", "--remote", "sample", "data.dvc")
        _dvc("exp", "remove", "--quiet", NAME, stderr=subprocess.DEVNULL)  # from an earlier run
        run = ["exp", "run", "--temp", "--name", NAME, "--single-item"]
        for override in overrides(settings, defaults):
            run += ["--set-param", override]
        code = _dvc(*run, *targets(settings))
        if code == 0:
            shutil.rmtree(REPORT, ignore_errors=True)  # into a folder that exists DVC puts another
            code = _dvc("get", "--quiet", "--rev", NAME, "--out", str(REPORT), ".", "reports")
    if code == 0:
        print((REPORT / "comparison.txt").read_text(encoding="utf-8"))
        print("Report: demo/index.html    MLflow: make ui, experiment `demo`")
        print(f"DVC: `dvc exp show` lists it as `{NAME}`")
    return code


@contextmanager
def filtered_stderr() -> Iterator[None]:
    """Drop the lines of NOISE from stderr, of this process and of those that it starts."""
    before = os.dup(2)
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(writing)

    def copy() -> None:
        with os.fdopen(reading, "rb") as lines:
            for line in lines:
                if not NOISE.search(line):
                    os.write(before, line)

    copier = threading.Thread(target=copy, daemon=True)
    copier.start()
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(before, 2)  # closes the pipe's last writing end, which ends the thread
        copier.join(timeout=5)
        os.close(before)


def _hydra(value: Any) -> str:
    """Write a value in Hydra's grammar, where keys have no quotes and strings may have."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str():
            return "'" + value.replace("'", "\\'") + "'"
        case Mapping():
            return "{" + ",".join(f"{key}:{_hydra(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ",".join(map(_hydra, value)) + "]"
        case _:
            return str(value)


def _dvc(*arguments: str, **options: Any) -> int:
    """Run a DVC command at the repository's root and return its exit code."""
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=ROOT, check=False, **options).returncode


if __name__ == "__main__":
    sys.exit(main())
