"""Changes of the graph in the int8 network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import onnx
import onnxruntime

from redecode import weights
from redecode.training.export.quantize import with_maps_last

NAMES = sorted({name for preset in weights.PRESETS.values() for name in preset.values()})


def loaded(name: str, precision: str) -> onnx.ModelProto:
    return onnx.load_from_string(weights.load(name, precision).onnx)


@pytest.mark.parametrize("name", NAMES)
def test_the_layout_of_the_skips_changes_nothing(name: str) -> None:
    model = loaded(name, "float32")
    generator = np.random.default_rng(1)
    inputs = {"planes": generator.normal(0, 0.2, (1, 3, 48, 64)).astype(np.float32), "tables": np.full((1, 2, 8, 8), 20, np.float32)}
    plain, other = (onnxruntime.InferenceSession(form.SerializeToString()).run(None, inputs)[0] for form in (model, with_maps_last(model)))
    np.testing.assert_allclose(other, plain, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_transposed_between_the_blocks(name: str, tmp_path: Path) -> None:
    """At the input, at the output, and where the edge map is merged; two per block would take an eighth of the time."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(weights.load(name, "int8").onnx, options, providers=["CPUExecutionProvider"])
    operators = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert operators.count("QLinearConv") > 10
    assert operators.count("Transpose") <= 4
