from __future__ import annotations

from dataclasses import replace

import numpy as np

from redecode.codec import jpeg
from redecode.codec.jpeg import JpegImage
from redecode.decoder import Decoder


def turned(image: JpegImage) -> JpegImage:
    """The file of the transposed picture."""
    components = tuple(
        replace(c, coefficients=c.coefficients.transpose(1, 0, 3, 2), table=c.table.T, size=c.size[::-1]) for c in image.components
    )
    return replace(image, width=image.height, height=image.width, components=components)


def test_both_layers_turn_with_the_picture(photograph: np.ndarray) -> None:
    image = jpeg.read(jpeg.compress(np.ascontiguousarray(photograph[:64, :96]), 15, "4:4:4"))
    decoder = Decoder("fast", precision="float32")
    base, base_of_mirrored = (decoder.base_layer(file) for file in (image, turned(image)))
    np.testing.assert_allclose(base, base_of_mirrored.swapaxes(1, 2), atol=0.05)
    texture = decoder.texture_layer(image, base)
    np.testing.assert_allclose(texture, decoder.texture_layer(turned(image), base_of_mirrored).swapaxes(1, 2), atol=0.05)


def test_what_is_computed_is_counted(photograph: np.ndarray) -> None:
    decoder = Decoder("fast", threads=1)
    assert decoder.inference_seconds() == 0
    decoder.decode(jpeg.compress(photograph, 10))
    assert decoder.inference_seconds() > 0
