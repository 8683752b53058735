"""Compute the frozen features of a system before training: the work of the features stage.

All phases of equal data share one pass over the network, which has an output for each layer where
one of them begins. What another system has computed already is copied.
"""

import contextlib
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from cxr import files, params
from cxr.models import graph, network, weights
from cxr.training import batches, device, feature_files, features, fingerprint, precision

log = logging.getLogger(__name__)
LIMIT = 8 * 2**30  # bytes of disk that the features of a phase may take in float16


@dataclass(frozen=True)
class Settings:
    """What features depend on, besides a system, its images and its weights.

    Attributes:
        training: its ``precision``.
        hardware: that Keras computes on.
        perturbation: ranges for the phases that train on perturbed images.
        batch_size: images per batch.
        seed: ``seed`` of params.yaml.
    """

    training: params.Training
    hardware: device.Device
    perturbation: params.Perturbation
    batch_size: int
    seed: int


@dataclass(frozen=True)
class Cut:
    """One file of features.

    Attributes:
        layer: whose output they are.
        kind: the data, clean or perturbed.
        passing: the images.
        fingerprints: the hash of all that determines the features, by Keras dtype policy.
    """

    layer: str
    kind: str
    passing: features.Pass
    fingerprints: Mapping[str, str]

    @property
    def file(self) -> str:
        """The file's name."""
        return _file(self.layer, self.kind)


def extract(
    system: params.System,
    images: np.ndarray,
    index: pd.DataFrame,
    initial: weights.Arrays,
    settings: Settings,
    inputs: Mapping[str, str],
    folder: Path,
    roots: Sequence[Path],
) -> None:
    """Write the frozen features of a system's phases; see :mod:`cxr.training.feature_files`.

    Args:
        system: from :func:`cxr.models.freezing.resolve`.
        images: uint8 [n, size, size].
        index: ``id``, ``label`` and ``split`` of each image.
        initial: the backbone's weights.
        settings: what else the features depend on.
        inputs: hashes of the images, of their index and of the weights.
        folder: ``features/<system>/frozen``.
        roots: repositories whose ``features/`` may have equal ones.

    Raises:
        InputError: the features are not finite, or the disk is full.
    """
    build = partial(network.build, system, initial)
    model = build()
    layers = features.cut(model, system)
    described: dict[str, dict[str, Any]] = {}
    for kind in dict.fromkeys(system.phases[name].data for name in layers):
        perturbed = None
        if kind == "perturbed":
            perturbed = batches.perturbations(settings.perturbation, images, index, settings.seed)
        data = features.of_images(system, images, index, perturbed, settings.seed)
        missing: dict[int, list[Cut]] = {}  # by the number of views: each needs a pass of its own
        for layer in dict.fromkeys(of for n, of in layers.items() if system.phases[n].data == kind):
            cut = _cut(model, layer, kind, data, system, settings, inputs)
            found = feature_files.copy_equal(folder / cut.file, cut.fingerprints.values(), roots)
            if found is not None:
                log.info("%s: copied from a system with equal frozen features", cut.file)
                described[cut.file] = found
            else:
                missing.setdefault(cut.passing.views, []).append(cut)
        for cuts in missing.values():
            described |= _compute(build, data, cuts, settings.batch_size, folder)
    phases = {name: _file(layer, system.phases[name].data) for name, layer in layers.items()}
    feature_files.write_record(folder, phases, {n: described[n] for n in sorted(described)})


def _cut(
    model: keras.Model,
    layer: str,
    kind: str,
    data: features.Data,
    system: params.System,
    settings: Settings,
    inputs: Mapping[str, str],
) -> Cut:
    output = graph.outputs(model)[layer]
    size = 2 * math.prod(output.shape[1:])  # bytes of an image in float16
    passing = features.once(data, system.augmentation, LIMIT / size)
    whole = features.once(data, system.augmentation, math.inf)
    if passing.views != whole.views:
        log.info(
            "the features of layer %s would take %.1f GB, so only those of the validation images "
            "are kept", layer, size * len(whole.rows) / 1e9,
        )  # fmt: skip
    for part in model.layers:
        part.trainable = False  # in the architecture; which phases train a layer changes no feature
    frozen = keras.Model(model.input, output, name="frozen")
    depends: dict[str, Any] = {"architecture": frozen.to_json(), "data": kind}
    if passing.maps is not None and system.augmentation is not None:
        depends |= {"augmentation": system.augmentation.model_dump(), "seed": settings.seed}
    if kind == "perturbed":
        depends |= {"perturbation": settings.perturbation.model_dump(), "seed": settings.seed}
    depends |= {"views": passing.views}
    return Cut(layer, kind, passing, {
        policy: _hash(fingerprint.fingerprint(depends, inputs, policy))
        for policy in precision.candidates(settings.training, settings.hardware)
    })  # fmt: skip


def _compute(
    build: Callable[[str], keras.Model],
    data: features.Data,
    cuts: Sequence[Cut],
    batch_size: int,
    folder: Path,
) -> dict[str, dict[str, Any]]:
    """Write the features of the same images at some layers; return descriptions of the files."""

    def extractor(policy: str) -> keras.Model:
        model = build(policy)
        outputs = graph.outputs(model)
        return keras.Model(model.input, [outputs[cut.layer] for cut in cuts], name=policy)

    passing = cuts[0].passing
    sample = np.resize(passing.rows, batch_size)  # a whole batch, also of fewer images
    chosen = precision.fastest(
        {policy: partial(extractor, policy) for policy in cuts[0].fingerprints},
        data.inputs[sample][..., np.newaxis],
    )
    log.info(
        "computing the features of %d images at %s in %s",
        len(passing.rows), ", ".join(cut.layer for cut in cuts), chosen.name,
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        writers = [
            feature_files.Writer(
                stack.enter_context(files.replacing(folder / cut.file)),
                (len(passing.rows), *output.shape[1:]), cut.layer,
            )
            for cut, output in zip(cuts, chosen.outputs, strict=True)
        ]  # fmt: skip
        features.compute(chosen, data, passing, batch_size, writers)
        return {
            cut.file: {
                "layer": cut.layer,
                "data": cut.kind,
                "views": passing.views,
                "policy": chosen.name,
                **writer.finish(),
                "fingerprint": cut.fingerprints[chosen.name],
            }
            for cut, writer in zip(cuts, writers, strict=True)
        }


def _file(layer: str, kind: str) -> str:
    return f"{layer}.{kind}.npy"


def _hash(value: Mapping[str, Any]) -> str:
    return files.bytes_sha256(json.dumps(value, sort_keys=True).encode())
