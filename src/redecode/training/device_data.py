"""Training samples computed on the training device: cropping, JPEG compression and decoding in its memory.

A CPU prepares some hundred crops a second, a GPU needs thousands. So the photographs lie in the device's memory, and tensor operations
compute the same as :func:`redecode.training.data.make_sample`: libjpeg's integer arithmetic up to the quantized coefficients (colour
conversion, chroma averages and forward DCT of its encoder), and this package's decoding.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..codec import colour, dct
from ..codec.quality import STANDARD
from .data import KINDS, Draw, Sample

_SAMPLES = dct.BLOCK**2
# Rows and columns of pixels that share a chroma sample, by the kind of file.
_FACTORS = {"studio": (1, 1), "gray": (1, 1), "4:4:4": (1, 1), "4:2:2": (1, 2), "4:2:0": (2, 2)}
# Row k holds the samples of basis function k.
_BASIS = torch.from_numpy(dct.inverse(np.eye(_SAMPLES).reshape(-1, dct.BLOCK, dct.BLOCK))).reshape(_SAMPLES, _SAMPLES)
# libjpeg's colour conversion (jccolor.c) in fixed-point numbers with 16 fractional bits: RGB weights and offsets of Y, Cb and Cr.
_YCC = torch.tensor([[19595, 38470, 7471], [-11058, -21710, 32768], [32768, -27439, -5329]], dtype=torch.int32)
_YCC_OFFSETS = torch.tensor([1 << 15, (128 << 16) + (1 << 15) - 1, (128 << 16) + (1 << 15) - 1], dtype=torch.int32)


class DevicePhotographs:
    """Photographs in a device's memory, from which it computes samples."""

    def __init__(self, images: Sequence[NDArray[np.uint8]], shrunk: Sequence[NDArray[np.uint8]], device: torch.device) -> None:
        """
        Args:
            images: photographs, uint8 [H, W, 3] each.
            shrunk: copies at 0.7 of the size, see :class:`redecode.training.data.Crops`.
            device: device whose memory holds them, with one byte per sample.
        """
        pictures = [*images, *shrunk]
        self._count = len(images)
        self._widths = torch.tensor([picture.shape[1] for picture in pictures], device=device)
        areas = np.array([picture.shape[0] * picture.shape[1] for picture in pictures])
        self._offsets = torch.from_numpy(np.cumsum(areas) - areas).to(device)
        self._pixels = torch.cat([torch.tensor(picture, device=device).reshape(-1, 3) for picture in pictures])

    def samples(self, draws: Tensor, patch: int) -> Sample:
        """Compute a batch of samples, equal to those of :func:`redecode.training.data.make_sample`.

        Args:
            draws: parameters of the crops, int64 [B, 8] on the device, with the fields of :class:`redecode.training.data.Draw`.
            patch: side of the crops in pixels.

        Returns:
            The entries of make_sample as batches on the device.
        """
        columns = dict(zip(Draw._fields, draws.T, strict=True))
        picture = columns["photograph"] + self._count * columns["shrunk"]
        side = torch.arange(patch, device=draws.device)
        row, column = (columns[name][:, None, None] + side.view(shape) for name, shape in (("top", (1, -1, 1)), ("left", (1, 1, -1))))
        crops = self._pixels[self._offsets[picture][:, None, None] + row * self._widths[picture][:, None, None] + column]
        # One index for each of the eight symmetries, [8, patch²].
        places = torch.arange(patch**2, device=draws.device).view(patch, patch)
        views = [torch.rot90(places, turns) for turns in range(4)]
        symmetries = torch.stack([view.flip(1) if mirrored else view for view in views for mirrored in (0, 1)]).flatten(1)
        order = symmetries[columns["turns"] * 2 + columns["mirrored"]]
        crops = crops.flatten(1, 2).gather(1, order[:, :, None].expand(-1, -1, 3)).view(-1, patch, patch, 3)
        return jpeg_samples(crops.permute(0, 3, 1, 2), columns["quality"], columns["kind"])


