from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from redecode import jpeg, weights
from redecode.decoder import Decoder
from redecode.jpeg import JpegImage
from redecode.weights import Weights


def turned(image: JpegImage) -> JpegImage:
    """The file of the picture mirrored on its diagonal."""
    components = tuple(
        replace(c, coefficients=c.coefficients.transpose(1, 0, 3, 2), table=c.table.T, size=c.size[::-1]) for c in image.components
    )
    return replace(image, width=image.height, height=image.width, components=components)


def test_what_turns_with_the_picture(photograph: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    image = jpeg.read(jpeg.compress(np.ascontiguousarray(photograph[:64, :96]), 15, "4:4:4"))

    def views(ensemble: bool) -> list[tuple[np.ndarray, np.ndarray]]:
        """Both layers of the picture, and of the mirrored one, mirrored back."""
        decoder = Decoder("fast", precision="float32", ensemble=ensemble)
        found = []
        for file in (image, turned(image)):
            base = decoder.base_layer(file)
            found.append((base, decoder.texture_layer(file, base)))
        return [(upright, mirrored.swapaxes(1, 2)) for upright, mirrored in zip(*found, strict=True)]

    alone = views(ensemble=False)
    for upright, mirrored in alone:
        np.testing.assert_allclose(upright, mirrored, atol=0.05)
    for (same, _), (upright, _) in zip(views(ensemble=True), alone, strict=True):
        assert np.array_equal(same, upright), "a symmetric network is not to be asked eight times"

    def plain(name: str, precision: str, load: Callable[[str, str], Weights] = weights.load) -> Weights:
        network = load(name, precision)
        return replace(network, record={**network.record, "recipe": {}})

    monkeypatch.setattr(weights, "load", plain)
    for (upright, mirrored), (symmetric, _) in zip(views(ensemble=True), alone, strict=True):
        # The mean of eight is symmetric to the last bits, symmetric weights are so up to their rounding.
        np.testing.assert_allclose(upright, mirrored, atol=2e-3)
        np.testing.assert_allclose(upright, symmetric, atol=0.05)
        assert not np.array_equal(upright, symmetric)


def test_what_is_computed_is_counted(photograph: np.ndarray) -> None:
    decoder = Decoder("fast", threads=1)
    assert decoder.inference_seconds() == 0
    decoder.decode(jpeg.compress(photograph, 10))
    assert decoder.inference_seconds() > 0
