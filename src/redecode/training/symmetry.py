"""Networks that are alike in the eight symmetries of the square.

Of a picture that is turned or mirrored they make what they make of the picture itself, turned or mirrored. A JPEG that is turned or
mirrored is a JPEG, with tables that turn along, so that nothing speaks for one direction over another; a network that has to learn this
eight times over learns more slowly, and never quite (the mean over the eight is better than any of them).

The maps come in eights, one for each symmetry. To turn the picture turns the maps and permutes them within their eights, and whatever the
weights do to them must go along with that (Cohen and Welling 2016, "Group equivariant convolutional networks": their p4m). So the network
remains the plain one, and costs what it costs: it is its weights that are symmetric. They begin so, and remain so because their gradients
are averaged over the symmetries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .networks import BLOCK, COLOURS, EdgeCNN, TextureGenerator

# How many maps belong together.
ORBIT = 8


def _turn(values: Tensor) -> Tensor:
    return values.transpose(-1, -2)


def _mirror_rows(values: Tensor) -> Tensor:
    return values.flip(-2)


def _mirror_columns(values: Tensor) -> Tensor:
    return values.flip(-1)


Move = Callable[[Tensor], Tensor]

# Every symmetry is a product of these three, each taken or not, in this order; and each of them is its own inverse.
_GENERATORS: tuple[Move, ...] = (_turn, _mirror_rows, _mirror_columns)


class Symmetry:
    """The symmetries of a network's parameters."""

    def __init__(self, network: EdgeCNN | TextureGenerator) -> None:
        """
        Args:
            network: on the device that it is trained on.

        Raises:
            ValueError: its maps are no multiples of ORBIT.
        """
        if any(maps % ORBIT for maps in (network.config.channels, *network.config.hidden)):
            sizes = f"{network.config.channels} and {network.config.hidden}"
            raise ValueError(f"a symmetric network has multiples of {ORBIT} maps, not {sizes}")
        self._parameters = list(network.parameters())
        lengths = [parameter.numel() for parameter in self._parameters]
        places = [
            (name, place.view(parameter.shape))
            for (name, parameter), place in zip(network.named_parameters(), torch.split(torch.arange(sum(lengths)), lengths), strict=True)
        ]
        # What each generator does to all parameters in a row: where it takes the value from that it puts in a place. A thousand small
        # operations, one for each parameter, would take as long as a step of the optimizer.
        self._sources = [
            _row([_acted(name, place, network.config.unshuffle, move) for name, place in places]).to(self._parameters[0].device)
            for move in _GENERATORS
        ]

    @torch.no_grad()
    def begin(self) -> None:
        """Make fresh weights symmetric, and as large as they were: the mean of random values is smaller than these."""
        lengths = [parameter.norm() for parameter in self._parameters]
        self.average_weights()
        for parameter, length in zip(self._parameters, lengths, strict=True):
            if shrunk := parameter.norm():
                parameter.mul_(length / shrunk)

    @torch.no_grad()
    def average_weights(self) -> None:
        """Replace all weights by their means over the symmetries: nothing to do but where an optimizer was not quite symmetric."""
        self._average(self._parameters)

    @torch.no_grad()
    def average_gradients(self) -> None:
        """Replace the gradients, of all parameters, by their means over the symmetries: those of all eight views of the batch."""
        self._average([parameter.grad for parameter in self._parameters if parameter.grad is not None])

    def _average(self, values: Sequence[Tensor]) -> None:
        row = _row(values)
        for source in self._sources:
            row = (row + row[source]) / 2
        for each, mean in zip(values, torch.split(row, [each.numel() for each in values]), strict=True):
            each.copy_(mean.view(each.shape))


def _row(values: Sequence[Tensor]) -> Tensor:
    return torch.cat([each.flatten() for each in values])


def _acted(name: str, values: Tensor, unshuffle: int, move: Move) -> Tensor:
    """What a symmetry makes of the parameter of a name: it permutes outputs and inputs of the layer, and moves kernels."""
    outputs, inputs = values.shape[0], values.shape[1] if values.ndim > 1 else 0
    cell, phases = _positions(unshuffle, move), _positions(BLOCK // unshuffle, move)
    # Tables turn with the picture; to mirror it changes the signs of coefficients, and no step. So do the features that are made of them,
    # which come in pairs.
    steps = _positions(BLOCK, move) if move is _turn else torch.arange(BLOCK**2)
    pair = torch.tensor([1, 0] if move is _turn else [0, 1])
    layer = name.rpartition(".")[0]
    match layer:
        case "trunk.stem":
            goes = _maps(outputs, move), _repeated(cell, COLOURS)
        case "trunk.bias.mlp.0":
            goes = _repeated(pair, outputs // 2), _repeated(steps, 2)
        case "trunk.bias.mlp.2":
            maps = _maps(outputs // len(phases), move)
            goes = (maps[:, None] * len(phases) + phases).flatten(), _repeated(pair, inputs // 2)
        case "edge":
            goes = cell, _maps(inputs, move)
        case "merge":
            maps = _maps(outputs, move)
            # In an Edge-CNN the edge branch's maps are behind the trunk's.
            goes = maps, torch.cat([maps, outputs + cell])[:inputs]
        case "out":
            goes = _repeated(cell, COLOURS), _maps(inputs, move)
        case _:
            goes = _maps(outputs, move), _maps(inputs, move)
    to, of = goes
    moved = values[to] if values.ndim == 1 else values[to][:, of]
    return move(moved) if values.ndim == 4 else moved


def _positions(side: int, move: Move) -> Tensor:
    """Where the cells of a square go to, row by row."""
    return move(torch.arange(side**2).view(side, side)).flatten().argsort()


def _maps(count: int, move: Move) -> Tensor:
    """Where so many maps go to, eight by eight."""
    # A square without any symmetry tells which one has been done to it.
    views = [torch.arange(9).view(3, 3)]
    for generator in _GENERATORS:
        views = [each for view in views for each in (view, generator(view))]
    known = [tuple(view.flatten().tolist()) for view in views]
    return _repeated(torch.tensor([known.index(tuple(move(view).flatten().tolist())) for view in views]), count // ORBIT)


def _repeated(index: Tensor, times: int) -> Tensor:
    """The same within every group of so many as the index has."""
    return (torch.arange(times)[:, None] * len(index) + index).flatten()
