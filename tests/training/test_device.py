"""The device and the precision that suits it, with simulated GPUs."""

import os
import subprocess
import sys

import keras
import pynvml
import pytest

from cxr import params
from cxr.errors import InputError
from cxr.training import device

CPU = device.Device("Some CPU", "cpu", bfloat16=False)
H100 = device.Device("NVIDIA H100", "gpu", bfloat16=True)
T4 = device.Device("Tesla T4", "gpu", bfloat16=False)


def settings(
    precision: str = "auto", require_gpu: bool = False, deterministic: bool = True
) -> params.Training:
    return params.Training(
        precision=precision, require_gpu=require_gpu, deterministic=deterministic,
        checkpoint=params.Checkpoint(every=1, minutes=10, gigabytes=1),
    )  # fmt: skip


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(keras.distribution, "list_devices", lambda kind=None: [])


class Driver:
    """NVML with these GPUs: name, UUID and compute capability of each."""

    def __init__(self, *gpus: tuple[str, str, tuple[int, int]]) -> None:
        self.gpus = gpus

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        if index >= len(self.gpus):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> int:  # noqa: N802
        uuids = [gpu[1] for gpu in self.gpus]
        if uuid not in uuids:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return uuids.index(uuid)

    def nvmlDeviceGetName(self, handle: int) -> str:  # noqa: N802
        return self.gpus[handle][0]

    def nvmlDeviceGetCudaComputeCapability(self, handle: int) -> tuple[int, int]:  # noqa: N802
        return self.gpus[handle][2]


H100_GPU = ("NVIDIA H100 80GB HBM3", "GPU-1", (9, 0))
T4_GPU = ("Tesla T4", "GPU-2", (7, 5))


@pytest.fixture
def gpus(monkeypatch):
    """A machine with these GPUs."""
    monkeypatch.setattr(keras.distribution, "list_devices", lambda kind=None: ["gpu:0"])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: None)

    def there_are(*gpus: tuple[str, str, tuple[int, int]]) -> None:
        driver = Driver(*gpus)
        for name in (name for name in dir(driver) if name.startswith("nvml")):
            monkeypatch.setattr(pynvml, name, getattr(driver, name))

    return there_are


@pytest.mark.parametrize(
    ("precision", "found", "policy"),
    [
        pytest.param("auto", CPU, "float32", id="auto on a CPU"),
        pytest.param("auto", H100, "mixed_bfloat16", id="auto on a GPU with bfloat16"),
        pytest.param("auto", T4, "float32", id="auto on a GPU without bfloat16"),
        pytest.param("float32", H100, "float32", id="float32 on a GPU with bfloat16"),
        pytest.param("bfloat16", CPU, "mixed_bfloat16", id="bfloat16 on a CPU"),
    ],
)
def test_the_policy_for(precision, found, policy):
    assert device.policy(settings(precision), found) == policy
    keras.DTypePolicy(policy)  # Keras knows it


def test_without_a_gpu_the_cpu_is_found_by_name(no_gpu):
    found = device.find()
    assert found.name
    assert (found.kind, found.bfloat16) == ("cpu", False)


@pytest.mark.parametrize("precision", ["auto", "float32", "bfloat16"])
def test_without_a_gpu_require_gpu_refuses_and_says_how_to_go_on(no_gpu, precision):
    with pytest.raises(InputError, match=r"require_gpu is true.*sees no GPU.*set.*to false"):
        device.policy(settings(precision, require_gpu=True), device.find())


def test_with_a_gpu_require_gpu_is_satisfied(gpus):
    gpus(H100_GPU)
    assert device.policy(settings(require_gpu=True), device.find()) == "mixed_bfloat16"


@pytest.mark.parametrize(
    ("capability", "bfloat16"),
    [((8, 0), True), ((7, 5), False), ((10, 0), True), ((12, 1), True)],
    ids=["Ampere", "Turing", "Blackwell", "newer"],
)
def test_bfloat16_needs_compute_capability_8(gpus, capability, bfloat16):
    gpus(("Some GPU", "GPU-1", capability))
    assert device.find() == device.Device("Some GPU", "gpu", bfloat16)


@pytest.mark.parametrize(
    ("visible", "name"),
    [
        pytest.param(None, "NVIDIA H100 80GB HBM3", id="all"),
        pytest.param("1", "Tesla T4", id="by index"),
        pytest.param("1,0", "Tesla T4", id="the first of two"),
        pytest.param(" 1 ", "Tesla T4", id="with spaces"),
        pytest.param("GPU-2", "Tesla T4", id="by UUID"),
        pytest.param("7", "GPU", id="an index that is not there"),
        pytest.param("GPU-7", "GPU", id="a UUID that is not there"),
    ],
)
def test_cuda_visible_devices_selects_the_gpu(gpus, monkeypatch, visible, name):
    gpus(H100_GPU, T4_GPU)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert device.find().name == name


def test_no_visible_gpu_is_a_cpu(no_gpu, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert device.find().kind == "cpu"


def test_a_gpu_without_a_driver_that_answers_is_a_gpu_without_bfloat16(gpus, monkeypatch):
    def fails() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", fails)
    assert device.find() == device.Device("GPU", "gpu", bfloat16=False)


@pytest.mark.parametrize("deterministic", [True, False])
def test_deterministic_reaches_tensorflow(deterministic):
    code = (
        "from pathlib import Path; from cxr import params; from cxr.training import device; "
        "from tests.training.test_device import settings; "
        f"device.set_deterministic(settings(deterministic={deterministic})); "
        "import tensorflow as tf; from tensorflow.python.framework import config; "
        "print(config.is_op_determinism_enabled())"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    said = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert said.strip() == str(deterministic)


@pytest.mark.parametrize("given", ["", "--xla_cpu_enable_fast_math=false"])
def test_deterministic_reaches_xla_and_keeps_its_other_flags(monkeypatch, given):
    monkeypatch.setenv("XLA_FLAGS", given)
    monkeypatch.setenv("TF_DETERMINISTIC_OPS", "0")
    monkeypatch.setattr(device.keras.backend, "backend", lambda: "jax")
    device.set_deterministic(settings())
    assert os.environ["XLA_FLAGS"].split() == [*given.split(), "--xla_gpu_deterministic_ops=true"]
