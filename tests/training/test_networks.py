from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from redecode.training.networks import Discriminator, EdgeCNN, Level, NetworkConfig, TextureGenerator, levels  # noqa: E402
from redecode.training.warm_start import warm_start  # noqa: E402

SMALL = NetworkConfig(channels=8, hidden=(8, 8))
DEEP = NetworkConfig(channels=8, hidden=(8, 8), coarser=(Level(16, (8, 16)), Level(8, (8,))))


def inputs(height: int = 32, width: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, height, width, generator=generator) - 0.5, torch.full((2, 2, 8, 8), 40.0)


def randomize(network: torch.nn.Module) -> None:
    """Unlike new networks, these are not the identity."""
    torch.manual_seed(1)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)


@pytest.mark.parametrize("config", [SMALL, DEEP, NetworkConfig(channels=8, hidden=(8,), unshuffle=1, conditioned=False)])
def test_shapes(config: NetworkConfig) -> None:
    planes, tables = inputs()
    restored, edge = EdgeCNN(config)(planes, tables)
    assert restored.shape == planes.shape
    assert edge.shape == (2, 1, 32, 48)
    assert TextureGenerator(config)(planes, tables).shape == planes.shape
    assert Discriminator(4)(torch.rand(2, 3, 32, 48)).shape == (2,)


def test_training_begins_at_the_plain_decode() -> None:
    planes, tables = inputs()
    assert torch.equal(EdgeCNN(SMALL)(planes, tables)[0], planes)


def test_coarser_levels_begin_without_effect_and_learn() -> None:
    planes, tables = inputs()
    network = EdgeCNN(DEEP)
    randomize(network)
    for level in levels(network)[1:]:
        torch.nn.init.zeros_(level.up.weight)
        torch.nn.init.zeros_(level.up.bias)
    flat = EdgeCNN(SMALL)
    flat.load_state_dict({name: value for name, value in network.state_dict().items() if name in flat.state_dict()})
    restored = network(planes, tables)[0]
    assert torch.equal(restored, flat(planes, tables)[0])
    restored.square().mean().backward()
    assert (network.trunk.coarser.up.weight.grad.abs().sum((1, 2, 3)) > 0).all()


def test_a_network_with_levels_starts_from_a_flat_one_and_from_its_like() -> None:
    flat, small = EdgeCNN(SMALL), EdgeCNN(DEEP)
    large = NetworkConfig(channels=16, hidden=(8, 8), coarser=(Level(24, (8, 16)), Level(16, (8,)), Level(8, (8,))))
    planes, tables = inputs()
    for trained in (flat, small):
        randomize(trained)
        network = EdgeCNN(large)
        warm_start(network, trained)
        for one, other in zip(network(planes, tables), trained(planes, tables), strict=True):
            torch.testing.assert_close(one, other)
    with pytest.raises(ValueError, match="cannot start"):
        warm_start(EdgeCNN(SMALL), small)
    with pytest.raises(ValueError, match="cannot start"):
        # With one more block before the coarser levels, these would get other inputs.
        warm_start(EdgeCNN(NetworkConfig(channels=8, hidden=(8, 8, 8), coarser=DEEP.coarser)), small)


LARGER = [NetworkConfig(channels=8, hidden=(8, 12, 6)), NetworkConfig(channels=11, hidden=(8, 12, 6))]


@pytest.mark.parametrize("config", LARGER, ids=["deeper", "wider"])
@pytest.mark.parametrize("kind", [EdgeCNN, TextureGenerator])
def test_a_larger_network_starts_warm_and_learns(kind: type[EdgeCNN] | type[TextureGenerator], config: NetworkConfig) -> None:
    small, large = kind(SMALL), kind(config)
    randomize(small)
    warm_start(large, small)
    planes, tables = inputs()
    results = [network(planes, tables) for network in (small, large)]
    ones, others = (result if isinstance(result, tuple) else (result,) for result in results)
    for one, other in zip(ones, others, strict=True):
        torch.testing.assert_close(one, other)
    sum(other.square().mean() for other in others).backward()
    for block, new in zip(large.trunk.blocks, (range(0), range(8, 12), range(6)), strict=True):
        assert (block.second.weight.grad[:, list(new)].abs().sum((0, 2, 3)) > 0).all()
    # New maps of the trunk have values already, from which they can learn.
    assert (large.trunk.blocks[0].first.weight.grad.abs().sum((0, 2, 3)) > 0).all()
    assert (large.out.weight.grad.abs().sum((0, 2, 3)) > 0).all()


@pytest.mark.parametrize("sizes", [(8, (8,)), (8, (8, 6)), (4, (8, 8))])
def test_a_smaller_network_cannot_start_warm(sizes: tuple[int, tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="blocks"):
        warm_start(EdgeCNN(NetworkConfig(*sizes)), EdgeCNN(SMALL))


def test_batch_invariance() -> None:
    network = EdgeCNN(SMALL).eval()
    randomize(network)
    planes, tables = inputs()
    together = network(planes, tables)[0]
    alone = torch.cat([network(planes[i : i + 1], tables[i : i + 1])[0] for i in range(2)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("config", [SMALL, DEEP], ids=["flat", "levels"])
def test_the_receptive_field(config: NetworkConfig) -> None:
    network = EdgeCNN(config).double()
    randomize(network)
    planes, tables = (each.double() for each in inputs(192, 192))
    planes.requires_grad_()
    y = x = 96
    network(planes, tables)[0][0, :, y, x].sum().backward()
    assert planes.grad is not None
    rows = planes.grad[0].abs().sum((0, 2)).nonzero()[:, 0]
    reach = max(y - int(rows.min()), int(rows.max()) - y)
    # With coarser levels it is an upper bound: steps between grids may reach less far.
    assert config.receptive_field - 2 ** (len(config.coarser) + 1) < reach <= config.receptive_field
