"""Memory-mapped layers: only the part in use counts as memory of the process."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


def rows_of(layer: Float32, rows: slice) -> Float32:
    """Rows of a layer [components, H, W]: a view, or a copy if the layer is memory-mapped."""
    part: Float32 = layer[:, rows]
    if isinstance(layer, np.memmap):
        part = np.array(part)
        release(layer)
    return part


def release(array: NDArray[Any]) -> None:
    """Release the memory of a memory-mapped array; its file keeps all data. Other arrays stay unchanged."""
    if isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        array.base.madvise(mmap.MADV_DONTNEED)
