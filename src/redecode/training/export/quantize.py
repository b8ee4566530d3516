"""Smaller and faster forms of an ONNX network: without the exporter's notes, with weights stored in 16 bits, and in static int8.

Quantization is that of ONNX Runtime, in its QDQ form: weights per output channel, 7 bits and sign so that the products of AVX2's
8-bit instructions cannot overflow and every processor gives the same result; activations per tensor, 8 bits.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from ..data import Sample

# Initializers with this number of values or more are stored in 16 bits.
_WORTH_HALVING = 256
# Activations beyond this percentile are clipped: ranges that hold every outlier cost all the others too much (docs/lab-notes/int8.md).
PERCENTILE = 99.999


def bare(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network without what the exporter notes about where it came from: files that depend on nothing but the weights."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for part in (result, result.graph, *result.graph.node, *result.graph.value_info, *result.graph.input, *result.graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for tensor in result.graph.initializer:
        tensor.ClearField("metadata_props")
    return result


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network with its weights stored in 16 bits; they are widened again where it is loaded, and it computes in 32."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    casts = []
    for tensor in result.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size >= _WORTH_HALVING:
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_16"))
            casts.append(helper.make_node("Cast", [f"{name}_16"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *result.graph.node]
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    return result


def with_maps_last(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network with its skips in the layout of 8-bit convolutions: pixel by pixel, with all maps of each.

    ONNX Runtime transposes what enters and leaves these convolutions. Where the skips are in that layout as well, it finds that nothing is
    left to transpose. They add flat arrays: through sums of images it would move the transpositions back to where they were.

    Args:
        model: float32; its skips are the additions to what a convolution gives, and to such sums what a coarser level gives, which comes
            from a pixel-shuffle.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    outputs = {kind: {node.output[0] for node in result.graph.node if node.op_type == kind} for kind in ("Conv", "DepthToSpace")}
    flat: dict[str, str] = {}
    shapes: dict[str, str] = {}
    nodes = []
    for node in result.graph.node:
        skip = node.op_type == "Add" and (
            not outputs["Conv"].isdisjoint(node.input)
            or (not outputs["DepthToSpace"].isdisjoint(node.input) and not flat.keys().isdisjoint(node.input))
        )
        if not skip:
            nodes.append(node)
            continue
        shape = next((shapes[name] for name in node.input if name in shapes), "")
        for name in node.input:
            if name not in flat:
                nodes.append(helper.make_node("Transpose", [name], [f"{name}.last"], perm=(0, 2, 3, 1)))
                if not shape:
                    shape = f"{name}.shape"
                    nodes.append(helper.make_node("Shape", [f"{name}.last"], [shape]))
                flat[name] = f"{name}.flat"
                nodes.append(helper.make_node("Reshape", [f"{name}.last", "skips.flat"], [flat[name]]))
        assert shape is not None  # a sum has inputs
        total = node.output[0]
        nodes.append(helper.make_node("Add", [flat[name] for name in node.input], [f"{total}.flat"], f"{node.name}.flat"))
        nodes.append(helper.make_node("Reshape", [f"{total}.flat", shape], [f"{total}.last"]))
        nodes.append(helper.make_node("Transpose", [f"{total}.last"], [total], perm=(0, 3, 1, 2)))
        flat[total], shapes[total] = f"{total}.flat", shape
    result.graph.initializer.append(numpy_helper.from_array(np.array([-1]), "skips.flat"))
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    return result


def quantized(model: onnx.ModelProto, samples: Iterable[Sample], exact: bool = False) -> onnx.ModelProto:
    """The network in int8.

    All convolutions but the first. With a ReLU behind them convolutions give its range alone: without "Relu"
    in the list, values on the way to it would be rounded to a range half of which it cuts off, and be rounded again.

    Args:
        model: as exported.
        samples: to find the activations' ranges with.
        exact: sum the skips in 32 bits, so that what the blocks add is rounded once each and not again with every block behind it, and
            leave the last convolution, whose result is the correction of the picture, in 32 bits as well.
    """
    with tempfile.TemporaryDirectory(prefix="redecode-") as folder:
        plain, prepared, small = (Path(folder, name) for name in ("plain.onnx", "prepared.onnx", "small.onnx"))
        onnx.save(model, plain)
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        folded = with_maps_last(onnx.load(prepared))
        onnx.save(folded, prepared)
        convolutions = [node.name for node in folded.graph.node if node.op_type == "Conv"]
        additions = [node.name for node in folded.graph.node if node.op_type == "Add" and not node.output[0].endswith(".flat")]
        # Transpose and Reshape pass on what is rounded already.
        skips = [] if exact else ["Add", "Transpose", "Reshape"]
        last = convolutions[-1:] if exact else []
        logger = logging.getLogger()
        level = logger.level
        logger.setLevel(logging.ERROR)  # It warns of every bias that shares a scale.
        try:
            quantize_static(
                prepared,
                small,
                _Reader(samples),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv", "Relu", *skips],
                nodes_to_exclude=[convolutions[0], *last, *additions],
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.Percentile,
                extra_options={"CalibPercentile": PERCENTILE},
            )
        finally:
            logger.setLevel(level)
        return onnx.load(small)


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, samples: Iterable[Sample]) -> None:
        self._samples = iter(samples)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """The next sample as the network's inputs, None at the end."""
        sample = next(self._samples, None)
        return None if sample is None else {"planes": sample["degraded"][None].numpy(), "tables": sample["tables"][None].numpy()}
