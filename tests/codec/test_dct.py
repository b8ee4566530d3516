from __future__ import annotations

import numpy as np
import pytest
from scipy.fft import dctn

from redecode.codec import dct


def test_forward_is_the_orthonormal_dct() -> None:
    blocks = np.random.default_rng(0).normal(0, 60, (3, 4, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(dct.forward(blocks), dctn(blocks, axes=(-2, -1), norm="ortho"), atol=1e-3)


def test_inverse_undoes_forward() -> None:
    blocks = np.random.default_rng(1).normal(0, 60, (2, 5, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(dct.inverse(dct.forward(blocks)), blocks, atol=1e-3)


def test_dc_is_eight_times_the_mean() -> None:
    assert dct.forward(np.full((1, 8, 8), 3.0))[0, 0, 0] == pytest.approx(24)


def test_blocks_and_planes() -> None:
    plane = np.arange(16 * 24, dtype=np.float32).reshape(16, 24)
    blocks = dct.to_blocks(plane)
    assert blocks.shape == (2, 3, 8, 8)
    np.testing.assert_array_equal(blocks[1, 2], plane[8:, 16:])
    np.testing.assert_array_equal(dct.from_blocks(blocks), plane)


def test_partial_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="8×8"):
        dct.to_blocks(np.zeros((8, 12), np.float32))
