"""Every system of params.yaml, small: a phase changes only what it trains; loading restores it."""

import functools
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from cxr import params, seeding
from cxr.models import freezing, network, store, weights
from cxr.training import fit
from tests.small import PERTURBATION, xrays

ROOT = Path(__file__).resolve().parents[2]
SYSTEMS = params.load(ROOT / "params.yaml").systems
RESUME = f"{Path(__file__).parent}/test_resume.py::TestResumes::test_after_this_part_of_all_steps"
BACKEND = keras.backend.backend()

# The layers that each phase may change, from the published descriptions.
EVERY = ".*"
HEAD = "head_.*"
VGG16_BLOCK_5 = "block5_conv[123]"
# Layer 99 is block_11_expand's batch norm. Batch norms stay frozen.
MOBILENET_FROM_100 = "block_11_(depthwise|project)|block_1[2-6]_(expand|depthwise|project)|Conv_1"
MAY_CHANGE = {
    "probe": {"probe": "head_output"},
    "vgg16_transfer": {"train": f"{VGG16_BLOCK_5}|{HEAD}"},
    "vgg16_scratch": {"train": EVERY},
    "vgg16_gap": {"features": HEAD, "finetune": f"{VGG16_BLOCK_5}|{HEAD}"},
    "resnet18_fc": {"train": HEAD},
    "cnn": {"clean": EVERY, "perturbed": "head_dense_1|head_dense_2|head_output"},
    "mobilenet_v2": {"features": HEAD, "finetune": f"{MOBILENET_FROM_100}|{HEAD}"},
    "mobilenet_v2_scratch": {"train": EVERY},
    "mobilenet_v2_views": {
        "head": "head_output",
        "finetune": "block_1[2-6]_(expand|depthwise|project)|Conv_1|head_output",
    },
    "vgg16_views": {"head": "head_output", "finetune": f"{VGG16_BLOCK_5}|head_output"},
}


@pytest.fixture(autouse=True)
def without_a_graph(monkeypatch):
    """Run TensorFlow eagerly: tracing a step takes 10 to 50 s, one eager step 1 s."""
    if BACKEND == "tensorflow":
        eager = functools.partialmethod(keras.Model.compile, run_eagerly=True)
        monkeypatch.setattr(keras.Model, "compile", eager)


def small(name: str) -> params.System:
    """The published system with small images, and one step per phase.

    A strong penalty keeps the kernel and bias that a regression on features of random weights gives
    small: one step would be lost in float32's rounding of a bias of 16,640.
    """
    system = SYSTEMS[name]
    phases = {
        phase: settings.model_copy(update={"epochs": 1, "steps_per_epoch": 1})
        if isinstance(settings, params.Phase)
        else settings.model_copy(update={"logistic_regression": params.Penalty(strengths=(1e9,))})
        for phase, settings in system.phases.items()
    }
    size = 48 if system.backbone == "cnn" else 32
    system = system.model_copy(update={"image_size": size, "batch_size": 4, "phases": phases})
    return freezing.resolve(system, 4 if name == "vgg16_transfer" else None)


def pretrained(system: params.System) -> weights.Arrays | None:
    """Return random weights in the place of ImageNet's, for a system that has some.

    Frozen batch norms do not rescale: without offsets, features of random weights and their
    gradients would vanish.
    """
    if system.weights is None:
        return None
    arrays = {}
    for layer in network.build(system).layers:
        if layer.weights and not layer.name.startswith("head_"):
            arrays[layer.name] = layer.get_weights()
            if isinstance(layer, keras.layers.BatchNormalization):
                arrays[layer.name][1] += 0.5
    return arrays


def by_layer(model: keras.Model, arrays: list[np.ndarray]) -> dict[str, list[np.ndarray]]:
    """Group the arrays of ``get_weights`` by layer."""
    left = iter(arrays)
    return {layer.name: [next(left) for _ in layer.weights] for layer in model.layers}


@pytest.mark.parametrize("name", SYSTEMS)
def test_each_phase_changes_only_what_it_trains_and_loading_restores_it(name, tmp_path):
    system = small(name)
    initial = pretrained(system)
    images, index = xrays({"train": (1, 3), "val": (1, 1)}, system.image_size)
    trained = fit.train(
        system, images, index, initial, "float32", PERTURBATION, 64, 0, lambda *_: None, None, {}
    )
    keras.utils.set_random_seed(seeding.derive(0, "keras"))  # as train does it
    after = [network.build(system, initial).get_weights(), *trained.weights.values()]
    assert list(trained.weights) == list(system.phases)

    for number, phase in enumerate(system.phases):
        old_layers, new_layers = (
            by_layer(trained.model, arrays) for arrays in after[number : number + 2]
        )
        for layer, arrays in old_layers.items():
            may = bool(re.fullmatch(MAY_CHANGE[name][phase], layer))
            for place, (old, new) in enumerate(zip(arrays, new_layers[layer], strict=True)):
                assert np.any(old != new) == may, f"{phase}: array {place} of {layer}"

    fit.save(trained, tmp_path, None)
    for phase, expected in trained.weights.items():
        for ours, theirs in zip(store.load(tmp_path, phase).get_weights(), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    pixels = images[..., np.newaxis]
    np.testing.assert_array_equal(store.load(tmp_path)(pixels), trained.model(pixels))


@pytest.mark.skipif(BACKEND == "jax", reason="this is the run with jax")
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="the extra `jax` is not there")
def test_all_of_it_holds_with_jax():
    # XLA compiles the networks in a minute, and in three with its optimizations. The baselines from
    # random weights have the same networks as the other systems. A resumed training is the other
    # thing that differs with JAX, which keeps the variables elsewhere during an epoch.
    environment = {"KERAS_BACKEND": "jax", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", __file__, f"{RESUME}[3 of 6]", "-k", "not scratch"],
        cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-5000:]
    baselines = sum(name.endswith("scratch") for name in SYSTEMS)
    assert f"{len(SYSTEMS) - baselines + 1} passed" in run.stdout
