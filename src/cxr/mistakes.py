"""The one sentence about a mistake in params.yaml, from pydantic's error."""

import difflib
from collections.abc import Collection
from typing import Any

MAX_SHOWN = 200  # characters of a wrong value in its message


def explain(problem: Any, names: Collection[str], tags: Collection[str]) -> str:
    """Return one of pydantic's errors as a sentence that begins with the dotted key.

    Args:
        problem: an item of ``ValidationError.errors()``. The message of type ``own_words`` follows
            the ``key`` in its context.
        names: of all settings, for suggestions.
        tags: of unions, which pydantic adds to an error's location.
    """
    key = [str(part) for part in problem["loc"] if part not in tags and part != "[key]"]
    dotted = ".".join(key) or "the file"
    match problem["type"]:
        case "own_words":
            return f"{dotted}.{problem['ctx']['key']} {problem['msg']}"
        case "extra_forbidden" if key[-1] in names:
            return f"{dotted} does not belong here"
        case "extra_forbidden":
            return f"{dotted} is unknown{suggestion(key[-1], names)}"
        case "missing":
            return f"{dotted} is missing: give it a value"
        case "string_pattern_mismatch":
            return f"{dotted}: a name that is also a file or folder may contain only a-z, 0-9 and _"
        case "value_error":
            allowed = str(problem["ctx"]["error"])
        case _:
            allowed = problem["msg"][0].lower() + problem["msg"][1:]
    given = repr(problem["input"])
    given = given if len(given) <= MAX_SHOWN else f"{given[:MAX_SHOWN]}..."
    return f"{dotted} is {given}: {allowed}"


def suggestion(name: str, known: Any) -> str:
    """Return ``: did you mean ...?`` with the names closest to ``name``, or an empty string."""
    close = difflib.get_close_matches(name, sorted(known), n=2)
    return f": did you mean {' or '.join(close)}?" if close else ""
