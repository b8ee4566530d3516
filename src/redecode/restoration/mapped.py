"""Layers that lie in files: of these, no more than is being worked on counts as memory of the process."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


def rows_of(layer: Float32, rows: slice) -> Float32:
    """Some rows of a layer [components, H, W]: a view, or a copy where the layer lies in a file."""
    part: Float32 = layer[:, rows]
    if isinstance(layer, np.memmap):
        part = np.array(part)
        release(layer)
    return part


def release(array: NDArray[Any]) -> None:
    """Give back the memory that mirrors an array's file, which keeps all that was written. Other arrays stay as they are."""
    if isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        array.base.madvise(mmap.MADV_DONTNEED)
