"""Files of a training run: checkpoints to resume from, and averaged weights with the record of their training."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors import DependencyError, UsageError
from .equivariance import ORBIT, InvariantBasis
from .networks import NetworkConfig, NetworkName

# Fields of a state that a checkpoint holds beside its tensors.
_COUNTERS = ("step", "images", "seconds", "branch", "curve")


@dataclass
class State:
    """The state of a training run.

    Attributes:
        modules: "network", and "discriminator" for the GAN.
        optimizers: optimizer of each module, by the module's name; the learning rates are set at each step.
        rate: current learning rate of the network, relative to the stable part's, 0 … 1.
        basis: invariant basis of the network if it is equivariant, else None; SOAP optimizes the coordinates in this basis.
        ema: exponential moving average of the network's weights, by their names.
        step: number of optimizer steps done.
        images: number of crops seen.
        seconds: seconds of training, without validation, by the kind of hardware.
        branch: step and seconds at which the decay branched off; None in the stable part.
        curve: rows of the validation curve, those before a resumption or a branch included.
    """

    modules: dict[str, nn.Module]
    optimizers: dict[str, Optimizer]
    rate: float = 0.0
    basis: InvariantBasis | None = None
    ema: dict[str, Tensor] = field(default_factory=dict)
    step: int = 0
    images: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    branch: tuple[int, float] | None = None
    curve: list[dict[str, float]] = field(default_factory=list)

    @property
    def total_seconds(self) -> float:
        """Seconds of training on all hardware, without validation."""
        return sum(self.seconds.values())


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside Fabric's wrapper, so that checkpoints have the networks' own parameter names."""
    return module.module if hasattr(module, "module") else module  # type: ignore[return-value]


def save(path: Path, name: NetworkName, config: NetworkConfig, state: State) -> None:
    """Write a checkpoint: the complete state, to resume on this machine or another.

    Args:
        path: path of the checkpoint; an existing file is replaced atomically.
        name: kind of the network.
        config: sizes of the network.
        state: the state to save. Equivariant weights are saved as coordinates in the invariant basis: an eighth of the values, and exactly
            those that the optimizer changes.
    """
    tensors: dict[str, Tensor] = {}
    for key, module in state.modules.items():
        values = unwrapped(module).state_dict()
        if state.basis and key == "network":
            values = _numbered(state.basis.coordinates)
        tensors |= {f"module.{key}.{entry}": value for entry, value in values.items()}
        for index, moments in state.optimizers[key].state_dict()["state"].items():
            tensors |= {f"optimizer.{key}.{index}.{entry}": value for entry, value in moments.items()}
    averaged = _numbered(state.basis.of(list(state.ema.values()))) if state.basis else state.ema
    tensors |= {f"ema.network.{entry}": value for entry, value in averaged.items()}
    owner = {"network": name, "config": msgspec.to_builtins(config)}
    counters = {key: getattr(state, key) for key in _COUNTERS}
    _write(path, tensors, {"owner": json.dumps(owner), "counters": json.dumps(counters)})


def load(path: Path, name: NetworkName, config: NetworkConfig, state: State) -> None:
    """Load a checkpoint into a fresh state.

    Args:
        path: path of the checkpoint.
        name: kind of the state's network.
        config: sizes of the state's network.
        state: the state, changed in place.

    Raises:
        DependencyError: the checkpoint does not exist.
        UsageError: the checkpoint belongs to another network.
    """
    if not path.exists():
        raise DependencyError(f"there is no checkpoint {path} to resume from")
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        if "owner" not in metadata:
            raise DependencyError(f"{path} is not a checkpoint of a training run")
        owner = json.loads(metadata["owner"])
        if owner["network"] != name or msgspec.convert(owner["config"], NetworkConfig) != config:
            raise UsageError(f"{path} is a checkpoint of another network than that of the recipe")
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (safe_open is no mapping)

    def under(prefix: str) -> dict[str, Tensor]:
        return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}

    for key, module in state.modules.items():
        values = under(f"module.{key}.")
        if state.basis and key == "network":
            _copy(_numbered([coordinate.data for coordinate in state.basis.coordinates]), values)
            state.basis.write()
        else:
            _copy(unwrapped(module).state_dict(), values)
        moments: dict[int, dict[str, Tensor]] = {}
        for entry, value in under(f"optimizer.{key}.").items():
            index, _, moment = entry.partition(".")
            moments.setdefault(int(index), {})[moment] = value
        optimizer = state.optimizers[key]
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    averaged = under("ema.network.")
    if state.basis:
        device = state.basis.coordinates[0].device
        state.basis.expand([averaged[str(i)].to(device) for i in range(len(averaged))], list(state.ema.values()))
    else:
        _copy(state.ema, averaged)
    for key, value in json.loads(metadata["counters"]).items():
        setattr(state, key, value)


def save_weights(path: Path, state: State, record: dict[str, Any]) -> None:
    """Write the averaged weights with their record, for an export or a warm start."""
    _write(path, state.ema, {"record": json.dumps(record)})


def load_record(path: Path) -> dict[str, Any]:
    """The record of a `weights.safetensors`: network, config, recipe, and the training that took place.

    Raises:
        DependencyError: the file is missing or was not written by a training run.
    """
    if not path.exists():
        raise DependencyError(f"there are no weights at {path}")
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    if "record" not in metadata:
        raise DependencyError(f"{path} was not written by redecode train")
    return dict(json.loads(metadata["record"]))


def load_weights(path: Path) -> tuple[NetworkName, NetworkConfig, dict[str, Tensor]]:
    """Name, config and averaged weights of a `weights.safetensors`; raises as :func:`load_record`."""
    record = load_record(path)
    with safe_open(path, "pt") as file:
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (safe_open is no mapping)
    return record["network"], msgspec.convert(record["config"], NetworkConfig), state


def orbit(record: dict[str, Any]) -> int:
    """Number of feature maps that a symmetry permutes among each other: ORBIT for equivariant networks, 1 for others."""
    recipe = record["recipe"]
    # In records of the first networks the key is "symmetric".
    return ORBIT if recipe.get("equivariant", recipe.get("symmetric")) else 1


def _numbered(values: list[Any]) -> dict[str, Tensor]:
    return {str(index): value for index, value in enumerate(values)}


@torch.no_grad()
def _copy(into: dict[str, Tensor], values: dict[str, Tensor]) -> None:
    for entry, value in into.items():
        value.copy_(values[entry])


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    temporary = path.with_suffix(".partial")
    save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, temporary, metadata)
    os.replace(temporary, path)
