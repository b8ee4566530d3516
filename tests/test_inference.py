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


def test_an_ensemble_turns_with_the_picture(photograph: np.ndarray) -> None:
    image = jpeg.read(jpeg.compress(np.ascontiguousarray(photograph[:64, :96]), 15, "4:4:4"))
    single, ensemble = (Decoder("fast", precision="float32", ensemble=wanted) for wanted in (False, True))
    upright, mirrored = ensemble.base_layer(image), ensemble.base_layer(turned(image)).swapaxes(1, 2)
    np.testing.assert_allclose(upright, mirrored, atol=0.01)
    alone = single.base_layer(image)
    assert 0 < np.abs(alone - upright).mean() < 1
    assert np.abs(single.base_layer(turned(image)).swapaxes(1, 2) - alone).max() > 0.02


def test_what_is_computed_is_counted(photograph: np.ndarray) -> None:
    decoder = Decoder("fast", threads=1)
    assert decoder.inference_seconds() == 0
    decoder.decode(jpeg.compress(photograph, 10))
    assert decoder.inference_seconds() > 0
