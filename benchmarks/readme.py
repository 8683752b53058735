"""Make benchmarks/README.md from the docstrings of the benchmarks and from results/*.json.

python -m benchmarks.readme
"""

import ast
import re
from pathlib import Path
from typing import Any

from benchmarks import __doc__ as introduction
from benchmarks import measure
from cxr import files

HERE = Path(__file__).resolve().parent
README = HERE / "README.md"
SHARED = ("__init__", "measure", "project", "readme")  # modules here that are no benchmarks
NAMES = {"python": "Python", "keras": "Keras", "tensorflow": "TensorFlow", "jax": "JAX"}


def names() -> list[str]:
    """Return the names of all benchmarks, in alphabetical order."""
    return [path.stem for path in sorted(HERE.glob("*.py")) if path.stem not in SHARED]


def render() -> str:
    """Return the text of README.md."""
    head = f"# Benchmarks\n\n{_prose(introduction or '')}\n"
    note = "<!-- made by `python -m benchmarks.readme`: edit the docstrings, not this file -->\n"
    return "\n".join([note, head, *(_section(name) for name in names())])


def _section(name: str) -> str:
    """Return a benchmark's section: what it measures, its command, and its last result."""
    source = (HERE / f"{name}.py").read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(source)) or ""
    about = _prose(docstring)
    path = measure.RESULTS / f"{name}.json"
    if not path.is_file():
        command = re.search(r"^    (.+ -m benchmarks\..+)$", docstring, flags=re.MULTILINE)
        title = f"{name}: not measured"
        parts = [about, f"The command is\n\n```\n{command[1]}\n```"]
    else:
        result = files.read_json(path)
        title = result["title"]
        parts = [about, f"```\n{result['command']}\n```", _table(result["rows"])]
        parts += [_picture(name, title)] if path.with_suffix(".png").is_file() else []
        parts += ["\n".join(f"- {note}" for note in result["notes"])] if result["notes"] else []
        parts += [_where(result)]
    return "\n\n".join([f"## {title}", *parts]) + "\n"


def _prose(docstring: str) -> str:
    """Return a docstring as Markdown, without its indented command lines."""
    paragraphs = [p for p in docstring.strip().split("\n\n") if not p.startswith("    ")]
    return re.sub(r"``(.+?)``", r"`\1`", "\n\n".join(paragraphs))


def _table(rows: list[dict[str, Any]]) -> str:
    """Return rows as a Markdown table; numbers stand on the right."""
    columns = list(rows[0])
    right = {c for c in columns if all(isinstance(r[c], int | float | None) for r in rows)}
    lines = [columns, ["---:" if c in right else "---" for c in columns]]
    lines += [[_cell(row[column]) for column in columns] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case float():
            return measure.number(value)
        case bool() | str():
            return str(value).replace("|", r"\|")
        case _:
            return f"{value:,}"


def _picture(name: str, title: str) -> str:
    """Return the plot of a result: the one for the reader's light or dark page."""
    return (
        '<picture>\n  <source media="(prefers-color-scheme: dark)" '
        f'srcset="results/{name}{measure.DARK}.png">\n'
        f'  <img alt="{title}: the table above as a plot" src="results/{name}.png" width="720">\n'
        "</picture>"
    )


def _where(result: dict[str, Any]) -> str:
    """Return where and when a result was measured."""
    versions = ", ".join(f"{NAMES.get(n, n)} {v}" for n, v in result["versions"].items())
    cores = "1 core" if result["cores"] == 1 else f"{result['cores']} cores"
    return f"*{result['machine']}, {cores}; {versions}; {result['date']}.*"


if __name__ == "__main__":
    files.write_text(README, render())
