from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from redecode.codec import colour, jpeg
from redecode.restoration import projection, repair, shrinkage


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(np.float64) - b) ** 2)))


def whole_blocks(photograph: np.ndarray) -> np.ndarray:
    """Crop to whole MCUs, for which the projection is exact."""
    return np.ascontiguousarray(photograph[:112, :160])


@pytest.mark.parametrize("subsampling", jpeg.SUBSAMPLINGS)
@pytest.mark.parametrize("margin", [0.0, projection.MARGIN])
def test_idempotent(photograph: np.ndarray, subsampling: str, margin: float) -> None:
    image = jpeg.read(jpeg.compress(whole_blocks(photograph), 10, subsampling))
    once = projection.project(gaussian_filter(image.planes(), (0, 2, 2)), image, margin)
    np.testing.assert_allclose(projection.project(once, image, margin), once, atol=1e-3)


@pytest.mark.parametrize("subsampling", jpeg.SUBSAMPLINGS)
def test_what_agrees_with_the_file_stays(photograph: np.ndarray, subsampling: str) -> None:
    image = jpeg.read(jpeg.compress(whole_blocks(photograph), 30, subsampling))
    # Chroma is repeated instead of interpolated, so that averaging it gives the file's samples.
    h, v = image.max_sampling
    planes = np.stack([c.plane().repeat(v // c.sampling[1], 0).repeat(h // c.sampling[0], 1) for c in image.components])
    np.testing.assert_allclose(projection.project(planes, image), planes, atol=1e-3)


def test_any_picture_comes_closer_to_the_original(photograph: np.ndarray) -> None:
    """The original (as the encoder saw it) is in the convex set, so no projection can lead away from it."""
    luma = colour.to_uint8(colour.to_planes(whole_blocks(photograph))[0])
    image = jpeg.read(jpeg.compress(luma, 20))
    rng = np.random.default_rng(0)
    noisy = luma + rng.normal(0, 9, luma.shape)
    for candidate in (np.zeros_like(luma), 255 - luma, gaussian_filter(luma, 3), rng.integers(0, 256, luma.shape), noisy):
        planes = candidate.astype(np.float32)[None]
        projected = projection.project(planes, image, margin=0)
        assert np.linalg.norm(projected[0] - luma) <= np.linalg.norm(planes[0] - luma) + 1e-2


def test_luma_lands_in_the_cells(photograph: np.ndarray) -> None:
    image = jpeg.read(jpeg.compress(whole_blocks(photograph), 10))
    projected = projection.project(gaussian_filter(image.planes(), (0, 3, 3)), image)
    luma = image.components[0]
    distance = jpeg.coefficients_of(projected[0], luma, image) / luma.table - luma.coefficients
    assert np.abs(distance).max() <= 0.5


@pytest.mark.parametrize("quality", [5, 10, 30])
@pytest.mark.parametrize("gray", [False, True])
def test_rounded_result_encodes_to_the_files_coefficients(photograph: np.ndarray, quality: int, gray: bool) -> None:
    original = photograph[..., 0] if gray else photograph
    image = jpeg.read(jpeg.compress(original, quality))
    pixels = repair.to_pixels(gaussian_filter(image.planes(), (0, 1, 1)), image)
    assert pixels.shape == original.shape
    assert projection.consistent_blocks(pixels, image).mean() >= 0.99


def test_consistency_against_a_real_encoder(photograph: np.ndarray) -> None:
    """Consistent blocks are those whose coefficients libjpeg itself gives again under the file's own tables."""
    import io

    from PIL import Image

    image = jpeg.read(jpeg.compress(whole_blocks(photograph), 10))
    pixels = repair.to_pixels(gaussian_filter(image.planes(), (0, 1, 1)), image)
    buffer = io.BytesIO()
    tables = [c.table.ravel().tolist() for c in image.components[:2]]
    Image.fromarray(pixels).save(buffer, "JPEG", qtables=tables, subsampling="4:2:0")
    again = jpeg.read(buffer.getvalue())
    same = (again.components[0].coefficients == image.components[0].coefficients).all((2, 3))
    assert (same == projection.consistent_blocks(pixels, image)).mean() >= 0.99


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (17, 16), (33, 50)])
@pytest.mark.parametrize("subsampling", jpeg.SUBSAMPLINGS)
def test_partial_blocks(photograph: np.ndarray, size: tuple[int, int], subsampling: str) -> None:
    original = np.ascontiguousarray(photograph[: size[0], : size[1]])
    image = jpeg.read(jpeg.compress(original, 20, subsampling))
    assert repair.to_pixels(image.planes(), image).shape == original.shape


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [0.0, 0.7, 1.5])
def test_projection_raises_psnr_on_every_image_of_live1(live1: list[np.ndarray], sigma: float) -> None:
    for original in live1[::4]:
        luma = colour.studio_luma(original)
        image = jpeg.read(jpeg.compress(luma, 10))
        planes = gaussian_filter(image.planes(), (0, sigma, sigma))
        plain = psnr(colour.to_uint8(planes[0]), luma)
        assert psnr(repair.to_pixels(planes, image), luma) >= plain - 0.005


@pytest.mark.parametrize("subsampling", jpeg.SUBSAMPLINGS)
def test_estimate_multiplies_distances_by_their_gains(photograph: np.ndarray, subsampling: str) -> None:
    """Each coefficient is multiplied by the factor of its kind, side, step and distance; at the middle it stays unchanged."""
    image = jpeg.read(jpeg.compress(whole_blocks(photograph), 10, subsampling))
    planes = gaussian_filter(image.planes(), (0, 1, 1))
    kinds, sides, rows, columns = shrinkage.TABLE_SHAPE
    # Factors that do not depend on the distance, so that there is nothing to interpolate.
    gains = np.repeat(np.linspace(0.2, 1.2, kinds * sides * rows, dtype=np.float32), columns).reshape(shrinkage.TABLE_SHAPE)
    moved = shrinkage.shrink(planes, image, gains)
    for index, component in enumerate(image.components):
        before, after = (
            jpeg.coefficients_of(p[index], component, image) / component.table - component.coefficients for p in (planes, moved)
        )
        kind = 0 if index == 0 else 2 if component.sampling == image.max_sampling else 1
        side = np.where(component.coefficients == 0, 0, np.where(before * component.coefficients > 0, 1, 2))
        row = np.broadcast_to(np.rint(2 * np.log2(component.table)).astype(int), side.shape)
        # At the middle the side does not matter; next to it rounding decides.
        expected = before * gains[kind, side, row, 0]
        np.testing.assert_allclose(after, expected, atol=2e-3)


def test_estimate_with_gains_of_one_changes_nothing(photograph: np.ndarray) -> None:
    image = jpeg.read(jpeg.compress(photograph, 10))
    planes = gaussian_filter(image.planes(), (0, 1, 1))
    np.testing.assert_allclose(shrinkage.shrink(planes, image, np.ones(shrinkage.TABLE_SHAPE, np.float32)), planes, atol=1e-3)
