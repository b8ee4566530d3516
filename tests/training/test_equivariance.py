from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from redecode.training.equivariance import InvariantBasis  # noqa: E402
from redecode.training.networks import EdgeCNN, Level, NetworkConfig, TextureGenerator  # noqa: E402
from redecode.training.warm_start import warm_start  # noqa: E402

CONFIG = NetworkConfig(channels=16, hidden=(8, 24))
DEEP = NetworkConfig(channels=8, hidden=(8, 8), coarser=(Level(16, (24, 16)), Level(24, (8,))))
KINDS = [EdgeCNN, TextureGenerator]
# Whether the picture is transposed, and the axes that are mirrored afterwards.
VIEWS = [(turned, axes) for turned in (False, True) for axes in ([], [2], [3], [2, 3])]


def fresh(kind: type, config: NetworkConfig = CONFIG) -> torch.nn.Module:
    torch.manual_seed(0)
    network = kind(config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    InvariantBasis(network).begin()
    return network


def picture() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(1, 3, 32, 48, generator=generator) - 0.5, torch.rand(1, 2, 8, 8, generator=generator) * 40 + 1


def view(planes: torch.Tensor, turned: bool, axes: list[int]) -> torch.Tensor:
    return (planes.transpose(2, 3) if turned else planes).flip(axes).contiguous()


def results(network: torch.nn.Module, planes: torch.Tensor, tables: torch.Tensor) -> list[torch.Tensor]:
    """The restored planes, and the edge map if there is one."""
    found = network(planes, tables)
    return list(found) if isinstance(found, tuple) else [found]


@pytest.mark.parametrize("config", [CONFIG, DEEP], ids=["flat", "levels"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_view_of_a_picture_gives_a_view_of_the_result(kind: type, config: NetworkConfig) -> None:
    network = fresh(kind, config)
    planes, tables = picture()
    plain = results(network, planes, tables)
    for turned, axes in VIEWS:
        seen = results(network, view(planes, turned, axes), tables.transpose(2, 3) if turned else tables)
        for one, other in zip(plain, seen, strict=True):
            torch.testing.assert_close(other, view(one, turned, axes), atol=1e-5, rtol=1e-4)


def test_the_tables_turn_with_the_picture() -> None:
    network = fresh(EdgeCNN)
    planes, tables = picture()
    turned = network(view(planes, True, []), tables)[0]
    assert (turned - view(network(planes, tables)[0], True, [])).abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_all_views(kind: type) -> None:
    network = fresh(kind)
    planes, tables = picture()
    target = torch.rand(planes.shape)

    def gradients(views: list[tuple[bool, list[int]]]) -> list[torch.Tensor]:
        network.zero_grad()
        for turned, axes in views:
            seen = results(network, view(planes, turned, axes), tables.transpose(2, 3) if turned else tables)
            loss = sum((result - view(target[:, : result.shape[1]], turned, axes)).square().mean() for result in seen)
            (loss / len(views)).backward()
        return [parameter.grad.clone() for parameter in network.parameters()]

    expected = gradients(VIEWS)
    gradients(VIEWS[:1])
    InvariantBasis(network).average_gradients()
    for parameter, gradient in zip(network.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-5, rtol=1e-3)


def test_fresh_weights_keep_their_size() -> None:
    torch.manual_seed(0)
    network = EdgeCNN(CONFIG)
    before = {name: parameter.norm().item() for name, parameter in network.named_parameters()}
    InvariantBasis(network).begin()
    assert {name: parameter.norm().item() for name, parameter in network.named_parameters()} == pytest.approx(before, rel=1e-5)


@pytest.mark.parametrize("config", [CONFIG, DEEP], ids=["flat", "levels"])
@pytest.mark.parametrize("kind", KINDS)
def test_coordinates_are_all_that_is_free(kind: type, config: NetworkConfig) -> None:
    """Any coordinates make an equivariant network, and others make another."""
    network = fresh(kind, config)
    basis = InvariantBasis(network)
    for coordinate in basis.coordinates:
        torch.nn.init.normal_(coordinate, std=0.1)
    chosen = [coordinate.detach().clone() for coordinate in basis.coordinates]
    basis.write()
    planes, tables = picture()
    for turned, axes in VIEWS:
        seen = results(network, view(planes, turned, axes), tables.transpose(2, 3) if turned else tables)
        for one, other in zip(results(network, planes, tables), seen, strict=True):
            torch.testing.assert_close(other, view(one, turned, axes), atol=1e-5, rtol=1e-4)
    basis.read()
    for coordinate, value in zip(basis.coordinates, chosen, strict=True):
        torch.testing.assert_close(coordinate, value, atol=1e-5, rtol=1e-4)


def test_a_step_along_all_coordinates_is_a_step_of_all_weights() -> None:
    """A learning rate means the same with and without equivariance."""
    network = fresh(EdgeCNN)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    basis = InvariantBasis(network)
    with torch.no_grad():
        for coordinate in basis.coordinates:
            coordinate.add_(torch.randint(0, 2, coordinate.shape) * 2.0 - 1)
    basis.write()
    for parameter, old in zip(network.parameters(), before, strict=True):
        assert (parameter - old).square().mean().item() == pytest.approx(1, rel=1e-4)


def test_a_larger_network_stays_equivariant() -> None:
    small, large = fresh(EdgeCNN), fresh(EdgeCNN, NetworkConfig(channels=24, hidden=(16, 24, 8)))
    warm_start(large, small)
    planes, tables = picture()
    (one, _), (other, _) = large(planes, tables), large(view(planes, True, [2]), tables.transpose(2, 3))
    torch.testing.assert_close(other, view(one, True, [2]), atol=1e-5, rtol=1e-4)


def test_a_layer_that_declares_nothing_is_refused() -> None:
    network = EdgeCNN(CONFIG)
    network.trunk.extra = torch.nn.Conv2d(16, 16, 1)
    with pytest.raises(ValueError, match=r"trunk\.extra\.weight of a Conv2d does not declare"):
        InvariantBasis(network)
    network = EdgeCNN(CONFIG)
    network.trunk.last.scale = torch.nn.Parameter(torch.ones(16))
    with pytest.raises(ValueError, match=r"trunk\.last\.scale"):
        InvariantBasis(network)


@pytest.mark.parametrize("config", [NetworkConfig(channels=12, hidden=(8,)), NetworkConfig(channels=16, hidden=(8, 20))])
def test_maps_come_in_eights(config: NetworkConfig) -> None:
    with pytest.raises(ValueError, match="multiples of 8"):
        InvariantBasis(EdgeCNN(config))
