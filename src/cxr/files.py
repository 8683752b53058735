"""Write files whole or not at all; read tables, JSON and YAML in one way; hash files."""

import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from cxr.errors import FULL, InputError, no_space

MAX_YAML = 1_000_000  # characters, with every alias written out; params.yaml has 17,000
MAX_DEPTH = 50  # of lists and mappings in each other; params.yaml has 6

# Columns that are always text: the id 0012 must not become 12, nor the patient NA become NaN.
TEXT = (
    "id", "path", "patient", "subtype", "mode", "sha256", "pixel_hash", "official_split", "split",
    "phase", "system", "reason", "set", "kind",
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


def read_yaml(path: str | os.PathLike[str], name: str | None = None) -> Any:
    """Read a YAML 1.2 file that a person wrote: plain data, in bounded time and memory.

    Tags are refused, so that a file cannot name a Python object. Aliases are counted as if they
    were written out, because a few lines of aliases can stand for gigabytes.

    Args:
        path: the file.
        name: its name in error messages; by default its path.

    Raises:
        InputError: the file is not YAML in UTF-8, has a tag, a control character, or a key twice,
            or is larger or deeper than :data:`MAX_YAML` and :data:`MAX_DEPTH` allow.
    """
    try:
        with Path(path).open(encoding="utf-8") as stream:
            text = stream.read(MAX_YAML + 1)
        if len(text) > MAX_YAML:
            message = f"it has more than {MAX_YAML:,} characters"
            raise ValueError(message)
        if not is_plain(text, but="\t\n\r"):  # ruamel takes U+0085 and U+2028 for line ends
            message = "it has a control character"
            raise ValueError(message)
        _check_yaml(text)
        return YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError, LookupError, TypeError, AttributeError) as error:
        # ruamel leaves the errors of int, float and date as they are.
        raise InputError(f"{name or path} is not YAML: {_reason(error)}") from error


def is_plain(text: str, but: str = "") -> bool:
    """Return whether a text can be written as UTF-8 and has no control characters.

    Args:
        text: a name or a value from outside.
        but: the control characters that it may have.
    """
    return text.isprintable() or not any(
        unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") and c not in but for c in set(text)
    )


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits."""
    return _digest(path, "sha256")


def file_md5(path: str | os.PathLike[str]) -> str:
    """Return the MD5 of a file's bytes as 32 hexadecimal digits, as DVC records it."""
    return _digest(path, "md5")


def bytes_sha256(data: bytes) -> str:
    """Return the SHA-256 of ``data`` as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def _check_yaml(text: str) -> None:
    """Check the size, depth and tags of a YAML text from its events, before anything is built."""
    sizes: dict[str | None, int] = {}  # characters below each anchor that has ended
    started: list[tuple[str | None, int]] = []  # the anchors of open lists, and the size before
    size = 0
    for event in YAML(typ="safe", pure=True).parse(text):
        line = event.start_mark.line + 1
        size += 1
        if isinstance(event, AliasEvent):
            if event.anchor not in sizes:
                message = f"line {line}: the alias *{event.anchor} does not follow its anchor"
                raise ValueError(message)
            size += sizes[event.anchor]
        elif isinstance(event, NodeEvent):
            tag = getattr(event, "tag", None)
            if tag is not None:
                message = f"line {line}: the tag {tag} is not allowed: give a plain value"
                raise ValueError(message)
            sizes.pop(event.anchor, None)  # an anchor may be given anew
        if isinstance(event, ScalarEvent):
            if not is_plain(event.value, but="\t\n\r"):
                message = f"line {line}: {event.value!r} has a control character"
                raise ValueError(message)
            size += len(event.value)
            sizes[event.anchor] = len(event.value)
        elif isinstance(event, SequenceStartEvent | MappingStartEvent):
            started.append((event.anchor, size))
        elif isinstance(event, SequenceEndEvent | MappingEndEvent):
            anchor, before = started.pop()
            sizes[anchor] = size - before
        if size > MAX_YAML or len(started) > MAX_DEPTH:
            message = (
                f"line {line}: at most {MAX_YAML:,} characters are allowed, with aliases written "
                f"out, and at most {MAX_DEPTH} levels"
            )
            raise ValueError(message)


def _reason(error: Exception) -> str:
    """Return a YAML error and its line number, without ruamel's hints for programmers."""
    if isinstance(error, MarkedYAMLError) and error.problem and error.problem_mark:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return str(error)


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
