"""A real MLflow server on this machine."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests import servers
from tests.paths import PATH


class Server:
    """An MLflow server that a test starts, kills and freezes.

    Attributes:
        url: of the server, the same after each start.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = servers.free_port()
        self.url = f"http://{servers.HOST}:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._end = ExitStack()

    def start(self) -> None:
        """Start the server if it is not running, which takes some seconds."""
        if self._process is not None:
            return
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", servers.HOST, "--port",
            str(self.port), "--workers", "1", "--backend-store-uri",
            f"sqlite:///{self.folder}/mlflow.db", "--artifacts-destination",
            str(self.folder / "artifacts"),
        ]  # fmt: skip
        env = os.environ | {"PATH": PATH, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        ready, log = servers.answers(f"{self.url}/health"), self.folder / "server.log"
        server = servers.running(command, ready, log, env=env, stop=signal.SIGKILL)
        self._process = self._end.enter_context(server)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let the server accept connections and answer nothing while the block runs."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Kill the server, if it runs, as the machine's end would."""
        self._process = None
        self._end.close()
