"""Warm start: a network begins with the function of a trained one, which may be smaller."""

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
    """Start from a `weights.safetensors`, pruned and shortened to fit; dead weights are re-initialised.

    Args:
        path: weights of the same kind of network, or of an Edge-CNN for a texture generator.
        network: to start, with fresh weights.
        equivariant: whether it is.

    Raises:
        DependencyError: there are no such weights, or no photographs to judge them by.
        UsageError: they do not fit.
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
    # What is dead would stay dead: it makes room for maps that can learn.
    fresh = copy.deepcopy(network)
    warm_start(network, shortened(pruned(trained, samples, together), samples, len(network.config.hidden)))
    if network.config.conditioned:
        reinitialise_conditioning(network, fresh, samples)


def without_edge_branch(edge_cnn: EdgeCNN) -> TextureGenerator:
    """The texture generator with the weights of an Edge-CNN; the edge branch's share of the merge falls away."""
    generator = TextureGenerator(edge_cnn.config)
    state = edge_cnn.state_dict()
    own = {name: state[name] for name in generator.state_dict()}
    own["merge.weight"] = own["merge.weight"][:, : edge_cnn.config.channels]
    generator.load_state_dict(own)
    return generator


@torch.no_grad()
def warm_start(network: Network, trained: Network) -> None:
    """Give a network the function of a trained one of the same kind, which may be smaller.

    Maps and blocks that the trained one lacks come last and have no effect at first.

    Args:
        network: to start, with fresh weights.
        trained: to start from, with no more levels, maps or blocks, and in none of these more hidden maps; where it has coarser levels,
            with as many blocks before them.

    Raises:
        UsageError: it has.
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
        # Old maps take nothing from new ones. These take from the old ones from the beginning, where nothing depends on them.
        own[:rows] = 0
        if name == "merge.weight":
            # The edge branch's maps are behind the trunk's.
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
            f"{network.config.channels} maps and blocks of {sizes} cannot start from {trained.config.channels} and blocks of {old_sizes}"
        )
