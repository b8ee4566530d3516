"""Feature networks of the texture losses (paper 3.2): VGG, and AlexNet for LPIPS."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import DependencyError
from ..evaluation import lpips
from . import losses

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

# Layers of torchvision's `features` that the losses need: name and index of each convolution with its ReLU; "M" is 2×2 max pooling.
_VGG16: list[tuple[str, int] | str] = [
    ("relu1_1", 0),
    ("relu1_2", 2),
    "M",
    ("relu2_1", 5),
    ("relu2_2", 7),
    "M",
    ("relu3_1", 10),
    ("relu3_2", 12),
    ("relu3_3", 14),
    "M",
    ("relu4_1", 17),
    ("relu4_2", 19),
    ("relu4_3", 21),
    "M",
]
_VGG19: list[tuple[str, int] | str] = [
    ("relu1_1", 0),
    ("relu1_2", 2),
    "M",
    ("relu2_1", 5),
    ("relu2_2", 7),
    "M",
    ("relu3_1", 10),
    ("relu3_2", 12),
    ("relu3_3", 14),
    ("relu3_4", 16),
    "M",
    ("relu4_1", 19),
    ("relu4_2", 21),
    ("relu4_3", 23),
    ("relu4_4", 25),
    "M",
]
_ARCHITECTURES = {"vgg16": _VGG16, "vgg19": _VGG19}


# Stride of AlexNet's first convolution in pixels.
_ALEXNET_STRIDE = 4


class Vgg(nn.Module):
    """The leading layers of a VGG network, frozen.

    The input is RGB on [0, 1] and is normalised with ImageNet's mean and deviation; the weights λ of recipes refer to that scale.
    """

    def __init__(self, architecture: str, weights: Path | None, outputs: Sequence[str]) -> None:
        """
        Args:
            architecture: "vgg16" or "vgg19".
            weights: a torchvision state dict (.pth or .safetensors), complete or cut after the last layer needed; None downloads
                torchvision's weights.
            outputs: names of the layers to return, "relu1_1" … or "pool4"; later layers are not computed.

        Raises:
            DependencyError: the file is missing or lacks a layer, or torchvision is needed and not installed.
        """
        super().__init__()
        self.outputs = tuple(outputs)
        state = _read_state(architecture, weights)
        self.layers: list[str] = []
        self.convolutions = nn.ModuleDict()
        pools = 0
        remaining = set(outputs)
        for layer in _ARCHITECTURES[architecture]:
            if not remaining:
                break
            if isinstance(layer, str):
                pools += 1
                name = f"pool{pools}"
            else:
                name, index = layer
                self.convolutions[name] = _convolution(state, index, architecture)
            self.layers.append(name)
            remaining.discard(name)
        self.requires_grad_(False)

    def forward(self, rgb: Tensor) -> list[Tensor]:
        """Return the features of the layers `outputs` in that order, [B, N, h, w] each."""
        features = (rgb - rgb.new_tensor(MEAN).view(1, 3, 1, 1)) / rgb.new_tensor(STD).view(1, 3, 1, 1)
        found = {}
        for name in self.layers:
            features = F.max_pool2d(features, 2) if name.startswith("pool") else F.relu(self.convolutions[name](features))
            if name in self.outputs:
                found[name] = features
        return [found[name] for name in self.outputs]


class VggDistance(nn.Module):
    """The paper's equation (5), on the features after VGG's fourth pooling."""

    def __init__(self, architecture: str, weights: Path | None) -> None:
        """Load VGG; arguments and errors are those of :class:`Vgg`."""
        super().__init__()
        self.vgg = Vgg(architecture, weights, ["pool4"])

    def forward(self, restored: Tensor, original: Tensor) -> Tensor:
        """The mean distance of RGB pictures [B, 3, H, W] on [0, 1], a scalar; gradients flow to `restored` only."""
        with torch.no_grad():
            (expected,) = self.vgg(original)
        return losses.perceptual(self.vgg(restored)[0], expected)


class LearnedDistance(nn.Module):
    """LPIPS with AlexNet, in place of equation (5)."""

    def __init__(self, weights: Path | None) -> None:
        """
        Args:
            weights: file of LPIPS weights, the same as for :mod:`redecode.evaluation.lpips`.

        Raises:
            DependencyError: the file does not exist.
        """
        super().__init__()
        if weights is None or not weights.exists():
            raise DependencyError(f"no weights of LPIPS at {weights}")
        for name, tensor in load_file(weights).items():
            self.register_buffer(name.replace(".", "_"), tensor.float())
        self.names = list(load_file(weights))

    def forward(self, restored: Tensor, original: Tensor) -> Tensor:
        """The mean LPIPS of RGB pictures [B, 3, H, W] on [0, 1], a scalar; gradients flow to `restored` only."""
        # AlexNet's stride samples the picture on a grid. A random offset of the grid keeps the network from learning patterns that fit it.
        top, left = (int(torch.randint(min(_ALEXNET_STRIDE, side - lpips.MIN_SIDE + 1), ())) for side in restored.shape[2:])
        weights = {name: self.get_buffer(name.replace(".", "_")) for name in self.names}
        with torch.no_grad():
            expected = lpips.unit_features(original[:, :, top:, left:] * 2 - 1, weights)
        return lpips.compare(lpips.unit_features(restored[:, :, top:, left:] * 2 - 1, weights), expected, weights)


def perceptual_distance(network: str, weights: Path | None) -> VggDistance | LearnedDistance:
    """The distance that a recipe's `perceptual_network` names: "vgg16", "vgg19" or "lpips"."""
    return LearnedDistance(weights) if network == "lpips" else VggDistance(network, weights)


def _convolution(state: dict[str, Tensor], index: int, architecture: str) -> nn.Conv2d:
    try:
        weight, bias = state[f"features.{index}.weight"].float(), state[f"features.{index}.bias"].float()
    except KeyError:
        raise DependencyError(f"the weights of {architecture} end before features.{index}; give a file with more layers") from None
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer


def _read_state(architecture: str, weights: Path | None) -> dict[str, Tensor]:
    if weights is None:
        try:
            from torchvision import models  # type: ignore[import-not-found,unused-ignore]
        except ImportError:
            raise DependencyError(
                f"training texture needs {architecture}'s weights: name a file in the recipe, or install torchvision to download them"
            ) from None
        return dict(getattr(models, architecture)(weights="IMAGENET1K_V1").state_dict())
    if not weights.exists():
        raise DependencyError(f"no weights of {architecture} at {weights}")
    if weights.suffix == ".safetensors":
        return dict(load_file(weights))
    return dict(torch.load(weights, map_location="cpu", weights_only=True))
