from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")

from lightning_fabric import Fabric  # noqa: E402

from redecode.codec import jpeg  # noqa: E402
from redecode.training import data, device_data, trainer  # noqa: E402


def crops(photograph: np.ndarray, count: int) -> list[np.ndarray]:
    """Crops of a photograph, of noise and of saturated colours, uint8 [64, 64, 3]."""
    rng = np.random.default_rng(3)
    found = []
    for number in range(count):
        top, left = rng.integers(0, 120 - 64), rng.integers(0, 168 - 64)
        crop = photograph[top : top + 64, left : left + 64].astype(float)
        if number % 4 == 1:
            crop = rng.integers(0, 256, crop.shape)
        elif number % 4 == 2:
            crop = (crop - 128) * rng.uniform(0.2, 4) + 128
        elif number % 4 == 3:
            crop = np.where(crop > 100, 255, crop // 50 * 50)
        found.append(np.clip(crop, 0, 255).astype(np.uint8))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", data.KINDS)
def test_coefficients_are_those_of_libjpeg(photograph: np.ndarray, kind: str) -> None:
    """Of 200 crops at quality factors 5 to 95, all of them; and planes, tables and originals are those of the path on the processor."""
    generator = random.Random(1)
    originals = crops(photograph, 200)
    qualities = [generator.randrange(5, 96) for _ in originals]
    number = data.KINDS.index(kind)
    batch = torch.from_numpy(np.stack(originals)).permute(0, 3, 1, 2)
    ours = device_data.jpeg_samples(batch, torch.tensor(qualities), torch.full((200,), number))
    differing = total = 0
    for i, (original, quality) in enumerate(zip(originals, qualities, strict=True)):
        drawn = data.Draw(0, 0, 0, 0, 0, 0, quality, number)
        expected = data.make_sample(*data.cut(original, 64, drawn))
        assert torch.equal(ours["tables"][i], expected["tables"])
        assert torch.equal(ours["factors"][i], expected["factors"])
        torch.testing.assert_close(ours["original"][i], expected["original"], atol=1e-6, rtol=0)
        for name in ("held", "degraded"):
            torch.testing.assert_close(ours[name][i], expected[name], atol=2e-6, rtol=0)
        crop, _, subsampling = data.cut(original, 64, drawn)
        file = jpeg.read(jpeg.compress(crop, quality, subsampling))
        for component, plane in zip(file.components, ours["held"][i], strict=False):
            vertical, horizontal = (64 // side for side in component.size)
            samples = plane[::vertical, ::horizontal].numpy().astype(np.float64) * 255
            found = np.rint(jpeg.dct.forward(jpeg.dct.to_blocks(samples)) / component.table)
            differing += int((found != component.coefficients).sum())
            total += found.size
    assert total >= 200 * 64 * 64
    assert differing == 0


def test_batches_made_on_the_device_are_those_of_the_workers(photographs: Path) -> None:
    fabric = Fabric(accelerator="cpu")
    batches = []
    for on_device in (False, True):
        crops = data.Crops(photographs / "train", data.DataConfig(patch=32, batch=4), seed=3)
        crops.first = 8
        batches.append([batch for batch, _ in zip(trainer.stream(fabric, crops, on_device), range(3), strict=False)])
    for one, other in zip(*batches, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            torch.testing.assert_close(other[name].float(), value.float(), atol=2e-6, rtol=0)


def test_samples_are_those_that_were_drawn(photographs: Path) -> None:
    config = data.DataConfig(patch=32, batch=16, gray=0.4, downscale=0.5)
    source = data.Crops(photographs / "train", config, seed=2)
    drawn = [next_draw for next_draw, _ in zip(source.draws(), range(16), strict=False)]
    assert {d.shrunk for d in drawn} == {0, 1}
    assert len({(d.turns, d.mirrored) for d in drawn}) > 4
    expected = [sample for sample, _ in zip(source, range(16), strict=False)]
    pictures = device_data.DevicePhotographs(source.images, source.shrunk, torch.device("cpu"))
    batch = pictures.samples(torch.tensor(drawn), 32)
    for i, sample in enumerate(expected):
        for name, value in sample.items():
            torch.testing.assert_close(batch[name][i].float(), value.float(), atol=2e-6, rtol=0)
