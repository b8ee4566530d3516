"""Pruning: remove the parts of a network that contribute nothing.

Hidden maps of residual blocks with dead ReLUs are the same for every picture, yet cost time. Most of them die in a network's first minutes,
at high learning rates, after which no gradient reaches them. Exports and warm starts leave them out. A warm start of a smaller network from
a larger one also shortens the trunk by the blocks with the least effect.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from .data import Sample
from .equivariance import Conv, regular
from .losses import LOG_FLOORS, log_mse
from .networks import Network, ResidualBlock, blocks_of, levels, residual_blocks

AnyNetwork = TypeVar("AnyNetwork", bound=Network)

# Threshold for dead maps: the root mean square by which a map changes its block's result (features are about 1).
SILENT = 5e-4
# Number of maps that ONNX Runtime computes at a time: fewer maps take as long.
GROUP = 16


@torch.no_grad()
def activity(network: Network, samples: Iterable[Sample]) -> list[tuple[Tensor, Tensor]]:
    """Measure the contribution of the hidden maps of each residual block.

    Args:
        network: the network to measure.
        samples: a representative set of pictures, at all qualities.

    Returns:
        Two tensors [hidden maps] for each block: the mean of each map, and the root mean square by which its deviation from the mean
        changes the block's result.
    """
    blocks = residual_blocks(network)
    seen: list[list[tuple[Tensor, Tensor]]] = [[] for _ in blocks]

    def record(number: int, module: nn.Module, inputs: tuple[Tensor]) -> None:
        maps = inputs[0].transpose(0, 1).flatten(1)
        seen[number].append((maps.mean(1), maps.square().mean(1)))

    handles = [block.second.register_forward_pre_hook(partial(record, number)) for number, block in enumerate(blocks)]
    device = next(network.parameters()).device
    for sample in samples:
        network(sample["degraded"][None].to(device), sample["tables"][None].to(device))
    for handle in handles:
        handle.remove()
    result = []
    for block, moments in zip(blocks, seen, strict=True):
        mean, square = (torch.stack(moment).mean(0) for moment in zip(*moments, strict=True))
        deviation = (square - mean.square()).clamp_min(0).sqrt()
        result.append((mean, deviation * block.second.weight.square().sum((0, 2, 3)).sqrt()))
    return result


@torch.no_grad()
def pruned(network: AnyNetwork, samples: Iterable[Sample], together: int = 1) -> AnyNetwork:
    """Remove dead maps in whole groups of GROUP, and blocks that have only dead maps.

    Args:
        network: a trained network; not changed.
        samples: pictures for :func:`activity`.
        together: number of consecutive maps that are kept or removed together, a divisor of GROUP: the orbits of equivariant networks.

    Returns:
        The pruned network.
    """
    result = copy.deepcopy(network)
    contributions = iter(activity(network, samples))
    for level in levels(result):
        blocks = blocks_of(level)
        first, second = (_slim(side, contributions, together) for side in (blocks[: level.before], blocks[level.before :]))
        level.blocks, level.before = nn.Sequential(*first, *second), len(first)
    return result


def _slim(blocks: list[ResidualBlock], contributions: Iterator[tuple[Tensor, Tensor]], together: int) -> list[ResidualBlock]:
    """Prune consecutive blocks in place and return them without those that are completely dead."""
    kept: list[ResidualBlock] = []
    for block in blocks:
        mean, moves = next(contributions)
        moves = moves.view(-1, together).amax(1).repeat_interleave(together)
        groups = -(-int((moves > SILENT).sum()) // GROUP)
        # The bias of a removed block goes to the block before it: the first block, which has none before it, stays.
        strongest = moves.argsort(descending=True, stable=True)[: GROUP * (groups if kept else max(1, groups))].sort().values
        _fold_into_bias(block, mean, torch.ones_like(moves, dtype=torch.bool).index_fill(0, strongest, False))
        if len(strongest) == 0:
            _bias(kept[-1].second).add_(_bias(block.second))
            continue
        hidden, channels = regular(len(strongest)), regular(block.second.out_channels)
        first, second = Conv(channels, hidden), Conv(hidden, channels)
        first.weight.copy_(block.first.weight[strongest])
        _bias(first).copy_(_bias(block.first)[strongest])
        second.weight.copy_(block.second.weight[:, strongest])
        _bias(second).copy_(_bias(block.second))
        block.first, block.second = first, second
        kept.append(block)
    return kept


@torch.no_grad()
def reinitialise_conditioning(network: AnyNetwork, fresh: AnyNetwork, samples: Iterable[Sample]) -> None:
    """Re-initialise the conditioning's features that are zero for every sample; at first they have no effect on the result.

    Args:
        network: a trained network with conditioning, changed in place.
        fresh: a network of the same sizes with random initial weights.
        samples: pictures for :func:`activity`.
    """
    bias, drawn = network.trunk.bias, fresh.trunk.bias
    assert bias is not None
    assert drawn is not None
    device = next(network.parameters()).device
    on = bias.hidden(torch.stack([sample["tables"] for sample in samples]).to(device)).amax(0) > 0
    # In equivariant networks, features come in pairs, which transposing the tables swaps: re-initialise both.
    off = ~on.view(-1, 2).any(1).repeat_interleave(2)
    values, new = bias.state_dict(), drawn.state_dict()
    for name in ("mlp.0.weight", "mlp.0.bias"):
        values[name][off] = new[name][off]
    values["mlp.2.weight"][:, off] = 0


@torch.no_grad()
def shortened(network: AnyNetwork, samples: Sequence[Sample], count: int) -> AnyNetwork:
    """Shorten the trunk: remove one block after the other, each time the block with the least effect on the error.

    Args:
        network: a trained network; not changed.
        samples: pictures to measure the error on.
        count: number of blocks to keep; if the trunk has no more, all stay.

    Returns:
        The shortened network.

    Raises:
        ValueError: the network has coarser levels, for which this is not implemented.
    """
    result = copy.deepcopy(network)
    while len(blocks := blocks_of(result.trunk)) > count:
        if result.trunk.coarser is not None:
            raise ValueError("a network with coarser levels cannot be shortened")
        shorter = [blocks[:i] + blocks[i + 1 :] for i in range(len(blocks))]
        result.trunk.blocks = nn.Sequential(*min(shorter, key=partial(_error_with, result, samples)))
    return result


def _error_with(network: Network, samples: Sequence[Sample], blocks: list[ResidualBlock]) -> float:
    """The mean logarithm of the squared error with these blocks in the network's trunk; changes the network."""
    network.trunk.blocks = nn.Sequential(*blocks)
    device = next(network.parameters()).device
    total = 0.0
    for sample in samples:
        restored = network(sample["degraded"][None].to(device), sample["tables"][None].to(device))
        planes = restored[0] if isinstance(restored, tuple) else restored
        total += float(log_mse(planes, sample["original"][None].to(device), LOG_FLOORS[0]))
    return total / len(samples)


def _fold_into_bias(block: ResidualBlock, mean: Tensor, maps: Tensor) -> None:
    """Add the average contribution of some maps to the block's bias."""
    _bias(block.second).add_(block.second.weight[:, maps].sum((2, 3)) @ mean[maps])


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias
