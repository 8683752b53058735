"""The precision of frozen features: on a CPU chosen by measurement."""

import logging
import time
from collections.abc import Callable, Mapping

import keras
import numpy as np

from cxr import params
from cxr.training import device
from cxr.training.device import POLICIES

log = logging.getLogger(__name__)
WORTH = 1.3  # how many times as fast bfloat16 must be: it has 8 bits where float32 has 24
ROUNDS = 2


def candidates(settings: params.Training, hardware: device.Device) -> list[str]:
    """Return the Keras dtype policies that frozen features may be computed in.

    On a CPU ``training.precision: auto`` leaves two. Which is faster depends on the processor and
    on the network: with AVX512_BF16, bfloat16 makes VGG16 faster and MobileNetV2 slower.
    """
    if settings.precision == "auto" and hardware.kind == "cpu":
        return list(POLICIES.values())
    return [device.policy(settings, hardware)]


def fastest(extractors: Mapping[str, Callable[[], keras.Model]], inputs: np.ndarray) -> keras.Model:
    """Return the extractor to use: the first, or one that is :data:`WORTH` times as fast.

    Args:
        extractors: by policy, what builds it.
        inputs: a batch of images, uint8 [batch, size, size, 1].
    """
    built = {policy: build() for policy, build in extractors.items()}
    if len(built) == 1:
        return next(iter(built.values()))
    for extractor in built.values():
        extractor.predict_on_batch(inputs)  # traces the network
    seconds = {policy: float("inf") for policy in built}
    for _ in range(ROUNDS):
        for policy, extractor in built.items():
            begun = time.perf_counter()
            extractor.predict_on_batch(inputs)
            seconds[policy] = min(seconds[policy], time.perf_counter() - begun)
    default, best = next(iter(built)), min(seconds, key=seconds.__getitem__)
    chosen = best if seconds[default] >= WORTH * seconds[best] else default
    speeds = ", ".join(f"{policy} {len(inputs) / took:.1f}" for policy, took in seconds.items())
    log.info("frozen features in %s; measured images/s: %s", chosen, speeds)
    return built[chosen]
