"""The shipped networks: ONNX files, each beside a JSON record of what it is and how it came to be.

A record holds the file's sha256, the halo that tiles need, the network's config, the recipe it was trained with, what was really run
(steps, images seen, hardware, time) and the licence notes. `redecode export` writes both files.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from ..errors import DependencyError

PRESETS = ("fast",)
LAYERS = ("edge", "texture")


@dataclass(frozen=True)
class Weights:
    """A network as the engine loads it.

    Attributes:
        name: "<preset>-<layer>", for example "fast-edge".
        onnx: the model's bytes, checked against the record.
        halo: radius of its receptive field in pixels.
        record: everything else that is known about it.
    """

    name: str
    onnx: bytes
    halo: int
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


def load(name: str) -> Weights:
    """A shipped network, its file checked against the record.

    Raises:
        DependencyError: there is no such network, or its file is not the one the record speaks of.
    """
    about = record(name)
    onnx = (files(__name__) / f"{name}.onnx").read_bytes()
    if hashlib.sha256(onnx).hexdigest() != about["sha256"]:
        raise DependencyError(f"the file of network {name!r} does not match its record; reinstall redecode")
    return Weights(name, onnx, int(about["halo"]), about)
