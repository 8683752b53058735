"""Templates of the page and of the model card."""

from collections.abc import Mapping
from importlib import resources
from typing import Any

import jinja2

from cxr.report import wording

_FILTERS: Mapping[str, Any] = {
    "number": wording.number, "range": wording.interval, "signed": wording.signed,
    "count": wording.count, "published": wording.published, "rule": wording.rule,
    "how": wording.how, "frozen": wording.frozen, "duration": wording.duration,
    "listed": wording.listed,
}  # fmt: skip


def render(name: str, values: Mapping[str, Any], escape: bool = True) -> str:
    """Fill a template in.

    Args:
        name: of a file in templates/, which may include others.
        values: what it shows.
        escape: for HTML.
    """
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(read), autoescape=escape, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters |= _FILTERS
    return environment.get_template(name).render(values)


def read(name: str) -> str:
    """Return the text of a file in templates/."""
    return (resources.files("cxr.report") / "templates" / name).read_text(encoding="utf-8")
