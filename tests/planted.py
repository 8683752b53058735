"""Secrets that tests plant where a user has them, and a search for them in all kinds of files."""

import base64
import io
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import h5py
from PIL import Image

MARK = "pl4nted" + "S3cret"  # every secret contains it; this file does not
NAMES = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_KEY",
    "CXR_PASSWORD", "DATABASE_URL", "DVC_SECRET", "GITHUB_TOKEN", "HF_TOKEN", "KAGGLE_KEY",
    "KERAS_API_KEY", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_USERNAME", "OPENAI_API_KEY",
    "PASSWORD", "PGPASSWORD", "SECRET", "SSH_PASSPHRASE", "TF_TOKEN", "WANDB_API_KEY",
)  # fmt: skip
ENVIRONMENT = {name: f"{MARK}-{name.lower()}" for name in NAMES}
USER = f"{MARK}-user:{MARK}-password@"  # in a URL

# Where a secret may stay: git's and DVC's own settings, which tests plant it in.
SETTINGS = (".git", ".dvc/config.local")


def plant(root: Path) -> None:
    """Write credentials to the settings of a repository: a remote of git and one of DVC."""
    with (root / ".git/config").open("a") as config:
        config.write(f'[remote "planted"]\n\turl = https://{USER}example.org/x.git\n')
    remote = [
        "['remote \"planted\"']",
        f"    url = https://{USER}example.org/dvc",
        f"    password = {MARK}-dvc",
    ]
    (root / ".dvc/config.local").write_text("\n".join(remote) + "\n")


def leaks(folder: Path) -> list[str]:
    """Return the files below a folder that contain a planted secret, and where in them."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [
        f"{path.relative_to(folder)}: {where}"
        for path in files
        if not str(path.relative_to(folder)).startswith(SETTINGS)
        for where, data in _contents(path.name, path.read_bytes())
        if is_in(data)
    ]


def is_in(data: bytes | str) -> bool:
    """Return whether a text or bytes contain a secret, as it is or in a header of Basic auth."""
    data = data.encode() if isinstance(data, str) else data
    header = base64.b64encode(USER.removesuffix("@").encode())[:20]
    return MARK.encode() in data or header in data or MARK.encode("utf-16-le") in data


def _contents(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield a file's bytes, and those of what it holds compressed."""
    yield "bytes", data
    if data.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for inside in archive.namelist():
                yield "name in a zip", inside.encode()
                for where, part in _contents(inside, archive.read(inside)):
                    yield f"{inside}, {where}", part
    elif data.startswith(b"\x89PNG"):
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            yield "text of the PNG", repr(image.info).encode()
    elif data.startswith(b"\x89HDF"):
        with h5py.File(io.BytesIO(data)) as file:
            found = [repr(dict(file.attrs))]
            file.visititems(lambda name, node: found.append(f"{name} {dict(node.attrs)}"))
            yield "attributes of the HDF5", " ".join(found).encode()
    elif name.endswith((".gz", ".zlib")):
        yield "compressed", zlib.decompress(data, 47)
