from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from redecode import weights
from redecode.codec import colour, jpeg
from redecode.codec.jpeg import JpegImage
from redecode.errors import DependencyError
from redecode.evaluation import benchmark, lpips, metrics
from redecode.evaluation.datasets import data_path


class Smoother:
    """Replaces the decoder: L_B is smoothed and L_T gets noise, until both contradict the file."""

    preset = "stub"
    precision = "int8"

    def base_layer(self, image: JpegImage) -> NDArray[np.float32]:
        return ndimage.gaussian_filter(image.planes(), (0, 3, 3))

    def texture_layer(self, image: JpegImage, base: NDArray[np.float32]) -> NDArray[np.float32]:
        planes = image.planes()
        return planes + np.random.default_rng(0).normal(0, 30, planes.shape).astype(np.float32)


@pytest.fixture
def originals(tmp_path: Path, photograph: NDArray[np.uint8]) -> Path:
    folder = tmp_path / "originals"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(np.roll(photograph, 20 * number, axis=1)).save(folder / f"{number}.png")
    (folder / "notes.txt").write_text("not an image")
    return folder


@pytest.fixture(autouse=True)
def nothing_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(weights.PRESETS, "stub", {"edge": "stub-edge", "texture": "stub-texture"})
    monkeypatch.setattr(weights, "record", lambda name: {"sha256": {"int8": f"hash of {name}"}})
    # The tests here must be fast, and pass without LPIPS's weights.
    monkeypatch.setattr(lpips, "distance", lambda reference, restored: 0.25)
    monkeypatch.setattr(benchmark, "version", lambda package: f"version of {package}")


def run(folder: Path, protocol: benchmark.Protocol = "gray", **options: object) -> benchmark.Result:
    return benchmark.run(Smoother(), folder, "three", 10, protocol, **options)  # type: ignore[arg-type]


@pytest.mark.slow
def test_rows_are_jpeg_and_each_layer_with_and_without_projection(originals: Path) -> None:
    result = run(originals)
    assert [(row.method, row.projected) for row in result.rows] == [
        ("jpeg", False),
        ("base", False),
        ("base", True),
        ("texture", False),
        ("texture", True),
        ("fused", False),
        ("fused", True),
    ]
    assert all(list(row.images) == ["0.png", "1.png", "2.png"] for row in result.rows)


@pytest.mark.slow
def test_gray_figures_are_those_of_the_metrics(originals: Path, photograph: NDArray[np.uint8]) -> None:
    (jpeg_row, base_row, *_) = run(originals).rows
    luma = colour.studio_luma(photograph)
    image = jpeg.read(jpeg.compress(luma, 10))
    plain, smooth = (colour.to_uint8(planes[0]) for planes in (image.planes(), Smoother().base_layer(image)))
    # Pillow's inverse DCT computes with integers.
    assert jpeg_row.images["0.png"]["psnr"] == pytest.approx(metrics.psnr(luma, plain), abs=0.02)
    expected = {
        "psnr": metrics.psnr(luma, smooth),
        "psnr_b": metrics.psnr_b(luma, smooth),
        "psnr_b_whole_blocks": metrics.psnr_b(luma[:120, :168], smooth[:120, :168]),
        "ssim_uniform": metrics.ssim_uniform(luma, smooth),
        "ssim_gaussian": metrics.ssim_gaussian(luma, smooth),
        "e_psnr": metrics.e_psnr(luma, smooth),
        "lpips": 0.25,
    }
    found = dict(base_row.images["0.png"])
    assert 0 <= found.pop("consistent") <= 1
    assert found == pytest.approx(expected, abs=1e-5)


def test_colour_figures_are_those_of_the_metrics(originals: Path, photograph: NDArray[np.uint8]) -> None:
    base_row = run(originals, "colour").rows[1]
    image = jpeg.read(jpeg.compress(photograph, 10, "4:2:0"))
    smooth = colour.to_uint8(colour.to_rgb(Smoother().base_layer(image)))
    found = base_row.images["0.png"]
    assert set(found) == {"psnr_rgb", "psnr_y", "lpips", "consistent"}
    assert found["psnr_rgb"] == pytest.approx(metrics.psnr(photograph, smooth), abs=1e-5)
    y = [pixels.astype(float) @ [0.299, 0.587, 0.114] for pixels in (photograph, smooth)]
    assert found["psnr_y"] == pytest.approx(metrics.psnr(*y), abs=1e-3)