def jpeg_samples(crops: Tensor, quality: Tensor, kind: Tensor) -> Sample:
    """Compress crops and decode them.

    Args:
        crops: uint8 [B, 3, H, W] RGB, sides multiples of 16.
        quality: quality factors, int64 [B], 1 … 100.
        kind: indices into :data:`redecode.training.data.KINDS`, int64 [B].

    Returns:
        The entries of :func:`redecode.training.data.make_sample` as batches.
    """
    device = crops.device
    gray = kind < KINDS.index("4:4:4")
    luma = torch.where((kind == KINDS.index("studio"))[:, None, None], _studio_luma(crops), _full_luma(crops))
    planes = torch.where(gray[:, None, None, None], F.pad(luma[:, None], (0, 0, 0, 0, 0, 2)), _to_ycc(crops))
    original = _to_planes(crops)
    original = torch.where(gray[:, None, None, None], F.pad(luma[:, None].float(), (0, 0, 0, 0, 0, 2), value=128.0), original)
    steps = torch.from_numpy(STANDARD.astype(np.int32)).to(device)[quality - 1]
    factors = torch.tensor([_FACTORS[name] for name in KINDS], device=device)[kind]
    held, degraded = torch.empty_like(original), torch.empty_like(original)
    held[:, :1] = degraded[:, :1] = decoded(coefficients(planes[:, :1], steps[:, :1]), steps[:, :1])
    for rows, columns in ((1, 1), (1, 2), (2, 2)):
        own = ((factors[:, 0] == rows) & (factors[:, 1] == columns)).nonzero()[:, 0]
        if len(own) == 0:
            continue
        table = steps[own, 1:].expand(-1, 2, -1)
        chroma = decoded(coefficients(_averaged(planes[own, 1:], rows, columns), table), table)
        held[own, 1:] = chroma.repeat_interleave(rows, 2).repeat_interleave(columns, 3)
        full = F.interpolate(chroma, scale_factor=(float(rows), float(columns)), mode="bilinear", align_corners=False)
        degraded[own, 1:] = full if (rows, columns) != (1, 1) else chroma
    held[gray, 1:] = degraded[gray, 1:] = 128.0
    tables = steps.float().view(-1, 2, dct.BLOCK, dct.BLOCK).clone()
    tables[gray, 1] = 1.0
    return {
        "degraded": (degraded - 128) / 255,
        "original": (original - 128) / 255,
        "tables": tables,
        "held": (held - 128) / 255,
        "factors": factors,
    }


