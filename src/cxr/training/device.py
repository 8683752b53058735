"""The device that Keras computes on, and the precision that suits it."""

import ctypes
import logging
import os
import platform
from dataclasses import dataclass
from typing import Any

import keras
import pynvml

from cxr import machine, params
from cxr.errors import InputError

log = logging.getLogger(__name__)
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}  # weights are float32 in both


@dataclass(frozen=True)
class Device:
    """The device that Keras computes on.

    Attributes:
        name: the model, for example ``NVIDIA H100 80GB HBM3``.
        kind: ``gpu`` or ``cpu``.
        bfloat16: whether it has bfloat16 matrix units that make every network faster.
    """

    name: str
    kind: str
    bfloat16: bool


def find() -> Device:
    """Return the device that Keras's backend will use."""
    # list_devices has no argument here, because list_devices("gpu") raises with JAX without a GPU.
    if not any(device.startswith("gpu") for device in keras.distribution.list_devices()):
        # With AVX512_BF16, bfloat16 makes VGG16's step faster and MobileNetV2's slower. Training in
        # another precision gives another result, so `auto` does not choose it by a measurement.
        return Device(machine.cpu_name(), "cpu", bfloat16=False)
    name, capability = _nvidia()
    # Tensor cores support bfloat16 from compute capability 8.0 (Ampere) on.
    return Device(name, "gpu", bfloat16=capability >= (8, 0))


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


def set_deterministic(settings: params.Training) -> None:
    """Make the backend use deterministic algorithms, for ``training.deterministic``.

    Call it before the first operation. It matters on GPUs, where the order of a sum may differ each
    time. An operation without a deterministic algorithm then raises an error in TensorFlow.
    """
    # The variable that tf.config.experimental.enable_op_determinism also sets inside TensorFlow,
    # which the library does not import.
    os.environ["TF_DETERMINISTIC_OPS"] = str(int(settings.deterministic))
    if settings.deterministic and keras.backend.backend() == "jax":
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true".strip()


def keep_memory(device: Device) -> None:
    """Make glibc reuse freed memory instead of returning it to the system.

    On a CPU TensorFlow allocates new tensors in each step. glibc would map and unmap them, and the
    kernel would fill them with zeros: half of the CPU time of training MobileNetV2 on two cores of
    a virtual machine. With this setting a step takes four fifths of the time (2026-11-21). It does
    nothing on a GPU or without glibc. Because it affects the whole process, a stage calls it.
    """
    if device.kind != "cpu" or platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    # mallopt(3): M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD, M_ARENA_MAX
    for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 2**28), (-8, 1)):
        libc.mallopt(option, value)


def _nvidia() -> tuple[str, tuple[int, int]]:
    """Return the name and compute capability of the first GPU that CUDA may use.

    The driver lists all GPUs; CUDA_VISIBLE_DEVICES selects some of them, by index or by UUID. If
    the driver does not answer, return ``GPU`` and (0, 0).
    """
    try:
        pynvml.nvmlInit()
        try:
            handle = _visible(os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip())
            name = str(pynvml.nvmlDeviceGetName(handle))
            major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
            return name, (int(major), int(minor))
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        log.warning(
            "the driver does not identify the GPU (%s); training.precision auto means float32",
            error,
        )
        return "GPU", (0, 0)


def _visible(selected: str) -> Any:
    """Return the driver's handle of a GPU, from an entry of CUDA_VISIBLE_DEVICES."""
    if selected.isdigit():
        return pynvml.nvmlDeviceGetHandleByIndex(int(selected))
    if selected.startswith("MIG-"):  # a part of a GPU; the driver gives the capability of the whole
        part = pynvml.nvmlDeviceGetHandleByUUID(selected)
        return pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(part)
    return pynvml.nvmlDeviceGetHandleByUUID(selected)
