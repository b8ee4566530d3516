"""Pruning: a network without what contributes nothing.

Dead ReLUs are hidden maps of the residual blocks that stay constant whatever the picture, and cost time all the same. Most of them die in a
network's first minutes, at high learning rates, and then no gradient reaches them. They are left out of what is shipped and of what a warm
start copies. A smaller network that starts from a larger one starts from its shortened trunk, without the blocks of least effect.
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

# A map that moves its block's result by no more (root mean square; features are about 1) is dead.
SILENT = 5e-4
# ONNX Runtime computes that many maps at a time: fewer take as long.
GROUP = 16


@torch.no_grad()
def activity(network: Network, samples: Iterable[Sample]) -> list[tuple[Tensor, Tensor]]:
    """What the hidden maps of each residual block contribute: their mean, and by how much each moves the block's result around its mean.

    Args:
        network: to look into.
        samples: enough pictures to judge by, of all qualities.

    Returns:
        For each block two tensors [hidden maps].
    """
    blocks = residual_blocks(network)
    seen: list[list[tuple[Tensor, Tensor]]] = [[] for _ in blocks]

    def look(number: int, module: nn.Module, inputs: tuple[Tensor]) -> None:
        maps = inputs[0].transpose(0, 1).flatten(1)
        seen[number].append((maps.mean(1), maps.square().mean(1)))

    handles = [block.second.register_forward_pre_hook(partial(look, number)) for number, block in enumerate(blocks)]
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
    """The network without its dead maps, as far as whole groups of GROUP fall away, and without blocks that have no others.

    Args:
        network: trained.
        samples: as :func:`activity`.
        together: that many maps in a row stay or go together; a divisor of GROUP.
    """
    result = copy.deepcopy(network)
    contributions = iter(activity(network, samples))
    for level in levels(result):
        blocks = blocks_of(level)
        first, second = (_slim(side, contributions, together) for side in (blocks[: level.before], blocks[level.before :]))
        level.blocks, level.before = nn.Sequential(*first, *second), len(first)
    return result


def _slim(blocks: list[ResidualBlock], contributions: Iterator[tuple[Tensor, Tensor]], together: int) -> list[ResidualBlock]:
    """Blocks that follow each other, pruned in place, without those that are dead as a whole."""
    kept: list[ResidualBlock] = []
    for block in blocks:
        mean, moves = next(contributions)
        moves = moves.view(-1, together).amax(1).repeat_interleave(together)
        groups = -(-int((moves > SILENT).sum()) // GROUP)
        # The first block has no other to leave its bias to.
        strongest = moves.argsort(descending=True, stable=True)[: GROUP * (groups if kept else max(1, groups))].sort().values
        _settle(block, mean, torch.ones_like(moves, dtype=torch.bool).index_fill(0, strongest, False))
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
    """Give fresh weights to features of the tables that are off for every sample; they have no effect at first.

    Args:
        network: with conditioning, trained; is changed.
        fresh: of the same config, not trained.
        samples: as :func:`activity`.
    """
    bias, drawn = network.trunk.bias, fresh.trunk.bias
    assert bias is not None
    assert drawn is not None
    device = next(network.parameters()).device
    on = bias.hidden(torch.stack([sample["tables"] for sample in samples]).to(device)).amax(0) > 0
    # In equivariant networks neighbours change places when the tables turn.
    off = ~on.view(-1, 2).any(1).repeat_interleave(2)
    values, new = bias.state_dict(), drawn.state_dict()
    for name in ("mlp.0.weight", "mlp.0.bias"):
        values[name][off] = new[name][off]
    values["mlp.2.weight"][:, off] = 0


@torch.no_grad()
def shortened(network: AnyNetwork, samples: Sequence[Sample], count: int) -> AnyNetwork:
    """The network with fewer blocks in its trunk: those of least effect are left out, one after the other.

    Args:
        network: trained.
        samples: to measure the error on that their absence makes.
        count: of the trunk's blocks, no more than there are.

    Raises:
        ValueError: a network with coarser levels would have to be shortened, which nobody has needed yet.
    """
    result = copy.deepcopy(network)
    while len(blocks := blocks_of(result.trunk)) > count:
        if result.trunk.coarser is not None:
            raise ValueError("a network with coarser levels cannot be shortened")
        shorter = [blocks[:i] + blocks[i + 1 :] for i in range(len(blocks))]
        result.trunk.blocks = nn.Sequential(*min(shorter, key=partial(_error_with, result, samples)))
    return result


def _error_with(network: Network, samples: Sequence[Sample], blocks: list[ResidualBlock]) -> float:
    """The mean logarithm of the squared error, with these blocks in the network's trunk."""
    network.trunk.blocks = nn.Sequential(*blocks)
    device = next(network.parameters()).device
    total = 0.0
    for sample in samples:
        restored = network(sample["degraded"][None].to(device), sample["tables"][None].to(device))
        planes = restored[0] if isinstance(restored, tuple) else restored
        total += float(log_mse(planes, sample["original"][None].to(device), LOG_FLOORS[0]))
    return total / len(samples)


def _settle(block: ResidualBlock, mean: Tensor, maps: Tensor) -> None:
    """Add to the bias what some maps contribute on average."""
    _bias(block.second).add_(block.second.weight[:, maps].sum((2, 3)) @ mean[maps])


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias
