from __future__ import annotations

import numpy as np
import pytest

from redecode.restoration.fusion import fuse


@pytest.fixture
def layers() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    base, texture = rng.uniform(0, 255, (2, 3, 10, 12)).astype(np.float32)
    return base, texture, rng.random((10, 12)) > 0.5


def test_nothing_of_the_texture_is_the_base_exactly(layers: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    base, texture, mask = layers
    np.testing.assert_array_equal(fuse(base, texture, mask, 0), base)


def test_the_whole_is_the_hard_merge(layers: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    base, texture, mask = layers
    np.testing.assert_allclose(fuse(base, texture, mask, 1), np.where(mask, texture, base), atol=1e-4)


def test_outside_the_mask_is_the_base_exactly(layers: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    base, texture, mask = layers
    np.testing.assert_array_equal(fuse(base, texture, mask, 0.7)[:, ~mask], base[:, ~mask])


def test_amount_is_checked(layers: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="amount"):
        fuse(*layers, 1.2)
