"""Recipes: one TOML file holds all that is needed to train a network again."""

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
    """How long and how fast: warm-up, stable, decay.

    The learning rate rises for `warmup` steps and then stays. The stable part can be stopped and resumed any number of times. When weights
    are to be shipped, a decay branches off from one of its checkpoints and takes the rate linearly to zero; the stable part goes on from
    where it was.

    Attributes:
        steps: optimizer steps of the warm-up and the stable part together.
        learning_rate: of Adam or SOAP, in the stable part.
        soap: whether SOAP takes the place of Adam, which the paper has; see :mod:`redecode.training.soap`.
        warmup: steps of linear warm-up.
        decay: share of a decay in all the steps that lead to its end, 0 … 1.
        clip: largest norm of the gradient.
        ema: decay of the weights' exponential moving average, which is what is validated and shipped.
        validate_every: steps between two points of the validation curve.
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
    """The weights of equations (4) and (8), and where the features come from.

    The paper gives λ1 = λ2 = 1e-6 and λ3 = 1e-3 but neither the scale of the images nor of the features. Here images are on [0, 1] and
    VGG sees them normalised by ImageNet's mean and deviation; λ are meant on that scale.

    Attributes:
        perceptual: λ1.
        texture_matching: λ2.
        adversarial: λ3.
        blocking: weight of :func:`redecode.training.losses.blocking`, which is not in the paper.
        matching_layers, matching_layer_weights: of equation (8).
        perceptual_network, perceptual_weights: "vgg19" or "vgg16" and a state-dict file for the pool4 features of equation (5), or
            "lpips" and its file to take LPIPS in its place; paths are relative to REDECODE_DATA, an empty one means torchvision's download.
        matching_network, matching_weights: architecture and file of the texture matching features.
        discriminator_width: maps of the discriminator's first layer, 64 in SRGAN.
        discriminator_learning_rate: of Adam, in the stable part.
        discriminator_warmup: steps during which the generator learns without equation (9).
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
    """What defines a training run, for both networks.

    Attributes:
        schedule: see :class:`Schedule`.
        network: see :class:`redecode.training.networks.NetworkConfig`.
        data: see :class:`redecode.training.data.DataConfig`.
        start: a `weights.safetensors` for a warm start, relative to the recipe; empty begins anew.
        equivariant: whether the weights are kept equivariant, see :mod:`redecode.training.equivariance`.
        seed: of the weights, the crops and the optimizer.
    """

    schedule: Schedule
    network: NetworkConfig = NetworkConfig()
    data: DataConfig = DataConfig()
    start: str = ""
    equivariant: bool = False
    seed: int = 0


class EdgeRecipe(Recipe, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What defines the training of an Edge-CNN, beside what all recipes have.

    Attributes:
        logarithmic: whether equation (2) enters equation (1) as :func:`redecode.training.losses.log_mse`.
        edge_weight: weight of equation (3) in equation (1); the paper has 1.
        shrinkage: whether the network is trained and validated through :func:`redecode.training.shrinkage.shrink`.
    """

    logarithmic: bool = False
    edge_weight: float = 1.0
    shrinkage: bool = False


class TextureRecipe(Recipe, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What defines the training of a Texture-GAN, beside what all recipes have.

    Attributes:
        texture: see :class:`TextureLoss`.
    """

    texture: TextureLoss = TextureLoss()


AnyRecipe = TypeVar("AnyRecipe", EdgeRecipe, TextureRecipe)


def read(path: Path, kind: type[AnyRecipe]) -> AnyRecipe:
    """Read a recipe.

    Args:
        path: a TOML file.
        kind: EdgeRecipe or TextureRecipe.

    Raises:
        DependencyError: there is no such file.
        UsageError: it is no TOML, or an entry is unknown, missing or of the wrong type; the message names the entry.
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
