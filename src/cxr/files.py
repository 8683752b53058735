"""Write files whole or not at all, read tables and JSON in one way, and hash files."""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from cxr.errors import FULL, InputError, no_space

# Columns that are always text: the id 0012 must not become 12, nor the patient NA become NaN.
TEXT = (
    "id", "path", "patient", "subtype", "mode", "sha256", "pixel_hash", "official_split", "split",
    "phase", "system", "reason",
)  # fmt: skip


def root() -> Path:
    """Return the repository's root.

    ``dvc exp run --temp`` and the queue run in a copy of the repository. DVC_ROOT, which DVC sets,
    is the original.
    """
    return Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path, and rename it to ``path`` if the block succeeds.

    Args:
        path: the file to create or replace; a missing folder is created.

    Yields:
        The temporary path. It is in the same folder, so that the rename is atomic, and has the same
        suffixes, because Keras and Pillow choose a format by suffix. If the block fails, the file
        is removed. Only a killed process (SIGKILL) leaves it behind, under a name that begins with
        a dot and that nothing reads; the next call for the same ``path`` removes it.

    Raises:
        InputError: the folder cannot be written to, or the disk is full.
    """
    target = Path(path)
    temporary = target.with_name(f".{os.getpid()}.part.{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target)
        temporary.touch()
    except OSError as error:
        if error.errno in FULL:
            raise no_space(target, error) from error
        message = (
            f"cannot write {target}: {error.strerror}. "
            f"Make {target.parent} writable for this user, or run from a folder that is."
        )
        raise InputError(message) from error
    try:
        yield temporary
        temporary.replace(target)
    except OSError as error:
        if error.errno in FULL:
            raise no_space(target, error) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def reserve(path: str | os.PathLike[str], size: int) -> None:
    """Check that the disk has room for ``size`` bytes at ``path``, and give the file that size.

    Call it before writing through a memory map or with HDF5: where the disk turns out to be full,
    the first ends the process with SIGBUS and the second with SIGSEGV, without a message.

    Raises:
        OSError: there is not enough room; :func:`replacing` makes it an InputError.
    """
    if not hasattr(os, "posix_fallocate"):  # macOS
        return
    with Path(path).open("ab") as stream:
        os.posix_fallocate(stream.fileno(), 0, size)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8 with Unix line ends, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all; equal values give equal bytes."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_csv(path: str | os.PathLike[str], table: pd.DataFrame) -> None:
    """Write a table without its index, whole or not at all; the same table gives the same bytes."""
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Read the bytes of a stage's output.

    Raises:
        InputError: the file is missing.
    """
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        message = f"{path} is missing: make it with `dvc repro`, or get it with `dvc pull`"
        raise InputError(message) from error


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a JSON object that a stage wrote.

    Raises:
        InputError: the file is missing, or is not a JSON object.
    """
    text = read_bytes(path)
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError) as error:
        message = f"{path} is not a JSON object ({error}): remove it and run `dvc repro`"
        raise InputError(message) from error


def read_csv(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a table that a stage wrote.

    Returns:
        The table. Columns named in :data:`TEXT` are text, and their empty cells are empty strings.
        In other columns empty cells are NaN, and floats are read back to the last bit.

    Raises:
        InputError: the file is missing, or is not a table.
    """
    if not Path(path).is_file():
        message = f"{path} is missing: make it with `dvc repro`, or get it with `dvc pull`"
        raise InputError(message)
    try:
        columns = pd.read_csv(path, nrows=0).columns
        return pd.read_csv(
            path,
            dtype={name: str for name in columns if name in TEXT},
            keep_default_na=False,
            na_values={name: [""] for name in columns if name not in TEXT},
            float_precision="round_trip",
        )
    except (ValueError, UnicodeDecodeError) as error:  # pandas' parser errors are ValueErrors
        message = f"{path} is not a CSV table ({error}): remove it and run `dvc repro`"
        raise InputError(message) from error


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits."""
    return _digest(path, "sha256")


def file_md5(path: str | os.PathLike[str]) -> str:
    """Return the MD5 of a file's bytes as 32 hexadecimal digits, as DVC records it."""
    return _digest(path, "md5")


def bytes_sha256(data: bytes) -> str:
    """Return the SHA-256 of ``data`` as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def _remove_leftovers(target: Path) -> None:
    """Remove the temporary files of ``target`` whose process has ended; DVC never removes them."""
    # The prefix is there twice if write_csv got a path from replacing.
    named = re.compile(r"(?:\.(\d{1,9})\.part\.){1,2}" + re.escape(target.name))
    for path in list(target.parent.iterdir()):
        match = named.fullmatch(path.name)
        if match is None:
            continue
        try:
            os.kill(int(match[1]), 0)  # signal 0 only tests whether the process exists
        except ProcessLookupError:
            path.unlink(missing_ok=True)
        except PermissionError:  # the process is alive and belongs to another user
            continue


def _digest(path: str | os.PathLike[str], algorithm: str) -> str:
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()
