"""The formats of results: names, file name suffixes, media types."""

from __future__ import annotations

from enum import Enum


class Format(str, Enum):
    """A picture format to write."""

    PNG = "png"
    WEBP = "webp"
    AVIF = "avif"
    TIFF = "tiff"
    JPEG = "jpeg"

    @property
    def suffix(self) -> str:
        """The usual file name suffix."""
        return {"tiff": ".tif", "jpeg": ".jpg"}.get(self.value, f".{self.value}")

    @property
    def media_type(self) -> str:
        """As in HTTP's Content-Type."""
        return f"image/{self.value}"


class LayerName(str, Enum):
    """What of a result to write."""

    FUSED = "fused"
    BASE = "base"
    TEXTURE = "texture"
    MASK = "mask"


FORMATS = tuple(f.value for f in Format)
OF_SUFFIX = {
    ".png": Format.PNG,
    ".webp": Format.WEBP,
    ".avif": Format.AVIF,
    ".tif": Format.TIFF,
    ".tiff": Format.TIFF,
    ".jpg": Format.JPEG,
    ".jpeg": Format.JPEG,
}
