"""The MLflow UI in a browser: the table of both baselines, and the charts of a run."""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from cxr.tracking import client
from cxr.tracking import server as tracking_server
from cxr.tracking.record import Record
from tests import servers
from tests.paths import PATH, PYTHONPATH, ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# The UI tries to reach hosts of its own; nothing is to leave the machine.
QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync",
    "--disable-component-update", "--no-first-run",
]  # fmt: skip


def _log_models() -> None:
    for system, auc, frozen in (("vgg16_transfer", 0.9871, 4), ("vgg16_scratch", 0.9542, None)):
        record = Record(
            id=system,
            folder=Path(),
            stage="train",
            item=system,
            experiment="imagenet-to-xray",
            started=1_795_548_876_000,
            ended=1_795_548_879_000,
            params={"freeze_blocks": str(frozen), "weights": "None", "image_size": "64"},
            tags={"system": system, "dvc.experiment": "three"},
            metrics={"test/auc": auc, "test/accuracy": 0.9, "val/auc": 0.97, "epochs": 6},
            artifacts=[],
            epochs=[(1_795_548_877_000, {"epoch/loss": 0.5, "epoch/val_auc": 0.9})],
        )
        client.send(record)


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    _log_models()
    port = servers.free_port()
    url = f"http://{servers.HOST}:{port}"
    command = [sys.executable, "-m", "cxr.cli", "ui", "--port", str(port)]
    env = os.environ | {"PATH": PATH, "PYTHONPATH": PYTHONPATH}
    ready = servers.answers(f"{url}/health")
    with servers.running(command, ready, tmp_path / "ui.log", env=env, cwd=ROOT):
        yield url


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt install chromium")
def test_table_shows_both_baselines_and_a_run_opens_with_its_curves(server, tmp_path):
    page_of = tracking_server.pages()["imagenet-to-xray"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(viewport={"width": 1700, "height": 700})
        page.set_default_timeout(120_000)
        page.goto(f"{server}/{page_of}")
        page.get_by_text("train vgg16_transfer").first.wait_for()
        page.get_by_text("train vgg16_scratch").first.wait_for()
        text = page.inner_text("body")
        page.screenshot(path=tmp_path / "ui.png")
        # The page of a run opens with its curves.
        page.get_by_text("train vgg16_transfer").first.click()
        page.get_by_role("tab", name="Model metrics").click()
        page.get_by_text("val_auc").first.wait_for()
        charts = page.inner_text("body")
        browser.close()
    assert "0.9871" in text
    assert "0.9542" in text
    assert "test/auc" in text
    assert "freeze_blocks" in text
    assert "three" in text  # the DVC experiment that a model belongs to
    sections = re.findall(r"^(epoch|test|val|Model metrics)\n+\(\d+\)$", charts, re.MULTILINE)
    assert sections == ["epoch", "test", "val", "Model metrics"]
