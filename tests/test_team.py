"""docs/TEAM.md, command by command: S3, PostgreSQL and MLflow servers, and two people."""

import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
import mlflow
import pytest
from mlflow.entities import Run
from ruamel.yaml import YAML

from tests import servers
from tests.clone import Clone, environment, every_stage, made, ran
from tests.paths import PYTHONPATH, ROOT

# The system of freeze_blocks, with the backbone and the image size that cost least.
SYSTEM, SIZE = "vgg16_transfer", 48
BUCKET, DVC_FOLDER, MLFLOW_FOLDER = "xrays", "dvc", "mlflow"
# Of Ben and of MLflow's server.
KEYS = {name: secrets.token_hex() for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
BLOCK = re.compile(r"^## (?P<section>.+)$|^```sh (?P<who>\w+)\n(?P<script>[^`]+)^```$", re.M)


class Page:
    """docs/TEAM.md: its marked blocks of commands, by section, each to be run once and in order."""

    def __init__(self) -> None:
        section = ""
        self.left: list[tuple[str, str, str]] = []
        for found in BLOCK.finditer((ROOT / "docs/TEAM.md").read_text(encoding="utf-8")):
            section = found["section"] or section
            if found["script"]:
                self.left.append((section, found["who"], found["script"]))

    def next(self, section: str, who: str) -> str:
        """Return the next block, which must be this one."""
        assert self.left[0][:2] == (section, who)
        return "set -eu\n" + self.left.pop(0)[2]


@dataclass
class Person:
    """Somebody with a home folder and a shell."""

    page: Page
    name: str
    home: Path
    variables: dict[str, str]

    def __post_init__(self) -> None:
        self.home.mkdir()
        identity = f"[user]\nname = {self.name}\nemail = {self.name}@example.org\n"
        (self.home / ".gitconfig").write_text(identity)

    @property
    def clone(self) -> Path:
        return self.home / "imagenet-to-xray"

    def does(self, section: str) -> str:
        """Run the next block of the page and return what it says."""
        own = {
            "HOME": str(self.home),
            "DVC_SITE_CACHE_DIR": str(self.home),
            "PYTHONPATH": str(self.clone / "src"),  # `cxr` is that of the clone
        }
        done = subprocess.run(
            ["bash", "-c", self.page.next(section, self.name)],
            cwd=self.clone if self.clone.exists() else self.home,
            env=environment(**self.variables, **own),
            capture_output=True, encoding="utf-8", check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        return said

    def history(self) -> bytes:
        """Return all that was ever committed."""
        command = ["git", "log", "--all", "--patch", "--text"]
        return subprocess.run(command, cwd=self.clone, capture_output=True, check=True).stdout


@contextmanager
def mlflow_server(page: Page, folder: Path, variables: dict[str, str]) -> Iterator[str]:
    """Start MLflow's server as the page says, and yield its address."""
    port = servers.free_port()
    url = f"http://{servers.HOST}:{port}"
    script = page.next("The servers, once", "mlflow")
    own = {"HOST": servers.HOST, "PORT": str(port), "MLFLOW_DISABLE_TELEMETRY": "true"}
    log = folder / "mlflow.log"
    with servers.running(
        ["bash", "-c", script], servers.answers(f"{url}/health"), log,
        env=environment(**variables, **own, **KEYS), cwd=folder,
    ):  # fmt: skip
        yield url


def runs(url: str) -> dict[str, Run]:
    """Return the runs on MLflow's server, by id."""
    client = mlflow.MlflowClient(url)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return {run.info.run_id: run for run in client.search_runs(experiments)}


def objects(s3_url: str) -> dict[str, bytes]:
    """Return what the bucket holds, by name."""
    store = boto3.resource("s3", endpoint_url=s3_url, region_name="us-east-1", **{
        key.lower(): value for key, value in KEYS.items()
    })  # fmt: skip
    bucket = store.Bucket(BUCKET)
    bucket.create()
    return {entry.key: entry.get()["Body"].read() for entry in bucket.objects.all()}


def team_repository(folder: Path) -> Path:
    """Return a bare repository with this project, at a tiny size and with one system."""
    seed = Clone(folder / "seed")
    seed.root.mkdir()
    made(seed, (SYSTEM,))
    yaml = YAML()
    settings = yaml.load(seed.root / "params.yaml")
    settings["source"] = "data/phantoms.zip"  # in every clone, like a descriptor
    for side in ("val", "test"):
        settings["split"][side] = {"NORMAL": 3, "PNEUMONIA": 6}
    system = settings["systems"][SYSTEM]
    system |= {"backbone": "cnn", "weights": None, "image_size": SIZE, "batch_size": 4}
    system["phases"]["train"] |= {"epochs": 1, "steps_per_epoch": 2}
    yaml.dump(settings, seed.root / "params.yaml")
    seed.call("git", "commit", "--quiet", "--all", "-m", "Tiny")
    seed.call("git", "clone", "--quiet", "--bare", ".", str(folder / "team.git"))
    return folder / "team.git"


def test_what_one_trains_the_other_has_and_the_reverse(tmp_path):
    page = Page()
    with servers.postgres(tmp_path) as database, servers.s3(tmp_path) as s3_url:
        password = secrets.token_hex()
        script = page.next("The servers, once", "database")
        subprocess.run(
            ["bash", "-c", script], env=os.environ | database | {"DB_PASSWORD": password},
            check=True, capture_output=True,
        )  # fmt: skip
        assert objects(s3_url) == {}
        address = {name: database[name] for name in ("PGHOST", "PGPORT")}
        variables = address | {
            "DB_PASSWORD": password, "S3_ENDPOINT": s3_url,
            "ARTIFACTS_URL": f"s3://{BUCKET}/{MLFLOW_FOLDER}",
        }  # fmt: skip
        with mlflow_server(page, tmp_path, variables) as tracking:
            shared = {
                "GIT_URL": str(team_repository(tmp_path)), "S3_ENDPOINT": s3_url,
                "S3_URL": f"s3://{BUCKET}/{DVC_FOLDER}", "MLFLOW_TRACKING_URI": tracking,
            }  # fmt: skip
            own = {name: secrets.token_hex() for name in ("KEY", "SECRET")}
            ann = Person(page, "Ann", tmp_path / "ann", shared | own)
            ben = Person(page, "Ben", tmp_path / "ben", shared | KEYS)
            work_together(ann, ben, tracking)
        assert page.left == []
        held = objects(s3_url)
        assert any(name.startswith(f"{MLFLOW_FOLDER}/") for name in held)
        assert any(name.startswith(f"{DVC_FOLDER}/") for name in held)
        history = ann.history()
        assert b"endpointurl" in history
        assert own["SECRET"] in (ann.clone / ".dvc/config.local").read_text()
        for secret in (password, *own.values(), *KEYS.values()):
            assert secret.encode() not in history
            assert not [name for name, content in held.items() if secret.encode() in content]


def work_together(ann: Person, ben: Person, tracking: str) -> None:
    """Run the page's commands of both people, and check what each of them then has."""
    ann.does("The project, once")
    ann.does("Your key, once per clone")
    assert ran(ann.does("Ann trains and pushes")) == every_stage({SYSTEM: SIZE})
    trained = runs(tracking)
    stages = sorted(run.data.tags["stage"] for run in trained.values())
    # The evaluation is in the training's run, and random weights have none.
    assert stages == ["audit", "compare", "download", "preprocess", "shift", "split", "train"]
    assert {run.info.status for run in trained.values()} == {"FINISHED"}

    said = ben.does("Ben gets everything, and runs nothing")
    assert ran(said) == set()
    assert re.search(r"^0 of 8 ", said, re.M), said
    assert (ben.clone / "dvc.lock").read_bytes() == (ann.clone / "dvc.lock").read_bytes()
    same = {key: run.to_dictionary() for key, run in runs(tracking).items()}
    assert same == {key: run.to_dictionary() for key, run in trained.items()}

    said = ben.does("Ben tries something")
    of_system = {f"{stage}@{SYSTEM}" for stage in ("features", "train", "shift", "evaluate")}
    assert ran(said) == of_system | {"compare"}
    both = runs(tracking)
    assert both.keys() > trained.keys()
    tried = {both[key].data.tags["stage"]: both[key] for key in both.keys() - trained.keys()}
    assert set(tried) == {"train", "shift", "compare"}
    assert {run.data.tags["dvc.experiment"] for run in tried.values()} == {"three"}
    assert tried["train"].data.params["freeze_blocks"] == "3"
    assert "test/auc" in tried["train"].data.metrics
    path = mlflow.artifacts.download_artifacts(
        run_id=tried["train"].info.run_id, artifact_path="train/train.json", tracking_uri=tracking
    )
    assert Path(path).read_bytes() == (ben.clone / f"models/{SYSTEM}/train.json").read_bytes()

    said = ann.does("Ann looks at it")
    assert re.search(r"^main:\s+three$", said, re.M), said  # on the server
    assert re.search(r"^params.yaml +freeze_blocks +4 +3$", said, re.M), said
    assert f"evaluations/{SYSTEM}/metrics.json" in said
    said = ann.does("Ann looks at it")
    assert ran(said) == set()
    assert re.search(r"^0 of 8 ", said, re.M), said
    assert (ann.clone / "dvc.lock").read_bytes() == (ben.clone / "dvc.lock").read_bytes()
    assert runs(tracking).keys() == both.keys()


@pytest.mark.parametrize("end", ["1 / 0", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_a_server_and_its_children_end_with_their_block_or_process(tmp_path, end):
    port = servers.free_port()
    code = f"""
import os, pathlib, signal, sys
from tests import servers
server = [sys.executable, "-m", "http.server", "--bind", servers.HOST, "{port}"]
ready = servers.answers("http://{servers.HOST}:{port}")
with servers.running(["bash", "-c", '"$@" & wait', "", *server], ready, pathlib.Path("log")):
    print("started", flush=True)
    {end}
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": PYTHONPATH},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "started\n", done.stderr
    answers = servers.answers(f"http://{servers.HOST}:{port}")
    deadline = time.monotonic() + 60
    with pytest.raises(OSError):  # refused, or reset while the process ends
        while time.monotonic() < deadline:
            answers()
            time.sleep(0.05)
