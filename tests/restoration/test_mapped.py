from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from redecode.restoration.mapped import release, rows_of


def mapped(path: Path, rows: int = 600) -> np.memmap:
    return np.lib.format.open_memmap(path, "w+", np.float32, (3, rows, 5))


def test_rows_are_the_layers_own(tmp_path: Path) -> None:
    layer = mapped(tmp_path / "layer.npy")
    layer[:] = np.arange(layer.size).reshape(layer.shape)
    some = rows_of(layer, slice(7, 311))
    np.testing.assert_array_equal(some, np.arange(layer.size).reshape(layer.shape)[:, 7:311])
    assert not isinstance(some, np.memmap)
    # Nothing of what was written gets lost.
    layer[:, 5] = 3
    release(layer)
    del layer
    assert (np.load(tmp_path / "layer.npy")[:, 5] == 3).all()


def test_rows_of_a_layer_in_memory_are_no_copy() -> None:
    layer = np.zeros((3, 9, 5), np.float32)
    assert np.shares_memory(rows_of(layer, slice(2, 4)), layer)
    release(layer)


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read from /proc")
def test_what_is_released_counts_no_more(tmp_path: Path) -> None:
    def memory() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith(("RssFile", "RssShmem")))

    layer = mapped(tmp_path / "layer.npy", 400_000)
    before = memory()
    layer[:] = 1
    written = memory()
    assert written - before > layer.nbytes / 1024 * 0.9
    release(layer)
    assert memory() - before < layer.nbytes / 1024 * 0.1
