"""Write ONNX graphs as expressions.

A :class:`Value` is the output of a node; its operators and methods add nodes to the graph::

    nodes = Nodes()
    plane = nodes.input("plane", np.float32, ["rows", "columns"])
    nodes.output("scaled", (plane - 128) / 255, ["rows", "columns"])
    model = nodes.model("scaled")
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Union

import numpy as np
import onnx
from numpy.typing import DTypeLike, NDArray
from onnx import helper, numpy_helper

# Versions of the operators and of the file format: the same as in the shipped networks, which are inserted into these graphs.
OPSET, IR_VERSION = 20, 10

Operand = Union["Value", NDArray[Any], np.generic, float]


@dataclass(frozen=True, eq=False)
class Value:
    """The output of a node.

    Attributes:
        nodes: the graph.
        name: name of the output in the graph.
        dtype: type of the elements.
    """

    nodes: Nodes
    name: str
    dtype: np.dtype[Any]

    def __add__(self, other: Operand) -> Value:
        return self._with("Add", other)

    def __sub__(self, other: Operand) -> Value:
        return self._with("Sub", other)

    def __mul__(self, other: Operand) -> Value:
        return self._with("Mul", other)

    def __truediv__(self, other: Operand) -> Value:
        return self._with("Div", other)

    def __mod__(self, other: Operand) -> Value:
        return self._with("Mod", other)

    def __matmul__(self, other: Operand) -> Value:
        return self._with("MatMul", other)

    def __and__(self, other: Operand) -> Value:
        return self._with("And", other)

    def __or__(self, other: Operand) -> Value:
        return self._with("Or", other)

    def __xor__(self, other: Operand) -> Value:
        return self._with("Xor", other)

    def __invert__(self) -> Value:
        return self.nodes.add("Not", self)

    def __neg__(self) -> Value:
        return self.nodes.add("Neg", self)

    def __abs__(self) -> Value:
        return self.nodes.add("Abs", self)

    def __lt__(self, other: Operand) -> Value:
        return self._with("Less", other, bool)

    def __le__(self, other: Operand) -> Value:
        return self._with("LessOrEqual", other, bool)

    def __gt__(self, other: Operand) -> Value:
        return self._with("Greater", other, bool)

    def __ge__(self, other: Operand) -> Value:
        return self._with("GreaterOrEqual", other, bool)

    def equals(self, other: Operand) -> Value:
        """Where both are equal."""
        return self._with("Equal", other, bool)

    def least(self, other: Operand) -> Value:
        """The smaller of both."""
        return self._with("Min", other)

    def most(self, other: Operand) -> Value:
        """The larger of both."""
        return self._with("Max", other)

    def clip(self, low: Operand, high: Operand) -> Value:
        """Limit to bounds."""
        return self.most(low).least(high)

    def sqrt(self) -> Value:
        """The square root."""
        return self.nodes.add("Sqrt", self)

    def log(self) -> Value:
        """The natural logarithm."""
        return self.nodes.add("Log", self)

    def rint(self) -> Value:
        """Rounded to the nearest integer, halves to the even one."""
        return self.nodes.add("Round", self)

    def astype(self, dtype: DTypeLike) -> Value:
        """Convert to another type."""
        if np.dtype(dtype) == self.dtype:
            return self
        return self.nodes.add("Cast", self, dtype=dtype, to=_element(dtype))

    def reshape(self, *shape: Operand) -> Value:
        """Reshape; lengths that depend on the inputs are given as values."""
        return self.nodes.add("Reshape", self, self.nodes.shape(*shape))

    def expand(self, *shape: Operand) -> Value:
        """Repeat along axes of length 1, like broadcasting."""
        return self.nodes.add("Expand", self, self.nodes.shape(*shape))

    def transpose(self, *axes: int) -> Value:
        """Permute the axes."""
        return self.nodes.add("Transpose", self, perm=axes)

    def length(self, axis: int) -> Value:
        """The length of an axis, int64 [1]."""
        return self.nodes.add("Shape", self, dtype=np.int64, start=axis, end=axis + 1)

    def part(self, axis: int, first: Operand, last: Operand | None = None) -> Value:
        """A slice along an axis; None means up to its end."""
        bounds = [self.nodes.shape(np.iinfo(np.int64).max if edge is None else edge) for edge in (first, last)]
        return self.nodes.add("Slice", self, *bounds, np.array([axis]))

    def take(self, indices: Operand, axis: int = 0) -> Value:
        """Select elements along an axis by their indices."""
        return self.nodes.add("Gather", self, indices, axis=axis)

    def lowest(self, *axes: int, keep: bool = False) -> Value:
        """The minimum over axes."""
        return self._reduced("ReduceMin", axes, keep)

    def highest(self, *axes: int, keep: bool = False) -> Value:
        """The maximum over axes."""
        return self._reduced("ReduceMax", axes, keep)

    def mean(self, *axes: int, keep: bool = False) -> Value:
        """The mean over axes."""
        return self._reduced("ReduceMean", axes, keep)

    def all(self, *axes: int) -> Value:
        """Whether all bools over axes are True."""
        return self.astype(np.float32).lowest(*axes) > 0

    def any(self, *axes: int) -> Value:
        """Whether any bool over axes is True."""
        return self.astype(np.float32).highest(*axes) > 0

    def floor(self) -> Value:
        """Rounded down."""
        return self.nodes.add("Floor", self)

    def sum(self, *axes: int, keep: bool = False) -> Value:
        """The sum over axes."""
        return self._reduced("ReduceSum", axes, keep)

    def _reduced(self, kind: str, axes: tuple[int, ...], keep: bool) -> Value:
        return self.nodes.add(kind, self, np.array(axes), keepdims=int(keep))

    def _with(self, kind: str, other: Operand, dtype: DTypeLike | None = None) -> Value:
        return self.nodes.add(kind, self, self.nodes.constant(other, self.dtype), dtype=dtype)


class Nodes:
    """A graph under construction."""

    def __init__(self) -> None:
        # Nodes of the graph, or of the body of a loop while it is written.
        self._nodes: list[onnx.NodeProto] = []
        self._numbers = count()
        self._constants: dict[tuple[str, tuple[int, ...], bytes], onnx.TensorProto] = {}
        self._weights: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, dtype: DTypeLike, shape: Sequence[int | str]) -> Value:
        """Declare an input; the lengths of its axes are numbers, or names if they are variable."""
        self._inputs.append(helper.make_tensor_value_info(name, _element(dtype), list(shape)))
        return Value(self, name, np.dtype(dtype))

    def output(self, name: str, value: Value, shape: Sequence[int | str]) -> None:
        """Make a value an output."""
        self._nodes.append(helper.make_node("Identity", [value.name], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, _element(value.dtype), list(shape)))

    def constant(self, value: Operand, dtype: DTypeLike | None = None) -> Value:
        """Convert a number or an array to a value; values are returned unchanged."""
        if isinstance(value, Value):
            return value
        array = np.asarray(value, dtype if np.ndim(value) == 0 or dtype is None else None)
        key = str(array.dtype), array.shape, array.tobytes()
        if key not in self._constants:
            self._constants[key] = numpy_helper.from_array(array, f"constant_{len(self._constants)}")
        return Value(self, self._constants[key].name, array.dtype)

    def shape(self, *lengths: Operand) -> Value:
        """Combine lengths into a value, int64 [lengths]."""
        if not any(isinstance(length, Value) for length in lengths):
            return self.constant(np.array(lengths, np.int64))
        return self.add("Concat", *(one if isinstance(one, Value) else np.array([one], np.int64) for one in lengths), axis=0)

    def add(self, kind: str, *operands: Operand | None, dtype: DTypeLike | None = None, **attributes: Any) -> Value:
        """Add a node with one output.

        Args:
            kind: name of the operator.
            operands: inputs of the node; None for an omitted input.
            dtype: type of the output; None for the type of the first operand.
            attributes: attributes of the operator.
        """
        values = [None if operand is None else self.constant(operand) for operand in operands]
        name = f"{kind}_{next(self._numbers)}"
        self._nodes.append(helper.make_node(kind, [value.name if value else "" for value in values], [name], name, **attributes))
        first = next(value for value in values if value is not None)
        return Value(self, name, first.dtype if dtype is None else np.dtype(dtype))

    def where(self, condition: Value, one: Operand, other: Operand) -> Value:
        """Select `one` where the condition is True, else `other`."""
        dtype = one.dtype if isinstance(one, Value) else other.dtype if isinstance(other, Value) else None
        values = self.constant(one, dtype), self.constant(other, dtype)
        return self.add("Where", condition, *values, dtype=values[0].dtype)

    def joined(self, axis: int, *values: Value) -> Value:
        """Concatenate values along an axis."""
        return self.add("Concat", *values, axis=axis)

    def loop(self, most: int, going: Value, states: Sequence[Value], step: Callable[..., tuple[Value, Sequence[Value]]]) -> list[Value]:
        """Add a loop.

        Args:
            most: maximum number of steps.
            going: whether to run the first step, bool [].
            states: states before the first step.
            step: function from the states to whether to run another step, bool [], and the new states.

        Returns:
            The states after the last step.
        """
        number = next(self._numbers)
        outside, self._nodes = self._nodes, []
        inner = [Value(self, f"state_{number}_{index}", state.dtype) for index, state in enumerate(states)]
        again, results = step(*inner)
        after = [self.add("Identity", value) for value in (again, *results)]
        inside, self._nodes = self._nodes, outside
        inputs = [helper.make_tensor_value_info(f"number_{number}", onnx.TensorProto.INT64, []), _unshaped(f"going_{number}", np.bool_)]
        body = helper.make_graph(
            inside,
            f"body_{number}",
            [*inputs, *(_unshaped(value.name, value.dtype) for value in inner)],
            [_unshaped(value.name, value.dtype) for value in after],
        )
        names = [f"Loop_{number}_{index}" for index in range(len(states))]
        given = [self.constant(np.array(most)), going, *states]
        self._nodes.append(helper.make_node("Loop", [value.name for value in given], names, f"Loop_{number}", body=body))
        return [Value(self, name, state.dtype) for name, state in zip(names, states, strict=True)]

    def network(self, model: onnx.ModelProto, prefix: str, **inputs: Value) -> Value:
        """Insert another graph and return its only output.

        Args:
            model: the other graph, with this OPSET.
            prefix: prefix for the names in it.
            inputs: values of its inputs, by their names.
        """
        names = {"": "", **{name: value.name for name, value in inputs.items()}}
        for tensor in model.graph.initializer:
            names[tensor.name] = f"{prefix}.{tensor.name}"
            self._weights.append(_renamed(tensor, names[tensor.name]))
        for node in model.graph.node:
            names |= {name: f"{prefix}.{name}" for name in node.output}
            own = onnx.NodeProto()
            own.CopyFrom(node)
            own.name = f"{prefix}.{node.output[0]}"
            own.input[:] = [names[name] for name in node.input]
            own.output[:] = [names[name] for name in node.output]
            self._nodes.append(own)
        return Value(self, names[model.graph.output[0].name], np.dtype(np.float32))

    def model(self, name: str, metadata: dict[str, str] | None = None) -> onnx.ModelProto:
        """The complete model, validated by ONNX's checker."""
        constants = [*self._constants.values(), *self._weights]
        graph = helper.make_graph(self._nodes, name, self._inputs, self._outputs, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="redecode")
        helper.set_model_props(model, metadata or {})
        onnx.checker.check_model(model)
        return model


def _renamed(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    own = onnx.TensorProto()
    own.CopyFrom(tensor)
    own.name = name
    return own


def _unshaped(name: str, dtype: DTypeLike) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, _element(dtype), None)


def _element(dtype: DTypeLike) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
