"""Orientation diversity and the region mask (paper 3.3).

The paper takes orientation diversity from its reference [5] and does not define it. Our reading: [5] is Wu, Li, Dong, Shi, Lin and
Kuo, "Enhanced Just Noticeable Difference Model for Images with Pattern Complexity" (IEEE TIP 2017), whose wording is the same; the
gradients, the quantization of orientation and the counting below are that paper's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

# The paper's T, and ours: a straight edge as a sharp lens draws it meets three bins at most, and between the two thresholds lies a good
# part of what texture can win (results/mask.json; `python bench/mask.py`).
PAPER_THRESHOLD = 5
THRESHOLD = 3
# Of our reading of the paper's reference.
WINDOW = 3
BIN_DEGREES = 12.0
PLAIN = 5.0


def orientation_diversity(luma: Float32, window: int = WINDOW, bin_degrees: float = BIN_DEGREES, plain: float = PLAIN) -> NDArray[np.uint8]:
    """How many different gradient orientations meet around each pixel.

    The gradients are Prewitt's, divided by 3. A pixel of gradient magnitude under `plain` is plain, and all plain pixels share one bin;
    the others fall into bins of orientation folded to [0°, 180°). Borders are replicated.

    Args:
        luma: float32 [H, W], 0 … 255.
        window: side of the neighbourhood in pixels, odd.
        bin_degrees: width of an orientation bin; must divide 180 into at most 31 bins.
        plain: gradient magnitude in grey levels under which a pixel has no orientation.

    Returns:
        uint8 [H, W], the number of non-empty bins, 1 … min(window², bins + 1).

    Raises:
        ValueError: an even window, or more than 31 bins.
    """
    bins = round(180 / bin_degrees)
    if window % 2 == 0 or window < 1:
        raise ValueError(f"window must be odd, not {window}")
    if not 1 <= bins <= 31:
        raise ValueError(f"bin_degrees must give 1 … 31 bins, not {bins}")
    padded = np.pad(luma.astype(np.float32), 1, mode="edge")
    columns = padded[:-2] + padded[1:-1] + padded[2:]
    rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    dx = (columns[:, 2:] - columns[:, :-2]) / 3
    dy = (rows[2:] - rows[:-2]) / 3
    angle = np.degrees(np.arctan2(dy, dx))
    # The modulo folds opposite directions together; 180° itself falls back onto bin 0.
    bin_index = np.floor(np.mod(angle, 180) / bin_degrees).astype(np.uint32) % bins
    bin_index[dx * dx + dy * dy < plain * plain] = bins
    # One bit per bin: the union over the window is a bitwise or, done one axis after the other.
    present = np.left_shift(np.uint32(1), bin_index)
    for axis in (0, 1):
        present = _window_or(present, window, axis)
    return np.bitwise_count(present)


def _window_or(bits: NDArray[np.uint32], window: int, axis: int) -> NDArray[np.uint32]:
    radius = window // 2
    length = bits.shape[axis]
    padding = [(0, 0), (0, 0)]
    padding[axis] = (radius, radius)
    padded = np.pad(bits, padding, mode="edge")
    views = [padded.take(range(i, i + length), axis) if axis else padded[i : i + length] for i in range(window)]
    present: NDArray[np.uint32] = np.bitwise_or.reduce(views)
    return present


def region_mask(diversity: NDArray[np.uint8], threshold: int = THRESHOLD) -> NDArray[np.bool_]:
    """The paper's binary mask: unstructured texture is where the orientation diversity exceeds T.

    Args:
        diversity: uint8 [H, W], of :func:`orientation_diversity`.
        threshold: T.

    Returns:
        bool [H, W], True where the texture layer may replace the fidelity layer.
    """
    return diversity > threshold
