"""The fingerprint of a training or of frozen features: everything that determines the result."""

import sys
from collections.abc import Mapping
from typing import Any

import keras

from cxr import files, machine

# No result depends on them: cxr.params is only a schema, whose values are parameters, and
# cxr.mistakes has its messages.
NOT_CODE = ("cxr.tracking", "cxr.params", "cxr.mistakes", "cxr.quiet", "cxr.cli")


def fingerprint(
    parameters: Mapping[str, Any], inputs: Mapping[str, str], policy: str
) -> dict[str, Any]:
    """Return everything that determines the result of a training, or frozen features.

    Args:
        parameters: those that the stage uses, nested.
        inputs: hash of each file that the stage reads, by its path.
        policy: Keras dtype policy.

    Returns:
        JSON: the arguments, the hash of each module of this project that is loaded, the backend,
        and the versions of the packages that compute.
    """
    backend = keras.backend.backend()
    packages = ("keras", backend, "numpy")
    versions = machine.versions(packages)
    return {
        "parameters": dict(parameters),
        "inputs": dict(inputs),
        "policy": policy,
        "backend": backend,
        "versions": {name: versions[name] for name in packages if name in versions},
        "code": _code(),
    }


def differences(held: Any, wanted: Any, key: str = "") -> list[str]:
    """Return where two nested mappings differ, as sentences with the dotted key."""
    if isinstance(held, Mapping) and isinstance(wanted, Mapping):
        return [
            sentence
            for name in sorted({*held, *wanted})
            for sentence in differences(
                held.get(name), wanted.get(name), f"{key}.{name}".strip(".")
            )
        ]
    if held == wanted:
        return []
    if key.startswith(("code.", "inputs.")):
        return [f"{key.partition('.')[2]} has changed"]
    return [f"{key.removeprefix('parameters.')} was {held}, now {wanted}"]


def _code() -> dict[str, str]:
    """Return the SHA-256 of each loaded module of the library that a result can depend on."""
    return {
        name: files.file_sha256(module.__file__)
        for name, module in sorted(sys.modules.items())
        if name.startswith("cxr.") and not name.startswith(NOT_CODE) and module.__file__
    }
