"""Write the tables and plots of README and docs from results/: `make results`.

A document has blocks between two comments; each is rendered from the template of its name. What
stands outside them is written by hand.
"""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from cxr import files
from cxr.errors import InputError, reported
from cxr.report import markers as by_marker
from cxr.report.differences import Difference
from tools.results import differences, plots, records, tables

DOCUMENTS = ("README.md", "docs/RESULTS.md", "docs/ARTICLE.md")
TEMPLATES = Path(__file__).parent / "templates"
BLOCK = re.compile(
    r"(?P<start><!-- from results/: (?P<name>\w+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL
)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the documents and plots that differ from the records, and return 0.

    Args:
        argv: arguments; the process's own where None.
    """
    argparse.ArgumentParser(prog="python -m tools.results.render", description=__doc__).parse_args(
        argv
    )
    with reported():
        changed = 0
        for path, text in rendered(records.read_all()).items():
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                files.write_text(path, text)
                print(f"{path.relative_to(records.ROOT)}: renewed")
                changed += 1
        if not changed:
            print("README, docs and plots are those of results/")
    return 0


def rendered(found: Mapping[str, records.Record]) -> dict[Path, str]:
    """Return the text of each document and plot, by its path.

    Args:
        found: all records, by name.

    Raises:
        InputError: a document names a block that has no template, or a template names a record that
            there is not.
    """
    texts = {records.ROOT / name: _document(name, found) for name in DOCUMENTS}
    for name, draw in plots.PLOTS.items():
        texts[records.ROOT / "docs" / name] = plots.svg(draw(found))
    return texts


def _document(name: str, found: Mapping[str, records.Record]) -> str:
    """Return a document with its blocks rendered."""
    path = records.ROOT / name
    results = "results" if path.parent == records.ROOT else "../results"
    environment = _environment(found, results)

    def block(match: re.Match[str]) -> str:
        try:
            text = environment.get_template(f"{match['name']}.md.j2").render()
        except jinja2.TemplateNotFound as error:
            message = f"{name} has a block {match['name']}, for which {TEMPLATES} has no template"
            raise InputError(message) from error
        return f"{match['start']}{text.strip()}\n{match['end']}"

    return BLOCK.sub(block, path.read_text(encoding="utf-8"))


def _environment(found: Mapping[str, records.Record], results: str) -> jinja2.Environment:
    """Return Jinja with the functions that templates call."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # Markdown
    )

    def record(name: str) -> records.Record:
        if name not in found:
            message = f"a template names the record {name}: results/ has {', '.join(found)}"
            raise InputError(message)
        return found[name]

    def comparison(protocol: str) -> str:
        return tables.table(records.compared(found, protocol), tables.COMPARISON, results)

    def sweep() -> str:
        return tables.table(records.sweep(found), tables.SWEEP, results)

    marked = set(files.read_csv(records.FOLDER / "markers.csv")["id"])

    def gain(one: str, other: str, column: str = differences.CLEAN) -> Difference:
        return differences.difference(record(one), record(other), column)

    def beside_article(system: str, columns: Sequence[tuple[str, str]]) -> str:
        published = files.read_yaml(records.ROOT / "sources" / "published.yaml")[system]
        ours = {heading: found[name] for heading, name in columns if name in found}
        return tables.beside_article(published, ours)

    functions: dict[str, Any] = {
        "record": record, "beside_article": beside_article, "comparison": comparison,
        "sweep": sweep, "gain": gain, "found": found, "PERTURBED": differences.PERTURBED,
        "hashes": lambda: tables.hashes(found.values()),
        "markers": lambda protocol: tables.markers(records.compared(found, protocol), marked),
        "by_marker": lambda name: by_marker.groups(
            record(name).predictions, marked, record(name).seed
        ),
        "seeds": lambda: tables.seeds(records.seeds(found)),
    }  # fmt: skip
    environment.globals.update(functions)
    environment.filters.update(
        interval=tables.interval, number=tables.number, signed=tables.signed,
        duration=tables.duration,
    )  # fmt: skip
    return environment


if __name__ == "__main__":
    sys.exit(main())
