"""Equations (1)–(10) of the paper, one function each.

Image tensors are float32 [batch, channels, height, width] on the scale of [0, 1]; features are ReLU outputs of VGG as
:mod:`redecode.training.perceptual` scales them. Every function returns a scalar averaged over the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

# ITU-T T.871: the columns that take centred chroma to RGB.
_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136286, -0.714136286), (1.0, 1.772, 0.0))

# Where the logarithm of the MSE levels off (1e-4 is 40 dB): the first while the learning rate is at its peak, the second at its end. The
# steep gradients of smooth crops are noise to long steps; short ones can follow them, and smooth pictures and high qualities need them.
LOG_FLOORS = (1e-4, 1e-5)


def to_rgb(planes: Tensor) -> Tensor:
    """The networks' planes [B, 3, H, W], about [-0.5, 0.5], to RGB on [0, 1], unclipped."""
    return torch.einsum("rc,bchw->brhw", planes.new_tensor(_RGB), planes) + 128 / 255


def base(mse: Tensor, edge: Tensor, weight: float = 1.0) -> Tensor:
    """Equation (1): L_Base = L_MSE + weight · L_Edge; the paper's weight is 1."""
    return mse + weight * edge


def mse(restored: Tensor, original: Tensor) -> Tensor:
    """Equation (2): L_MSE = ‖I_o − I_r‖² / (W H C)."""
    return F.mse_loss(restored, original)


def log_mse(restored: Tensor, original: Tensor, floor: float) -> Tensor:
    """Equation (2) with every image's L_MSE as its logarithm: a mean of decibels, up to a factor.

    Plain L_MSE is ruled by rough pictures at low qualities; the logarithm weighs relative gains alike, so that smooth
    pictures and high qualities count. It levels off at the floor: a smooth crop is a part of a picture that is rougher elsewhere,
    and with its tiny errors it would have the steepest gradients of all (docs/lab-notes/edge-cnn.md).

    Args:
        restored, original: [B, C, H, W].
        floor: added to every image's L_MSE; 1e-4 is 40 dB.
    """
    return ((restored - original).square().mean((1, 2, 3)) + floor).log().mean()


def edge_fidelity(edge: Tensor, edge_label: Tensor) -> Tensor:
    """Equation (3): L_Edge = ‖Î_E − I_E‖² / (W H), edge maps [B, 1, H, W]."""
    return F.mse_loss(edge, edge_label)


def texture(mse: Tensor, percep: Tensor, tm: Tensor, adv: Tensor, weights: tuple[float, float, float]) -> Tensor:
    """Equation (4): L_Texture = L_MSE + λ1 L_Percep + λ2 L_TM + λ3 L_Adv, weights = (λ1, λ2, λ3)."""
    return mse + weights[0] * percep + weights[1] * tm + weights[2] * adv


def blocking(restored: Tensor, original: Tensor, block: int = 8) -> Tensor:
    """Beyond the paper: the mean squared error of the steps across the borders of the file's blocks.

    LPIPS hardly sees blocks (it finds a plain decode nearer to the original than L_B), so that whoever minimises it must be kept from them.

    Args:
        restored, original: [B, C, H, W] that begin with a whole block.
        block: its side.
    """
    error = restored - original
    rows = error[:, :, block::block] - error[:, :, block - 1 : -1 : block]
    columns = error[:, :, :, block::block] - error[:, :, :, block - 1 : -1 : block]
    return (rows.square().mean() + columns.square().mean()) / 2


def perceptual(features: Tensor, features_original: Tensor) -> Tensor:
    """Equation (5): L_Percep = ‖F_4(I_o) − F_4(I_r)‖² / (N_4 M_4), the fourth pooling's features [B, N, h, w]."""
    return F.mse_loss(features, features_original)


def texture_matching_layer(gram: Tensor, gram_original: Tensor, positions: int) -> Tensor:
    """Equation (6): L^l_TM = ‖G_l(I_o) − G_l(I_r)‖² / (4 N_l² M_l²).

    Args:
        gram: [patches, N, N] of the restored image.
        gram_original: the same of the original.
        positions: M_l, feature positions per patch.
    """
    maps = gram.shape[-1]
    return (gram - gram_original).square().sum((1, 2)).mean() / (4 * maps**2 * positions**2)


def gram_matrix(features: Tensor, patch: int) -> Tensor:
    """Equation (7): G_ij = Σ_k F_ik F_jk, within each patch of patch × patch feature positions.

    Args:
        features: [B, N, h, w].
        patch: side of a patch on this layer's grid; positions past the last whole patch are left out.

    Returns:
        [patches of all images, N, N].
    """
    batch, maps, height, width = features.shape
    rows, columns = height // patch, width // patch
    grid = features[:, :, : rows * patch, : columns * patch].reshape(batch, maps, rows, patch, columns, patch)
    flat = grid.permute(0, 2, 4, 1, 3, 5).reshape(batch * rows * columns, maps, patch * patch)
    return flat @ flat.transpose(1, 2)


def texture_matching(
    features: Sequence[Tensor], features_original: Sequence[Tensor], patches: Sequence[int], weights: Sequence[float]
) -> Tensor:
    """Equation (8): L_TM = Σ_l w_l L^l_TM.

    Args:
        features: per layer, [B, N_l, h_l, w_l] of the restored images.
        features_original: the same of the originals.
        patches: per layer, the side of a 16×16-pixel patch on that layer's grid.
        weights: w_l per layer.
    """
    total = features[0].new_zeros(())
    for ours, theirs, patch, weight in zip(features, features_original, patches, weights, strict=True):
        layer = texture_matching_layer(gram_matrix(ours, patch), gram_matrix(theirs, patch), patch**2)
        total = total + weight * layer
    return total


def adversarial(logits_restored: Tensor) -> Tensor:
    """Equation (9): L_Adv = −log D(I_r), where D = sigmoid(logits)."""
    return F.softplus(-logits_restored).mean()


def discriminator(logits_original: Tensor, logits_restored: Tensor) -> Tensor:
    """Equation (10): L_D = −log D(I_o) − log(1 − D(I_r)), where D = sigmoid(logits)."""
    return F.softplus(-logits_original).mean() + F.softplus(logits_restored).mean()


def edge_map(rgb: Tensor) -> Tensor:
    """The edge label I_E (paper 4.1): Sobel magnitude of the luma, scaled to [0, 1].

    The gradients are those of the 3×3 Sobel kernels divided by 4, the slope in luma (0 … 1) over two pixels, and their
    magnitude is divided by √2, so that 1 is the steepest diagonal edge there can be. Borders are replicated.

    Args:
        rgb: [B, 3, H, W] on [0, 1].

    Returns:
        [B, 1, H, W].
    """
    luma = (rgb * rgb.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    kernel = rgb.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 4
    gradients = F.conv2d(F.pad(luma, (1, 1, 1, 1), mode="replicate"), torch.stack([kernel, kernel.T])[:, None])
    return gradients.square().sum(1, keepdim=True).sqrt() / 2**0.5
