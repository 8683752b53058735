"""Run a command, such as `dvc exp run`, whose stages find TensorFlow and MLflow imported already.

    python stages/prefork.py dvc exp run --temp

Each stage is a process of its own, and half of them take ten seconds to import what they need; in
the demo that is more than all of its training. Here one process imports it once, and the stages
are forks of that: a `python` that stands first on the command's PATH hands over what begins with
`-m stages.` and runs all else itself. A stage imports its own code as ever, from the folder that it
runs in, and has the arguments, environment and streams of the `python` that stood for it.

Nothing is computed before the fork: TensorFlow's threads would not survive it. On other systems
than Linux, and for other backends than TensorFlow, the command is run as it is.
"""

import contextlib
import gc
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SLOW = (
    "keras", "mlflow", "mlflow.keras", "mlflow.store.tracking.sqlalchemy_store",
    "matplotlib.figure", "matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg",
    "sklearn.metrics",
)  # fmt: skip
STREAMS = (0, 1, 2)
GONE = 70  # exit code of a stand-in whose stage could not be waited for


def main(command: list[str]) -> int:
    """Run a command with forked stages and return its exit code."""
    if shutil.which(command[0]) is None:
        sys.exit(f"error: there is no command {command[0]!r}: give one on PATH, such as dvc")
    if sys.platform != "linux" or not _on_tensorflow():
        os.execvp(command[0], command)
    # As the stages would, before they import: TensorFlow's and MLflow's settings count only then.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    gc.disable()  # a fifth of the time of the imports
    for name in SLOW:
        __import__(name)
    gc.freeze()  # so that the forks share these pages for good
    gc.enable()

    folder = Path(tempfile.mkdtemp(prefix="prefork-"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        listener.listen()
        _write_stand_in(folder)
        path = f"{folder}{os.pathsep}{os.environ['PATH']}"
        started = subprocess.Popen(command, env=os.environ | {"PATH": path})
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the command's and the stages'
        request = _serve(listener, started)
    if request is not None:  # this is a fork
        return _become(request)
    shutil.rmtree(folder)
    return started.returncode if started.returncode >= 0 else 128 - started.returncode


def stand_in(address: str, arguments: list[str]) -> int:
    """Have ``python <arguments>`` run by a fork, where it is a stage, and return its exit code."""
    stage = arguments[:1] == ["-m"] and "".join(arguments[1:2]).startswith("stages.")
    if not stage or not _on_tensorflow():
        os.execv(sys.executable, [sys.executable, *arguments])
    request = {"arguments": arguments[1:], "folder": str(Path.cwd()), "environ": dict(os.environ)}
    text = json.dumps(request).encode()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the stage gets it too, and says how it ended
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        socket.send_fds(connection, [len(text).to_bytes(4, "big")], STREAMS)
        connection.sendall(text)
        answer = connection.recv(16)
    return int(answer) if answer else GONE


def _on_tensorflow() -> bool:
    """Return whether Keras's backend is the one whose import the forks share."""
    return os.environ.get("KERAS_BACKEND", "tensorflow") == "tensorflow"


def _write_stand_in(folder: Path) -> None:
    """Write the `python` that comes first on the command's PATH."""
    words = [sys.executable, "-IS", str(Path(__file__).resolve()), "--stand-in", f"{folder}/socket"]
    quoted = " ".join("'" + word.replace("'", "'\\''") + "'" for word in words)
    for name in ("python", "python3"):
        (folder / name).write_text(f'#!/bin/sh\nexec {quoted} "$@"\n', encoding="utf-8")
        (folder / name).chmod(0o755)


def _serve(listener: socket.socket, command: subprocess.Popen[bytes]) -> dict[str, Any] | None:
    """Fork a stage for each request; return in a fork with its request, else when all is over."""
    stages: dict[int, socket.socket] = {}  # by pid, who waits for it
    while command.poll() is None or stages:
        readable, _, _ = select.select([listener, *stages.values()], [], [], 0.05)
        if listener in readable:
            connection, _ = listener.accept()
            request = _read(connection)
            if request is not None:
                pid = os.fork()
                if pid == 0:
                    for other in (connection, *stages.values()):
                        other.close()
                    return request
                stages[pid] = connection
                for stream in request["streams"]:
                    os.close(stream)
        for pid, connection in list(stages.items()):
            if connection in readable:  # it sends nothing more, so it has been killed
                os.kill(pid, signal.SIGTERM)
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                code = os.waitstatus_to_exitcode(status)
                with contextlib.suppress(BrokenPipeError):
                    connection.sendall(str(code if code >= 0 else 128 - code).encode())
                stages.pop(pid).close()
    return None


def _read(connection: socket.socket) -> dict[str, Any] | None:
    """Read what a stand-in sends; None where it was killed meanwhile."""
    size, streams, _, _ = socket.recv_fds(connection, 4, len(STREAMS))
    with connection.makefile("rb") as sent:
        text = sent.read(int.from_bytes(size, "big"))
    if len(streams) != len(STREAMS) or len(text) < int.from_bytes(size, "big"):
        for stream in streams:
            os.close(stream)
        connection.close()
        return None
    return {"streams": streams, **json.loads(text)}


def _become(request: dict[str, Any]) -> int:
    """Turn this fork into the stage that was asked for, and run it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for stream, number in zip(request["streams"], STREAMS, strict=True):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(request["environ"])
    os.chdir(request["folder"])
    module, *rest = request["arguments"]
    sys.argv, sys.path[0] = [module, *rest], request["folder"]  # as `python -m` has them
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    given = sys.argv[1:]
    if not given or given[0] in ("-h", "--help"):
        sys.exit(f"usage: python stages/prefork.py command [argument ...]\n\n{__doc__}")
    if given[0] == "--stand-in":
        sys.exit(stand_in(given[1], given[2:]))
    sys.exit(main(given))
