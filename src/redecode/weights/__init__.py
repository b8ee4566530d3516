"""The shipped networks: ONNX files, each beside a JSON record of what it is and how it came to be.

Every network comes in two precisions: float32, the reference (its weights are stored in 16 bits), and int8, quantized from it, which is
what a CPU runs. A record holds the files' sha256 and its own, the halo that tiles need, the network's config, the recipe it was trained
with, what was really run (steps, images seen, hardware, time) and the licence notes. A network that is trained for fidelity has the factors
of :func:`redecode.restoration.shrinkage.shrink` beside it. `redecode export` writes all of these files.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal, get_args

from ..errors import DependencyError

Preset = Literal["fast", "best"]
Precision = Literal["int8", "float32"]
DEFAULT_PRESET: Preset = "fast"
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
# Of each preset, the network of each layer.
PRESETS: dict[Preset, dict[str, str]] = {
    "fast": {"edge": "fast-edge", "texture": "fast-texture"},
    "best": {"edge": "best-edge", "texture": "best-texture"},
}
# And how the name of a network's file ends.
_ENDINGS: dict[Precision, str] = {"int8": ".int8.onnx", "float32": ".onnx"}


@dataclass(frozen=True)
class Weights:
    """A network as the engine loads it.

    Attributes:
        name: "fast-edge" for example.
        onnx: the model's bytes, checked against the record.
        halo: radius of its receptive field in pixels.
        shrinkage: its factors for :func:`redecode.restoration.shrinkage.shrink`, a .npy file; None for a network that paints texture.
        record: everything else that is known about it.
    """

    name: str
    onnx: bytes
    halo: int
    shrinkage: bytes | None
    record: dict[str, Any]


def record(name: str) -> dict[str, Any]:
    """The record of a shipped network.

    Raises:
        DependencyError: there is no such network in this installation.
    """
    try:
        text = (files(__name__) / f"{name}.json").read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DependencyError(f"this installation has no network {name!r}; reinstall redecode") from None
    return dict(json.loads(text))


def fingerprint(about: dict[str, Any]) -> str:
    """sha256 of what a record tells, its checksums included, but for the one of itself."""
    sums = {form: checksum for form, checksum in about["sha256"].items() if form != "record"}
    return hashlib.sha256(json.dumps(about | {"sha256": sums}, sort_keys=True).encode()).hexdigest()


def file_name(name: str, precision: Precision) -> str:
    """The file of a network, "fast-edge.int8.onnx" for example.

    Raises:
        ValueError: unknown precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
    return name + _ENDINGS[precision]


def shrinkage_file(name: str) -> str:
    """The file of a network's shrinkage factors."""
    return f"{name}.shrinkage.npy"


def load(name: str, precision: Precision) -> Weights:
    """A shipped network, its files checked against the record.

    Raises:
        ValueError: unknown precision.
        DependencyError: there is no such network, its file is not the one the record speaks of, or the record was changed.
    """
    about = record(name)
    onnx = _checked(name, file_name(name, precision), about["sha256"][precision])
    shrinkage = _checked(name, shrinkage_file(name), about["sha256"]["shrinkage"]) if "shrinkage" in about["sha256"] else None
    # Its halo is what tiles are cut by.
    if about["sha256"].get("record") != fingerprint(about):
        raise DependencyError(f"the record of network {name!r} is not as it was written; reinstall redecode")
    return Weights(name, onnx, int(about["halo"]), shrinkage, about)


def _checked(name: str, file: str, sha256: str) -> bytes:
    try:
        data = (files(__name__) / file).read_bytes()
    except FileNotFoundError:
        raise DependencyError(f"the file {file} of network {name!r} is missing; reinstall redecode") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise DependencyError(f"the file {file} of network {name!r} does not match its record; reinstall redecode")
    return data
