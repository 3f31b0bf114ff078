"""ONNX operators as layers.

A `Node` and the tensors made so far enter; a layer is added to the builder, with what follows the node fused into it:
batch normalisation and other scales and shifts of channels into the weights, an activation into the last statement.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from polyfuse.errors import InvalidInput, UnsupportedOperator
from polyfuse.network import layers
from polyfuse.network.network import Builder, Values
from polyfuse.network.onnx import attributes
from polyfuse.network.onnx.attributes import ACTIVATION_OPERATORS, Spec
from polyfuse.network.onnx.graph import Graph, Node
from polyfuse.network.operators import Array, Pair
from polyfuse.network.tensor import Tensor

Affine = tuple[Array, Array]
"""Scale and shift of each channel."""


@dataclass(frozen=True)
class Import:
    """An import under way: what is built, which tensors exist, by the model's names, and which nodes are done."""

    build: Builder
    graph: Graph
    fuse_activations: bool
    tensors: dict[str, Tensor]
    done: set[Node] = field(default_factory=set)

    def add(self, node: Node) -> None:
        """Import a node and the nodes fused into it.

        Errors: UnsupportedOperator for operators and attributes that are not known.
        """
        if node in self.done:
            return
        convert = _activation if node.operator in ACTIVATION_OPERATORS else CONVERTERS.get(node.operator)
        if convert is None:
            known = sorted({*CONVERTERS, *ACTIVATION_OPERATORS})
            raise UnsupportedOperator(
                f"{node.label}: the operator {node.operator} is not supported; name a first and a last node that leave "
                f"it out, or use {', '.join(known)}"
            )
        if not node.outputs or not all(node.inputs[:1]):
            raise InvalidInput(f"{node.label}: expected an input and an output for {node.operator}")
        attributes.check_outputs(node, {*self.graph.readers, *self.graph.outputs})
        self.done.add(node)
        convert(self, node)

    def tensor(self, node: Node, position: int = 0) -> Tensor:
        """The tensor that a node reads at a position."""
        name = node.inputs[position] if position < len(node.inputs) else ""
        if name not in self.tensors:
            got = "a constant" if self.graph.constants.known(name) else "nothing"
            raise UnsupportedOperator(
                f"{node.label}: expected a computed tensor as input {position} of {node.operator}, got {got}"
            )
        return self.tensors[name]

    def constant(self, node: Node, position: int) -> Values:
        """The weight that a node reads at a position."""
        name = node.inputs[position] if position < len(node.inputs) else ""
        if not self.graph.constants.known(name):
            raise UnsupportedOperator(
                f"{node.label}: expected a constant as input {position} of {node.operator}, got {name or 'nothing'}"
            )
        return self.graph.constants.floats(name, node.label)

    def weight(self, name: str, value: Array | Values) -> Tensor:
        """A weight tensor of those values."""
        return self.build.weight(name, value.shape, 1, np.asarray(value, dtype=np.float32))

    def affines(self, node: Node, channels: int) -> tuple[Affine, Node]:
        """Scale and shift of the nodes behind a node that only scale and shift its channels, and the last of them."""
        total: Affine = np.ones(channels), np.zeros(channels)
        while (reader := self.graph.only_reader(node.outputs[0])) is not None:
            step = affine(self, reader, node.outputs[0], channels)
            if step is None:
                break
            total = total[0] * step[0], total[1] * step[0] + step[1]
            self.done.add(reader)
            node = reader
        return total, node

    def activation(self, node: Node) -> tuple[Spec | None, Node]:
        """The activation that is the only reader of a node, and the node that now ends the layer."""
        reader = self.graph.only_reader(node.outputs[0]) if self.fuse_activations else None
        spec = attributes.activation(reader, self.graph.constants) if reader is not None else None
        if reader is None or not spec or reader.inputs[0] != node.outputs[0]:
            return None, node
        self.done.add(reader)
        return spec, reader


def affine(state: Import, node: Node, tensor: str, channels: int) -> Affine | None:
    """Scale and shift of channels that a node applies to a tensor, if that is all it does."""
    if node.operator == "BatchNormalization" and node.inputs[0] == tensor:
        return _normalisation(state, node, channels)
    if node.operator not in ("Add", "Sub", "Mul", "Div") or len(node.inputs) != 2:
        return None
    side = node.inputs.index(tensor)
    if not state.graph.constants.known(node.inputs[1 - side]) or (node.operator == "Div" and side == 1):
        return None
    value = in_double(state.constant(node, 1 - side))
    shape = (1,) * (4 - value.ndim) + value.shape
    if len(shape) != 4 or shape not in ((1, channels, 1, 1), (1, 1, 1, 1)):
        return None
    if node.operator == "Div" and not value.all():
        return None
    each = np.broadcast_to(value.ravel(), (channels,))
    one, none = np.ones(channels), np.zeros(channels)
    return {
        "Add": (one, each),
        "Sub": (one, -each) if side == 0 else (-one, each),
        "Mul": (each, none),
        "Div": (1.0 / each if node.operator == "Div" else one, none),
    }[node.operator]


