"""LPIPS, the learned perceptual distance of Zhang, Isola, Efros, Shechtman and Wang (CVPR 2018), AlexNet, version 0.1.

The module imports without torch; :func:`distance` needs it.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..datasets import data_path
from ..errors import DependencyError

if TYPE_CHECKING:
    from torch import Tensor

Image = NDArray[np.floating[Any]] | NDArray[np.uint8]

WEIGHTS = ("lpips", "alexnet_lpips.safetensors")
# Under this a side vanishes in the second pooling.
MIN_SIDE = 31

# Index in torchvision's `features`, stride, padding, and whether 3×3 max pooling of stride 2 comes before it.
_CONVOLUTIONS = ((0, 4, 2, False), (3, 1, 2, True), (6, 1, 1, True), (8, 1, 1, False), (10, 1, 1, False))
# The reference implementation's, for RGB on [-1, 1].
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
_EPSILON = 1e-10


def distance(reference: Image, restored: Image) -> float:
    """LPIPS of two images.

    Args:
        reference: [H, W, 3] RGB, or [H, W] gray, which stands for three equal channels; any real dtype, 0 … 255, both
            sides at least 31.
        restored: likewise.

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
        total = torch.zeros(())
        for layer, (first, second) in enumerate(zip(known, _features(restored, weights), strict=True)):
            difference = (first - _unit(second)) ** 2
            total += torch.nn.functional.conv2d(difference, weights[f"lin{layer}.weight"]).mean()
    return float(total)


@lru_cache(maxsize=1)
def _weights(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise DependencyError("LPIPS needs safetensors: install redecode[eval]") from None
    return {name: tensor.float() for name, tensor in load_file(path).items()}


@lru_cache(maxsize=1)
def _reference(data: bytes, shape: tuple[int, ...], dtype: str, path: Path) -> list[Tensor]:
    """The features of a reference, which many restored pictures are compared with in turn."""
    import torch

    with torch.inference_mode():
        return [_unit(features) for features in _features(np.frombuffer(data, dtype).reshape(shape), _weights(path))]


def _features(image: Image, weights: dict[str, Tensor]) -> list[Tensor]:
    """AlexNet's five ReLU outputs, [1, N, h, w] each."""
    import torch
    from torch.nn import functional as F

    pixels = torch.from_numpy(image.astype(np.float32)) / 127.5 - 1
    if pixels.ndim == 2:
        pixels = pixels[:, :, None].expand(-1, -1, 3)
    values = ((pixels - torch.tensor(_SHIFT)) / torch.tensor(_SCALE)).permute(2, 0, 1)[None]
    found = []
    for index, stride, padding, pooled in _CONVOLUTIONS:
        if pooled:
            values = F.max_pool2d(values, 3, 2)
        values = F.conv2d(values, weights[f"features.{index}.weight"], weights[f"features.{index}.bias"], stride, padding).relu()
        found.append(values)
    return found


def _unit(features: Tensor) -> Tensor:
    return features / ((features**2).sum(1, keepdim=True).sqrt() + _EPSILON)
