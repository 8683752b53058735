"""The device that Keras computes on, and the precision that suits it."""

import ctypes
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import keras

from cxr import params
from cxr.errors import InputError

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}  # weights stay float32 in both


@dataclass(frozen=True)
class Device:
    """What the computing is done on.

    Attributes:
        name: the model, such as ``NVIDIA H100 80GB HBM3``.
        kind: ``gpu`` or ``cpu``.
        bfloat16: whether it has fast bfloat16 matrix units.
    """

    name: str
    kind: str
    bfloat16: bool


def find() -> Device:
    """Return the device that Keras's backend will use."""
    # Without a kind: JAX raises where it is asked for GPUs and has none.
    if not any(device.startswith("gpu") for device in keras.distribution.list_devices()):
        # bfloat16 on CPUs without matrix tiles (AMX) is half as fast as float32, or worse.
        return Device(_cpu_name(), "cpu", bfloat16=False)
    name, capability = _nvidia()
    # Tensor cores take bfloat16 from compute capability 8.0 (Ampere) on.
    return Device(name, "gpu", bfloat16=capability >= 8.0)


def policy(settings: params.Training, device: Device) -> str:
    """Return the Keras dtype policy for ``training.precision`` on a device.

    Raises:
        InputError: ``training.require_gpu`` is set and there is no GPU.
    """
    if settings.require_gpu and device.kind != "gpu":
        message = (
            f"training.require_gpu is true, but Keras ({keras.backend.backend()}) sees no GPU, "
            f"only {device.name}. Install the extra `gpu` and a driver, or set "
            "training.require_gpu to false to train on the CPU"
        )
        raise InputError(message)
    if settings.precision != "auto":
        return POLICIES[settings.precision]
    return POLICIES["bfloat16" if device.bfloat16 else "float32"]


def keep_memory(device: Device) -> None:
    """Keep freed memory for the next step rather than give it back to the system.

    TensorFlow on a CPU allocates a step's tensors anew each time; glibc would map and unmap them,
    and the kernel fill them with zeros. On two cores of a virtual machine that was half of the CPU
    time of training MobileNetV2; without it steps take four fifths of the time (2026-11-21).
    Elsewhere than on Linux with glibc, or on a GPU, nothing is done.
    """
    if device.kind != "cpu" or platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    # mallopt(3): M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD, M_ARENA_MAX
    for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 2**28), (-8, 1)):
        libc.mallopt(option, value)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results may depend on."""
    backend = keras.backend.backend()
    packages = ("keras", backend, "numpy", "pillow", "scikit-learn")
    return {"python": platform.python_version()} | {p: metadata.version(p) for p in packages}


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:  # not Linux
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _nvidia() -> tuple[str, float]:
    """Ask the driver for the first GPU's name and compute capability; 0 where it can't tell."""
    if shutil.which("nvidia-smi") is None:
        return "GPU", 0.0
    query = ["nvidia-smi", "--query-gpu=name,compute_cap", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, check=False, timeout=30)
    # The answer is such as "NVIDIA H100 80GB HBM3, 9.0"; errors come on stdout too.
    found = re.match(r"([^,\n]+), *([\d.]+|\[N/A\])", answer.stdout)
    if answer.returncode or found is None:
        return "GPU", 0.0
    name, capability = found.groups()
    return name, 0.0 if capability == "[N/A]" else float(capability)
