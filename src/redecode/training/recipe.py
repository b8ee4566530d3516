"""Recipes: TOML files with all parameters of a training run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from ..errors import DependencyError, UsageError
from .data import DataConfig
from .networks import NetworkConfig

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class Schedule(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The schedule of the learning rate: warm-up, stable part, decay.

    The learning rate rises for `warmup` steps and then stays constant. The stable part can be stopped and resumed any number of times. To
    get weights to ship, a decay branches off from a checkpoint of the stable part and lowers the rate linearly to zero; the stable part can
    continue from the same checkpoint.

    Attributes:
        steps: number of optimizer steps of warm-up and stable part together.
        learning_rate: learning rate of Adam or SOAP in the stable part.
        soap: whether to use SOAP (see :mod:`redecode.training.soap`) instead of Adam, the paper's optimizer.
        warmup: number of steps of the linear warm-up.
        decay: steps of a decay as a share of all steps up to its end, 0 … 1.
        clip: maximum norm of the gradient.
        ema: decay per step of the exponential moving average of the weights, 0 … 1; the average is validated and shipped.
        validate_every: number of steps between two points of the validation curve.
    """

    steps: int
    learning_rate: float = 1e-3
    soap: bool = False
    warmup: int = 100
    decay: float = 0.2
    clip: float = 0.1
    ema: float = 0.999
    validate_every: int = 500


class TextureLoss(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The weights of equations (4) and (8), and the networks that compute the features.

    The paper gives λ1 = λ2 = 1e-6 and λ3 = 1e-3, but neither the scale of the images nor of the features. Here images are on [0, 1] and are
    normalised by ImageNet's mean and deviation for VGG; the weights λ refer to that scale.

    Attributes:
        perceptual: weight λ1 of equation (5).
        texture_matching: weight λ2 of equation (8).
        adversarial: weight λ3 of equation (9).
        blocking: weight of :func:`redecode.training.losses.blocking`, which is not in the paper.
        matching_layers, matching_layer_weights: layers l and weights w_l of equation (8).
        perceptual_network, perceptual_weights: "vgg19" or "vgg16" and a state-dict file for the pool4 features of equation (5), or
            "lpips" and its file to use LPIPS instead. Paths are relative to REDECODE_DATA; an empty path downloads torchvision's weights.
        matching_network, matching_weights: architecture and state-dict file for the features of texture matching, equation (8).
        discriminator_width: number of feature maps of the discriminator's first layer; SRGAN has 64.
        discriminator_learning_rate: learning rate of the discriminator's Adam in the stable part.
        discriminator_warmup: number of first steps in which the generator trains without equation (9).
    """

    perceptual: float = 1e-6
    texture_matching: float = 1e-6
    adversarial: float = 1e-3
    blocking: float = 0.0
    matching_layers: tuple[str, ...] = ("relu1_1", "relu2_1", "relu3_1")
    matching_layer_weights: tuple[float, ...] = (1.0, 1.0, 1.0)
    perceptual_network: str = "vgg19"
    perceptual_weights: str = ""
    matching_network: str = "vgg19"
    matching_weights: str = ""
    discriminator_width: int = 64
    discriminator_learning_rate: float = 1e-4
    discriminator_warmup: int = 0


class Recipe(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Parameters of a training run that both networks share.

    Attributes:
        schedule: steps and learning rate, see :class:`Schedule`.
        network: sizes of the network, see :class:`redecode.training.networks.NetworkConfig`.
        data: distribution of the crops, see :class:`redecode.training.data.DataConfig`.
        start: path of a `weights.safetensors` for a warm start, relative to the recipe; empty for random weights.
        equivariant: whether to constrain the weights to be equivariant, see :mod:`redecode.training.equivariance`.
        seed: seed of the random initial weights and of the crops.
    """

    schedule: Schedule
    network: NetworkConfig = NetworkConfig()
    data: DataConfig = DataConfig()
    start: str = ""
    equivariant: bool = False
    seed: int = 0


class EdgeRecipe(Recipe, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Parameters of a training run of an Edge-CNN.

    Attributes:
        logarithmic: whether equation (1) uses :func:`redecode.training.losses.log_mse` in place of equation (2).
        edge_weight: weight of equation (3) in equation (1); the paper's is 1.
        shrinkage: whether the network is trained and validated through :func:`redecode.training.shrinkage.shrink`.
    """

    logarithmic: bool = False
    edge_weight: float = 1.0
    shrinkage: bool = False


class TextureRecipe(Recipe, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Parameters of a training run of a Texture-GAN.

    Attributes:
        texture: weights and networks of the loss, see :class:`TextureLoss`.
    """

    texture: TextureLoss = TextureLoss()


AnyRecipe = TypeVar("AnyRecipe", EdgeRecipe, TextureRecipe)


def read(path: Path, kind: type[AnyRecipe]) -> AnyRecipe:
    """Read a recipe.

    Args:
        path: a TOML file.
        kind: EdgeRecipe or TextureRecipe.

    Raises:
        DependencyError: the file does not exist.
        UsageError: the file is not TOML, or an entry is unknown, missing or of the wrong type; the message names the entry.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DependencyError(f"there is no recipe {path}") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: {error}") from None
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).replace("`", "").partition(" - at $.")
        raise UsageError(f"{path}: {place + ': ' if place else ''}{problem[:1].lower()}{problem[1:]}") from None
