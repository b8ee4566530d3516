"""The shipped networks: ONNX files, each with a JSON record of its training.

Every network has two precisions: float32, the reference (with weights stored in 16 bits), and int8, quantized from it, for CPUs. The record
holds the SHA-256 of the files and of itself, the halo for tiles, the network's config, the recipe of its training, the actual training
(steps, images seen, hardware, time) and the licence notes. Networks trained for fidelity also have a file with the factors of
:func:`redecode.restoration.shrinkage.shrink`. `redecode export` writes all of these files.
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
# Name of the network of each layer, by preset.
PRESETS: dict[Preset, dict[str, str]] = {
    "fast": {"edge": "fast-edge", "texture": "fast-texture"},
    "best": {"edge": "best-edge", "texture": "best-texture"},
}
# Ending of the file name of a network, by precision.
_ENDINGS: dict[Precision, str] = {"int8": ".int8.onnx", "float32": ".onnx"}


@dataclass(frozen=True)
class Weights:
    """A network's files, loaded and checked.

    Attributes:
        name: name of the network, for example "fast-edge".
        onnx: bytes of the ONNX file, checked against the record.
        halo: width in pixels of the border around a tile that its result depends on.
        shrinkage: bytes of a .npy file with the factors for :func:`redecode.restoration.shrinkage.shrink`; None for a texture network.
        record: the record of the network.
    """

    name: str
    onnx: bytes
    halo: int
    shrinkage: bytes | None
    record: dict[str, Any]


def record(name: str) -> dict[str, Any]:
    """The record of a shipped network.

    Raises:
        DependencyError: this installation does not have the network.
    """
    try:
        text = (files(__name__) / f"{name}.json").read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DependencyError(f"this installation has no network {name!r}; reinstall redecode") from None
    return dict(json.loads(text))


def fingerprint(about: dict[str, Any]) -> str:
    """SHA-256 of a record, including its checksums except that of the record itself."""
    sums = {form: checksum for form, checksum in about["sha256"].items() if form != "record"}
    return hashlib.sha256(json.dumps(about | {"sha256": sums}, sort_keys=True).encode()).hexdigest()


def file_name(name: str, precision: Precision) -> str:
    """File name of a network, for example "fast-edge.int8.onnx".

    Raises:
        ValueError: the precision is unknown.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
    return name + _ENDINGS[precision]


def shrinkage_file(name: str) -> str:
    """File name of a network's shrinkage factors."""
    return f"{name}.shrinkage.npy"


def load(name: str, precision: Precision) -> Weights:
    """Load a shipped network and check its files against the record.

    Raises:
        ValueError: the precision is unknown.
        DependencyError: the network does not exist, a file does not match the record, or the record was changed.
    """
    about = record(name)
    onnx = _checked(name, file_name(name, precision), about["sha256"][precision])
    shrinkage = _checked(name, shrinkage_file(name), about["sha256"]["shrinkage"]) if "shrinkage" in about["sha256"] else None
    # A wrong halo in the record would give wrong results at the borders of tiles.
    if about["sha256"].get("record") != fingerprint(about):
        raise DependencyError(f"the record of network {name!r} was changed; reinstall redecode")
    return Weights(name, onnx, int(about["halo"]), shrinkage, about)


def _checked(name: str, file: str, sha256: str) -> bytes:
    try:
        data = (files(__name__) / file).read_bytes()
    except FileNotFoundError:
        raise DependencyError(f"the file {file} of network {name!r} is missing; reinstall redecode") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise DependencyError(f"the file {file} of network {name!r} does not match its record; reinstall redecode")
    return data
