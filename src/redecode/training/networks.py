"""Edge-CNN (paper 3.1) and the Texture-GAN (paper 3.2), built from frozen configs that are stored with the weights.

All image tensors are float32 [batch, 3, height, width], YCbCr planes as the JPEG has them, level-shifted and scaled to
about [-0.5, 0.5] (sample / 255 - 128 / 255); gray files have zero chroma. The paper feeds RGB: the two differ by a linear
map that the first convolution absorbs, and planes spare the decoder a conversion. `tables` is float32 [batch, 2, 8, 8],
the quantization steps of luma and chroma.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

COLOURS = 3
BLOCK = 8


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of an :class:`EdgeCNN` or a :class:`TextureGenerator`.

    Attributes:
        channels: feature maps per convolution.
        hidden: for each residual block, the maps between its two 3×3 convolutions.
        unshuffle: the trunk works at 1/unshuffle of the resolution, behind a pixel-unshuffle.
        conditioned: whether the quantization tables steer the network.

    The paper's sizes (its Fig. 1 is not in its text) are taken to be SRGAN's generator, which the paper follows for the discriminator: 64
    maps, 16 blocks, full resolution, no conditioning, see recipes/paper-edge.toml; without batch normalisation, which harms restoration.
    """

    channels: int = 48
    hidden: tuple[int, ...] = (48,) * 8
    unshuffle: int = 2
    conditioned: bool = True

    @property
    def receptive_field(self) -> int:
        """Its radius: pixels around another that its result may depend on, for both networks."""
        # Stem, two per block, the trunk's last, the edge branch, the merge and the output. Each reaches one cell of the trunk's grid, and a
        # pixel's own cell reaches up to unshuffle - 1 pixels beyond it.
        convolutions = 2 * len(self.hidden) + 5
        return convolutions * self.unshuffle + self.unshuffle - 1


