from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from redecode.training.networks import Discriminator, EdgeCNN, NetworkConfig, TextureGenerator  # noqa: E402

SMALL = NetworkConfig(channels=8, blocks=2)


def inputs(height: int = 32, width: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, height, width, generator=generator) - 0.5, torch.full((2, 2, 8, 8), 40.0)


def randomize(network: torch.nn.Module) -> None:
    """Fresh networks are the identity; these are not."""
    torch.manual_seed(1)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)


@pytest.mark.parametrize("config", [SMALL, NetworkConfig(channels=8, blocks=1, unshuffle=1, conditioned=False)])
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


def test_batch_invariance() -> None:
    network = EdgeCNN(SMALL).eval()
    randomize(network)
    planes, tables = inputs()
    together = network(planes, tables)[0]
    alone = torch.cat([network(planes[i : i + 1], tables[i : i + 1])[0] for i in range(2)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_the_halo_is_the_receptive_field() -> None:
    network = EdgeCNN(SMALL)
    randomize(network)
    planes, tables = inputs(96, 96)
    planes.requires_grad_()
    y = x = 48
    network(planes, tables)[0][0, :, y, x].sum().backward()
    assert planes.grad is not None
    rows = planes.grad[0].abs().sum((0, 2)).nonzero()[:, 0]
    reach = max(y - int(rows.min()), int(rows.max()) - y)
    assert reach == SMALL.halo


def test_tables_and_block_positions_matter() -> None:
    network = EdgeCNN(SMALL)
    randomize(network)
    planes, tables = inputs()
    coarse = network(planes, tables * 3)[0]
    assert not torch.equal(coarse, network(planes, tables)[0])
    # The same picture moved by a whole block gives the same result, moved by less it does not: the grid is seen.
    flat = torch.zeros(1, 3, 64, 64)
    result = network(flat, tables[:1])[0]
    torch.testing.assert_close(result[..., 24:32, 24:32], result[..., 32:40, 32:40], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(result[..., 24:32, 24:32], result[..., 26:34, 26:34], atol=1e-4)


def test_unconditioned_networks_know_no_tables() -> None:
    network = EdgeCNN(NetworkConfig(channels=8, blocks=1, unshuffle=1, conditioned=False))
    randomize(network)
    planes, tables = inputs()
    assert torch.equal(network(planes, tables)[0], network(planes, tables * 3)[0])


def test_texture_starts_from_the_edge_network() -> None:
    edge_cnn = EdgeCNN(SMALL)
    randomize(edge_cnn)
    # With an edge branch that says nothing, both compute the same.
    torch.nn.init.zeros_(edge_cnn.edge.weight)
    torch.nn.init.zeros_(edge_cnn.edge.bias)
    generator = TextureGenerator(SMALL)
    generator.start_from(edge_cnn)
    planes, tables = inputs()
    torch.testing.assert_close(generator(planes, tables), edge_cnn(planes, tables)[0])