@pytest.mark.parametrize("protocol", ["gray", "colour"])
def test_projected_rows_agree_with_the_file_and_lose_nothing(originals: Path, protocol: benchmark.Protocol) -> None:
    rows = {(row.method, row.projected): row.means for row in run(originals, protocol).rows}
    psnr = "psnr" if protocol == "gray" else "psnr_rgb"
    for method in ("base", "texture", "fused"):
        assert rows[method, True]["consistent"] > 0.9
        assert rows[method, True]["consistent"] > rows[method, False]["consistent"]
        # L_T's noise of 30 levels is clipped strongly, and projected, it is clipped elsewhere: such colours follow the plain decode.
        allowed = 0.2 if (method, protocol) == ("texture", "colour") else 0.02
        assert rows[method, True][psnr] >= rows[method, False][psnr] - allowed


def test_means_are_of_the_images(originals: Path) -> None:
    row = run(originals).rows[1]
    assert row.means["psnr"] == pytest.approx(np.mean([values["psnr"] for values in row.images.values()]), abs=1e-5)


def test_a_result_survives_its_file_and_is_reproducible(originals: Path, tmp_path: Path) -> None:
    result = run(originals)
    path = benchmark.write(result, tmp_path / "new" / "results")
    assert path.name == "three-gray-qf10-stub.json"
    assert benchmark.read(path) == result
    text = path.read_text(encoding="utf-8")
    assert benchmark.write(run(originals), path.parent).read_text(encoding="utf-8") == text
    assert result.weights == {"stub-edge": "hash of stub-edge", "stub-texture": "hash of stub-texture"}
    assert result.versions["numpy"] == "version of numpy"
    assert result.command == "redecode bench --data $REDECODE_DATA/eval/three --qf 10 --protocol gray --preset stub"


def test_a_limited_result_never_replaces_a_full_one(originals: Path) -> None:
    result = run(originals, limit=2)
    assert result.file_name == "three-gray-qf10-stub-first2.json"
    assert list(result.rows[0].images) == ["0.png", "1.png"]
    assert result.command.endswith(" --limit 2")


def test_progress_is_told(originals: Path) -> None:
    told: list[tuple[int, int]] = []
    run(originals, progress=lambda done, total: told.append((done, total)))
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_what_cannot_be_measured_is_said(originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DependencyError, match="no images"):
        run(tmp_path)
    with pytest.raises(ValueError, match="limit"):
        run(originals, limit=0)
    monkeypatch.setenv("REDECODE_DATA", str(tmp_path))
    assert data_path("originals") == originals
    with pytest.raises(DependencyError, match=r"eval/LIVE1.*REDECODE_DATA"):
        data_path("eval", "LIVE1")
    monkeypatch.delenv("REDECODE_DATA")
    with pytest.raises(DependencyError, match=r"eval/LIVE1 is needed: set REDECODE_DATA"):
        data_path("eval", "LIVE1")


def mean_figures(originals: list[NDArray[np.uint8]], protocol: benchmark.Protocol) -> dict[str, float]:
    """Plain JPEG at quality factor 10."""
    measure = benchmark.measure_gray if protocol == "gray" else benchmark.measure_colour
    found = []
    for rgb in originals:
        original, data = benchmark.encode(rgb, 10, protocol)
        _, _, plain = next(benchmark.decodings(Smoother(), data, jpeg.read(data)))  # type: ignore[arg-type]
        found.append(measure(original, plain))
    return {name: float(np.mean([figures[name] for figures in found])) for name in found[0]}


@pytest.mark.slow
def test_plain_jpeg_on_live1_has_the_published_gray_figures(live1: list[NDArray[np.uint8]]) -> None:
    assert len(live1) == 29
    figures = mean_figures(live1, "gray")
    # Figures by the definitions of the paper and AR-CNN, then of DnCNN, FBCNN and SwinIR, then by our own.
    assert round(figures["psnr"], 2) == 27.77
    assert round(figures["psnr_b_whole_blocks"], 2) == 25.36
    assert figures["ssim_uniform"] == pytest.approx(0.791, abs=6e-4)
    assert round(figures["ssim_gaussian"], 3) == 0.773
    assert round(figures["psnr_b"], 2) == 25.34
    assert round(figures["e_psnr"], 2) == 21.25


@pytest.mark.slow
def test_plain_jpeg_on_live1_has_the_published_colour_figure(live1: list[NDArray[np.uint8]]) -> None:
    figures = mean_figures(live1, "colour")
    assert round(figures["psnr_rgb"], 2) == 25.69
    assert round(figures["psnr_y"], 2) == 27.04


def test_pillow_and_our_planes_show_the_same_gray_picture(photograph: NDArray[np.uint8]) -> None:
    _, data = benchmark.encode(photograph, 10, "gray")
    image = jpeg.read(data)
    _, _, plain = next(benchmark.decodings(Smoother(), data, image))  # type: ignore[arg-type]
    assert np.abs(plain.astype(int) - colour.to_uint8(image.planes()[0])).max() <= 1
