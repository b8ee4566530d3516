"""Equivariant networks: a turned or mirrored picture gives the turned or mirrored result.

A JPEG that is turned or mirrored is a JPEG, with tables that turn along: no direction is special. A plain network has to learn this eight
times over; an equivariant one has it built in (Cohen and Welling 2016, "Group equivariant convolutional networks", their group p4m).

Feature maps come in orbits of eight, one for each symmetry of the square. To turn the picture turns the maps and permutes them within their
orbits, and the weights must go along with that. So the network remains a plain one and costs what a plain one costs: only its weights are
constrained. Each layer declares beside its definition how its inputs and outputs are permuted, as a pair of :class:`Axis`.

The constraint leaves an eighth of the weights free. In a basis of the group's irreducible representations the matrix of a layer falls into
five independent blocks, the smallest of them eight times smaller than the layer on either side. Their entries are the network's coordinates
in the *invariant basis*: whoever trains these trains equivariant weights and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UsageError

# Maps in an orbit, one for each symmetry.
ORBIT = 8
# Side of a block of the JPEG grid.
BLOCK = 8


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
class Axis:
    """How symmetries permute one axis of a layer's weights.

    Attributes:
        size: length of the axis.
        sources: for a generator of the symmetries, where each place takes its value from, int64 [size]; raises ValueError where the axis
            cannot be permuted.
    """

    size: int
    sources: Callable[[Move], Tensor]


def fixed(count: int) -> Axis:
    """What no symmetry moves, such as colour planes."""
    return Axis(count, lambda move: torch.arange(count))


def regular(maps: int) -> Axis:
    """Feature maps in orbits of eight (the regular representation)."""

    def sources(move: Move) -> Tensor:
        if maps % ORBIT:
            raise UsageError(f"an equivariant network has multiples of {ORBIT} maps, not {maps}")
        return _repeated(_orbit(move), maps // ORBIT)

    return Axis(maps, sources)


def cells(side: int) -> Axis:
    """The cells of a square, row by row, as a pixel-unshuffle lays them out."""
    return Axis(side**2, lambda move: _positions(side, move))


def table_steps(count: int) -> Axis:
    """Quantization tables, 8×8 each: they turn with the picture, and mirroring changes signs of coefficients but no step."""
    return Axis(count * BLOCK**2, lambda move: _repeated(_positions(BLOCK, move) if move is _turn else torch.arange(BLOCK**2), count))


def pairs(count: int) -> Axis:
    """Features that are made of tables: they come in pairs, which change places when the picture turns."""
    return Axis(count, lambda move: _repeated(torch.tensor([1, 0] if move is _turn else [0, 1]), count // 2))


def product(outer: Axis, inner: Axis) -> Axis:
    """For each place of the outer axis all of the inner one."""
    return Axis(outer.size * inner.size, lambda move: (outer.sources(move)[:, None] * inner.size + inner.sources(move)).flatten())


def concatenated(first: Axis, second: Axis) -> Axis:
    """One axis behind the other."""
    return Axis(first.size + second.size, lambda move: torch.cat([first.sources(move), first.size + second.sources(move)]))


class Conv(nn.Conv2d):
    """A convolution that declares how it transforms; odd kernels keep the size, even ones step by their side.

    Attributes:
        axes: of the outputs and of the inputs.
    """

    def __init__(self, inputs: Axis, outputs: Axis, side: int = 3) -> None:
        super().__init__(inputs.size, outputs.size, side, stride=1 if side % 2 else side, padding=(side - 1) // 2)
        self.axes = outputs, inputs


class Linear(nn.Linear):
    """A linear layer that declares how it transforms.

    Attributes:
        axes: of the outputs and of the inputs.
    """

    def __init__(self, inputs: Axis, outputs: Axis) -> None:
        super().__init__(inputs.size, outputs.size)
        self.axes = outputs, inputs


@dataclass(frozen=True)
class _Block:
    """One irreducible representation, for the parameters of one shape.

    Attributes:
        rows: for each of its dimensions, orthogonal directions among the outputs [outputs, block's rows].
        columns: the same among the inputs, [inputs, block's columns].
    """

    rows: list[Tensor]
    columns: list[Tensor]


@dataclass(frozen=True)
class _Layers:
    """Parameters of one shape that all symmetries permute alike.

    Attributes:
        members: which of the network's parameters.
        shape: of each.
        blocks: the independent blocks of their matrices.
        rows: those of all blocks side by side, [outputs, outputs or less].
        inverse: the pseudo-inverse of these rows.
    """

    members: list[int]
    shape: torch.Size
    blocks: list[_Block]
    rows: Tensor
    inverse: Tensor


class InvariantBasis:
    """The invariant basis of a network's parameters, and their coordinates in it.

    Attributes:
        coordinates: vectors for biases, and stacks of matrices [layers, rows, columns]. Leaves for an optimizer, see :meth:`read`,
            :meth:`read_gradients` and :meth:`write`.
    """

    def __init__(self, network: nn.Module) -> None:
        """
        Args:
            network: on the device that it is trained on, of layers that have `axes`, such as :class:`Conv`; equivariant, or to be made so
                by :meth:`begin`.

        Raises:
            ValueError: its maps are no multiples of ORBIT, or a layer with parameters does not declare how it transforms.
        """
        self._parameters = list(network.parameters())
        alike: dict[Any, list[int]] = {}
        permutations: dict[Any, list[tuple[Tensor, Tensor]]] = {}
        number = 0
        for name, layer in network.named_modules():
            for kind, parameter in layer.named_parameters(recurse=False):
                axes = [_permuted(name, layer, kind, parameter.shape, move) for move in _GENERATORS]
                key = parameter.shape, *(tuple(axis.tolist()) for pair in axes for axis in pair)
                permutations[key] = axes
                alike.setdefault(key, []).append(number)
                number += 1
        device = self._parameters[0].device
        self._layers = []
        for key, members in alike.items():
            blocks = _blocks(permutations[key], device)
            rows = torch.cat([rows for block in blocks for rows in block.rows], 1)
            self._layers.append(_Layers(members, key[0], blocks, rows, (rows / rows.square().sum(0)).T))
        self.coordinates = [nn.Parameter(each) for each in self.of(self._parameters)]

    @torch.no_grad()
    def begin(self) -> None:
        """Make fresh weights equivariant, and as large as they were: averaging over the symmetries shrinks random values.

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
        """Give the coordinates the gradients of the network's parameters, averaged over all eight views of the batch.

        They are gradients by direction, as SOAP and Adam take them: how long the coordinates are does not enter.
        """
        for coordinate, values in zip(self.coordinates, self.of(self._gradients()), strict=True):
            coordinate.grad = values

    @torch.no_grad()
    def write(self) -> None:
        """Bring the network's parameters up to the coordinates."""
        self.expand(self.coordinates, self._parameters)

    @torch.no_grad()
    def average_gradients(self) -> None:
        """Replace the gradients of the network's parameters by their means over the symmetries."""
        gradients = self._gradients()
        self.expand(self.of(gradients), gradients)

    def of(self, values: Sequence[Tensor]) -> list[Tensor]:
        """The coordinates of values like the network's parameters, in their order: of their means over the symmetries."""
        found = []
        for layers in self._layers:
            stack = torch.stack([values[number].detach() for number in layers.members]).reshape(len(layers.members), layers.shape[0], -1)
            parts = iter(torch.split(layers.inverse @ stack, [rows.shape[1] for block in layers.blocks for rows in block.rows], 1))
            for block in layers.blocks:
                dimensions = [next(parts) @ columns for columns in block.columns]
                found.append(torch.stack(dimensions).mean(0) if len(dimensions) > 1 else dimensions[0])
        return [each.flatten() if each.shape[2] == 1 else each for each in found]

    @torch.no_grad()
    def expand(self, coordinates: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        """Write what has these coordinates into values like the network's parameters, in their order."""
        left = iter(coordinates)
        for layers in self._layers:
            count = len(layers.members)
            parts = []
            for block in layers.blocks:
                own = next(left).view(count, block.rows[0].shape[1], -1)
                parts += [own @ columns.T for columns in block.columns]
            stack = (layers.rows @ torch.cat(parts, 1)).view(count, *layers.shape)
            torch._foreach_copy_([values[number] for number in layers.members], list(stack))

    def _gradients(self) -> list[Tensor]:
        return [parameter.grad for parameter in self._parameters if parameter.grad is not None]


def _permuted(name: str, layer: nn.Module, kind: str, shape: torch.Size, move: Move) -> tuple[Tensor, Tensor]:
    """Where a symmetry takes each row of a parameter's matrix from, and each column."""
    if not isinstance(layer, Conv | Linear) or kind not in ("weight", "bias"):
        raise ValueError(f"{name}.{kind} of a {type(layer).__name__} does not declare how it transforms under the symmetries of the square")
    outputs, inputs = layer.axes
    if kind == "bias":
        return outputs.sources(move), torch.arange(1)
    places = torch.arange(shape[1:].numel()).view(shape[1:])[inputs.sources(move)]
    return outputs.sources(move), (move(places) if places.ndim == 3 else places).flatten()


def _blocks(axes: list[tuple[Tensor, Tensor]], device: torch.device) -> list[_Block]:
    """The independent blocks of a matrix whose rows and columns the generators permute so."""
    to, of = ([pair[axis] for pair in axes] for axis in (0, 1))
    found = [([_directions(to, *signs)], [_directions(of, *signs)]) for signs in [(1, 1, 1), (-1, 1, 1), (1, -1, -1), (-1, -1, -1)]]
    # The two-dimensional representation: what is odd in rows and even in columns, and its turned self; both have the same weights.
    rows, columns = (_directions(axis, 0, -1, 1) for axis in (to, of))
    found.append(([rows, rows[to[0]]], [columns, columns[of[0]]]))
    # An optimizer that moves every coordinate by 1 shall move the weights by 1 (root mean square), as if they were free.
    moved = sum(rows.shape[1] * columns.shape[1] for pair in found for rows, columns in zip(*pair, strict=True))
    length = math.sqrt(len(to[0]) * len(of[0]) / moved)
    return [
        _Block([length * each.to(device) for each in rows], [each.to(device) for each in columns])
        for rows, columns in found
        if rows[0].shape[1] and columns[0].shape[1]
    ]


def _directions(moves: list[Tensor], turned: int, mirrored_rows: int, mirrored_columns: int) -> Tensor:
    """Orthonormal directions that keep or change their sign under each generator (0: free to do either), [places, directions]."""
    places = torch.arange(len(moves[0]))
    project = torch.eye(len(places), dtype=torch.float64)
    for sources, sign in zip(moves, (turned, mirrored_rows, mirrored_columns), strict=True):
        if sign:
            project = (project + sign * project[sources]) / 2
    # Each column is the projection of one place. All places of an orbit have the same projection but for its sign.
    lowest = (project.abs() > 1e-9).int().argmax(0)
    directions = project[:, (lowest == places) & (project.abs().amax(0) > 1e-9)]
    return nn.functional.normalize(directions, dim=0).float()


def _positions(side: int, move: Move) -> Tensor:
    """Where the cells of a square go to, row by row."""
    return move(torch.arange(side**2).view(side, side)).flatten().argsort()


def _orbit(move: Move) -> Tensor:
    """Where the eight maps of an orbit go to."""
    # A square without any symmetry tells which one has been done to it.
    views = [torch.arange(9).view(3, 3)]
    for generator in _GENERATORS:
        views = [each for view in views for each in (view, generator(view))]
    known = [tuple(view.flatten().tolist()) for view in views]
    return torch.tensor([known.index(tuple(move(view).flatten().tolist())) for view in views])


def _repeated(index: Tensor, times: int) -> Tensor:
    """The same permutation within each of several groups."""
    return (torch.arange(times)[:, None] * len(index) + index).flatten()
