"""What all benchmarks share: arguments, measuring in turn, and writing a result.

A benchmark is a module ``benchmarks/<name>.py`` that ``python -m benchmarks.<name>`` runs. Its
docstring says what it measures and is its text in README.md.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.collections import Collection
from matplotlib.colors import to_hex, to_rgb, to_rgba
from matplotlib.figure import Figure

from cxr import files, machine
from cxr.report import style

RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = (
    "keras", "tensorflow", "jax", "numpy", "pandas", "scipy", "scikit-learn", "pillow", "dvc",
    "mlflow", "openvino", "simplejpeg", "opencv-python-headless",
)  # fmt: skip
DARK = "-dark"  # ends the name of a plot for dark pages
_COLOURS = ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor")


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the arguments that every benchmark takes, so that one call fits all.

    Args:
        description: the module's docstring.
    """
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument(
        "--toy", action="store_true",
        help="seconds instead of minutes, to see that it runs; results/ stays as it is",
    )  # fmt: skip
    made.add_argument("--archive", type=Path, help="zip of X-rays; otherwise synthetic images")
    made.add_argument(
        "--weights", type=Path,
        help="folder with ImageNet weights, one <backbone>*.h5 each; otherwise random weights",
    )  # fmt: skip
    return made


def weights(folder: Path | None, backbone: str) -> Path | None:
    """Return the weights file of a backbone in the folder of ``--weights``; None where it has none.

    Args:
        folder: of ``--weights``.
        backbone: its name in params.yaml.
    """
    found = sorted(folder.glob(f"{backbone}*.h5")) if folder else []
    return found[0].resolve() if found else None


def command() -> str:
    """Return the command line of this process. A path is given by its last part alone."""
    backend = os.environ.get("KERAS_BACKEND")
    before = [f"KERAS_BACKEND={backend}"] if backend else []
    given = [Path(word).name if Path(word).exists() else word for word in sys.argv[1:]]
    return " ".join([*before, "python", "-m", sys.modules["__main__"].__spec__.name, *given])


def paired(candidates: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Measure candidates in turn: A B A B, because other processes come and go.

    Args:
        candidates: a function by name; it returns when its work is done, not when it is queued.
        rounds: timed calls of each. One call of each before them is not timed.

    Returns:
        The seconds of each call.
    """
    for run in candidates.values():
        run()
    found: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            began = time.perf_counter()
            run()
            found[name].append(time.perf_counter() - began)
    return found


def medians(seconds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the median of each candidate's seconds."""
    return {name: statistics.median(each) for name, each in seconds.items()}


def ratio(seconds: Mapping[str, Sequence[float]], one: str, other: str) -> float:
    """Return how many times as long as ``other`` ``one`` takes: the median over the pairs."""
    pairs = zip(seconds[one], seconds[other], strict=True)
    return statistics.median(first / second for first, second in pairs)


def bars(values: Mapping[str, float], label: str, ours: str | None = None) -> Figure:
    """Draw one horizontal bar per candidate.

    Args:
        values: by candidate, from top to bottom.
        label: of the axis, with its unit.
        ours: the candidate to emphasise; all have one colour where None.
    """
    with style.style():
        figure = Figure(figsize=(8, 0.8 + 0.34 * len(values)), layout="constrained")
        axes = figure.subplots()
        colours = [
            style.COLOURS[0] if ours in (None, name) else style.COLOURS[7] for name in values
        ]
        drawn = axes.barh(list(values), list(values.values()), color=colours, height=0.62)
        axes.bar_label(drawn, [number(value) for value in values.values()], padding=4)
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(label)
    return figure


def number(value: float) -> str:
    """Write a number with three significant digits, and thousands with commas: 1,234; 0.0123."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def write(
    name: str,
    title: str,
    command: str,
    table: pd.DataFrame,
    notes: Sequence[str],
    figure: Figure | None,
    toy: bool,
) -> Path:
    """Write a result: <name>.json, and the plot as <name>.png and <name>-dark.png.

    ``python -m benchmarks.readme`` makes README.md from all of them.

    Args:
        name: of the benchmark's module.
        title: its heading in README.md.
        command: from :func:`command`.
        table: what was measured; the columns' names, with units, are the headings. Floats are
            shown with three significant digits, other values as they are.
        notes: sentences for below the table: what the data was, what the result means.
        figure: drawn in :func:`cxr.report.style.style`, with its colours; or None.
        toy: write to a new temporary folder instead of results/.

    Returns:
        The path of the JSON.
    """
    folder = Path(tempfile.mkdtemp(prefix="benchmark-")) if toy else RESULTS
    result = {
        "title": title,
        "command": command,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": machine.cpu_name(),
        "cores": machine.cores(),
        "versions": machine.versions(PACKAGES),
        "notes": list(notes),
        "rows": table.astype(object).where(table.notna(), None).to_dict("records"),
    }
    files.write_json(folder / f"{name}.json", result)
    if figure is not None:
        style.save(figure, folder / f"{name}.png")
        _darken(figure)
        style.save(figure, folder / f"{name}{DARK}.png")
    print(f"\n{title}\n\n{table.to_string(index=False, float_format=number)}\n")
    print("\n".join(notes))
    print(f"written to {folder}" if toy else f"written to benchmarks/results/{name}.json")
    return folder / f"{name}.json"


def _darken(figure: Figure) -> None:
    """Give everything in a figure the report's colours for dark pages."""
    for artist in figure.findobj():
        for name in _COLOURS:
            if not hasattr(artist, f"set_{name}") or not hasattr(artist, f"get_{name}"):
                continue
            value = getattr(artist, f"get_{name}")()
            many = isinstance(artist, Collection)
            new = [_dark(colour) for colour in value] if many else _dark(value)
            getattr(artist, f"set_{name}")(new)


def _dark(colour: Any) -> Any:
    """Return a colour's counterpart for dark pages; the same colour where there is none."""
    alpha = to_rgba(colour)[3]
    return (*to_rgb(style.DARK.get(to_hex(colour), to_hex(colour))), alpha)