def _normalisation(state: Import, node: Node, channels: int) -> Affine:
    """Batch normalisation at inference: `(x - mean) / sqrt(variance + epsilon) * scale + shift`."""
    attributes.check_attributes(node, ["epsilon", "momentum", "spatial", "training_mode"])
    if attributes.flag(node, "training_mode") or not attributes.int_attribute(node, "spatial", 1):
        raise UnsupportedOperator(f"{node.label}: BatchNormalization in training or per element; export for inference")
    scale, shift, mean, variance = (in_double(state.constant(node, k)) for k in range(1, 5))
    if any(value.shape != (channels,) for value in (scale, shift, mean, variance)):
        raise InvalidInput(f"{node.label}: expected scale, shift, mean and variance of {channels} channels")
    epsilon = attributes.float_attribute(node, "epsilon", float(np.float32(1e-5)))
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(variance + epsilon)
    return factor, shift - mean * factor


def in_double(values: np.ndarray) -> np.ndarray:
    """The values as float64; a signalling NaN of a damaged file stays NaN without a warning."""
    with np.errstate(invalid="ignore"):
        return values.astype(np.float64)


def _convolution(state: Import, node: Node) -> None:
    attributes.check_attributes(node, ["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"])
    x, w = state.tensor(node), in_double(state.constant(node, 1))
    if w.ndim != 4 or 0 in w.shape:
        raise UnsupportedOperator(f"{node.label}: expected weights of 4 axes (2-D convolution), got shape {w.shape}")
    kernel: Pair = (w.shape[2], w.shape[3])
    if attributes.pair(node, "kernel_shape", kernel) != kernel:
        raise InvalidInput(f"{node.label}: kernel_shape does not agree with weights of shape {w.shape}")
    biased = len(node.inputs) > 2 and bool(node.inputs[2])
    b = in_double(state.constant(node, 2)) if biased else np.zeros(len(w))
    if b.shape != (len(w),):
        raise InvalidInput(f"{node.label}: expected a bias of {len(w)} channels, got shape {b.shape}")
    (scale, shift), end = state.affines(node, len(w))
    spec, end = state.activation(end)
    stride, dilation = attributes.pair(node, "strides", (1, 1)), attributes.pair(node, "dilations", (1, 1))
    groups = attributes.int_attribute(node, "group", 1)
    if groups < 1:
        raise InvalidInput(f"{node.label}: expected a group of at least 1, got {groups}")
    b = b * scale + shift
    layer = layers.convolution(
        node.name,
        x,
        state.weight(f"{node.name}_weight", w * scale[:, None, None, None]),
        state.weight(f"{node.name}_bias", b) if biased or b.any() else None,
        stride=stride,
        padding=attributes.padding(node, x, kernel, stride, dilation),
        dilation=dilation,
        groups=groups,
        activation=spec,
    )
    state.tensors[end.outputs[0]] = state.build.add(layer)


