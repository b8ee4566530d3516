from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from redecode.restoration import tiling


@given(st.integers(1, 3000), st.integers(16, 400), st.integers(0, 200), st.sampled_from([8, 16, 24, 32]))
def test_spans_cover_the_axis_once(length: int, largest: int, halo: int, unit: int) -> None:
    spans = tiling.spans(length, largest, halo, unit)
    kept = [i for s in spans for i in range(s.keep_start, s.keep_stop)]
    assert kept == list(range(length))
    aligned = math.lcm(unit, tiling.ALIGNMENT)
    for span in spans:
        assert span.start % aligned == span.keep_start % aligned == 0
        assert span.stop == length or span.stop % aligned == 0
        assert span.start == 0 or span.keep_start - span.start >= halo
        assert span.stop == length or span.stop - span.keep_stop >= halo
        assert span.keep_stop - span.keep_start < largest + aligned
        kept_here = list(range(span.start, span.stop))[span.kept()]
        assert kept_here == list(range(span.keep_start, span.keep_stop))


def test_what_is_kept_where_the_first_rows_are_missing() -> None:
    first, second = tiling.spans(64, 32, 16)
    assert list(range(first.start + 3, first.stop))[first.kept(3)] == list(range(3, 32))
    assert list(range(second.start, second.stop))[second.kept()] == list(range(32, 64))


@given(st.integers(1, 800), st.integers(16, 400), st.integers(1, 4), st.sampled_from([8, 16, 24, 32]))
def test_bands_share_out_a_tile(length: int, largest: int, count: int, unit: int) -> None:
    for tile in tiling.tiles((length, 50), largest, 20, (unit, 8)):
        strips = tile.strips(count, unit)
        assert len(strips) <= count
        assert [i for strip in strips for i in range(strip.rows.keep_start, strip.rows.keep_stop)] == list(
            range(tile.rows.keep_start, tile.rows.keep_stop)
        )
        for strip in strips:
            assert (strip.rows.start, strip.rows.stop, strip.columns) == (tile.rows.start, tile.rows.stop, tile.columns)
            assert strip.rows.keep_start % unit == 0
