"""Keep TensorFlow's notes about missing CUDA drivers and the processor out of the output.

TensorFlow logs them when its libraries are loaded, before it reads TF_CPP_MIN_LOG_LEVEL
(tensorflow/tensorflow#100442). No variable prevents it, and neither does the package
tensorflow-cpu, because keras-hub requires the full one. So the log level is applied here: the file
descriptor that the libraries write to is redirected while TensorFlow is imported.
"""

import faulthandler
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType

LEVEL = "TF_CPP_MIN_LOG_LEVEL"
DRIVERS = (Path("/proc/driver/nvidia"), Path("/dev/dxg"))  # of NVIDIA's GPUs: Linux, WSL


def tensorflow() -> None:
    """Set TensorFlow's log level, and apply it to the import too; call it before Keras's import.

    The level is 2, errors. Without an NVIDIA driver it is 3, fatal errors, because TensorFlow logs
    the missing driver as an error; what fails in a computation raises an exception in Python. A
    user's own TF_CPP_MIN_LOG_LEVEL is respected: 0 shows everything.
    """
    level = os.environ.setdefault(LEVEL, "2" if any(p.exists() for p in DRIVERS) else "3")
    if level in ("2", "3") and _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)


class _Finder(PathFinder):
    """Finds TensorFlow as Python does, and gives it a loader that is quiet."""

    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = super().find_spec(fullname, path, target) if fullname == "tensorflow" else None
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    """Loads a module with stderr redirected."""

    def exec_module(self, module: ModuleType) -> None:
        with _redirected():
            super().exec_module(module)


@contextmanager
def _redirected() -> Iterator[None]:
    """Redirect file descriptor 2 to a temporary file, which is shown if the block raises."""
    sys.stderr.flush()
    before, watch = os.dup(2), not faulthandler.is_enabled()
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        if watch:
            faulthandler.enable(before)  # shows where, if a library aborts the process
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(before, held.read())
            raise
        finally:
            if watch:
                faulthandler.disable()
            sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)
