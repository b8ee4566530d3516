"""Warm start: initialise a network so that it computes the same as a trained network, which may be smaller."""

from __future__ import annotations

import copy
from pathlib import Path

import torch

from ..errors import UsageError
from ..evaluation.datasets import data_path
from .checkpoint import load_record, load_weights, orbit
from .data import calibration_samples
from .networks import EdgeCNN, Network, TextureGenerator, blocks_of, levels, make_network, residual_blocks, zeroed
from .pruning import pruned, reinitialise_conditioning, shortened


def warm_start_from(path: Path, network: Network, equivariant: bool) -> None:
    """Initialise a network from a `weights.safetensors`: the trained network is pruned and shortened, and dead weights re-initialised.

    Args:
        path: weights of the same kind of network, or of an Edge-CNN for a texture generator.
        network: the network to initialise, with random weights; changed in place.
        equivariant: whether the network is equivariant.

    Raises:
        DependencyError: the weights do not exist, or there are no photographs to measure the trained network's maps on.
        UsageError: the weights do not fit the network.
    """
    together = orbit(load_record(path))
    if equivariant and together == 1:
        raise UsageError(f"an equivariant network cannot start from {path}, whose network is not equivariant")
    name, config, state = load_weights(path)
    trained = make_network(name, config)
    trained.load_state_dict(state)
    if isinstance(network, TextureGenerator) and isinstance(trained, EdgeCNN):
        trained = without_edge_branch(trained)
    samples = calibration_samples(data_path("train"))
    # Dead maps would stay dead: pruning replaces them by new maps, which can learn.
    fresh = copy.deepcopy(network)
    warm_start(network, shortened(pruned(trained, samples, together), samples, len(network.config.hidden)))
    if network.config.conditioned:
        reinitialise_conditioning(network, fresh, samples)


def without_edge_branch(edge_cnn: EdgeCNN) -> TextureGenerator:
    """A texture generator with the weights of an Edge-CNN, without its edge branch."""
    generator = TextureGenerator(edge_cnn.config)
    state = edge_cnn.state_dict()
    own = {name: state[name] for name in generator.state_dict()}
    own["merge.weight"] = own["merge.weight"][:, : edge_cnn.config.channels]
    generator.load_state_dict(own)
    return generator


@torch.no_grad()
def warm_start(network: Network, trained: Network) -> None:
    """Initialise a network so that it computes the same as a trained one of the same kind, which may be smaller.

    Additional maps and blocks come after those of the trained network, and have no effect on the result at first.

    Args:
        network: the network to initialise, with random weights; changed in place.
        trained: the trained network. It may not have more levels, maps, blocks or hidden maps in a block than `network`; where it has a
            coarser level, it must have the same number of blocks before it.

    Raises:
        UsageError: the trained network is larger than that.
    """
    _check_fits(network, trained)
    values = trained.state_dict()
    corrections = [block.second for block in residual_blocks(network)] + [network.trunk.last]
    corrections += [level.coarser.up for level in levels(network) if level.coarser is not None]
    for layer in corrections:
        zeroed(layer)
    channels, old_channels = network.config.channels, trained.config.channels
    for name, own in network.state_dict().items():
        if name not in values:
            continue
        old = values[name]
        rows = old.shape[0]
        # Zero weights from new maps to old ones keep the function. Weights from old maps to new ones stay random.
        own[:rows] = 0
        if name == "merge.weight":
            # The inputs of the merge are the trunk's maps, then the edge branch's.
            own[:rows, :old_channels], own[:rows, channels:] = old[:, :old_channels], old[:, old_channels:]
        else:
            own[tuple(slice(side) for side in old.shape)] = old


def _check_fits(network: Network, trained: Network) -> None:
    own, old = levels(network), levels(trained)
    fits = len(old) <= len(own) and trained.config.channels <= network.config.channels
    for level, other in zip(own, old, strict=False):
        blocks, others = blocks_of(level), blocks_of(other)
        fits &= len(others) <= len(blocks) and (other.coarser is None or other.before == level.before)
        for block, small in zip(blocks, others, strict=False):
            fits &= small.first.in_channels <= block.first.in_channels and small.first.out_channels <= block.first.out_channels
    if not fits:
        sizes, old_sizes = ([[block.first.out_channels for block in blocks_of(level)] for level in part] for part in (own, old))
        raise UsageError(
            f"a network with {network.config.channels} maps and blocks of {sizes} hidden maps cannot start from one with "
            f"{trained.config.channels} maps and blocks of {old_sizes}"
        )
