"""The exceptions that end a command with one line, and how it reports them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """The user's input is wrong: a parameter, a file, a folder or a permission.

    The message says what was received, what is allowed and what to do. Commands print it as one
    line and exit with 1. Any other exception is a bug in this project and keeps its traceback.
    """


class Stopped(KeyboardInterrupt):
    """The user or the system stopped the command; the message says how to go on."""


@contextmanager
def reported() -> Iterator[None]:
    """Exit with a one-line message if the block fails for a reason that the user can fix."""
    try:
        yield
    except InputError as error:
        sys.exit(f"error: {error}")
    except PermissionError as error:
        sys.exit(
            f"error: no permission for {error.filename} ({error.strerror}): make it readable and "
            "writable for this user, or run where it is"
        )
    except KeyboardInterrupt as stop:
        sys.exit(str(stop) or "stopped; nothing half-written is left")
