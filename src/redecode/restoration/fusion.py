"""Fusion of the fidelity and the texture layer (paper 3.3)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


def fuse(base: Float32, texture: Float32, mask: NDArray[np.bool_] | Float32, amount: float = 1.0) -> Float32:
    """I = L_B + amount · M ⊙ (L_T − L_B).

    Args:
        base: L_B, float32 [C, H, W].
        texture: L_T, likewise.
        mask: M, bool or float32 [H, W], 0 … 1.
        amount: 0 … 1; 1 is the paper's hard merge, 0 gives L_B exactly.

    Returns:
        float32 [C, H, W].

    Raises:
        ValueError: amount outside 0 … 1.
    """
    if not 0 <= amount <= 1:
        raise ValueError(f"amount must be 0 … 1, not {amount}")
    return base + np.float32(amount) * mask.astype(np.float32) * (texture - base)
