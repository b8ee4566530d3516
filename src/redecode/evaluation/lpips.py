"""LPIPS, the learned perceptual distance of Zhang, Isola, Efros, Shechtman and Wang (CVPR 2018), AlexNet, version 0.1.

The module can be imported without torch; :func:`distance` needs torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DependencyError
from .datasets import data_path

if TYPE_CHECKING:
    from torch import Tensor

Image = NDArray[np.floating[Any]] | NDArray[np.uint8]

WEIGHTS = ("lpips", "alexnet_lpips.safetensors")
# Minimum side of a picture in pixels: shorter sides vanish in the second pooling.
MIN_SIDE = 31

# Index in torchvision's `features`, stride, padding, and whether 3×3 max pooling of stride 2 comes before it.
_CONVOLUTIONS = ((0, 4, 2, False), (3, 1, 2, True), (6, 1, 1, True), (8, 1, 1, False), (10, 1, 1, False))
# Normalisation of the reference implementation, for RGB on [-1, 1].
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
_EPSILON = 1e-10
# Keeps the gradient of the square root finite where all maps are zero; negligible compared with the features.
_TINY = 1e-20


def distance(reference: Image, restored: Image) -> float:
    """LPIPS of two images.

    Args:
        reference: [H, W, 3] RGB, or [H, W] gray, which counts as three equal channels; any real dtype, 0 … 255, both sides
            at least 31.
        restored: the image to compare with it, of the same shape and range.

    Returns:
        0 for equal images, about 1 for unrelated ones; lower is better.

    Raises:
        DependencyError: torch, safetensors or the weights file (lpips/alexnet_lpips.safetensors in the data folder) is missing.
        ValueError: the shapes differ or are too small.
    """
    if reference.shape != restored.shape:
        raise ValueError(f"the images differ in shape: {reference.shape} and {restored.shape}")
    if min(reference.shape[:2]) < MIN_SIDE:
        raise ValueError(f"LPIPS needs sides of at least {MIN_SIDE} pixels, not shape {reference.shape}")
    try:
        import torch
    except ImportError:
        raise DependencyError("LPIPS needs torch: install redecode[eval]") from None
    path = data_path(*WEIGHTS)
    weights = _weights(path)
    known = _reference(reference.tobytes(), reference.shape, str(reference.dtype), path)
    with torch.inference_mode():
        return float(compare(known, unit_features(_to_tensor(restored), weights), weights))


def unit_features(rgb: Tensor, weights: dict[str, Tensor]) -> list[Tensor]:
    """AlexNet's five ReLU outputs, normalised to length 1 over the channels at each position.

    Args:
        rgb: float32 [B, 3, H, W] on [-1, 1].
        weights: tensors of the file :data:`WEIGHTS` by name, float32.

    Returns:
        Features [B, N, h, w] of each layer; gradients flow through them.
    """
    from torch.nn import functional as F

    values = (rgb - rgb.new_tensor(_SHIFT).view(1, 3, 1, 1)) / rgb.new_tensor(_SCALE).view(1, 3, 1, 1)
    found = []
    for index, stride, padding, pooled in _CONVOLUTIONS:
        if pooled:
            values = F.max_pool2d(values, 3, 2)
        values = F.conv2d(values, weights[f"features.{index}.weight"], weights[f"features.{index}.bias"], stride, padding).relu()
        found.append(values / (values.square().sum(1, keepdim=True).add(_TINY).sqrt() + _EPSILON))
    return found


def compare(first: Sequence[Tensor], second: Sequence[Tensor], weights: dict[str, Tensor]) -> Tensor:
    """LPIPS from the features of two batches: a scalar, averaged over the batch."""
    from torch.nn import functional as F

    total = first[0].new_zeros(())
    for layer, (one, other) in enumerate(zip(first, second, strict=True)):
        total = total + F.conv2d((one - other).square(), weights[f"lin{layer}.weight"]).mean()
    return total


@lru_cache(maxsize=1)
def _weights(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise DependencyError("LPIPS needs safetensors: install redecode[eval]") from None
    return {name: tensor.float() for name, tensor in load_file(path).items()}


@lru_cache(maxsize=1)
def _reference(data: bytes, shape: tuple[int, ...], dtype: str, path: Path) -> list[Tensor]:
    """The features of a reference, cached because several restored pictures are compared with it in turn."""
    import torch

    with torch.inference_mode():
        return unit_features(_to_tensor(np.frombuffer(data, dtype).reshape(shape)), _weights(path))


def _to_tensor(image: Image) -> Tensor:
    import torch

    pixels = torch.from_numpy(image.astype(np.float32)) / 127.5 - 1
    if pixels.ndim == 2:
        pixels = pixels[:, :, None].expand(-1, -1, 3)
    return pixels.permute(2, 0, 1)[None]
