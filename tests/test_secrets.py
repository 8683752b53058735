"""Planted secrets are in no output, database, page or message."""

import logging
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import keras
import mlflow
import pytest
from ruamel.yaml import YAML

from cxr import cli, errors, files
from cxr.data import source
from cxr.tracking import client, records, server
from tests import planted
from tests.faults.server import Server
from tests.paths import PYTHONPATH, ROOT
from tests.planted import MARK, USER
from tests.tracking.conftest import Project, empty_database

__all__ = ["empty_database"]  # a fixture

# All of the environment that the library and the stages read. The first two are in provenance.json,
# and with it in MLflow; MLFLOW_TRACKING_URI is in messages, without its credentials.
READ = {
    "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "MLFLOW_TRACKING_URI", "DVC_ROOT",
    "CUDA_VISIBLE_DEVICES", "XLA_FLAGS",
}  # fmt: skip


def test_nothing_else_of_the_environment_is_read():
    code = [*(ROOT / "src").rglob("*.py"), *(ROOT / "stages").rglob("*.py")]
    reading = re.compile(r"(?:environ\.get\(|environ\[|getenv\()([\w\"]+)(?!\w|\"|\] =)")
    read = {name.strip('"') for path in code for name in reading.findall(path.read_text("utf-8"))}
    assert read == READ


class TestPipeline:
    """The clone that the pipeline's tests run in has secrets in its environment and settings."""

    def test_no_file_of_the_repository_has_one(self, clone):
        assert planted.leaks(clone.root) == []

    def test_no_command_has_printed_one(self, clone):
        assert clone.heard
        assert not [said for said in clone.heard if planted.is_in(said)]


@pytest.fixture(scope="module")
def site(tiny_archive) -> Iterator[str]:
    """The URL of an archive for those who give user, password and token; others get 401."""

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            allowed = "Authorization" in self.headers and self.path.endswith(f"?token={MARK}-token")
            data = tiny_archive.read_bytes() if allowed else b""
            self.send_response(200 if allowed else 401)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://{USER}127.0.0.1:{server.server_port}/xrays.zip?token={MARK}-token"
    server.shutdown()
    server.server_close()


class TestSource:
    """A descriptor whose URL has a user, a password and a token."""

    @pytest.fixture
    def describe(self, tmp_path, site, tiny_archive) -> Callable[..., Path]:
        """Write the descriptor, and what it may have wrong, to a folder that no test searches."""

        def write(**changes: object) -> Path:
            fields = {
                "name": "private", "url": site, "filename": "xrays.zip", "licence": "none",
                "bytes": tiny_archive.stat().st_size, "sha256": files.file_sha256(tiny_archive),
                "doi": "none", "citation": "none",
            }  # fmt: skip
            folder = tmp_path / "in"
            folder.mkdir()
            YAML().dump(fields | changes, folder / "private.yaml")
            return folder / "private.yaml"

        return write

    def test_is_downloaded_and_its_origin_has_no_credentials(
        self, tmp_path, site, describe, unreachable
    ):
        """By the stage itself, with a tracking server that is not there."""
        root = tmp_path / "root"
        root.mkdir()
        yaml = YAML()
        parameters = yaml.load(ROOT / "params.yaml") | {"source": str(describe())}
        yaml.dump(parameters, root / "params.yaml")
        env = os.environ | planted.ENVIRONMENT
        env |= {"PYTHONPATH": PYTHONPATH, "CXR_CACHE": str(root / "cache"), "DVC_ROOT": str(root)}
        env |= {"MLFLOW_TRACKING_URI": unreachable.replace("//", f"//{USER}")}
        env |= {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
        done = subprocess.run(
            [sys.executable, "-m", "stages.download"], cwd=root, env=env, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        shown = unreachable.replace("//", "//***@")
        assert f"MLflow at {shown} could not log raw" in done.stdout
        assert not planted.is_in(done.stdout)
        assert planted.leaks(root) == []
        address = site.rpartition("@")[2].partition("?")[0]
        origin = files.read_json(root / "raw/source.json")["origin"]
        assert origin == f"http://***@{address}?token=***"

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"bytes": 7}, "correct its field bytes"),
            ({"sha256": "0" * 64}, "gave a file with sha256"),
            ({"url": f"http://{USER}127.0.0.1:9/x.zip?token={MARK}"}, "cannot download"),
            ({"unknown": f"http://{USER}host"}, "a descriptor has"),
        ],
    )
    def test_is_refused_without_its_credentials(
        self, tmp_path, monkeypatch, capfd, caplog, describe, changes, says
    ):
        monkeypatch.setattr(source, "RETRIES", 1)
        monkeypatch.setattr("time.sleep", lambda _: None)  # pooch waits before it tries again
        monkeypatch.setenv("CXR_CACHE", str(tmp_path / "root" / "cache"))
        caplog.set_level("INFO")
        with pytest.raises(SystemExit) as end, errors.reported():
            source.to_zip(str(describe(**changes)), tmp_path / "root" / "xrays.zip")
        assert says in str(end.value)
        assert not planted.is_in(str(end.value) + caplog.text + "".join(capfd.readouterr()))
        assert planted.leaks(tmp_path / "root") == []


class TestTrackingServer:
    """A tracking server whose URL has a user and a password."""

    def test_mlflows_own_log_does_not_show_them(self, monkeypatch, capfd, unreachable):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", unreachable.replace("//", f"//{USER}"))
        server.connect()
        logging.getLogger("mlflow.system_metrics").warning("no answer from %s", server.uri())
        said = "".join(capfd.readouterr())
        assert "no answer from http://***@127.0.0.1" in said
        assert not planted.is_in(said)

    def test_it_gets_the_runs_and_no_secret(
        self, tmp_path, settings, empty_database, monkeypatch, capfd, caplog
    ):
        folder = tmp_path / "server"
        folder.mkdir()
        shutil.copyfile(empty_database, folder / "mlflow.db")
        remote = Server(folder)
        (tmp_path / "project").mkdir()
        monkeypatch.chdir(tmp_path / "project")
        for name, value in planted.ENVIRONMENT.items():
            if not name.startswith("MLFLOW_"):  # other credentials than those in the URL
                monkeypatch.setenv(name, value)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", remote.url.replace("//", f"//{USER}"))
        caplog.set_level("INFO")
        project = Project(settings)
        image = keras.Input((8, 8, 1))
        model = keras.Model(image, keras.layers.Dense(1)(keras.layers.Flatten()(image)))
        monkeypatch.setattr(cli, "_load", lambda _: model)
        project.split()
        trained = project.train()
        try:
            remote.start()
            assert client.send(records.of(trained), cli._load)
            cli.sync(False)
            cli.ui(5000)
            run = mlflow.search_runs(experiment_names=["imagenet-to-xray"]).iloc[0]
            assert run["status"] == "FINISHED"
        finally:
            remote.kill()
        assert planted.leaks(tmp_path) == []
        assert list(folder.rglob("model.keras"))
        assert f"http://***@127.0.0.1:{remote.port}" in caplog.text
        assert not planted.is_in(caplog.text)
        assert not planted.is_in("".join(capfd.readouterr()))
