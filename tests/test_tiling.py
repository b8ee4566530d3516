from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import uniform_filter

from redecode import tiling


@given(st.integers(1, 90), st.integers(6, 20), st.integers(0, 40))
def test_spans_cover_the_axis_once(units: int, tile_units: int, halo: int) -> None:
    length, tile = units * tiling.ALIGNMENT, tile_units * tiling.ALIGNMENT
    if tile <= 2 * (-(-halo // tiling.ALIGNMENT) * tiling.ALIGNMENT):
        return
    spans = tiling.spans(length, tile, halo)
    kept = [i for s in spans for i in range(s.keep_start, s.keep_stop)]
    assert kept == list(range(length))
    for span in spans:
        assert span.start % tiling.ALIGNMENT == 0
        assert span.stop - span.start == min(tile, length)
        assert span.start == 0 or span.keep_start - span.start >= halo
        assert span.stop == length or span.stop - span.keep_stop >= halo


def test_a_tile_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="no room"):
        tiling.spans(320, 64, 32)


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (75, 130), (200, 64)])
def test_tiled_equals_whole(size: tuple[int, int]) -> None:
    planes = np.random.default_rng(0).uniform(0, 1, (3, *size)).astype(np.float32)

    def blur(tile: np.ndarray) -> np.ndarray:
        return uniform_filter(tile, (0, 9, 9), mode="constant")

    whole = tiling.run(blur, planes, 4096, 4)
    tiled = tiling.run(blur, planes, 64, 4)
    assert tiled.shape == planes.shape
    np.testing.assert_allclose(tiled, whole, atol=1e-5)
