from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from redecode.codec import colour, jpeg  # noqa: E402
from redecode.restoration import shrinkage  # noqa: E402
from redecode.training import data  # noqa: E402
from redecode.training import shrinkage as differentiable  # noqa: E402
from redecode.training.export.shrinkage_table import shrinkage_table  # noqa: E402

KINDS = ("gray", "4:4:4", "4:2:2", "4:2:0")


def distances(planes: np.ndarray, image: jpeg.JpegImage) -> list[np.ndarray]:
    """Distances from the middles of the cells in steps, for each component."""
    found = zip(planes, image.components, strict=True)
    return [jpeg.coefficients_of(plane, c, image) / c.table - c.coefficients for plane, c in found]


@pytest.mark.slow
def test_every_coefficient_moves_to_its_mean(photograph: np.ndarray) -> None:
    """In a batch of all kinds of files, each component is corrected on its own grid, and the plain decode stays unchanged."""
    crop = np.ascontiguousarray(photograph[:96, :96])
    originals = [colour.studio_luma(crop), crop, crop, crop]
    sampling = ["4:4:4", *KINDS[1:]]
    samples = [data.make_sample(original, 10, s) for original, s in zip(originals, sampling, strict=True)]
    batch = {key: torch.stack([sample[key] for sample in samples]) for key in samples[0]}
    noise = torch.randn(batch["degraded"].shape, generator=torch.Generator().manual_seed(0)) * 6 / 255
    planes = (batch["held"] + noise).requires_grad_()
    moved = differentiable.shrink(planes, batch)
    moved.square().sum().backward()
    assert planes.grad is not None
    assert torch.isfinite(planes.grad).all()
    for i, (original, s) in enumerate(zip(originals, sampling, strict=True)):
        image = jpeg.read(jpeg.compress(original, 10, s))
        before, after = (p[i, : len(image.components)].detach().numpy() * 255 + 128 for p in (planes, moved))
        for was, now in zip(distances(before, image), distances(after, image), strict=True):
            expected = np.copysign(np.interp(np.abs(was), np.arange(len(differentiable._MEANS)) / 20, differentiable._MEANS.numpy()), was)
            np.testing.assert_allclose(now, expected, atol=1e-3)
            assert np.abs(now).max() < 0.5
    plain = differentiable.shrink(batch["held"], batch)
    torch.testing.assert_close(plain, batch["held"], atol=1e-5, rtol=0)


@pytest.mark.slow
def test_shrinkage_undoes_what_is_known_to_be_wrong(photograph: np.ndarray) -> None:
    """If every coefficient is restored at 1.25 times its true distance from the middle, the factor is 0.8, which gives the original."""
    luma = colour.studio_luma(photograph[:112, :160])
    image = jpeg.read(jpeg.compress(luma, 10))
    exaggerated = image.planes() + 1.25 * (colour.to_planes(luma) - image.planes())
    table = shrinkage_table(lambda _: exaggerated, [(luma, 10, "4:4:4")] * 2000)
    assert table.shape == shrinkage.TABLE_SHAPE
    restored = shrinkage.shrink(exaggerated, image, table.astype(np.float32))
    before, after = (np.abs(planes - colour.to_planes(luma)).mean() for planes in (exaggerated, restored))
    assert after < 0.25 * before
