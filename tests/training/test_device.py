"""The device and the precision that suits it, with GPUs that are not there."""

import subprocess

import keras
import pytest

from cxr import params
from cxr.errors import InputError
from cxr.training import device

CPU = device.Device("Some CPU", "cpu", bfloat16=False)
H100 = device.Device("NVIDIA H100", "gpu", bfloat16=True)
T4 = device.Device("Tesla T4", "gpu", bfloat16=False)


def settings(precision: str = "auto", require_gpu: bool = False) -> params.Training:
    return params.Training(precision=precision, require_gpu=require_gpu)


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(keras.distribution, "list_devices", lambda kind=None: [])


@pytest.fixture
def gpu(monkeypatch):
    """A machine with one GPU, of which the driver says what the test wants."""
    monkeypatch.setattr(keras.distribution, "list_devices", lambda kind=None: ["gpu:0"])
    monkeypatch.setattr(device.shutil, "which", lambda name: f"/usr/bin/{name}")

    def says(stdout: str, code: int = 0) -> None:
        def run(command, **_):
            assert command[0] == "nvidia-smi"
            return subprocess.CompletedProcess(command, code, stdout=stdout, stderr="")

        monkeypatch.setattr(device.subprocess, "run", run)

    return says


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


def test_with_a_gpu_require_gpu_is_content(gpu):
    gpu("NVIDIA H100 80GB HBM3, 9.0\n")
    assert device.policy(settings(require_gpu=True), device.find()) == "mixed_bfloat16"


@pytest.mark.parametrize(
    ("stdout", "name", "bfloat16"),
    [
        pytest.param("NVIDIA A100-SXM4-40GB, 8.0\n", "NVIDIA A100-SXM4-40GB", True, id="Ampere"),
        pytest.param("Tesla T4, 7.5\n", "Tesla T4", False, id="Turing"),
        pytest.param("NVIDIA B200, 10.0\n", "NVIDIA B200", True, id="two digits"),
        pytest.param("Tesla T4, 7.5\nNVIDIA A100, 8.0\n", "Tesla T4", False, id="the first of two"),
        pytest.param("GRID V100D, [N/A]\n", "GRID V100D", False, id="no capability known"),
        pytest.param("", "GPU", False, id="no answer"),
    ],
)
def test_the_driver_says(gpu, stdout, name, bfloat16):
    gpu(stdout)
    assert device.find() == device.Device(name, "gpu", bfloat16)


def test_a_driver_that_fails_gives_no_name(gpu):
    gpu("Failed to initialize NVML: Driver/library version mismatch\n", code=18)
    assert device.find() == device.Device("GPU", "gpu", bfloat16=False)


def test_a_gpu_without_nvidias_tool_is_a_gpu(gpu, monkeypatch):
    monkeypatch.setattr(device.shutil, "which", lambda name: None)
    assert device.find() == device.Device("GPU", "gpu", bfloat16=False)


def test_versions_name_what_results_may_depend_on():
    versions = device.versions()
    assert versions["keras"] == keras.version()
    assert {"python", "numpy", "pillow", "scikit-learn", keras.backend.backend()} == (
        versions.keys() - {"keras"}
    )
