"""Objectives of training: one optimizer step of the Edge-CNN (equation 1) and of the Texture-GAN (equations 4 and 10)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from ..evaluation.datasets import data_path
from . import losses, shrinkage
from .checkpoint import State, unwrapped
from .data import Sample
from .perceptual import LearnedDistance, Vgg, VggDistance, perceptual_distance
from .recipe import EdgeRecipe, Recipe, TextureLoss, TextureRecipe

# Function that does an optimizer step and returns the terms of the loss by their names.
Step = Callable[[Fabric, State, Sample], dict[str, Tensor]]


def edge_step(recipe: EdgeRecipe) -> Step:
    """The optimizer step of an Edge-CNN."""

    def fidelity(restored: Tensor, original: Tensor, rate: float) -> Tensor:
        high, low = losses.LOG_FLOORS
        return losses.log_mse(restored, original, low + rate * (high - low)) if recipe.logarithmic else losses.mse(restored, original)

    def step(fabric: Fabric, state: State, sample: Sample) -> dict[str, Tensor]:
        original = losses.to_rgb(sample["original"])
        planes, edge = state.modules["network"](sample["degraded"], sample["tables"])
        if recipe.shrinkage:
            planes = shrinkage.shrink(planes, sample)
        fidelity_loss = fidelity(losses.to_rgb(planes), original, state.rate)
        edge_loss = losses.edge_fidelity(edge, losses.edge_map(original))
        _descend(fabric, recipe, state, "network", losses.base(fidelity_loss, edge_loss, recipe.edge_weight))
        return {"fidelity": fidelity_loss.detach(), "edge": edge_loss.detach()}

    return step


def texture_step(fabric: Fabric, recipe: TextureRecipe) -> Step:
    """The optimizer step of a Texture-GAN: first of the generator, then of the discriminator.

    Raises:
        DependencyError: weights of a feature network are missing.
    """
    weights = recipe.texture
    matching, perceptual = _feature_networks(fabric, weights)
    # A patch is 16×16 pixels; each pooling before a layer halves it on that layer's grid.
    patches = [16 >> (int(name[4]) - 1) for name in weights.matching_layers]

    def step(fabric: Fabric, state: State, sample: Sample) -> dict[str, Tensor]:
        discriminator = state.modules["discriminator"]
        original = losses.to_rgb(sample["original"])
        restored = losses.to_rgb(state.modules["network"](sample["degraded"], sample["tables"]))
        mse = losses.mse(restored, original)
        percep = perceptual(restored, original)
        adversarial_weight = weights.adversarial if state.step >= weights.discriminator_warmup else 0.0
        # The discriminator runs frozen here, without its gradient-averaging wrapper: this pass computes gradients for the generator only.
        with fabric.autocast():
            with torch.no_grad():
                matching_original = [features.float() for features in matching(original)]
            matching_restored = [features.float() for features in matching(restored)]
            adv = losses.adversarial(_frozen(discriminator, restored))
        tm = losses.texture_matching(matching_restored, matching_original, patches, weights.matching_layer_weights)
        total = losses.texture(mse, percep, tm, adv, (weights.perceptual, weights.texture_matching, adversarial_weight))
        total = total + weights.blocking * losses.blocking(restored, original)
        _descend(fabric, recipe, state, "network", total)
        logits = discriminator(torch.cat([original, restored.detach()]))
        d = losses.discriminator(*logits.chunk(2))
        _descend(fabric, recipe, state, "discriminator", d)
        return {"mse": mse.detach(), "percep": percep.detach(), "tm": tm.detach(), "adv": adv.detach(), "D": d.detach()}

    return step


def _feature_networks(fabric: Fabric, texture: TextureLoss) -> tuple[Vgg, VggDistance | LearnedDistance]:
    def path(name: str) -> Path | None:
        return data_path(*Path(name).parts) if name else None

    matching = Vgg(texture.matching_network, path(texture.matching_weights), texture.matching_layers)
    perceptual = perceptual_distance(texture.perceptual_network, path(texture.perceptual_weights))
    matching.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    fabric.to_device(matching)
    fabric.to_device(perceptual)
    return matching, perceptual


def _frozen(wrapped: nn.Module, inputs: Tensor) -> Tensor:
    """Forward pass of the unwrapped module that gives gradients to its inputs only."""
    module = unwrapped(wrapped)
    module.requires_grad_(False)
    outputs: Tensor = module(inputs)
    module.requires_grad_(True)
    return outputs


def _descend(fabric: Fabric, recipe: Recipe, state: State, name: str, loss: Tensor) -> None:
    module, optimizer = state.modules[name], state.optimizers[name]
    basis = state.basis if name == "network" else None
    module.zero_grad()
    fabric.backward(loss)
    trained = list(module.parameters())
    if basis and recipe.schedule.soap:
        basis.read_gradients()
        trained = basis.coordinates
    elif basis:
        # Adam scales each weight's step separately, so it must work on the weights: on coordinates it would give other steps.
        basis.average_gradients()
    if name == "network":
        nn.utils.clip_grad_norm_(trained, recipe.schedule.clip)
    optimizer.step()
    if basis and recipe.schedule.soap:
        basis.write()
