"""Write beside, then rename: a reader never sees half a file, a killed writer never leaves one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cxr.errors import InputError


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside ``path`` and move it there once the block has ended well.

    Args:
        path: the file to make or to replace; its folder is made where it is missing.

    Yields:
        The temporary path, in the same folder and with the same suffixes, so that the move is a
        rename and writers that look at the suffix (Keras, Pillow) do the right thing.

    Raises:
        InputError: where the folder cannot be written to.
    """
    target = Path(path)
    beside = target.with_name(f".{os.getpid()}.part.{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside.touch()
    except OSError as error:
        message = (
            f"cannot write {target}: {error.strerror}. "
            f"Make {target.parent} writable for this user, or run from a folder that is."
        )
        raise InputError(message) from error
    try:
        yield beside
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8 with Unix line ends, whole or not at all."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8", newline="\n")
