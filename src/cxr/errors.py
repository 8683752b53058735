"""The exceptions that end a command with one line, and how it reports them."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from cxr import urls

# The disk is full, the user's quota is used up, or the file is larger than `ulimit -f` allows.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

MAX_MESSAGE = 4000  # characters: a screen; a name in a zip may have 65,535


class InputError(ValueError):
    """The user's input is wrong: a parameter, a file, a folder or a permission.

    The message says what was received, what is allowed and what to do. Commands print it as one
    line and exit with 1. Any other exception is a bug in this project and keeps its traceback.

    As text it is one printable line of at most :data:`MAX_MESSAGE` characters, whatever names and
    values it quotes.
    """

    def __str__(self) -> str:
        """Return the message on one line, without control characters, and shortened."""
        line = " ".join(super().__str__().split())
        line = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in line)
        return line if len(line) <= MAX_MESSAGE else f"{line[: MAX_MESSAGE - 3]}..."


class Stopped(KeyboardInterrupt):
    """The user or the system stopped the command; the message says what is left of its work."""


def no_space(target: object, error: OSError) -> InputError:
    """Return the error for a file that does not fit on the disk: errno of ``error`` is in FULL."""
    return InputError(
        f"no space left for {target} ({error.strerror}): free some, then run the same command again"
    )


@contextmanager
def reported() -> Iterator[None]:
    """Exit with a one-line message if the block fails for a reason that the user can fix.

    URLs in it are shown without credentials, which libraries quote in their errors.
    """
    try:
        yield
    except InputError as error:
        sys.exit(f"error: {urls.public(error)}")
    except PermissionError as error:
        sys.exit(
            f"error: no permission for {error.filename} ({error.strerror}): make it readable and "
            "writable for this user, or run where it is"
        )
    except OSError as error:
        if error.errno not in FULL:
            raise
        sys.exit(f"error: {no_space(error.filename or 'a file', error)}")
    except KeyboardInterrupt as stop:
        sys.exit(str(stop) or "stopped; nothing half-written is left")
