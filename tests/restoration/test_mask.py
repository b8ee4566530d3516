from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import erf

from redecode.restoration.mask import PAPER_THRESHOLD, THRESHOLD, orientation_diversity, region_mask


def brute_force(luma: np.ndarray) -> np.ndarray:
    """The definition, pixel by pixel."""
    height, width = luma.shape
    padded = np.pad(luma.astype(np.float64), 1, mode="edge")
    bins = np.empty((height, width), int)
    for y in range(height):
        for x in range(width):
            window = padded[y : y + 3, x : x + 3]
            dx = (window[:, 2].sum() - window[:, 0].sum()) / 3
            dy = (window[2].sum() - window[0].sum()) / 3
            angle = np.degrees(np.arctan2(dy, dx)) % 180
            bins[y, x] = 15 if np.hypot(dx, dy) < 5 else int(angle // 12) % 15
    around = np.pad(bins, 1, mode="edge")
    return np.array([[len(np.unique(around[y : y + 3, x : x + 3])) for x in range(width)] for y in range(height)])


def test_equals_the_definition() -> None:
    rng = np.random.default_rng(0)
    luma = np.clip(rng.normal(128, 30, (24, 31)), 0, 255).astype(np.float32)
    luma[:, :10] = 90  # a plain part
    np.testing.assert_array_equal(orientation_diversity(luma), brute_force(luma))


def along_an_edge(degrees: float, profile: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The orientation diversity along a straight edge, away from the picture's border."""
    y, x = np.mgrid[:64, :64] - 31.5
    distance = x * np.cos(np.radians(degrees)) + y * np.sin(np.radians(degrees))
    diversity = orientation_diversity((60 + 140 * profile(distance)).astype(np.float32))
    inside = (np.abs(distance) < 1) & (np.abs(x) < 29) & (np.abs(y) < 29)
    return diversity[inside]


@pytest.mark.parametrize("degrees", range(0, 180, 5))
def test_a_straight_step_edge_is_structured(degrees: float) -> None:
    # An edge as in a sharp photograph: blurred by a Gaussian of 0.7 pixels.
    assert along_an_edge(degrees, lambda d: 0.5 + 0.5 * erf(d / 0.7 / np.sqrt(2))).max() <= THRESHOLD


@pytest.mark.parametrize("degrees", range(0, 180, 5))
def test_even_a_jagged_edge_is_no_texture(degrees: float) -> None:
    assert along_an_edge(degrees, lambda d: np.clip(d + 0.5, 0, 1)).max() <= PAPER_THRESHOLD


def test_isotropic_noise_is_texture() -> None:
    luma = np.clip(np.random.default_rng(1).normal(128, 40, (128, 128)), 0, 255).astype(np.float32)
    assert orientation_diversity(luma).mean() > 5


def test_flat_is_one_bin() -> None:
    assert (orientation_diversity(np.full((9, 9), 77, np.float32)) == 1).all()


def test_rotation_by_a_quarter_turn_changes_nothing() -> None:
    luma = np.random.default_rng(2).uniform(0, 255, (40, 40)).astype(np.float32)
    # 15 bins of 12° do not map onto themselves under 90°; bins of 10° do.
    turned = orientation_diversity(np.rot90(luma), bin_degrees=10)
    agreement = turned == np.rot90(orientation_diversity(luma, bin_degrees=10))
    assert agreement.mean() > 0.99  # orientations exactly on the border of a bin may fall into either bin


def test_larger_windows_see_at_least_as_much() -> None:
    luma = np.random.default_rng(3).uniform(0, 255, (30, 30)).astype(np.float32)
    assert (orientation_diversity(luma, window=5) >= orientation_diversity(luma, window=3)).all()


def test_threshold_is_exclusive() -> None:
    diversity = np.array([[4, 5, 6]], np.uint8)
    np.testing.assert_array_equal(region_mask(diversity, 5), [[False, False, True]])


def test_bad_parameters() -> None:
    luma = np.zeros((8, 8), np.float32)
    with pytest.raises(ValueError, match="odd"):
        orientation_diversity(luma, window=4)
    with pytest.raises(ValueError, match="bins"):
        orientation_diversity(luma, bin_degrees=1)
