"""Real servers on this machine, for as long as a block lasts: any program, S3 and PostgreSQL."""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg2
import pytest

HOST = "127.0.0.1"


def free_port() -> int:
    """Return a port that nobody listened on a moment ago.

    It is below the ports that systems give to clients and to servers that ask for any, one of which
    could take it before the server starts, or between two starts.
    """
    while True:
        port = 10_000 + secrets.randbelow(20_000)
        with suppress(OSError), socket.socket() as probe:
            probe.bind((HOST, port))
            return port


def answers(url: str, seconds: float = 2) -> Callable[[], object]:
    """Return a check that a server answers a GET request with success, within some seconds."""
    return lambda: urllib.request.urlopen(url, timeout=seconds).close()


@contextmanager
def running(
    command: Sequence[str],
    ready: Callable[[], object],
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    user: str | None = None,
    stop: int = signal.SIGTERM,
    seconds: float = 120,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server inside the block; it and its children end with the block, whatever happens.

    Args:
        command: the server, which stays in the foreground.
        ready: raises OSError or psycopg2's error until the server answers.
        log: file for what it says.
        env: its environment; by default this process's.
        cwd: its folder.
        user: its user, if this process is root.
        stop: the signal that ends it; after 10 s SIGKILL follows.
        seconds: longest time that it may take to start.

    Yields:
        The server's process, which leads a process group of its own.
    """
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, env=env, cwd=cwd, user=user, group=user, extra_groups=[] if user else None,
            stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True,
        )  # fmt: skip
    # Ends the server if this process is killed, which closes the pipe.
    watch = ["bash", "-c", 'read -r; kill -KILL -- "-$1" 2> /dev/null', "watch", str(process.pid)]
    watcher = subprocess.Popen(watch, stdin=subprocess.PIPE, start_new_session=True)
    try:
        _wait(process, ready, log, seconds)
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, stop)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with suppress(ProcessLookupError):  # the rest of the group, if anything is left
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        watcher.communicate()


@contextmanager
def s3(folder: Path) -> Iterator[str]:
    """Run an S3 server (moto's) inside the block, and yield its address. It keeps no files."""
    port = free_port()
    url = f"http://{HOST}:{port}"
    command = [sys.executable, "-m", "moto.server", "--host", HOST, "--port", str(port)]
    with running(command, answers(f"{url}/moto-api/"), folder / "s3.log"):
        yield url


@contextmanager
def postgres(folder: Path) -> Iterator[dict[str, str]]:
    """Run a PostgreSQL server inside the block, in a folder of its own under the temporary one.

    Args:
        folder: for its log.

    Yields:
        What psql needs to reach it as its administrator: PGHOST, PGPORT and so on.
    """
    programs, user = _postgres()
    admin, port = secrets.token_hex(8), free_port()
    # pytest's own folders are closed to other users.
    with tempfile.TemporaryDirectory(prefix="cxr-postgres-") as home:
        data, password = Path(home, "data"), Path(home, "password")
        password.write_text(admin)
        if user is not None:
            for path in (home, password):
                shutil.chown(path, user, user)
        done = subprocess.run(
            [f"{programs}/initdb", "--pgdata", data, "--username", "admin", "--pwfile", password,
             "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync"],
            cwd=home, user=user, group=user, extra_groups=[] if user else None,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        settings = ("fsync=off", f"listen_addresses={HOST}", "unix_socket_directories=")
        command = [f"{programs}/postgres", "-D", str(data), "-p", str(port)]
        command += [part for setting in settings for part in ("-c", setting)]

        def connect() -> None:
            psycopg2.connect(
                host=HOST, port=port, user="admin", password=admin, dbname="postgres"
            ).close()

        fast = signal.SIGINT  # SIGTERM would wait for clients
        with running(command, connect, folder / "postgres.log", cwd=home, user=user, stop=fast):
            yield {
                "PGHOST": HOST, "PGPORT": str(port), "PGUSER": "admin", "PGPASSWORD": admin,
                "PGDATABASE": "postgres",
            }  # fmt: skip


def _postgres() -> tuple[Path, str | None]:
    """Return the folder of PostgreSQL's programs and the user that runs them; skip without them."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("no PostgreSQL server on this machine: apt install postgresql")
    if os.geteuid() != 0:
        return found[-1].parent, None
    try:
        return found[-1].parent, pwd.getpwnam("postgres").pw_name
    except KeyError:
        pytest.skip("PostgreSQL refuses to run as root, and there is no user postgres")


def _wait(
    process: subprocess.Popen[bytes], ready: Callable[[], object], log: Path, seconds: float
) -> None:
    """Wait until a server answers; fail if it ends before, or takes too long."""
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        try:
            ready()
        except (OSError, psycopg2.OperationalError):
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"{process.args} did not start:\n{log.read_text(errors='replace')}")
