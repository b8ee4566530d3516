"""Smaller and faster forms of an ONNX network: without the exporter's metadata, with weights stored in 16 bits, and in static int8.

ONNX Runtime does the quantization, in its QDQ format: weights per output channel with 7 bits, so that the products of AVX2's 8-bit
instructions cannot overflow and every processor gives the same result; activations per tensor with 8 bits.
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

# Minimum number of values of an initializer to be stored in 16 bits.
_MIN_HALVED = 256
# Percentile beyond which activations are clipped: a range with all outliers would be too coarse for the rest (docs/lab-notes/int8.md).
PERCENTILE = 99.999


def bare(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network without the exporter's metadata and documentation, so that the file depends on the weights only."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for part in (result, result.graph, *result.graph.node, *result.graph.value_info, *result.graph.input, *result.graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for tensor in result.graph.initializer:
        tensor.ClearField("metadata_props")
    return result


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network with weights stored in 16 bits; on loading they are converted to 32 bits, and it computes in 32 bits."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    casts = []
    for tensor in result.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size >= _MIN_HALVED:
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_16"))
            casts.append(helper.make_node("Cast", [f"{name}_16"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *result.graph.node]
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    return result


def with_maps_last(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network with its skip connections in channels-last order, the layout of ONNX Runtime's 8-bit convolutions.

    ONNX Runtime transposes the inputs and outputs of these convolutions. With the skips in the same layout, these transpositions cancel
    out. The skips add flattened arrays: through additions of images, ONNX Runtime would move the transpositions back to the convolutions.

    Args:
        model: float32 network. Its skips are additions of a convolution's output, and additions of a pixel-shuffle's output (a coarser
            level) to another skip's sum.
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
    """The network in int8: all convolutions but the first.

    ReLUs are quantized together with the convolutions before them. Without "Relu" in the list, a convolution's output would be rounded to
    a range that includes negative values, which the ReLU then cuts off, and be rounded again after the ReLU.

    Args:
        model: the exported network.
        samples: pictures to calibrate the ranges of activations on.
        exact: whether to add skips in 32 bits, so that each block's contribution is rounded once, not again in each later block; and to
            compute the last convolution, which gives the correction of the picture, in 32 bits.
    """
    with tempfile.TemporaryDirectory(prefix="redecode-") as folder:
        plain, prepared, small = (Path(folder, name) for name in ("plain.onnx", "prepared.onnx", "small.onnx"))
        onnx.save(model, plain)
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        folded = with_maps_last(onnx.load(prepared))
        onnx.save(folded, prepared)
        convolutions = [node.name for node in folded.graph.node if node.op_type == "Conv"]
        additions = [node.name for node in folded.graph.node if node.op_type == "Add" and not node.output[0].endswith(".flat")]
        # Transpose and Reshape only move values that are quantized already.
        skips = [] if exact else ["Add", "Transpose", "Reshape"]
        last = convolutions[-1:] if exact else []
        logger = logging.getLogger()
        level = logger.level
        logger.setLevel(logging.ERROR)  # It would warn of every bias that shares a scale.
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
