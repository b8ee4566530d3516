"""Differentiable shrinkage in PyTorch, the counterpart of :func:`redecode.restoration.shrinkage.shrink`.

A network that is trained through shrinkage need not learn where the quantization cells lie.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..codec import dct
from .data import Sample

# Mean distance of the original coefficient from the middle of its cell, as a function of the restored coefficient's distance, in steps: at
# 0, 0.05, 0.1 and so on, the last value for all larger distances. Measured on training photographs with a network trained without
# shrinkage. For steps of 28 and more the curve is nearly the same for luma, chroma and both presets; for finer steps the cells tell less,
# which training ignores. Shipped networks get a table of their own, see redecode.training.export.shrinkage_table.
_MEANS = torch.tensor([0, 0.05, 0.1085, 0.167, 0.221, 0.2685, 0.312, 0.347, 0.374, 0.395, 0.41, 0.42, 0.428, 0.43])
_MEANS_PER_STEP = 20
_SAMPLES = dct.BLOCK**2
# Row k holds the pixels of basis function k.
_BASIS = torch.from_numpy(dct.inverse(np.eye(_SAMPLES).reshape(-1, dct.BLOCK, dct.BLOCK))).reshape(_SAMPLES, _SAMPLES)


def shrink(planes: Tensor, sample: Sample) -> Tensor:
    """Move every DCT coefficient to the mean of the originals, given its place in the quantization cell.

    Args:
        planes: restored planes, [B, 3, H, W] on the network's scale.
        sample: the batch of samples that was restored, see :func:`redecode.training.data.make_sample`.

    Returns:
        The corrected planes, [B, 3, H, W].
    """
    held, tables, factors = sample["held"], sample["tables"], sample["factors"]
    # bfloat16 is too coarse for the places of coefficients in their cells.
    with torch.autocast(planes.device.type, enabled=False):
        planes = planes.float()
        luma = planes[:, :1] + _correction(planes[:, :1], held[:, :1], tables[:, 0])
        chroma = torch.empty_like(planes[:, 1:])
        for rows, columns in torch.unique(factors, dim=0).tolist():
            own = (factors == factors.new_tensor((rows, columns))).all(1)
            full = planes[own, 1:]
            correction = _correction(F.avg_pool2d(full, (rows, columns)), held[own, 1:, ::rows, ::columns], tables[own, 1])
            chroma[own] = full + correction.repeat_interleave(rows, 2).repeat_interleave(columns, 3)
        return torch.cat([luma, chroma], 1)


def _correction(planes: Tensor, held: Tensor, table: Tensor) -> Tensor:
    """The correction [B, C, h, w] for planes [B, C, h, w] on the grid of the file's samples, with quantization steps [B, 8, 8]."""
    basis = _BASIS.to(planes.device)
    step = table.view(-1, 1, 1, 1, _SAMPLES) / 255
    # Distance of a coefficient from the middle of its cell, in steps.
    distance = _to_blocks(planes - held) @ basis.T / step
    return _from_blocks((_mean(distance) - distance) * step @ basis, planes.shape)


def _mean(distance: Tensor) -> Tensor:
    means = _MEANS.to(distance.device)
    place = (distance.abs() * _MEANS_PER_STEP).clamp(max=len(means) - 1)
    index = place.detach().floor().long().clamp(max=len(means) - 2)
    return distance.sign() * (means[index] + (place - index) * (means[index + 1] - means[index]))


def _to_blocks(planes: Tensor) -> Tensor:
    batch, channels, height, width = planes.shape
    grid = planes.reshape(batch, channels, height // dct.BLOCK, dct.BLOCK, width // dct.BLOCK, dct.BLOCK)
    return grid.transpose(3, 4).flatten(4)


def _from_blocks(blocks: Tensor, shape: torch.Size) -> Tensor:
    grid: Tensor = blocks.reshape(*blocks.shape[:4], dct.BLOCK, dct.BLOCK)
    return grid.transpose(3, 4).reshape(shape)
