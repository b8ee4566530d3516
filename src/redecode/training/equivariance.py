"""Equivariant networks: rotating or mirroring the input rotates or mirrors the output.

A rotated or mirrored JPEG is again a JPEG, with tables rotated likewise: no direction is special. A plain network has to learn this
separately for all eight symmetries of the square; an equivariant network has it built in (Cohen and Welling 2016, "Group equivariant
convolutional networks", their group p4m).

Feature maps come in orbits of eight, one for each symmetry of the square. Rotating the picture rotates the maps and permutes them within
their orbits, and the weights are constrained accordingly. The network itself stays a plain one, at the same cost. Each layer declares
in its definition how its inputs and outputs are permuted, as a pair of :class:`Axis`.

The constraint leaves an eighth of the weights free. In a basis of the group's irreducible representations, the matrix of a layer consists
of five independent blocks, the smallest with an eighth of the layer's rows and columns. The entries of these blocks are the network's
coordinates in the *invariant basis*: training the coordinates keeps the weights equivariant.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UsageError

# Number of feature maps in an orbit, one for each symmetry of the square.
ORBIT = 8
# Side of a JPEG block in pixels.
BLOCK = 8


def _transpose(values: Tensor) -> Tensor:
    return values.transpose(-1, -2)


def _mirror_rows(values: Tensor) -> Tensor:
    return values.flip(-2)


def _mirror_columns(values: Tensor) -> Tensor:
    return values.flip(-1)


Move = Callable[[Tensor], Tensor]

# Generators of the symmetries: every symmetry is a product of a subset of these three in this order. Each is its own inverse.
_GENERATORS: tuple[Move, ...] = (_transpose, _mirror_rows, _mirror_columns)


@dataclass(frozen=True)
class Axis:
    """How symmetries permute one axis of a layer's weights.

    Attributes:
        size: length of the axis.
        sources: function from a generator to its permutation, int64 [size]: the index from which each place takes its value. It raises
            UsageError if the axis cannot be permuted.
    """

    size: int
    sources: Callable[[Move], Tensor]


def fixed(count: int) -> Axis:
    """An axis that no symmetry permutes, for example colour planes."""
    return Axis(count, lambda move: torch.arange(count))


def regular(maps: int) -> Axis:
    """An axis of feature maps in orbits of eight (the regular representation)."""

    def sources(move: Move) -> Tensor:
        if maps % ORBIT:
            raise UsageError(f"the layers of an equivariant network have multiples of {ORBIT} maps, not {maps}")
        return _repeated(_orbit(move), maps // ORBIT)

    return Axis(maps, sources)


def cells(side: int) -> Axis:
    """An axis of the cells of a square, row by row, as a pixel-unshuffle orders them."""
    return Axis(side**2, lambda move: _positions(side, move))


def table_steps(count: int) -> Axis:
    """An axis of 8×8 quantization tables: transposing the picture transposes them, mirroring changes signs of coefficients but no step."""
    return Axis(count * BLOCK**2, lambda move: _repeated(_positions(BLOCK, move) if move is _transpose else torch.arange(BLOCK**2), count))


def pairs(count: int) -> Axis:
    """An axis of features computed from tables: they come in pairs, which transposing the picture swaps."""
    return Axis(count, lambda move: _repeated(torch.tensor([1, 0] if move is _transpose else [0, 1]), count // 2))


def product(outer: Axis, inner: Axis) -> Axis:
    """The product of two axes: all places of the inner axis for each place of the outer one."""
    return Axis(outer.size * inner.size, lambda move: (outer.sources(move)[:, None] * inner.size + inner.sources(move)).flatten())


def concatenated(first: Axis, second: Axis) -> Axis:
    """The concatenation of two axes."""
    return Axis(first.size + second.size, lambda move: torch.cat([first.sources(move), first.size + second.sources(move)]))


class Conv(nn.Conv2d):
    """A convolution that declares how it transforms. Odd kernels keep the size; even kernels have a stride of their side.

    Attributes:
        axes: axis of the outputs and axis of the inputs.
    """

    def __init__(self, inputs: Axis, outputs: Axis, side: int = 3) -> None:
        super().__init__(inputs.size, outputs.size, side, stride=1 if side % 2 else side, padding=(side - 1) // 2)
        self.axes = outputs, inputs


class Linear(nn.Linear):
    """A linear layer that declares how it transforms.

    Attributes:
        axes: axis of the outputs and axis of the inputs.
    """

    def __init__(self, inputs: Axis, outputs: Axis) -> None:
        super().__init__(inputs.size, outputs.size)
        self.axes = outputs, inputs


@dataclass(frozen=True)
class _Block:
    """The block of an irreducible representation, for parameters of the same shape.

    Attributes:
        rows: for each dimension of the representation, orthogonal directions of the outputs, [outputs, block's rows].
        columns: for each dimension, orthogonal directions of the inputs, [inputs, block's columns].
    """

    rows: list[Tensor]
    columns: list[Tensor]


@dataclass(frozen=True)
class _Layers:
    """Parameters of the same shape that all symmetries permute in the same way.

    Attributes:
        members: indices of the parameters in the network.
        shape: shape of each parameter.
        blocks: the independent blocks of their matrices.
        rows: rows of all blocks side by side, [outputs, at most outputs].
        inverse: the pseudo-inverse of `rows`.
    """

    members: list[int]
    shape: torch.Size
    blocks: list[_Block]
    rows: Tensor
    inverse: Tensor


class InvariantBasis:
    """The invariant basis of a network's parameters, and their coordinates in it.

    Attributes:
        coordinates: the coordinates as parameters for an optimizer: vectors for biases, stacks of matrices [layers, rows, columns] for
            weights. :meth:`read`, :meth:`read_gradients` and :meth:`write` exchange values with the network.
    """

    def __init__(self, network: nn.Module) -> None:
        """
        Args:
            network: network of :class:`Conv` and :class:`Linear` layers, on the training device; either equivariant already, or to be made
                equivariant by :meth:`begin`.

        Raises:
            UsageError: the number of maps is not a multiple of ORBIT.
            ValueError: a layer with parameters does not declare how it transforms.
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
        """Make random initial weights equivariant, and keep their norm: averaging over the symmetries alone would shrink them.

        Call :meth:`read` afterwards: this does not update the coordinates.
        """
        lengths = [parameter.norm() for parameter in self._parameters]
        self.read()
        self.write()
        for parameter, length in zip(self._parameters, lengths, strict=True):
            if shrunk := parameter.norm():
                parameter.mul_(length / shrunk)

    @torch.no_grad()
    def read(self) -> None:
        """Set the coordinates from the network's parameters."""
        for coordinate, values in zip(self.coordinates, self.of(self._parameters), strict=True):
            coordinate.copy_(values)

    @torch.no_grad()
    def read_gradients(self) -> None:
        """Set the gradients of the coordinates from those of the network's parameters, averaged over the eight symmetries.

        The gradients refer to directions of unit length, whatever the scale of the coordinates: SOAP and Adam do not depend on it.
        """
        for coordinate, values in zip(self.coordinates, self.of(self._gradients()), strict=True):
            coordinate.grad = values

    @torch.no_grad()
    def write(self) -> None:
        """Set the network's parameters from the coordinates."""
        self.expand(self.coordinates, self._parameters)

    @torch.no_grad()
    def average_gradients(self) -> None:
        """Replace the gradients of the network's parameters by their means over the symmetries."""
        gradients = self._gradients()
        self.expand(self.of(gradients), gradients)

    def of(self, values: Sequence[Tensor]) -> list[Tensor]:
        """The coordinates of values shaped like the network's parameters, after averaging them over the symmetries."""
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
        """Compute the values with these coordinates and write them into `values`, shaped like the network's parameters."""
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
    """The permutations of the rows and of the columns of a parameter's matrix under a generator."""
    if not isinstance(layer, Conv | Linear) or kind not in ("weight", "bias"):
        raise ValueError(f"{name}.{kind} of a {type(layer).__name__} does not declare how it transforms under the symmetries of the square")
    outputs, inputs = layer.axes
    if kind == "bias":
        return outputs.sources(move), torch.arange(1)
    places = torch.arange(shape[1:].numel()).view(shape[1:])[inputs.sources(move)]
    return outputs.sources(move), (move(places) if places.ndim == 3 else places).flatten()


def _blocks(axes: list[tuple[Tensor, Tensor]], device: torch.device) -> list[_Block]:
    """The independent blocks of a matrix whose rows and columns the generators permute by `axes`."""
    to, of = ([pair[axis] for pair in axes] for axis in (0, 1))
    found = [([_directions(to, *signs)], [_directions(of, *signs)]) for signs in [(1, 1, 1), (-1, 1, 1), (1, -1, -1), (-1, -1, -1)]]
    # The two-dimensional representation: directions odd in rows and even in columns, and their transposes; both have the same weights.
    rows, columns = (_directions(axis, 0, -1, 1) for axis in (to, of))
    found.append(([rows, rows[to[0]]], [columns, columns[of[0]]]))
    # Scale the rows so that moving every coordinate by 1 moves the weights by 1 (root mean square), as for unconstrained weights.
    moved = sum(rows.shape[1] * columns.shape[1] for pair in found for rows, columns in zip(*pair, strict=True))
    length = math.sqrt(len(to[0]) * len(of[0]) / moved)
    return [
        _Block([length * each.to(device) for each in rows], [each.to(device) for each in columns])
        for rows, columns in found
        if rows[0].shape[1] and columns[0].shape[1]
    ]


def _directions(moves: list[Tensor], transposed: int, mirrored_rows: int, mirrored_columns: int) -> Tensor:
    """Orthonormal directions with the given signs under each generator (0 for any sign), [places, directions]."""
    places = torch.arange(len(moves[0]))
    project = torch.eye(len(places), dtype=torch.float64)
    for sources, sign in zip(moves, (transposed, mirrored_rows, mirrored_columns), strict=True):
        if sign:
            project = (project + sign * project[sources]) / 2
    # Each column is the projection of one place. The projections of all places of an orbit differ in their sign only: keep the first.
    lowest = (project.abs() > 1e-9).int().argmax(0)
    directions = project[:, (lowest == places) & (project.abs().amax(0) > 1e-9)]
    return nn.functional.normalize(directions, dim=0).float()


def _positions(side: int, move: Move) -> Tensor:
    """The permutation of the cells of a square, row by row."""
    return move(torch.arange(side**2).view(side, side)).flatten().argsort()


def _orbit(move: Move) -> Tensor:
    """The permutation of the eight maps of an orbit."""
    # A square with nine different values identifies each symmetry by the result.
    views = [torch.arange(9).view(3, 3)]
    for generator in _GENERATORS:
        views = [each for view in views for each in (view, generator(view))]
    known = [tuple(view.flatten().tolist()) for view in views]
    return torch.tensor([known.index(tuple(move(view).flatten().tolist())) for view in views])


def _repeated(index: Tensor, times: int) -> Tensor:
    """The same permutation within each of `times` groups."""
    return (torch.arange(times)[:, None] * len(index) + index).flatten()