def coefficients(planes: Tensor, steps: Tensor) -> Tensor:
    """The quantized DCT coefficients that libjpeg writes (jfdctint.c, jcdctmgr.c).

    Args:
        planes: samples, int32 [B, C, H, W], 0 … 255.
        steps: quantization steps, int32 [B, C, 64].

    Returns:
        int32 [B, C, H / 8, W / 8, 64].
    """
    batch, channels, height, width = planes.shape
    grid = (planes - 128).view(batch, channels, height // dct.BLOCK, dct.BLOCK, width // dct.BLOCK, dct.BLOCK).transpose(3, 4)
    rows = _forward_dct(grid, first=True)
    found = _forward_dct(rows.transpose(4, 5), first=False).transpose(4, 5).flatten(4)
    # libjpeg's DCT is scaled by 8.
    divisors = steps[:, :, None, None] * 8
    return found.sign() * torch.div(found.abs() + divisors // 2, divisors, rounding_mode="floor")


def decoded(quantized: Tensor, steps: Tensor) -> Tensor:
    """Decode coefficients of :func:`coefficients` into samples, neither rounded nor clipped, float32 [B, C, H, W]."""
    batch, channels, rows, columns, _ = quantized.shape
    values = (quantized * steps[:, :, None, None]).float()
    samples = (values @ _BASIS.to(values.device)).view(batch, channels, rows, columns, dct.BLOCK, dct.BLOCK)
    return samples.transpose(3, 4).reshape(batch, channels, rows * dct.BLOCK, columns * dct.BLOCK) + 128


def _forward_dct(values: Tensor, first: bool) -> Tensor:
    """One pass of libjpeg's accurate integer DCT along the last axis, int32."""
    a, b, c, d, e, f, g, h = values.unbind(-1)
    sums, differences = (a + h, b + g, c + f, d + e), (a - h, b - g, c - f, d - e)
    # The first pass keeps two fractional bits, which the second removes.
    shift = 13 - 2 if first else 13 + 2

    def rounded(value: Tensor, bits: int = shift) -> Tensor:
        return (value + (1 << (bits - 1))) >> bits

    even, odd = (sums[0] + sums[3], sums[1] + sums[2]), (sums[0] - sums[3], sums[1] - sums[2])
    z = (odd[0] + odd[1]) * 4433
    found = {2: rounded(z + odd[0] * 6270), 6: rounded(z - odd[1] * 15137)}
    found[0], found[4] = ((total << 2) if first else rounded(total, 2) for total in (even[0] + even[1], even[0] - even[1]))
    t7, t6, t5, t4 = differences
    z5 = (t4 + t6 + t5 + t7) * 9633
    z1, z2, z3, z4 = (t4 + t7) * -7373, (t5 + t6) * -20995, (t4 + t6) * -16069 + z5, (t5 + t7) * -3196 + z5
    found[7] = rounded(t4 * 2446 + z1 + z3)
    found[5] = rounded(t5 * 16819 + z2 + z4)
    found[3] = rounded(t6 * 25172 + z2 + z3)
    found[1] = rounded(t7 * 12299 + z1 + z4)
    return torch.stack([found[k] for k in range(dct.BLOCK)], -1)


def _to_ycc(rgb: Tensor) -> Tensor:
    """libjpeg's conversion to YCbCr, int32 [B, 3, H, W]."""
    weights, offsets = _YCC.to(rgb.device), _YCC_OFFSETS.to(rgb.device)
    channels = rgb.int()
    return torch.stack([(sum(w * channels[:, i] for i, w in enumerate(row)) + o) >> 16 for row, o in zip(weights, offsets, strict=True)], 1)


def _averaged(planes: Tensor, rows: int, columns: int) -> Tensor:
    """libjpeg's average of the pixels that share a chroma sample (jcsample.c): along a row it alternately rounds down and up."""
    if (rows, columns) == (1, 1):
        return planes
    batch, channels, height, width = planes.shape
    total = planes.view(batch, channels, height // rows, rows, width // columns, columns).sum((3, 5), dtype=torch.int32)
    bias = torch.arange(total.shape[-1], device=planes.device, dtype=torch.int32) % 2 + (1 if rows == 2 else 0)
    return (total + bias) >> (rows * columns).bit_length() - 1


def _to_planes(rgb: Tensor) -> Tensor:
    """Conversion to YCbCr without rounding, float32 [B, 3, H, W], 0 … 255."""
    matrix = torch.from_numpy(colour.RGB_TO_YCBCR).to(rgb.device)
    channels = rgb.float()
    planes = torch.stack([sum(w * channels[:, i] for i, w in enumerate(row)) for row in matrix], 1)
    planes[:, 1:] += 128
    return planes


def _full_luma(rgb: Tensor) -> Tensor:
    return _to_planes(rgb)[:, 0].round().clamp(0, 255).int()


def _studio_luma(rgb: Tensor) -> Tensor:
    weighted = torch.einsum("c,bchw->bhw", torch.from_numpy(colour.STUDIO_LUMA).to(rgb.device), rgb.double())
    return (16 + weighted).round().clamp(0, 255).int()
