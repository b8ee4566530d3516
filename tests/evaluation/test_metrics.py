"""Every metric against an independent implementation."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import ndimage, signal

from redecode.codec import colour, jpeg
from redecode.errors import DependencyError
from redecode.evaluation import lpips, metrics

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


@pytest.fixture(scope="session", params=[5, 40])
def pair(request: pytest.FixtureRequest, photograph: NDArray[np.uint8]) -> Pair:
    """A luma image whose sides are not multiples of 8, and its JPEG."""
    original = colour.studio_luma(photograph)[:, :163]
    planes = jpeg.read(jpeg.compress(original, request.param)).planes()
    return original, colour.to_uint8(planes[0])


def test_psnr_is_that_of_scikit_image(pair: Pair, photograph: NDArray[np.uint8]) -> None:
    skimage = pytest.importorskip("skimage.metrics")
    assert metrics.psnr(*pair) == pytest.approx(skimage.peak_signal_noise_ratio(*pair, data_range=255), abs=1e-9)
    colours = photograph, np.roll(photograph, 1, axis=2)
    assert metrics.psnr(*colours) == pytest.approx(skimage.peak_signal_noise_ratio(*colours, data_range=255), abs=1e-9)


def test_psnr_of_one_level_everywhere() -> None:
    image = np.full((9, 9), 100, np.uint8)
    assert metrics.psnr(image, image + 1) == pytest.approx(20 * math.log10(255))
    assert metrics.psnr(image, image) == math.inf


def test_ssim_gaussian_is_that_of_scikit_image(pair: Pair) -> None:
    skimage = pytest.importorskip("skimage.metrics")
    expected = skimage.structural_similarity(*pair, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255)
    assert metrics.ssim_gaussian(*pair) == pytest.approx(expected, abs=1e-9)


def test_ssim_uniform_is_the_formula_of_its_paper(pair: Pair) -> None:
    x, y = (image.astype(np.float64) for image in pair)
    window = np.full((8, 8), 1 / 64)

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return signal.convolve2d(values, window, mode="valid")

    variance_x, variance_y = mean(x**2) - mean(x) ** 2, mean(y**2) - mean(y) ** 2
    covariance = mean(x * y) - mean(x) * mean(y)
    c1, c2 = 6.5025, 58.5225
    ssim = (2 * mean(x) * mean(y) + c1) * (2 * covariance + c2)
    ssim /= (mean(x) ** 2 + mean(y) ** 2 + c1) * (variance_x + variance_y + c2)
    assert metrics.ssim_uniform(*pair) == pytest.approx(ssim.mean(), abs=1e-9)


def test_ssim_of_equal_images_is_one(pair: Pair) -> None:
    assert metrics.ssim_gaussian(pair[0], pair[0]) == pytest.approx(1)
    assert metrics.ssim_uniform(pair[0], pair[0]) == pytest.approx(1)


def psnr_b_in_loops(reference: NDArray[np.uint8], restored: NDArray[np.uint8]) -> float:
    """Yim and Bovik, equations of section III-C, pair by pair."""
    image = restored.astype(int).tolist()
    height, width = restored.shape
    at_borders, elsewhere = [], []
    for y in range(height):
        for x in range(width - 1):
            (at_borders if x % 8 == 7 else elsewhere).append((image[y][x] - image[y][x + 1]) ** 2)
    for y in range(height - 1):
        for x in range(width):
            (at_borders if y % 8 == 7 else elsewhere).append((image[y][x] - image[y + 1][x]) ** 2)
    d_b, d_bc = sum(at_borders) / len(at_borders), sum(elsewhere) / len(elsewhere)
    eta = math.log(8) / math.log(min(height, width)) if d_b > d_bc else 0
    mse = ((reference.astype(float) - restored) ** 2).mean()
    return 10 * math.log10(255**2 / (mse + eta * (d_b - d_bc)))


def test_psnr_b_is_the_formula_of_its_paper(pair: Pair) -> None:
    assert metrics.psnr_b(*pair) == pytest.approx(psnr_b_in_loops(*pair), abs=1e-9)
    cropped = metrics.whole_blocks(pair[0]), metrics.whole_blocks(pair[1])
    assert cropped[0].shape == (120, 160)
    assert metrics.psnr_b(*cropped) == pytest.approx(psnr_b_in_loops(*cropped), abs=1e-9)


def torchmetrics_psnr_b(reference: NDArray[np.uint8], restored: NDArray[np.uint8]) -> float:
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.image")
    tensors = [torch.from_numpy(image.astype(np.float64))[None, None] for image in (restored, reference)]
    return float(functional.peak_signal_noise_ratio_with_blocked_effect(*tensors, data_range=255.0))


@pytest.mark.slow
def test_psnr_b_without_visible_blocks_is_that_of_torchmetrics() -> None:
    rng = np.random.default_rng(3)
    reference = rng.integers(0, 256, (64, 72)).astype(np.uint8)
    restored = ndimage.gaussian_filter(reference, 2)
    # Constant across the block borders, which cannot be rougher than the rest.
    restored[:, 8::8], restored[8::8] = restored[:, 7:-1:8], restored[7:-1:8]
    assert metrics.psnr_b(reference, restored) == pytest.approx(metrics.psnr(reference, restored), abs=1e-12)
    assert metrics.psnr_b(reference, restored) == pytest.approx(torchmetrics_psnr_b(reference, restored), abs=1e-4)


def test_psnr_b_of_flat_blocks_is_that_of_torchmetrics_but_for_its_number_of_pairs() -> None:
    """It divides the sums over borders by h·w/8 − 1 pairs each; there are h·(w/8 − 1) across and w·(h/8 − 1) down."""
    height, width = 64, 72
    rng = np.random.default_rng(4)
    blocks = rng.integers(100, 140, (height // 8, width // 8)).repeat(8, 0).repeat(8, 1)
    restored, reference = blocks.astype(np.uint8), (blocks + rng.integers(-9, 10, blocks.shape)).astype(np.uint8)
    mse = ((reference.astype(float) - restored) ** 2).mean()
    theirs = 255**2 / 10 ** (torchmetrics_psnr_b(reference, restored) / 10) - mse
    pairs, their_pairs = height * (width // 8 - 1) + width * (height // 8 - 1), 2 * (height * width // 8 - 1)
    expected = 10 * math.log10(255**2 / (mse + theirs * their_pairs / pairs))
    assert metrics.psnr_b(reference, restored) == pytest.approx(expected, abs=1e-4)


def test_psnr_b_of_an_image_without_block_borders_is_psnr() -> None:
    image = np.arange(49, dtype=np.uint8).reshape(7, 7)
    assert metrics.psnr_b(image, image + 1) == metrics.psnr(image, image + 1)


def test_e_psnr_is_its_definition(pair: Pair) -> None:
    original, restored = (image.astype(np.float64) for image in pair)
    strength = np.hypot(ndimage.sobel(original, 0, mode="nearest"), ndimage.sobel(original, 1, mode="nearest"))
    count = math.ceil(0.005 * strength.size)
    edges = strength >= np.sort(strength.ravel())[-count] - 1e-9
    assert count <= edges.sum() <= 2 * count
    expected = 10 * np.log10(255**2 / ((original - restored)[edges] ** 2).mean())
    assert metrics.e_psnr(*pair) == pytest.approx(expected, abs=1e-9)


def test_e_psnr_of_all_pixels_is_psnr(pair: Pair) -> None:
    assert metrics.e_psnr(*pair, share=1) == pytest.approx(metrics.psnr(*pair))


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.psnr_b, metrics.ssim_gaussian, metrics.e_psnr, lpips.distance])
def test_shapes_must_agree(metric: object) -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        metric(np.zeros((32, 40)), np.zeros((40, 32)))  # type: ignore[operator]


@pytest.mark.parametrize("metric", [metrics.psnr_b, metrics.ssim_uniform, metrics.e_psnr])
def test_single_channel_metrics_refuse_colour(metric: object) -> None:
    with pytest.raises(ValueError, match="one channel"):
        metric(np.zeros((16, 16, 3)), np.zeros((16, 16, 3)))  # type: ignore[operator]


def test_too_small_images_are_refused() -> None:
    with pytest.raises(ValueError, match="smaller than the window"):
        metrics.ssim_gaussian(np.zeros((10, 20)), np.zeros((10, 20)))
    with pytest.raises(ValueError, match="at least 31"):
        lpips.distance(np.zeros((30, 40)), np.zeros((30, 40)))


# The layers of AlexNet as torchvision numbers them, with their shapes, and LPIPS' five linear layers on top.
ALEXNET = {0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3), 10: (256, 256, 3, 3)}


def lpips_in_numpy(reference: NDArray[np.uint8], restored: NDArray[np.uint8], weights: dict[str, NDArray[np.floating]]) -> float:
    """A transcription of the reference implementation's forward pass, window by window, in double precision."""

    def convolve(values: NDArray[np.float64], index: int, stride: int, padding: int) -> NDArray[np.float64]:
        kernel = weights[f"features.{index}.weight"].astype(np.float64)
        padded = np.pad(values, [(0, 0), (padding, padding), (padding, padding)])
        windows = sliding_window_view(padded, kernel.shape[2:], (1, 2))[:, ::stride, ::stride]
        response = np.tensordot(kernel, windows, ((1, 2, 3), (0, 3, 4)))
        return np.maximum(response + weights[f"features.{index}.bias"].astype(np.float64)[:, None, None], 0)

    def pool(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return sliding_window_view(values, (3, 3), (1, 2))[:, ::2, ::2].max((3, 4))

    def features(image: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
        rgb = (image if image.ndim == 3 else np.stack([image] * 3, 2)).astype(np.float64)
        scaled = (2 * rgb / 255 - 1 - [-0.030, -0.088, -0.188]) / [0.458, 0.448, 0.450]
        relu1 = convolve(scaled.transpose(2, 0, 1), 0, 4, 2)
        relu2 = convolve(pool(relu1), 3, 1, 2)
        relu3 = convolve(pool(relu2), 6, 1, 1)
        relu4 = convolve(relu3, 8, 1, 1)
        return [relu1, relu2, relu3, relu4, convolve(relu4, 10, 1, 1)]

    total = 0.0
    for layer, (a, b) in enumerate(zip(features(reference), features(restored), strict=True)):
        difference = a / (np.linalg.norm(a, axis=0) + 1e-10) - b / (np.linalg.norm(b, axis=0) + 1e-10)
        total += (weights[f"lin{layer}.weight"].astype(np.float64)[0] * difference**2).sum(0).mean()
    return total


@pytest.fixture
def random_alexnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, NDArray[np.float32]]:
    """Random weights of the right shapes in a data folder, so that the network is tested without the real file."""
    pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.numpy")
    rng = np.random.default_rng(5)
    weights = {}
    for layer, (index, shape) in enumerate(ALEXNET.items()):
        weights[f"features.{index}.weight"] = rng.normal(0, math.prod(shape[1:]) ** -0.5, shape)
        weights[f"features.{index}.bias"] = rng.normal(0, 0.1, shape[0])
        weights[f"lin{layer}.weight"] = rng.uniform(0, 1, (1, shape[0], 1, 1))
    weights = {name: values.astype(np.float32) for name, values in weights.items()}
    (tmp_path / "lpips").mkdir()
    safetensors.save_file(weights, tmp_path.joinpath(*lpips.WEIGHTS))
    monkeypatch.setenv("REDECODE_DATA", str(tmp_path))
    return weights


@pytest.mark.slow
def test_lpips_is_its_transcription(random_alexnet: dict[str, NDArray[np.float32]], photograph: NDArray[np.uint8], pair: Pair) -> None:
    crop = photograph[:50, 60:131]
    damaged = colour.to_uint8(crop + np.random.default_rng(6).normal(0, 20, crop.shape))
    assert lpips.distance(crop, damaged) == pytest.approx(lpips_in_numpy(crop, damaged, random_alexnet), rel=1e-4)
    gray = pair[0][:31, :64], pair[1][:31, :64]
    assert lpips.distance(*gray) == pytest.approx(lpips_in_numpy(*gray, random_alexnet), rel=1e-4)
    assert lpips.distance(crop, crop) == 0


@pytest.mark.slow
def test_lpips_with_the_published_weights(data_folder: Path, monkeypatch: pytest.MonkeyPatch, live1: list[NDArray[np.uint8]]) -> None:
    pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.numpy")
    monkeypatch.setenv("REDECODE_DATA", str(data_folder))
    weights = safetensors.load_file(data_folder.joinpath(*lpips.WEIGHTS))
    crop = np.ascontiguousarray(live1[0][100:196, 200:296])
    distances = []
    for quality in (5, 20, 80):
        restored = colour.to_uint8(colour.to_rgb(jpeg.read(jpeg.compress(crop, quality)).planes()))
        distances.append(lpips.distance(crop, restored))
        assert distances[-1] == pytest.approx(lpips_in_numpy(crop, restored, weights), rel=1e-4)
    assert distances == sorted(distances, reverse=True)
    assert distances[0] > 0.2 > 0.05 > distances[-1] > 0


def test_missing_weights_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv("REDECODE_DATA", str(tmp_path))
    with pytest.raises(DependencyError, match=r"lpips/alexnet_lpips.safetensors.*REDECODE_DATA"):
        lpips.distance(np.zeros((31, 31)), np.zeros((31, 31)))


def test_evaluation_imports_without_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; from redecode.evaluation import benchmark, lpips, metrics, report"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_studio_luma_is_matlabs() -> None:
    """Black is 16 and white 235; red, green and blue as in the table of rgb2ycbcr."""
    np.testing.assert_allclose(colour.STUDIO_LUMA * 255, [65.481, 128.553, 24.966])
    assert colour.STUDIO_LUMA.sum() * 255 == pytest.approx(219)
