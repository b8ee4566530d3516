"""The 8×8 orthonormal DCT-II of JPEG (ITU-T T.81, A.3.3) on arrays of blocks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK = 8

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


def _basis() -> Float64:
    k = np.arange(BLOCK)
    basis: Float64 = np.cos(np.pi * (2 * k[None, :] + 1) * k[:, None] / (2 * BLOCK)) * np.sqrt(2 / BLOCK)
    basis[0] /= np.sqrt(2)
    return basis


# Processors add the terms of a matrix product in different orders. To get the same pixels everywhere, products are computed in float64 with
# a basis in fixed point: sums over a file's coefficients, integers below 2^16, are then exact (16 + 30 + 6 bits), and other sums differ by
# far less than the precision of the float32 that they are rounded to.
_FRACTION = 2.0**30
# The two-dimensional transform of a flattened block is one 64×64 matrix: a single large matrix product
# serves all blocks at once, where 8×8 products would each be too small for BLAS. float64 [coefficients, samples].
MATRIX = np.rint(np.kron(_basis(), _basis()) * _FRACTION) / _FRACTION
# The transform of 8 samples, float32 [frequencies, samples], for statistics that do not affect pixels.
BASIS: Float32 = _basis().astype(np.float32)
# Number of blocks in a matrix product. For larger products BLAS uses threads of its own, which busy-wait between products and take the
# cores from the networks: a fifth of the time when several pictures are restored.
_TOGETHER = 64
# Number of blocks that are in float64 at a time, so that they fit the caches.
_CHUNK = 1024


def forward(blocks: NDArray[np.floating]) -> Float32:
    """DCT of pixel blocks.

    Args:
        blocks: [..., 8, 8], any real dtype, with or without level shift.

    Returns:
        float32 [..., 8, 8]; entry [0, 0] is 8 times the block's mean.
    """
    return _transformed(blocks, MATRIX.T)


def inverse(coefficients: NDArray[np.floating]) -> Float32:
    """Inverse DCT: pixel blocks from coefficients; the inverse of :func:`forward`.

    Args:
        coefficients: [..., 8, 8], dequantized.

    Returns:
        float32 [..., 8, 8], neither rounded nor clipped.
    """
    return _transformed(coefficients, MATRIX)


def _transformed(blocks: NDArray[np.floating], matrix: Float64) -> Float32:
    flat = np.ascontiguousarray(blocks).reshape(-1, BLOCK * BLOCK)
    result = np.empty(flat.shape, np.float32)
    for first in range(0, len(flat), _CHUNK):
        part = flat[first : first + _CHUNK].astype(np.float64)
        whole = len(part) - len(part) % _TOGETHER
        rows = slice(first, first + whole)
        result[rows] = np.matmul(part[:whole].reshape(-1, _TOGETHER, BLOCK * BLOCK), matrix).reshape(-1, BLOCK * BLOCK)
        result[first + whole : first + len(part)] = np.matmul(part[whole:], matrix)
    return result.reshape(blocks.shape)


def to_blocks(plane: NDArray[np.floating]) -> Float32:
    """Cut a plane into its grid of 8×8 blocks.

    Args:
        plane: [H, W] with H and W multiples of 8.

    Returns:
        float32 [H/8, W/8, 8, 8].

    Raises:
        ValueError: a side is not a multiple of 8.
    """
    height, width = plane.shape
    if height % BLOCK or width % BLOCK:
        raise ValueError(f"a plane of {height}×{width} has no whole 8×8 blocks")
    grid = plane.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    return np.ascontiguousarray(grid.swapaxes(1, 2), dtype=np.float32)


def from_blocks(blocks: NDArray[np.floating]) -> Float32:
    """Join a grid of blocks into a plane; the inverse of :func:`to_blocks`.

    Args:
        blocks: [rows, columns, 8, 8].

    Returns:
        float32 [8·rows, 8·columns].
    """
    rows, columns = blocks.shape[:2]
    plane = blocks.swapaxes(1, 2).reshape(rows * BLOCK, columns * BLOCK)
    return np.ascontiguousarray(plane, dtype=np.float32)
