"""Edge-CNN (paper 3.1) and the Texture-GAN (paper 3.2), built from frozen configs that are stored with the weights.

All image tensors are float32 [batch, 3, height, width], YCbCr planes level-shifted and scaled to about [-0.5, 0.5]
(sample / 255 - 128 / 255); gray files have zero chroma. The paper's input is RGB: the two differ by a linear map that the first
convolution absorbs, and YCbCr planes save the decoder a conversion. `tables` is float32 [batch, 2, 8, 8], the quantization steps
of luma and chroma.
"""

from __future__ import annotations

from typing import Literal

import torch
from msgspec import Struct
from torch import Tensor, nn
from torch.nn import functional as F

from .equivariance import BLOCK, Conv, Linear, cells, concatenated, fixed, pairs, product, regular, table_steps

COLOURS = 3
NetworkName = Literal["edge", "texture"]


class Level(Struct, frozen=True, forbid_unknown_fields=True):
    """Sizes of a coarser level, which works at half the resolution of the level above it.

    Attributes:
        channels: number of feature maps between residual blocks.
        hidden: for each residual block, the number of feature maps between its two 3×3 convolutions.
    """

    channels: int
    hidden: tuple[int, ...]


class NetworkConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Sizes of an :class:`EdgeCNN` or a :class:`TextureGenerator`.

    Attributes:
        channels: number of feature maps between residual blocks.
        hidden: for each residual block, the number of feature maps between its two 3×3 convolutions.
        unshuffle: factor of the pixel-unshuffle: the trunk works at 1/unshuffle of the resolution.
        conditioned: whether the quantization tables are an input of the network.
        coarser: coarser levels, each in the middle of the residual blocks of the level above it; with coarser levels the trunk is a U-Net.

    The paper's text does not give the sizes (they are in its Fig. 1). They are assumed to be those of SRGAN's generator, as the paper
    follows SRGAN for the discriminator: 64 maps, 16 blocks, full resolution, no conditioning (recipes/paper-edge.toml); but without batch
    normalisation, which harms restoration.
    """

    channels: int = 48
    hidden: tuple[int, ...] = (48,) * 8
    unshuffle: int = 2
    conditioned: bool = True
    coarser: tuple[Level, ...] = ()

    @property
    def receptive_field(self) -> int:
        """Radius of the receptive field in pixels: an upper bound for both networks."""
        # Convolutions: stem, two per block, the trunk's last, edge branch, merge and output. Each reaches one cell further on its level's
        # grid, and the cell of a pixel on the coarsest grid reaches up to side - 1 pixels beyond the pixel.
        side = self.unshuffle
        reach = (2 * len(self.hidden) + 5) * side
        for level in self.coarser:
            side *= 2
            reach += 2 * len(level.hidden) * side
        return reach + side - 1


def zeroed(layer: Conv) -> Conv:
    """Set the weights of a layer that computes a correction to zero, so that training starts without the correction."""
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


class ResidualBlock(nn.Module):
    """Residual block: convolution, ReLU, convolution, skip connection."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.first = Conv(regular(channels), regular(hidden))
        self.second = Conv(regular(hidden), regular(channels))

    def forward(self, features: Tensor) -> Tensor:
        """Map features [B, channels, h, w] to features of the same shape."""
        correction: Tensor = self.second(F.relu(self.first(features)))
        return features + correction


