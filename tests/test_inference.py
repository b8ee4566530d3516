from __future__ import annotations

from dataclasses import replace

import numpy as np

from redecode import jpeg
from redecode.decoder import Decoder
from redecode.jpeg import JpegImage


def turned(image: JpegImage) -> JpegImage:
    """The file of the picture mirrored on its diagonal."""
    components = tuple(
        replace(c, coefficients=c.coefficients.transpose(1, 0, 3, 2), table=c.table.T, size=c.size[::-1]) for c in image.components
    )
    return replace(image, width=image.height, height=image.width, components=components)


def test_what_turns_with_the_picture(photograph: np.ndarray) -> None:
    image = jpeg.read(jpeg.compress(np.ascontiguousarray(photograph[:64, :96]), 15, "4:4:4"))

    def views(layer: str, ensemble: bool) -> tuple[np.ndarray, np.ndarray]:
        decoder = Decoder("fast", precision="float32", ensemble=ensemble)
        found = []
        for file in (image, turned(image)):
            base = decoder.base_layer(file)
            found.append(base if layer == "base" else decoder.texture_layer(file, base))
        return found[0], found[1].swapaxes(1, 2)

    for layer, symmetric in (("base", True), ("texture", False)):
        upright, mirrored = views(layer, ensemble=True)
        np.testing.assert_allclose(upright, mirrored, atol=0.01)
        alone, alone_mirrored = views(layer, ensemble=False)
        if symmetric:
            np.testing.assert_allclose(alone, alone_mirrored, atol=0.01)
            assert np.array_equal(alone, upright), "a symmetric network is not to be asked eight times"
        else:
            assert np.abs(alone - alone_mirrored).max() > 0.02
            assert 0 < np.abs(alone - upright).mean() < 1


def test_what_is_computed_is_counted(photograph: np.ndarray) -> None:
    decoder = Decoder("fast", threads=1)
    assert decoder.inference_seconds() == 0
    decoder.decode(jpeg.compress(photograph, 10))
    assert decoder.inference_seconds() > 0
