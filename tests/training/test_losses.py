"""Every equation against a direct transcription in numpy."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from redecode.codec import colour  # noqa: E402
from redecode.training import losses  # noqa: E402


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.random((2, 3, 12, 20)), rng.random((2, 3, 12, 20))


def tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array)


def test_equation_2(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    per_image = [np.sum((x - y) ** 2) / (20 * 12 * 3) for x, y in zip(a, b, strict=True)]
    assert losses.mse(tensor(a), tensor(b)).item() == pytest.approx(np.mean(per_image))


def test_equation_3_and_1(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    ea, eb = a[:, :1], b[:, :1]
    edge = np.mean([np.sum((x - y) ** 2) / (20 * 12) for x, y in zip(ea, eb, strict=True)])
    assert losses.edge_fidelity(tensor(ea), tensor(eb)).item() == pytest.approx(edge)
    terms = losses.mse(tensor(a), tensor(b)), losses.edge_fidelity(tensor(ea), tensor(eb))
    assert losses.base(*terms).item() == pytest.approx(np.mean((a - b) ** 2) + edge)
    assert losses.base(*terms, weight=0.1).item() == pytest.approx(np.mean((a - b) ** 2) + 0.1 * edge)


def test_blocking_sees_the_borders_of_blocks_alone() -> None:
    original = np.random.default_rng(1).random((2, 3, 24, 40))
    # A constant level in each block, so that there are only differences across block borders.
    levels = np.random.default_rng(2).random((2, 3, 3, 5))
    restored = original + levels.repeat(8, 2).repeat(8, 3)
    expected = (np.mean(np.diff(levels, axis=2) ** 2) + np.mean(np.diff(levels, axis=3) ** 2)) / 2
    assert losses.blocking(tensor(restored), tensor(original)).item() == pytest.approx(expected)
    assert losses.blocking(tensor(original + 0.3), tensor(original)).item() == pytest.approx(0)


def test_equation_4() -> None:
    terms = [torch.tensor(v) for v in (2.0, 3.0, 5.0, 7.0)]
    assert losses.texture(*terms, (1e-1, 1e-2, 1e-3)).item() == pytest.approx(2 + 0.3 + 0.05 + 0.007)


def test_equation_5(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    maps, positions = 3, 12 * 20
    expected = np.mean([np.sum((x - y) ** 2) / (maps * positions) for x, y in zip(a, b, strict=True)])
    assert losses.perceptual(tensor(a), tensor(b)).item() == pytest.approx(expected)


def test_equations_6_to_8(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    patch = 4

    def layer(x: np.ndarray, y: np.ndarray) -> float:
        values = []
        for i in range(2):
            for top in range(0, 12, patch):
                for left in range(0, 20, patch):
                    f = x[i, :, top : top + patch, left : left + patch].reshape(3, -1)
                    g = y[i, :, top : top + patch, left : left + patch].reshape(3, -1)
                    gram_f = np.array([[sum(f[p, k] * f[q, k] for k in range(patch**2)) for q in range(3)] for p in range(3)])
                    gram_g = np.array([[sum(g[p, k] * g[q, k] for k in range(patch**2)) for q in range(3)] for p in range(3)])
                    values.append(np.sum((gram_f - gram_g) ** 2) / (4 * 3**2 * (patch**2) ** 2))
        return float(np.mean(values))

    grams = losses.gram_matrix(tensor(a), patch)
    assert grams.shape == (2 * 3 * 5, 3, 3)
    one = losses.texture_matching_layer(grams, losses.gram_matrix(tensor(b), patch), patch**2).item()
    assert one == pytest.approx(layer(a, b))
    both = losses.texture_matching([tensor(a), tensor(b)], [tensor(b), tensor(a)], [patch, patch], [0.5, 2.0]).item()
    assert both == pytest.approx(0.5 * layer(a, b) + 2.0 * layer(b, a))


def test_texture_matching_leaves_out_partial_patches(pair: tuple[np.ndarray, np.ndarray]) -> None:
    whole = tensor(pair[0])[:, :, :8, :16]
    assert torch.equal(losses.gram_matrix(tensor(pair[0])[:, :, :11, :19], 8), losses.gram_matrix(whole, 8))


def test_equations_9_and_10() -> None:
    original, restored = np.array([0.3, 2.0]), np.array([-1.0, 0.5])
    d_o, d_r = 1 / (1 + np.exp(-original)), 1 / (1 + np.exp(-restored))
    assert losses.adversarial(tensor(restored)).item() == pytest.approx(np.mean(-np.log(d_r)))
    expected = np.mean(-np.log(d_o)) + np.mean(-np.log(1 - d_r))
    assert losses.discriminator(tensor(original), tensor(restored)).item() == pytest.approx(expected)


def test_edge_label_is_sobel_on_0_to_1(pair: tuple[np.ndarray, np.ndarray]) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    rgb = pair[0]
    luma = np.tensordot(rgb, [0.299, 0.587, 0.114], (1, 0))
    gradients = [[ndimage.sobel(image, axis, mode="nearest") / 4 for image in luma] for axis in (0, 1)]
    expected = np.hypot(*np.array(gradients)) / np.sqrt(2)
    label = losses.edge_map(tensor(rgb))
    np.testing.assert_allclose(label[:, 0], expected, atol=1e-12)
    step = torch.zeros(1, 3, 8, 8)
    step[..., 4:] = 1
    assert losses.edge_map(step).max().item() <= 1


def test_rgb_of_planes_is_the_decoders() -> None:
    planes = np.random.default_rng(1).random((3, 4, 5)).astype(np.float32) * 255
    expected = colour.to_rgb(planes).transpose(2, 0, 1) / 255
    ours = losses.to_rgb(tensor((planes - 128) / 255)[None])[0]
    np.testing.assert_allclose(ours, expected, atol=1e-5)
