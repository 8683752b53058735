"""The one exception for what a person can mend, and how a command ends with it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """Something that was given is wrong: a parameter, a file, a folder, a permission.

    The message says what was received, what is allowed and what to do. Commands print it as one
    line and exit with 1; any other exception is a defect of this project and keeps its traceback.
    """


@contextmanager
def reported() -> Iterator[None]:
    """End the process with one line where the block fails for a reason that a person can mend."""
    try:
        yield
    except InputError as error:
        sys.exit(f"error: {error}")
    except PermissionError as error:
        sys.exit(
            f"error: no permission for {error.filename} ({error.strerror}): make it readable and "
            "writable for this user, or run where it is"
        )
    except KeyboardInterrupt:
        sys.exit("stopped; nothing half-written is left")
