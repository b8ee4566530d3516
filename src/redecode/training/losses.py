"""Equations (1)–(10) of the paper, one function each.

Image tensors are float32 [batch, channels, height, width] on [0, 1]; features are ReLU outputs of VGG, scaled as in
:mod:`redecode.training.perceptual`. Every function returns a scalar averaged over the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

# Matrix from YCbCr with centred chroma to RGB (ITU-T T.871), one row per RGB channel.
_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136286, -0.714136286), (1.0, 1.772, 0.0))

# Floors of log_mse (1e-4 is 40 dB): the first at the peak of the learning rate, the second at its end. At high learning rates the steep
# gradients of smooth crops act as noise; at low rates they improve smooth pictures and high qualities.
LOG_FLOORS = (1e-4, 1e-5)


def to_rgb(planes: Tensor) -> Tensor:
    """Convert the networks' planes [B, 3, H, W], about [-0.5, 0.5], to RGB on [0, 1], without clipping."""
    return torch.einsum("rc,bchw->brhw", planes.new_tensor(_RGB), planes) + 128 / 255


def base(mse: Tensor, edge: Tensor, weight: float = 1.0) -> Tensor:
    """Equation (1): L_Base = L_MSE + weight · L_Edge; the paper's weight is 1."""
    return mse + weight * edge


def mse(restored: Tensor, original: Tensor) -> Tensor:
    """Equation (2): L_MSE = ‖I_o − I_r‖² / (W H C)."""
    return F.mse_loss(restored, original)


def log_mse(restored: Tensor, original: Tensor, floor: float) -> Tensor:
    """The mean over the images of log(L_MSE + floor), with L_MSE of equation (2): a mean PSNR, up to a factor.

    Textured pictures at low qualities dominate the plain L_MSE. The logarithm gives equal weight to equal relative gains, so that smooth
    pictures and high qualities count as much. Without the floor, the tiny errors of smooth crops would have the steepest gradients, though
    a smooth crop is only part of a picture with more error elsewhere (docs/lab-notes/edge-cnn.md).

    Args:
        restored, original: [B, C, H, W].
        floor: added to the L_MSE of each image; 1e-4 is 40 dB.
    """
    return ((restored - original).square().mean((1, 2, 3)) + floor).log().mean()


def edge_fidelity(edge: Tensor, edge_label: Tensor) -> Tensor:
    """Equation (3): L_Edge = ‖Î_E − I_E‖² / (W H), edge maps [B, 1, H, W]."""
    return F.mse_loss(edge, edge_label)


def texture(mse: Tensor, percep: Tensor, tm: Tensor, adv: Tensor, weights: tuple[float, float, float]) -> Tensor:
    """Equation (4): L_Texture = L_MSE + λ1 L_Percep + λ2 L_TM + λ3 L_Adv, weights = (λ1, λ2, λ3)."""
    return mse + weights[0] * percep + weights[1] * tm + weights[2] * adv


def blocking(restored: Tensor, original: Tensor, block: int = 8) -> Tensor:
    """The mean squared error of the differences across block borders; not in the paper.

    LPIPS hardly penalises blocking (it rates a plain decode nearer to the original than L_B), so a network trained on it needs this loss.

    Args:
        restored, original: [B, C, H, W], with a block's corner at the top left.
        block: side of a block in pixels.
    """
    error = restored - original
    rows = error[:, :, block::block] - error[:, :, block - 1 : -1 : block]
    columns = error[:, :, :, block::block] - error[:, :, :, block - 1 : -1 : block]
    return (rows.square().mean() + columns.square().mean()) / 2


def perceptual(features: Tensor, features_original: Tensor) -> Tensor:
    """Equation (5): L_Percep = ‖F_4(I_o) − F_4(I_r)‖² / (N_4 M_4), with features [B, N, h, w] after the fourth pooling."""
    return F.mse_loss(features, features_original)


def texture_matching_layer(gram: Tensor, gram_original: Tensor, positions: int) -> Tensor:
    """Equation (6): L^l_TM = ‖G_l(I_o) − G_l(I_r)‖² / (4 N_l² M_l²).

    Args:
        gram: Gram matrices of the restored image, [patches, N, N].
        gram_original: Gram matrices of the original, [patches, N, N].
        positions: M_l, the number of feature positions per patch.
    """
    maps = gram.shape[-1]
    return (gram - gram_original).square().sum((1, 2)).mean() / (4 * maps**2 * positions**2)


def gram_matrix(features: Tensor, patch: int) -> Tensor:
    """Equation (7): G_ij = Σ_k F_ik F_jk, within each patch of patch × patch feature positions.

    Args:
        features: [B, N, h, w].
        patch: side of a patch on this layer's grid; positions beyond the last whole patch are left out.

    Returns:
        Gram matrices, [patches of all images, N, N].
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
        features: features of the restored images per layer, [B, N_l, h_l, w_l] each.
        features_original: features of the originals per layer.
        patches: side of a 16×16-pixel patch on the grid of each layer.
        weights: w_l of each layer.
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

    The 3×3 Sobel kernels are divided by 4, which gives the difference in luma (0 … 1) over two pixels. The magnitude of the gradient is
    divided by √2, so that the steepest possible diagonal edge has 1. Borders are replicated.

    Args:
        rgb: [B, 3, H, W] on [0, 1].

    Returns:
        [B, 1, H, W].
    """
    luma = (rgb * rgb.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    kernel = rgb.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 4
    gradients = F.conv2d(F.pad(luma, (1, 1, 1, 1), mode="replicate"), torch.stack([kernel, kernel.T])[:, None])
    return gradients.square().sum(1, keepdim=True).sqrt() / 2**0.5
