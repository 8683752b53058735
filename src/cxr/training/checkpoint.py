"""Checkpoints: a killed training resumes from the last one and ends with the same weights.

A training that is killed and resumed takes several *sittings*: one for each process that worked on
it. A checkpoint lies outside DVC's outputs, which DVC removes before a stage runs::

    checkpoints/<system>/<fingerprint>/fingerprint.json   everything that determines the result
                                       sittings.json      when, where and at which commit each began
                                       progress.npz       how far it came

The folder's name is the hash of ``fingerprint.json``. A training with other parameters, inputs,
code or versions therefore never reads it.
"""

import fcntl
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from cxr import files, params
from cxr.errors import InputError
from cxr.training.fingerprint import differences
from cxr.training.progress import Progress

log = logging.getLogger(__name__)

FOLDER = "checkpoints"
FINGERPRINT, SITTINGS, PROGRESS = "fingerprint.json", "sittings.json", "progress.npz"
ABOUT = "about"  # the member of progress.npz that is JSON; all others are arrays


@contextmanager
def opened(
    system: str, fingerprint: Mapping[str, Any], settings: params.Checkpoint, root: Path
) -> Iterator["Checkpoint"]:
    """Yield the checkpoint of a training, locked inside the block; see :class:`Checkpoint`."""
    checkpoint = Checkpoint(system, fingerprint, settings, root)
    try:
        yield checkpoint
    finally:
        checkpoint.close()


class Checkpoint:
    """The checkpoint of one training. It is locked from the start until it is closed.

    Args:
        system: name of the system, and of the folder.
        fingerprint: from :func:`cxr.training.fingerprint.fingerprint`.
        settings: how often to save, and how much space all checkpoints may take.
        root: of the repository; checkpoints lie in ``checkpoints/`` below it.

    Attributes:
        settings: as given.
        progress: how far the earlier sittings came; None if there is nothing to resume.
        sittings: when, where and from which commit the earlier sittings began.
    """

    def __init__(
        self,
        system: str,
        fingerprint: Mapping[str, Any],
        settings: params.Checkpoint,
        root: Path,
    ) -> None:
        self.settings, self.system = settings, system
        text = json.dumps(fingerprint, sort_keys=True)
        self.folder = root / FOLDER / system / hashlib.sha256(text.encode()).hexdigest()[:16]
        self.progress: Progress | None = None
        self.sittings: list[dict[str, Any]] = []
        self._lock: BinaryIO | None = None
        self._failed = False
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(self.folder)
            if self._lock is None:
                log.warning(
                    "another process is training %s with the same settings (%s is locked): this "
                    "training keeps no checkpoint. If a killed dvc left that process behind, "
                    "stop it", system, self.folder,
                )  # fmt: skip
                return
            files.write_json(self.folder / FINGERPRINT, dict(fingerprint))
            self.progress = self._load()
            self._limit(root / FOLDER)
        except (OSError, InputError) as error:
            self._warn(error)
            return
        if self.progress is None:
            _report_misfit(self.folder, fingerprint)

    @property
    def seconds(self) -> float:
        """The seconds that the earlier sittings took."""
        return self.progress.seconds if self.progress else 0.0

    def begin(self, sittings: Iterable[Mapping[str, Any]]) -> None:
        """Record the sittings: the earlier ones and this one."""
        if self._lock is not None:
            try:
                files.write_json(self.folder / SITTINGS, {"sittings": list(sittings)})
            except (OSError, InputError) as error:
                self._warn(error)

    def save(self, progress: Progress) -> None:
        """Replace the checkpoint, once the new one is whole and on the disk.

        A failure (a full disk) is a warning: training goes on, and the earlier checkpoint stays.
        """
        if self._lock is None:
            return
        about, arrays = progress.split()
        arrays[ABOUT] = np.frombuffer(json.dumps(about).encode(), np.uint8)
        try:
            with files.replacing(self.folder / PROGRESS) as temporary, temporary.open("wb") as new:
                np.savez(new, allow_pickle=False, **arrays)
                new.flush()
                os.fsync(new.fileno())
            _sync(self.folder)
            self._failed = False
        except (OSError, InputError) as error:
            self._warn(error)

    def remove(self) -> None:
        """Remove the checkpoint: the outputs of the training are complete."""
        if self._lock is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            with suppress(OSError):  # other checkpoints of the system
                self.folder.parent.rmdir()
        self.close()

    def close(self) -> None:
        """Unlock the checkpoint, so that another process may resume from it."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _load(self) -> Progress | None:
        path = self.folder / PROGRESS
        if not path.is_file():
            return None
        try:
            progress = Progress.join(*_read(path))
        except Exception as error:  # zipfile and NumPy raise many types on damaged files
            aside = path.with_name(f"damaged.{time.time_ns()}.npz")
            path.replace(aside)
            log.warning(
                "the checkpoint of %s is damaged (%s): it is now %s, and training starts "
                "from the beginning",
                self.system, error, aside,
            )  # fmt: skip
            return None
        with suppress(InputError, KeyError):  # missing or damaged: it is a note for people
            self.sittings = files.read_json(self.folder / SITTINGS)["sittings"]
        return progress

    def _limit(self, folder: Path) -> None:
        """Remove the oldest other checkpoints while they exceed the limit; keep those in use."""
        held = sorted(
            (path for path in folder.glob("*/*") if path.is_dir() and path != self.folder),
            key=lambda path: path.stat().st_mtime,
        )
        sizes = {path: sum(f.stat().st_size for f in path.iterdir()) for path in held}
        for path in held:
            if sum(sizes.values()) <= self.settings.gigabytes * 1e9:
                return
            lock = _lock(path)
            if lock is None:
                continue
            with lock:
                size = sizes.pop(path)
                shutil.rmtree(path, ignore_errors=True)
                log.warning(
                    "removed the checkpoint %s (%.1f GB): the earlier ones together took more than "
                    "training.checkpoint.gigabytes, %g", path, size / 1e9, self.settings.gigabytes,
                )  # fmt: skip

    def _warn(self, error: Exception) -> None:
        """Warn that no checkpoint can be written, once until one can be written again."""
        if not self._failed:
            log.warning(
                "cannot write the checkpoint %s (%s): training goes on without a new one, and will "
                "try again", self.folder, error,
            )  # fmt: skip
        self._failed = True


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return what a progress.npz holds; reading checks the CRC of each array."""
    with np.load(path, allow_pickle=False) as held:
        about = json.loads(held[ABOUT].tobytes())
        return about, {name: held[name] for name in held.files if name != ABOUT}


def _report_misfit(own: Path, wanted: Mapping[str, Any]) -> None:
    """Say why the newest other checkpoint of the system is not used, if there is one."""
    others = [path for path in own.parent.glob(f"*/{PROGRESS}") if path.parent != own]
    for path in sorted(others, key=lambda path: path.stat().st_mtime, reverse=True)[:1]:
        lock = _lock(path.parent)
        if lock is None:
            return  # another experiment, which is running now
        with lock:
            try:
                held = files.read_json(path.parent / FINGERPRINT)
            except InputError:
                return
        log.info(
            "the checkpoint %s does not fit and stays where it is: %s. Training starts from "
            "the beginning",
            path.parent, "; ".join(differences(held, wanted)[:3]),
        )  # fmt: skip


def _lock(folder: Path) -> BinaryIO | None:
    """Lock a checkpoint until the returned file is closed, also by a killed process; or None."""
    stream = (folder / "lock").open("wb")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.close()
        return None
    return stream


def _sync(folder: Path) -> None:
    """Flush a folder to the disk: a rename is only then safe from a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