class TableBias(nn.Module):
    """Conditioning on the quantization tables: an MLP computes a bias for each feature map and each position in the 8×8 block grid.

    Convolutions cannot see where blocks begin, and a network without the tables must guess the quantization. A bias that repeats with the
    grid gives both at next to no cost.
    """

    def __init__(self, channels: int, unshuffle: int) -> None:
        super().__init__()
        self.phase = BLOCK // unshuffle
        places = product(regular(channels), cells(self.phase))
        self.mlp = nn.Sequential(Linear(table_steps(2), pairs(64)), nn.ReLU(), Linear(pairs(64), places))

    def hidden(self, tables: Tensor) -> Tensor:
        """Hidden features of the MLP for tables [B, 2, 8, 8]: [B, 64], after the ReLU."""
        # Logarithm of the steps, scaled to about [-1, 1]: a quality factor scales all steps of a table.
        steps = torch.log(tables.flatten(1)) / 2.5 - 1
        found: Tensor = self.mlp[:2](steps)
        return found

    def forward(self, features: Tensor, tables: Tensor) -> Tensor:
        """Add the bias for tables [B, 2, 8, 8] to features [B, channels, h, w], whose sides are multiples of the phase."""
        batch, channels, height, width = features.shape
        # The bias is repeated for one row of blocks and broadcast over the other rows. To repeat it for all blocks would cost more than the
        # first convolution, and so would broadcasting along rows of a single block.
        row = self.mlp[2](self.hidden(tables)).view(batch, channels, self.phase, self.phase).repeat(1, 1, 1, width // self.phase)
        biased: Tensor = features.view(batch, channels, height // self.phase, self.phase * width) + row.view(batch, channels, 1, -1)
        return biased.view(batch, channels, height, width)


class _Blocks(nn.Module):
    """The residual blocks of a level, with the coarser levels in their middle."""

    def add_blocks(self, channels: int, hidden: tuple[int, ...], coarser: tuple[Level, ...]) -> None:
        """Create the blocks; called once by the constructor, at the blocks' place in the order of the level's parameters."""
        self.blocks = nn.Sequential(*(ResidualBlock(channels, each) for each in hidden))
        self.coarser = CoarserLevel(channels, *coarser) if coarser else None
        self.before = (len(hidden) + 1) // 2

    def through_blocks(self, features: Tensor) -> Tensor:
        """Map features [B, channels, h, w] to features of the same shape."""
        blocks: list[ResidualBlock] = list(self.blocks)  # type: ignore[arg-type]
        for block in blocks[: self.before]:
            features = block(features)
        if self.coarser is not None:
            features = features + self.coarser(features)
        for block in blocks[self.before :]:
            features = block(features)
        return features


class CoarserLevel(_Blocks):
    """A level at half the resolution, between a strided convolution and a pixel-shuffle whose weights start at zero."""

    def __init__(self, finer: int, level: Level, *coarser: Level) -> None:
        super().__init__()
        self.down = Conv(regular(finer), regular(level.channels), side=2)
        self.add_blocks(level.channels, level.hidden, coarser)
        self.up = zeroed(Conv(regular(level.channels), product(regular(finer), cells(2)), side=1))

    def forward(self, features: Tensor) -> Tensor:
        """Map the finer level's features [B, channels, h, w], with even sides, to the correction to add to them."""
        return F.pixel_shuffle(self.up(self.through_blocks(self.down(features))), 2)


class Trunk(_Blocks):
    """The feature extraction stack of both networks: pixels and tables to feature maps."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        maps = regular(config.channels)
        self.unshuffle = config.unshuffle
        self.stem = Conv(product(fixed(COLOURS), cells(config.unshuffle)), maps)
        self.bias = TableBias(config.channels, config.unshuffle) if config.conditioned else None
        self.add_blocks(config.channels, config.hidden, config.coarser)
        self.last = Conv(maps, maps)

    def forward(self, planes: Tensor, tables: Tensor) -> Tensor:
        """Map planes and tables to features [B, channels, height / unshuffle, width / unshuffle]."""
        r = self.unshuffle
        features = F.conv2d(planes, _unfolded(self.stem.weight, r), self.stem.bias, stride=r, padding=r)
        if self.bias is not None:
            features = self.bias(features, tables)
        features = F.relu(features)
        correction: Tensor = self.last(self.through_blocks(features))
        return features + correction


def _unfolded(weight: Tensor, r: int) -> Tensor:
    """Fuse a pixel-unshuffle and the 3×3 convolution after it into one convolution with stride r, which need not move pixels.

    Args:
        weight: kernel of the 3×3 convolution, [outputs, inputs · r², 3, 3].
        r: factor of the pixel-unshuffle.

    Returns:
        Kernel of the fused convolution, [outputs, inputs, 3 r, 3 r].
    """
    outputs, inputs = weight.shape[0], weight.shape[1] // r**2
    return weight.reshape(outputs, inputs, r, r, 3, 3).permute(0, 1, 4, 2, 5, 3).reshape(outputs, inputs, 3 * r, 3 * r)


def _to_pixels(maps: Tensor, r: int) -> Tensor:
    """Pixel-shuffle the output maps into planes; exported networks may have further maps as padding, which are dropped."""
    return F.pixel_shuffle(maps[:, : COLOURS * r**2], r)


class EdgeCNN(nn.Module):
    """The base fidelity layer L_B (paper 3.1): restores the planes and predicts the original's edges.

    The features go into two branches, one for the restoration and one for the edge map. Both are merged into the result, a correction
    that is added to the input.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        maps, pixels = regular(config.channels), cells(config.unshuffle)
        self.trunk = Trunk(config)
        self.edge = Conv(maps, pixels)
        self.merge = Conv(concatenated(maps, pixels), maps)
        self.out = zeroed(Conv(maps, product(fixed(COLOURS), pixels)))

    def forward(self, planes: Tensor, tables: Tensor) -> tuple[Tensor, Tensor]:
        """Return the restored planes, shaped and scaled like the input, and the edge map [batch, 1, height, width], 0 … 1 as the label."""
        features = self.trunk(planes, tables)
        edge = self.edge(features)
        merged = F.relu(self.merge(torch.cat([features, edge], 1)))
        r = self.config.unshuffle
        return planes + _to_pixels(self.out(merged), r), F.pixel_shuffle(edge, r)


class TextureGenerator(nn.Module):
    """The generator of the texture layer L_T (paper 3.2): Edge-CNN without the edge branch."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        maps = regular(config.channels)
        self.trunk = Trunk(config)
        self.merge = Conv(maps, maps)
        self.out = zeroed(Conv(maps, product(fixed(COLOURS), cells(config.unshuffle))))

    def forward(self, planes: Tensor, tables: Tensor) -> Tensor:
        """Return the restored planes, shaped and scaled like the input."""
        merged = F.relu(self.merge(self.trunk(planes, tables)))
        return planes + _to_pixels(self.out(merged), self.config.unshuffle)


Network = EdgeCNN | TextureGenerator


def make_network(name: NetworkName, config: NetworkConfig) -> Network:
    """A network with random initial weights."""
    return EdgeCNN(config) if name == "edge" else TextureGenerator(config)


def levels(network: Network) -> list[Trunk | CoarserLevel]:
    """The levels of a network, from the trunk to the coarsest."""
    found: list[Trunk | CoarserLevel] = [network.trunk]
    while (coarser := found[-1].coarser) is not None:
        found.append(coarser)
    return found


def blocks_of(level: Trunk | CoarserLevel) -> list[ResidualBlock]:
    """The residual blocks of one level, in order."""
    return list(level.blocks)  # type: ignore[arg-type]


def residual_blocks(network: Network) -> list[ResidualBlock]:
    """The residual blocks of all levels, the trunk's first."""
    return [block for level in levels(network) for block in blocks_of(level)]


class Discriminator(nn.Module):
    """SRGAN's discriminator (Ledig et al. 2017, Fig. 4): eight 3×3 convolutions of 64 … 512 maps, LeakyReLU 0.2.

    Two differences: the features are averaged over space before the dense layers, so that crops may have any size; and there is no batch
    normalisation. Originals and restored pictures form separate batches, and normalising each by its own statistics would hide the energy
    of fine texture, which is what tells them apart (with it, the loss stayed at 2 log 2).
    The input is RGB on [0, 1]; the result is the logit of "original", [batch].
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = COLOURS
        for outputs, stride in [(1, 1), (1, 2), (2, 1), (2, 2), (4, 1), (4, 2), (8, 1), (8, 2)]:
            layers += [nn.Conv2d(inputs, outputs * width, 3, stride, 1), nn.LeakyReLU(0.2)]
            inputs = outputs * width
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Linear(inputs, 16 * width), nn.LeakyReLU(0.2), nn.Linear(16 * width, 1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # Without normalisation, the initial weights must keep the variance of the signal through the layers.
                nn.init.kaiming_normal_(module.weight, a=0.2)

    def forward(self, rgb: Tensor) -> Tensor:
        """Return the logits, [batch]."""
        logits: Tensor = self.head(self.features(rgb * 2 - 1).mean((2, 3)))
        return logits[:, 0]
