"""Networks that are alike in the eight symmetries of the square.

Of a picture that is turned or mirrored they make what they make of the picture itself, turned or mirrored. A JPEG that is turned or
mirrored is a JPEG, with tables that turn along, so that nothing speaks for one direction over another; a network that has to learn this
eight times over learns more slowly, and never quite (the mean over the eight is better than any of them).

The maps come in eights, one for each symmetry. To turn the picture turns the maps and permutes them within their eights, and whatever the
weights do to them must go along with that (Cohen and Welling 2016, "Group equivariant convolutional networks": their p4m). So the network
remains the plain one, and costs what it costs: it is its weights that are symmetric.

That leaves an eighth of them free. Seen from the right directions the matrix of a layer falls into five: one for each way in which features
can answer to the symmetries (the irreducible representations of the square's group), because no weight can lead from one to another. The
smallest is eight times smaller on either side than the layer's. These matrices are the network's *coordinates*; to train them is to train
symmetric weights and nothing else, with steps that cost next to nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

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


@dataclass(frozen=True)
class _Block:
    """One way to answer to the symmetries, for the parameters of one shape.

    Attributes:
        rows: for each of its partners, orthogonal directions among the outputs [outputs, block's rows].
        columns: the same among the inputs, [inputs, block's columns].
    """

    rows: list[Tensor]
    columns: list[Tensor]


@dataclass(frozen=True)
class _Layers:
    """Parameters that all symmetries move alike.

    Attributes:
        members: which of the network's parameters.
        shape: of each.
        blocks: what is left of their matrices.
        rows: those of all blocks side by side, [outputs, outputs or less].
        answers: how far outputs go along each of these rows, their pseudo-inverse.
    """

    members: list[int]
    shape: torch.Size
    blocks: list[_Block]
    rows: Tensor
    answers: Tensor


class Symmetry:
    """The symmetries of a network's parameters, and their coordinates.

    Attributes:
        coordinates: what is free in the parameters: vectors of what biases there are, and stacks of matrices [layers, rows, columns].
            Leaves for an optimizer, see :meth:`read`, :meth:`read_gradients` and :meth:`write`.
    """

    def __init__(self, network: EdgeCNN | TextureGenerator) -> None:
        """
        Args:
            network: on the device that it is trained on; symmetric, or to be made so by :meth:`begin`.

        Raises:
            ValueError: its maps are no multiples of ORBIT.
        """
        if any(maps % ORBIT for maps in (network.config.channels, *network.config.hidden)):
            sizes = f"{network.config.channels} and {network.config.hidden}"
            raise ValueError(f"a symmetric network has multiples of {ORBIT} maps, not {sizes}")
        self._parameters = list(network.parameters())
        alike: dict[Any, list[int]] = {}
        moves: dict[Any, list[tuple[Tensor, Tensor]]] = {}
        for number, (name, parameter) in enumerate(network.named_parameters()):
            axes = [_axes(name, parameter.shape, network.config.unshuffle, move) for move in _GENERATORS]
            key = parameter.shape, *(tuple(axis.tolist()) for pair in axes for axis in pair)
            moves[key] = axes
            alike.setdefault(key, []).append(number)
        device = self._parameters[0].device
        self._layers = []
        for key, members in alike.items():
            blocks = _blocks(moves[key], device)
            rows = torch.cat([rows for block in blocks for rows in block.rows], 1)
            self._layers.append(_Layers(members, key[0], blocks, rows, (rows / rows.square().sum(0)).T))
        self.coordinates = [nn.Parameter(each) for each in self.of(self._parameters)]

    @torch.no_grad()
    def begin(self) -> None:
        """Make fresh weights symmetric, and as large as they were: the mean of random values is smaller than these.

        The coordinates are not up to that yet.
        """
        lengths = [parameter.norm() for parameter in self._parameters]
        self.read()
        self.write()
        for parameter, length in zip(self._parameters, lengths, strict=True):
            if shrunk := parameter.norm():
                parameter.mul_(length / shrunk)

    @torch.no_grad()
    def read(self) -> None:
        """Bring the coordinates up to the network's parameters."""
        for coordinate, values in zip(self.coordinates, self.of(self._parameters), strict=True):
            coordinate.copy_(values)

    @torch.no_grad()
    def read_gradients(self) -> None:
        """Give the coordinates the gradients that the network's parameters have, all of them: those of all eight views of the batch.

        They are gradients by direction, as SOAP and Adam take them: how long the coordinates are does not enter.
        """
        for coordinate, values in zip(self.coordinates, self.of(self._gradients()), strict=True):
            coordinate.grad = values

    @torch.no_grad()
    def write(self) -> None:
        """Bring the network's parameters up to the coordinates."""
        self.spread(self.coordinates, self._parameters)

    @torch.no_grad()
    def average_gradients(self) -> None:
        """Replace the gradients of the network's parameters, all of them, by their means over the symmetries."""
        gradients = self._gradients()
        self.spread(self.of(gradients), gradients)

    def _gradients(self) -> list[Tensor]:
        return [parameter.grad for parameter in self._parameters if parameter.grad is not None]

    def of(self, values: Sequence[Tensor]) -> list[Tensor]:
        """The coordinates of values like the network's parameters, in their order: what of them is symmetric."""
        found = []
        for layers in self._layers:
            stack = torch.stack([values[number].detach() for number in layers.members]).reshape(len(layers.members), layers.shape[0], -1)
            answers = iter(torch.split(layers.answers @ stack, [rows.shape[1] for block in layers.blocks for rows in block.rows], 1))
            for block in layers.blocks:
                partners = [next(answers) @ columns for columns in block.columns]
                found.append(torch.stack(partners).mean(0) if len(partners) > 1 else partners[0])
        return [each.flatten() if each.shape[2] == 1 else each for each in found]

    def spread(self, coordinates: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        """Write into values like the network's parameters what has these coordinates."""
        left = iter(coordinates)
        for layers in self._layers:
            count = len(layers.members)
            parts = []
            for block in layers.blocks:
                free = next(left).view(count, block.rows[0].shape[1], -1)
                parts += [free @ columns.T for columns in block.columns]
            stack = (layers.rows @ torch.cat(parts, 1)).view(count, *layers.shape)
            torch._foreach_copy_([values[number] for number in layers.members], list(stack))


def _axes(name: str, shape: torch.Size, unshuffle: int, move: Move) -> tuple[Tensor, Tensor]:
    """What a symmetry does to the parameter of a name: where it takes each row of its matrix from, and each column."""
    outputs, inputs = shape[0], shape[1] if len(shape) > 1 else 1
    cell, phases = _positions(unshuffle, move), _positions(BLOCK // unshuffle, move)
    # Tables turn with the picture; to mirror it changes the signs of coefficients, and no step. So do the features that are made of them,
    # which come in pairs.
    steps = _positions(BLOCK, move) if move is _turn else torch.arange(BLOCK**2)
    pair = torch.tensor([1, 0] if move is _turn else [0, 1])
    layer = name.rpartition(".")[0]
    match layer:
        case "trunk.stem":
            to, of = _maps(outputs, move), _repeated(cell, COLOURS)
        case "trunk.bias.mlp.0":
            to, of = _repeated(pair, outputs // 2), _repeated(steps, 2)
        case "trunk.bias.mlp.2":
            maps = _maps(outputs // len(phases), move)
            to, of = (maps[:, None] * len(phases) + phases).flatten(), _repeated(pair, inputs // 2)
        case "edge":
            to, of = cell, _maps(inputs, move)
        case "merge":
            maps = _maps(outputs, move)
            # In an Edge-CNN the edge branch's maps are behind the trunk's.
            to, of = maps, torch.cat([maps, outputs + cell])[:inputs]
        case "out":
            to, of = _repeated(cell, COLOURS), _maps(inputs, move)
        case _:
            to, of = _maps(outputs, move), _maps(inputs, move)
    if len(shape) == 1:
        return to, torch.arange(1)
    places = torch.arange(shape[1:].numel()).view(shape[1:])[of]
    return to, (move(places) if places.ndim == 3 else places).flatten()


def _blocks(axes: list[tuple[Tensor, Tensor]], device: torch.device) -> list[_Block]:
    """The blocks of a matrix whose rows and columns the generators move so."""
    to, of = ([pair[axis] for pair in axes] for axis in (0, 1))
    found = [([_directions(to, *signs)], [_directions(of, *signs)]) for signs in [(1, 1, 1), (-1, 1, 1), (1, -1, -1), (-1, -1, -1)]]
    # What is odd in rows and even in columns, and what that becomes by turning. The same weights lead from one to one and other to other.
    rows, columns = (_directions(axis, 0, -1, 1) for axis in (to, of))
    found.append(([rows, rows[to[0]]], [columns, columns[of[0]]]))
    # An optimizer that moves every coordinate by 1 shall move the weights by 1 in the mean (root mean square), as if they were free.
    moved = sum(rows.shape[1] * columns.shape[1] for partners in found for rows, columns in zip(*partners, strict=True))
    length = math.sqrt(len(to[0]) * len(of[0]) / moved)
    return [
        _Block([length * each.to(device) for each in rows], [each.to(device) for each in columns])
        for rows, columns in found
        if rows[0].shape[1] and columns[0].shape[1]
    ]


def _directions(moves: list[Tensor], turned: int, mirrored_rows: int, mirrored_columns: int) -> Tensor:
    """Orthonormal directions that keep or change their sign under each generator (0: whatever it does to them), [places, directions]."""
    places = torch.arange(len(moves[0]))
    project = torch.eye(len(places), dtype=torch.float64)
    for sources, sign in zip(moves, (turned, mirrored_rows, mirrored_columns), strict=True):
        if sign:
            project = (project + sign * project[sources]) / 2
    # Each column is what becomes of one place. Of all places that one of them can be moved to it is the same but for its sign.
    lowest = (project.abs() > 1e-9).int().argmax(0)
    directions = project[:, (lowest == places) & (project.abs().amax(0) > 1e-9)]
    return nn.functional.normalize(directions, dim=0).float()


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