def _pool(state: Import, node: Node) -> None:
    largest = node.operator == "MaxPool"
    own = "storage_order" if largest else "count_include_pad"
    attributes.check_attributes(node, ["auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "strides", own])
    x, kernel = state.tensor(node), attributes.pair(node, "kernel_shape", None)
    stride, dilation = attributes.pair(node, "strides", (1, 1)), attributes.pair(node, "dilations", (1, 1))
    padding = attributes.padding(node, x, kernel, stride, dilation)
    ceil = attributes.flag(node, "ceil_mode")
    if largest:
        layer = layers.max_pool(
            node.name, x, kernel=kernel, stride=stride, padding=padding, dilation=dilation, ceil=ceil
        )
    else:
        layer = layers.average_pool(
            node.name,
            x,
            kernel=kernel,
            stride=stride,
            padding=padding,
            dilation=dilation,
            ceil=ceil,
            count_include_pad=attributes.flag(node, "count_include_pad"),
        )
    state.tensors[node.outputs[0]] = state.build.add(layer)


def _global_average_pool(state: Import, node: Node) -> None:
    attributes.check_attributes(node, ())
    state.tensors[node.outputs[0]] = state.build.global_average_pool(node.name, state.tensor(node))


def _activation(state: Import, node: Node) -> None:
    spec = attributes.activation(node, state.graph.constants)
    if spec:
        state.tensors[node.outputs[0]] = state.build.activation(node.name, state.tensor(node), spec)
    else:
        _identity(state, node)


def _batch_normalisation(state: Import, node: Node) -> None:
    x = state.tensor(node)
    channels = x.concrete_shape[1]
    scale, shift = _normalisation(state, node, channels)
    (more, further), end = state.affines(node, channels)
    spec, end = state.activation(end)
    column = (1, channels, 1, 1)
    operands = {
        "x": x,
        "scale": state.weight(f"{node.name}_scale", (scale * more).reshape(column)),
        "shift": state.weight(f"{node.name}_shift", (shift * more + further).reshape(column)),
    }
    layer = layers.affine(node.name, *operands.values(), activation=spec)
    state.tensors[end.outputs[0]] = state.build.add(layer)


def _prelu(state: Import, node: Node) -> None:
    attributes.check_attributes(node, ())
    slope = state.constant(node, 1)
    layer = layers.prelu(node.name, state.tensor(node), state.weight(f"{node.name}_scale", _four_axes(node, slope)))
    state.tensors[node.outputs[0]] = state.build.add(layer)


def _four_axes(node: Node, value: Values) -> Values:
    if value.ndim > 4 or 0 in value.shape:
        raise InvalidInput(f"{node.label}: expected a constant of at most 4 axes, got shape {value.shape}")
    return value.reshape((1,) * (4 - value.ndim) + value.shape)


def _arithmetic(state: Import, node: Node) -> None:
    attributes.check_attributes(node, ())
    if len(node.inputs) != 2:
        raise UnsupportedOperator(f"{node.label}: expected two operands for {node.operator}, got {len(node.inputs)}")
    operands, constants = [], []
    for position, operand in enumerate("ab"):
        if state.graph.constants.known(node.inputs[position]):
            value = _four_axes(node, state.constant(node, position))
            operands.append(state.weight(f"{node.name}_constant", value))
            constants.append(operand)
        else:
            operands.append(state.tensor(node, position))
    spec, end = state.activation(node)
    kind = "add" if node.operator == "Sum" else node.operator.lower()
    a, b = operands
    layer = layers.arithmetic(node.name, kind, a, b, constants=constants, activation=spec)
    state.tensors[end.outputs[0]] = state.build.add(layer)


def _concat(state: Import, node: Node) -> None:
    attributes.check_attributes(node, ["axis"])
    axis = attributes.int_attribute(node, "axis", 1)
    if axis not in (1, -3):
        raise UnsupportedOperator(
            f"{node.label}: concatenates along axis {axis}; only the channels, axis 1, are supported"
        )
    tensors = [state.tensor(node, position) for position in range(len(node.inputs))]
    state.tensors[node.outputs[0]] = state.build.concat(node.name, *tensors)


def _dropout(state: Import, node: Node) -> None:
    if len(node.inputs) > 2 and node.inputs[2]:
        training = node.inputs[2]
        if not state.graph.constants.known(training) or state.graph.constants.value(training).any():
            raise UnsupportedOperator(f"{node.label}: Dropout in training; export for inference")
    _identity(state, node)


def _identity(state: Import, node: Node) -> None:
    """Another name for a tensor; a copy where the network's output would be its input or another output."""
    x, output = state.tensor(node), node.outputs[0]
    outputs = [state.tensors.get(name) for name in state.graph.outputs]
    if output in state.graph.outputs and (x in state.build.inputs or x in outputs):
        x = state.build.add(layers.pointwise(node.name, {"x": x}, "x", np.asarray, kind="copy"))
    state.tensors[output] = x


CONVERTERS: dict[str, Callable[[Import, Node], None]] = {
    "Add": _arithmetic,
    "AveragePool": _pool,
    "BatchNormalization": _batch_normalisation,
    "Concat": _concat,
    "Conv": _convolution,
    "Div": _arithmetic,
    "Dropout": _dropout,
    "GlobalAveragePool": _global_average_pool,
    "Identity": _identity,
    "MaxPool": _pool,
    "Mul": _arithmetic,
    "PRelu": _prelu,
    "Sub": _arithmetic,
    "Sum": _arithmetic,
}
"""The operators that become layers, besides ACTIVATION_OPERATORS."""