def conv(inputs: int, outputs: int) -> nn.Conv2d:
    """A 3×3 convolution of stride 1."""
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def zero_conv(inputs: int, outputs: int) -> nn.Conv2d:
    """Like :func:`conv`, but zero: the output of a correction, so that training begins at the plain decode."""
    layer = conv(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


class ResidualBlock(nn.Module):
    """conv, ReLU, conv, skip."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.first = conv(channels, hidden)
        self.second = conv(hidden, channels)

    def forward(self, features: Tensor) -> Tensor:
        """[B, channels, h, w] to the same."""
        correction: Tensor = self.second(F.relu(self.first(features)))
        return features + correction


class TableBias(nn.Module):
    """Conditioning: a bias for every feature map and every position within the 8×8 block grid, from the tables.

    Convolutions cannot see where blocks begin, and blind restorers must guess how coarse the quantization was; an
    additive map that repeats with the grid tells both, costs nothing and leaves the trunk plain.
    """

    def __init__(self, channels: int, unshuffle: int) -> None:
        super().__init__()
        self.phase = BLOCK // unshuffle
        self.mlp = nn.Sequential(nn.Linear(2 * BLOCK * BLOCK, 64), nn.ReLU(), nn.Linear(64, channels * self.phase**2))

    def hidden(self, tables: Tensor) -> Tensor:
        """What the MLP makes of tables [B, 2, 8, 8] first: [B, 64], not negative."""
        # log of the steps, about [-1, 1]: quality factors are a multiplicative scale on the tables.
        steps = torch.log(tables.flatten(1)) / 2.5 - 1
        found: Tensor = self.mlp[:2](steps)
        return found

    def forward(self, features: Tensor, tables: Tensor) -> Tensor:
        """Features [B, channels, h, w], sides multiples of the phase, and tables [B, 2, 8, 8] to the features with their bias."""
        batch, channels, height, width = features.shape
        # Written out for one row of blocks and broadcast over the others: in full size it would cost more than the first convolution, and
        # to broadcast along short rows as well costs as much.
        row = self.mlp[2](self.hidden(tables)).view(batch, channels, self.phase, self.phase).repeat(1, 1, 1, width // self.phase)
        biased: Tensor = features.view(batch, channels, height // self.phase, self.phase * width) + row.view(batch, channels, 1, -1)
        return biased.view(batch, channels, height, width)


class Trunk(nn.Module):
    """The feature extraction stack that both networks share in form: pixels and tables to feature maps."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.unshuffle = config.unshuffle
        self.stem = conv(COLOURS * config.unshuffle**2, config.channels)
        self.bias = TableBias(config.channels, config.unshuffle) if config.conditioned else None
        self.blocks = nn.Sequential(*(ResidualBlock(config.channels, hidden) for hidden in config.hidden))
        self.last = conv(config.channels, config.channels)

    def forward(self, planes: Tensor, tables: Tensor) -> Tensor:
        """Returns [B, channels, height / unshuffle, width / unshuffle]."""
        r = self.unshuffle
        features = F.conv2d(planes, _unfolded(self.stem.weight, r), self.stem.bias, stride=r, padding=r)
        if self.bias is not None:
            features = self.bias(features, tables)
        features = F.relu(features)
        correction: Tensor = self.last(self.blocks(features))
        return features + correction


def _unfolded(weight: Tensor, r: int) -> Tensor:
    """What does to the picture, in steps of r, as a 3×3 kernel does to its pixel-unshuffle: the same products without moving pixels.

    Args:
        weight: [outputs, inputs · r², 3, 3].
        r: of the pixel-unshuffle.

    Returns:
        [outputs, inputs, 3 r, 3 r].
    """
    outputs, inputs = weight.shape[0], weight.shape[1] // r**2
    return weight.reshape(outputs, inputs, r, r, 3, 3).permute(0, 1, 4, 2, 5, 3).reshape(outputs, inputs, 3 * r, 3 * r)


def _to_pixels(maps: Tensor, r: int) -> Tensor:
    """The pixel-shuffle of the maps that make the planes; a network that is exported may have more."""
    return F.pixel_shuffle(maps[:, : COLOURS * r**2], r)


class EdgeCNN(nn.Module):
    """The base fidelity layer L_B (paper 3.1): restores the planes and predicts the original's edges.

    The features split into two branches, one for restoration and one for the edge map; both are merged for the result,
    which is a correction added to the input.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        r2 = config.unshuffle**2
        self.trunk = Trunk(config)
        self.edge = conv(config.channels, r2)
        self.merge = conv(config.channels + r2, config.channels)
        self.out = zero_conv(config.channels, COLOURS * r2)

    def forward(self, planes: Tensor, tables: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the restored planes, like the input, and the edge map [batch, 1, height, width] on the scale of the label."""
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
        self.trunk = Trunk(config)
        self.merge = conv(config.channels, config.channels)
        self.out = zero_conv(config.channels, COLOURS * config.unshuffle**2)

    def forward(self, planes: Tensor, tables: Tensor) -> Tensor:
        """Returns the restored planes, like the input."""
        merged = F.relu(self.merge(self.trunk(planes, tables)))
        return planes + _to_pixels(self.out(merged), self.config.unshuffle)

    def start_from(self, edge_cnn: EdgeCNN) -> None:
        """Take over the weights of a trained Edge-CNN of the same config; the edge branch's share of the merge falls away."""
        state = edge_cnn.state_dict()
        own = {name: state[name] for name in self.state_dict()}
        own["merge.weight"] = own["merge.weight"][:, : self.config.channels]
        self.load_state_dict(own)


def residual_blocks(network: EdgeCNN | TextureGenerator) -> list[ResidualBlock]:
    """Those of a network's trunk, in order."""
    return list(network.trunk.blocks)  # type: ignore[arg-type]


@torch.no_grad()
def take_over(network: EdgeCNN | TextureGenerator, trained: EdgeCNN | TextureGenerator) -> None:
    """Start from a trained network of the same kind, which may be smaller: gives what that one gives.

    Maps and blocks that the trained one lacks have no say at first, and are the last ones.

    Args:
        network: to start, with fresh weights.
        trained: to start from, with no more maps, no more blocks, and in none of them more hidden maps.

    Raises:
        ValueError: it has.
    """
    blocks, old_blocks = residual_blocks(network), residual_blocks(trained)
    sizes, old_sizes = [[block.first.out_channels for block in part] for part in (blocks, old_blocks)]
    channels, old_channels = network.config.channels, trained.config.channels
    if old_channels > channels or len(old_sizes) > len(sizes) or any(old > new for old, new in zip(old_sizes, sizes, strict=False)):
        raise ValueError(f"{channels} maps and blocks of {sizes} cannot take over {old_channels} and blocks of {old_sizes}")
    values = trained.state_dict()
    for layer in (*(block.second for block in blocks), network.trunk.last):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    for name, own in network.state_dict().items():
        if name not in values:
            continue
        old = values[name]
        rows = old.shape[0]
        # Old maps hear nothing of new ones. These say something from the beginning where nothing heeds them.
        own[:rows] = 0
        if name == "merge.weight":
            # The edge branch's maps are behind the trunk's.
            own[:rows, :old_channels], own[:rows, channels:] = old[:, :old_channels], old[:, old_channels:]
        else:
            own[tuple(slice(side) for side in old.shape)] = old


class Discriminator(nn.Module):
    """SRGAN's discriminator (Ledig et al. 2017, Fig. 4): eight 3×3 convolutions of 64 … 512 maps, LeakyReLU 0.2.

    Without a fixed input size: the features are averaged over space before the dense layers, so that it trains on crops of any
    size. Without batch normalisation: originals and restored pictures come in batches of their own, and normalising each by its own
    statistics hides the very thing that tells them apart, the energy of fine texture (with it, the loss stayed at 2 log 2).
    Input is RGB in [0, 1]; the result is the logit of "original", [batch].
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv(COLOURS, width), nn.LeakyReLU(0.2)]
        inputs = width
        for outputs, stride in [(1, 2), (2, 1), (2, 2), (4, 1), (4, 2), (8, 1), (8, 2)]:
            layers += [nn.Conv2d(inputs, outputs * width, 3, stride, 1), nn.LeakyReLU(0.2)]
            inputs = outputs * width
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Linear(inputs, 16 * width), nn.LeakyReLU(0.2), nn.Linear(16 * width, 1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # Without normalisation the signal must keep its size through the layers by itself.
                nn.init.kaiming_normal_(module.weight, a=0.2)

    def forward(self, rgb: Tensor) -> Tensor:
        """Returns the logits, [batch]."""
        logits: Tensor = self.head(self.features(rgb * 2 - 1).mean((2, 3)))
        return logits[:, 0]
