from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")

import msgspec  # noqa: E402
import onnx  # noqa: E402
import onnxruntime  # noqa: E402

from redecode import weights  # noqa: E402
from redecode.codec import colour, jpeg  # noqa: E402
from redecode.restoration import tiling  # noqa: E402
from redecode.restoration.network import Network  # noqa: E402
from redecode.training import checkpoint  # noqa: E402
from redecode.training.equivariance import InvariantBasis  # noqa: E402
from redecode.training.export import export  # noqa: E402
from redecode.training.networks import EdgeCNN, Level, NetworkConfig, levels  # noqa: E402

pytestmark = pytest.mark.slow
DEEP = NetworkConfig(channels=16, hidden=(16, 16), coarser=(Level(32, (32, 32)), Level(32, (32,))))


@pytest.fixture(scope="module")
def files(data_of_photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an exported network of three levels, all of which contribute to its result."""
    folder = tmp_path_factory.mktemp("files")
    torch.manual_seed(0)
    network = EdgeCNN(DEEP)
    InvariantBasis(network).begin()
    basis = InvariantBasis(network)
    for layer in (network.out, *(level.up for level in levels(network)[1:])):
        torch.nn.init.normal_(layer.weight, std=0.1)
    basis.read()
    basis.write()
    record = {"network": "edge", "config": msgspec.to_builtins(DEEP), "recipe": {"equivariant": True}, "training": {}}
    state = checkpoint.State({}, {}, ema=network.state_dict())
    checkpoint.save_weights(folder / "weights.safetensors", state, record)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REDECODE_DATA", str(data_of_photographs))
        export(folder / "weights.safetensors", "tiny-edge", folder)
    return folder


@pytest.fixture
def exported(files: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same folder, from which the decoder loads networks."""
    monkeypatch.setattr(weights, "files", lambda _: files)
    return files


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_tiles_of_a_network_with_levels_make_the_whole(exported: Path, photograph: np.ndarray, precision: str) -> None:
    network = Network("tiny-edge", "cpu", precision, 1)
    assert 16 < network.halo <= DEEP.receptive_field
    image = jpeg.read(jpeg.compress(np.tile(photograph, (3, 2, 1))[:340, :330], 10, "4:2:0"))
    planes, tables = image.planes(), image.tables()
    whole = network(planes, tables)
    assert np.abs(whole - planes).mean() > 0.5, "the network does nothing"

    def seams(halo: int) -> float:
        worst = 0.0
        for tile in tiling.tiles(planes.shape[1:], 96, halo):
            rows, columns = tile.rows, tile.columns
            read = network(planes[:, rows.start : rows.stop, columns.start : columns.stop], tables)
            expected = whole[:, rows.keep_start : rows.keep_stop, columns.keep_start : columns.keep_stop]
            worst = max(worst, float(np.abs(read[:, rows.kept(), columns.kept()] - expected).max()))
        return worst

    assert seams(network.halo) <= 1
    assert seams(0) > 1


def test_a_network_with_levels_is_exported_as_it_is(exported: Path, photograph: np.ndarray) -> None:
    _, config, state = checkpoint.load_weights(exported / "weights.safetensors")
    assert config == DEEP
    network = EdgeCNN(config)
    network.load_state_dict(state)
    about = json.loads((exported / "tiny-edge.json").read_text())
    assert about["config"]["coarser"][0] == {"channels": 32, "hidden": [32, 32]}
    planes = colour.to_planes(np.ascontiguousarray(photograph[:96, :160]))
    inputs = torch.from_numpy((planes[None] - 128) / 255).float(), torch.full((1, 2, 8, 8), 33.0)
    with torch.no_grad():
        expected = network(*inputs)[0]
    for precision, tolerance in (("float32", 1e-4), ("int8", 0.03)):
        session = onnxruntime.InferenceSession(exported / weights.file_name("tiny-edge", precision), providers=["CPUExecutionProvider"])
        (ours,) = session.run(None, dict(zip(("planes", "tables"), (each.numpy() for each in inputs), strict=True)))
        np.testing.assert_allclose(ours, expected, atol=tolerance)


def test_the_convolutions_of_all_levels_are_in_8_bits(exported: Path, tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(exported / "tiny-edge.int8.onnx", options, providers=["CPUExecutionProvider"])
    operators = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    # All convolutions except the first are quantized.
    assert operators.count("Conv") + operators.count("FusedConv") + operators.count("NhwcFusedConv") == 1
    assert operators.count("QLinearConv") == 2 * 5 + 4 + 4
