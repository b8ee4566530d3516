"""What a network can do without.

Dead ReLUs are hidden maps of the residual blocks that say nothing, whatever the picture, and cost time all the same. Most of them die in a
network's first minutes, at high learning rates, and then no gradient reaches them. What is shipped is without them, and so is what more
training starts from. And a smaller network that starts from a larger one starts without the blocks that are missed least.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from .data import Sample
from .losses import LOG_FLOORS, log_mse
from .networks import EdgeCNN, ResidualBlock, TextureGenerator, conv, residual_blocks

Network = TypeVar("Network", bound=EdgeCNN | TextureGenerator)

# A map that moves its block's result by no more (root mean square; features are about 1) is dead.
SILENT = 5e-4
# ONNX Runtime computes so many maps at a time: fewer take as long.
GROUP = 16


@torch.no_grad()
def activity(network: Network, samples: Iterable[Sample]) -> list[tuple[Tensor, Tensor]]:
    """What the hidden maps of each residual block say: their mean, and by how much each moves the block's result around its mean.

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
def pruned(network: Network, samples: Iterable[Sample], together: int = 1) -> Network:
    """The network without its dead maps, as far as whole groups of GROUP fall away, and without blocks that have no others.

    Args:
        network: trained.
        samples: as :func:`activity`.
        together: so many maps in a row stay or go together; a divisor of GROUP.
    """
    result = copy.deepcopy(network)
    kept: list[ResidualBlock] = []
    for block, (mean, says) in zip(residual_blocks(result), activity(network, samples), strict=True):
        says = says.view(-1, together).amax(1).repeat_interleave(together)
        groups = -(-int((says > SILENT).sum()) // GROUP)
        # The first block has no other to leave its bias to.
        loudest = says.argsort(descending=True, stable=True)[: GROUP * (groups if kept else max(1, groups))].sort().values
        _settle(block, mean, torch.ones_like(says, dtype=torch.bool).index_fill(0, loudest, False))
        if len(loudest) == 0:
            _bias(kept[-1].second).add_(_bias(block.second))
            continue
        first, second = conv(block.first.in_channels, len(loudest)), conv(len(loudest), block.second.out_channels)
        first.weight.copy_(block.first.weight[loudest])
        _bias(first).copy_(_bias(block.first)[loudest])
        second.weight.copy_(block.second.weight[:, loudest])
        _bias(second).copy_(_bias(block.second))
        block.first, block.second = first, second
        kept.append(block)
    result.trunk.blocks = nn.Sequential(*kept)
    return result


@torch.no_grad()
def redraw_bias(network: Network, fresh: Network, samples: Iterable[Sample]) -> None:
    """Have what never is on in the MLP of the tables begin anew, with no say at first.

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
    # In symmetric networks neighbours are each other's, when the tables are turned.
    off = ~on.view(-1, 2).any(1).repeat_interleave(2)
    values, new = bias.state_dict(), drawn.state_dict()
    for name in ("mlp.0.weight", "mlp.0.bias"):
        values[name][off] = new[name][off]
    values["mlp.2.weight"][:, off] = 0


@torch.no_grad()
def shortened(network: Network, samples: Sequence[Sample], count: int) -> Network:
    """The network with so many blocks, without those that are missed least, one after the other.

    Args:
        network: trained.
        samples: to measure the error on that their absence makes.
        count: of blocks, no more than there are.
    """
    result = copy.deepcopy(network)
    while len(blocks := residual_blocks(result)) > count:
        shorter = [blocks[:i] + blocks[i + 1 :] for i in range(len(blocks))]
        result.trunk.blocks = nn.Sequential(*min(shorter, key=partial(_error_with, result, samples)))
    return result


def _error_with(network: EdgeCNN | TextureGenerator, samples: Sequence[Sample], blocks: list[ResidualBlock]) -> float:
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
    """Have the bias say what some maps say in the mean."""
    _bias(block.second).add_(block.second.weight[:, maps].sum((2, 3)) @ mean[maps])


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias
