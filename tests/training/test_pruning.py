from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from redecode.training import pruning  # noqa: E402
from redecode.training.networks import EdgeCNN, Level, NetworkConfig, TextureGenerator, levels  # noqa: E402

pytestmark = pytest.mark.slow

CONFIG = NetworkConfig(channels=32, hidden=(32,) * 4)


@pytest.fixture
def samples() -> list[dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    return [{"degraded": torch.rand(3, 64, 64) - 0.5, "tables": torch.full((2, 8, 8), 40.0)} for _ in range(3)]


@pytest.fixture(params=[EdgeCNN, TextureGenerator])
def network(request: pytest.FixtureRequest) -> torch.nn.Module:
    """A network with one dead block, one half-dead block, one with five live maps, and one without dead maps."""
    torch.manual_seed(1)
    result = request.param(CONFIG)
    for parameter in result.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    for block, maps in zip(result.trunk.blocks, (range(5, 32), range(32), range(0, 32, 2), ()), strict=True):
        block.first.bias.data[list(maps)] = -100
    return result


def restore(network: torch.nn.Module, sample: dict[str, torch.Tensor]) -> torch.Tensor:
    result = network(sample["degraded"][None], sample["tables"][None])
    return result[0] if isinstance(result, tuple) else result


def test_what_is_pruned_says_nothing(network: torch.nn.Module, samples: list[dict[str, torch.Tensor]]) -> None:
    slim = pruning.pruned(network, samples)
    assert [block.first.out_channels for block in slim.trunk.blocks] == [16, 16, 32]
    for sample in samples:
        torch.testing.assert_close(restore(slim, sample), restore(network, sample), atol=1e-5, rtol=1e-5)


def test_maps_that_belong_together_stay_together(network: torch.nn.Module, samples: list[dict[str, torch.Tensor]]) -> None:
    # Every second map of the third block is alive, so no group of four consecutive maps is dead.
    slim = pruning.pruned(network, samples, together=4)
    assert [block.first.out_channels for block in slim.trunk.blocks] == [16, 32, 32]
    torch.testing.assert_close(restore(slim, samples[0]), restore(network, samples[0]), atol=1e-5, rtol=1e-5)


def test_what_is_missed_least_is_left_out(network: torch.nn.Module, samples: list[dict[str, torch.Tensor]]) -> None:
    # The originals are the results of the whole network: removing the dead block has no effect, then that with five maps the least.
    exact = [sample | {"original": restore(network, sample)[0].detach()} for sample in samples]
    before = [block.first.weight for block in network.trunk.blocks]
    for count, kept in ((3, [0, 2, 3]), (2, [2, 3]), (4, range(4)), (5, range(4))):
        short = pruning.shortened(network, exact, count)
        assert len(short.trunk.blocks) == len(list(kept))
        for block, i in zip(short.trunk.blocks, kept, strict=True):
            assert torch.equal(block.first.weight, before[i])
    assert len(network.trunk.blocks) == 4


def test_levels_are_pruned_each_for_itself(samples: list[dict[str, torch.Tensor]]) -> None:
    torch.manual_seed(1)
    network = EdgeCNN(NetworkConfig(channels=16, hidden=(16, 16, 16, 16), coarser=(Level(32, (32, 16)),)))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    fine, coarse = (list(level.blocks) for level in levels(network))
    for block, maps in ((fine[1], 16), (fine[2], 16), (coarse[0], 20), (coarse[1], 16)):
        block.first.bias.data[:maps] = -100
    slim = pruning.pruned(network, samples)
    # The first blocks before and after the coarser level stay, as no block precedes them to take their biases.
    assert [[block.first.out_channels for block in level.blocks] for level in levels(slim)] == [[16, 16, 16], [16, 16]]
    assert slim.trunk.before == 1
    for sample in samples:
        torch.testing.assert_close(restore(slim, sample), restore(network, sample), atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="coarser"):
        pruning.shortened(network, samples, 3)


def test_a_first_block_that_is_dead_stays(network: torch.nn.Module, samples: list[dict[str, torch.Tensor]]) -> None:
    network.trunk.blocks[0].first.bias.data[:] = -100
    slim = pruning.pruned(network, samples)
    assert [block.first.out_channels for block in slim.trunk.blocks] == [16, 16, 32]
    torch.testing.assert_close(restore(slim, samples[0]), restore(network, samples[0]), atol=1e-5, rtol=1e-5)


def test_maps_that_never_change_leave_their_mean(network: torch.nn.Module, samples: list[dict[str, torch.Tensor]]) -> None:
    block = network.trunk.blocks[2]
    block.first.weight.data[0::2] = 0
    block.first.bias.data[0::2] = 0.5
    slim = pruning.pruned(network, samples)
    assert slim.trunk.blocks[1].first.out_channels == 16
    # Except at the border, where the maps are padded with zero instead of their mean.
    inside = (..., slice(16, -16), slice(16, -16))
    torch.testing.assert_close(restore(slim, samples[0])[inside], restore(network, samples[0])[inside], atol=1e-3, rtol=1e-3)


def test_what_the_tables_never_switch_on_begins_anew(network: torch.nn.Module, samples: list[dict[str, torch.Tensor]]) -> None:
    fresh = type(network)(network.config)
    bias = network.trunk.bias
    with torch.no_grad():
        bias.mlp[0].weight[:6] = 0
        bias.mlp[0].bias[:6] = -1
    before = [restore(network, sample) for sample in samples]
    pruning.reinitialise_conditioning(network, fresh, samples)
    for sample, result in zip(samples, before, strict=True):
        torch.testing.assert_close(restore(network, sample), result)
    assert torch.equal(bias.mlp[0].weight[:6], fresh.trunk.bias.mlp[0].weight[:6])
    assert bias.mlp[2].weight[:, :6].abs().max() == 0
