"""Fixtures of all tests: a clean environment, small archives, settings, and the real data."""

import io
import os
import socket
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr import params
from cxr.data import manifest
from tools import phantom

if TYPE_CHECKING:
    from tests.clone import Clone

ROOT = Path(__file__).resolve().parents[1]

Encode = Callable[..., bytes]
MakeArchive = Callable[[str, dict[str, bytes]], Path]
SplitSettings = Callable[..., params.Split]

OWN = ("KERAS_HOME", "LANGUAGE", "LC_ALL", "MPLCONFIGDIR")  # LC_ALL would hide LC_MESSAGES
HOME = tempfile.TemporaryDirectory(prefix="cxr-tests-", ignore_cleanup_errors=True)


def isolate() -> None:
    """Remove the user's settings from the environment, for this process and those it starts.

    The tests neither read nor write the home directory (keras.json, .gitconfig, matplotlibrc,
    caches), use no proxy, and leave a GPU alone: its results are not the same to the bit. Programs
    speak English, because tests read what git says.
    """
    for name in list(os.environ):
        settings = name.startswith(("AWS_", "DVC_", "GIT_", "MLFLOW_", "PG", "XDG_"))
        if settings or name in OWN or name.lower().endswith("_proxy"):
            del os.environ[name]
    os.environ |= {
        "HOME": HOME.name,
        "LC_MESSAGES": "C",
        "DVC_SITE_CACHE_DIR": HOME.name,
        "CUDA_VISIBLE_DEVICES": "-1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


isolate()  # on import: Keras, MLflow and Matplotlib read the environment when they are imported


@pytest.fixture(scope="session")
def tiny_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 phantoms of 48 to 96 pixels of every kind that Kermany's has; tests must not change it."""
    path = tmp_path_factory.mktemp("archive") / "phantoms.zip"
    phantom.write_archive(path, seed=1, images=40, size_range=(48, 96))
    return path


@pytest.fixture(scope="session")
def real_archive() -> Path:
    """The zip of all 5,856 X-rays, in Kermany's or Kaggle's layout, at any resolution."""
    given = os.environ.get("CXR_TEST_ARCHIVE")
    if not given:
        pytest.skip("CXR_TEST_ARCHIVE is not set: give it the path of Kermany's archive")
    return Path(given)


@pytest.fixture(scope="session")
def real_manifest(real_archive: Path) -> pd.DataFrame:
    """The real archive's manifest; it rejects no image."""
    table, rejected = manifest.build(real_archive, 0.0)
    assert rejected.empty
    return table


@pytest.fixture
def unreachable() -> Iterator[str]:
    """The URL of a server that refuses connections: its port is taken, but nobody listens."""
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{port.getsockname()[1]}"


@pytest.fixture(scope="session")
def jpeg() -> Encode:
    """Encode an image: ``jpeg(100)``, ``jpeg(pixels)``, ``jpeg(mode="RGB", kind="PNG")``."""

    def encode(
        grey: int | np.ndarray = 100,
        size: tuple[int, int] = (8, 6),
        mode: str = "L",
        kind: str = "JPEG",
    ) -> bytes:
        if isinstance(grey, np.ndarray):
            image = Image.fromarray(grey)
        else:
            image = Image.new("L", size, grey)
        stream = io.BytesIO()
        image.convert(mode).save(stream, kind)
        return stream.getvalue()

    return encode


@pytest.fixture
def make_archive(tmp_path: Path) -> MakeArchive:
    """Write a stored zip from names and bytes: ``make_archive("a.zip", {"NORMAL/1.png": ...})``."""

    def make(name: str, files: dict[str, bytes]) -> Path:
        path = tmp_path / name
        with zipfile.ZipFile(path, "w") as archive:
            for entry, data in files.items():
                archive.writestr(entry, data)
        return path

    return make


@pytest.fixture(scope="session")
def cnn_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file for the backbone of cnn, at the size that the clones train it with."""
    from tests import clone  # imports Keras and MLflow

    path = tmp_path_factory.mktemp("weights") / "cnn.weights.h5"
    clone.write_weights(path)
    return path


@pytest.fixture(scope="session", name="clone")
def first_clone(tmp_path_factory: pytest.TempPathFactory, cnn_weights: Path) -> "Clone":
    """A clone in which everything has run once. Tests may rerun stages, but must tidy up."""
    from tests import clone, planted

    root = tmp_path_factory.mktemp("clone")
    keras_home = root.parent / "keras"  # not the settings that the networks expect
    keras_home.mkdir()
    (keras_home / "keras.json").write_text('{"image_data_format": "channels_first"}')
    settings = planted.ENVIRONMENT | {"KERAS_HOME": str(keras_home)}
    return clone.trained(clone.Clone(root, settings), cnn_weights)


@pytest.fixture(scope="session")
def settings() -> params.Params:
    """The repository's own params.yaml; frozen, so ``model_copy(update=...)`` changes it."""
    return params.load(ROOT / "params.yaml")


@pytest.fixture(scope="session")
def split_settings(settings: params.Params) -> SplitSettings:
    """Make split settings with small counts: ``split_settings("image", val=(1, 2))``."""

    def make(
        protocol: str = "grouped",
        val: tuple[int, int] = (2, 4),
        test: tuple[int, int] = (2, 4),
        max_rejected: float = 0.0,
    ) -> params.Split:
        counts = {
            name: params.Counts(NORMAL=normal, PNEUMONIA=pneumonia)
            for name, (normal, pneumonia) in {"val": val, "test": test}.items()
        }
        return settings.split.model_copy(
            update={"protocol": protocol, "max_rejected": max_rejected, **counts}
        )

    return make
