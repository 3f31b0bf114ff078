"""ONNX operators of single elements as layers: activations, arithmetic with broadcasting, scales, normalisation."""

import numpy as np

from polyfuse.errors import InvalidInput, UnsupportedOperator
from polyfuse.network.dtypes import bounds
from polyfuse.network.layer import Layer
from polyfuse.network.layers import pointwise
from polyfuse.network.layers.normalisation import instance_norm, lrn
from polyfuse.network.onnx import attributes
from polyfuse.network.onnx.graph import Node
from polyfuse.network.onnx.importing import Import, in_double, normalisation
from polyfuse.network.onnx.writing import Parts, Writers, names, node, single
from polyfuse.network.operator import (
    Affine,
    Arithmetic,
    BinaryFunction,
    Copy,
    InstanceNorm,
    LocalResponse,
    Prelu,
    VariadicFunction,
)
from polyfuse.network.quantised.elements import clamp
from polyfuse.network.tensor import Tensor


def activation(state: Import, node: Node) -> None:
    """An activation, or nothing where it changes nothing."""
    x = state.tensor(node)
    if x.dtype != "float32":
        _clamp(state, node, x)
        return
    spec = attributes.activation(node, state.graph.constants)
    if spec:
        state.add(node, pointwise.activation(node.name, state.tensor(node), spec))
    else:
        state.alias(node, state.tensor(node))


def _clamp(state: Import, node: Node, x: Tensor) -> None:
    """Relu and Clip of whole numbers, whose bounds are whole numbers of the same type."""
    ends = [0, bounds(x.dtype)[1]] if node.operator == "Relu" else list(bounds(x.dtype))
    for side in range(2):
        given = state.integers(node, 1 + side)
        if given is not None and len(given) == 1:
            ends[side] = given[0]
    state.add(node, clamp(node.name, x, max(ends[0], bounds(x.dtype)[0]), min(ends[1], bounds(x.dtype)[1])))


def batch_normalisation(state: Import, node: Node) -> None:
    """BatchNormalization as a scale and a shift of each channel."""
    x = state.tensor(node)
    if len(x.shape) < 2:
        raise InvalidInput(f"{node.label}: expected a tensor with channels, got {x}")
    channels = x.concrete_shape[1]
    scale, shift = normalisation(state, node, channels)
    column = (1, channels, *[1] * (len(x.shape) - 2))
    weights = (
        state.weight(f"{node.name}_{part}", w.reshape(column)) for part, w in (("scale", scale), ("shift", shift))
    )
    state.add(node, pointwise.affine(node.name, x, *weights))


def instance_normalisation(state: Import, node: Node) -> None:
    """InstanceNormalization."""
    x = state.tensor(node)
    scale, shift = (in_double(state.constant(node, k)) for k in (1, 2))
    if len(x.shape) < 3 or not scale.shape == shift.shape == x.shape[1:2]:
        raise InvalidInput(
            f"{node.label}: expected a tensor [n, c, ..] and a scale and a shift for each channel, got {x}, "
            f"{scale.shape} and {shift.shape}"
        )
    column = (1, len(scale), *[1] * (len(x.shape) - 2))
    weights = (
        state.weight(f"{node.name}_{part}", w.reshape(column)) for part, w in (("scale", scale), ("shift", shift))
    )
    epsilon = attributes.short(attributes.attribute(node, "epsilon", 1e-5))
    state.add(node, *instance_norm(node.name, x, *weights, epsilon=epsilon))


def local_response(state: Import, node: Node) -> None:
    """LRN."""
    numbers = {"alpha": 1e-4, "beta": 0.75, "bias": 1.0}
    given = {name: attributes.short(attributes.attribute(node, name, value)) for name, value in numbers.items()}
    state.add(node, lrn(node.name, state.tensor(node), attributes.attribute(node, "size", 0), **given))


def prelu(state: Import, node: Node) -> None:
    """PRelu with a constant slope."""
    x, slope = state.tensor(node), state.constant(node, 1)
    rank = len(x.shape)
    if slope.ndim > rank:
        raise InvalidInput(f"{node.label}: expected a slope of at most {rank} axes, got shape {slope.shape}")
    weight = state.weight(f"{node.name}_scale", slope.reshape((1,) * (rank - slope.ndim) + slope.shape))
    state.add(node, pointwise.prelu(node.name, x, weight))


BINARY: dict[str, BinaryFunction] = {
    "Add": "add",
    "Sub": "sub",
    "Mul": "mul",
    "Div": "div",
    "Pow": "pow",
    "Sum": "add",
    "Max": "max",
    "Min": "min",
}
VARIADIC: dict[str, VariadicFunction] = {"Sum": "sum", "Max": "max", "Min": "min", "Mean": "mean"}


def arithmetic(state: Import, node: Node) -> None:
    """Functions of two operands."""
    if len(node.inputs) != 2:
        raise InvalidInput(f"{node.label}: expected two operands for {node.operator}, got {len(node.inputs)}")
    if node.operator == "Pow" and _powered(state, node):
        return
    read, constants = state.operands(node, state.rank(node))
    names = [operand for operand, tensor in zip("ab", read, strict=True) if tensor in constants]
    layer = pointwise.arithmetic(node.name, BINARY[node.operator], *read, constants=names)
    state.add_knowing(node, layer, {t: state.dequantised(node, k) for k, t in enumerate(read) if t in constants})


def _powered(state: Import, node: Node) -> bool:
    """Powers by a constant that are simpler than that: the square, the root, the tensor itself."""
    exponent = state.constant(node, 1) if state.is_constant(node, 1) else np.empty(0, np.float32)
    simple = exponent.size == 1 and exponent.ndim <= state.rank(node) and not state.is_constant(node, 0)
    value = float(exponent.ravel()[0]) if simple else 0.0
    if value not in (0.5, 1.0, 2.0):
        return False
    x = state.tensor(node)
    if value == 1.0:
        state.alias(node, x)
    elif value == 0.5:
        state.add(node, pointwise.activation(node.name, x, "sqrt"))
    else:
        state.add(node, pointwise.arithmetic(node.name, "mul", x, x))
    return True


def variadic(state: Import, node: Node) -> None:
    """Sum, Max, Min and Mean of any number of operands."""
    if len(node.inputs) == 1:
        state.alias(node, state.tensor(node))
    elif len(node.inputs) == 2 and node.operator != "Mean":
        arithmetic(state, node)
    else:
        read, constants = state.operands(node, state.rank(node))
        state.add(node, pointwise.variadic(node.name, VARIADIC[node.operator], read, constants=constants))


def dropout(state: Import, node: Node) -> None:
    """Dropout at inference: the tensor itself."""
    known = state.is_constant(node, 2)
    if node.input(2) and (not known or state.graph.constants.value(node.input(2)).any()):
        raise UnsupportedOperator(f"{node.label}: Dropout in training; export for inference")
    state.alias(node, state.tensor(node))


def identity(state: Import, node: Node) -> None:
    """Identity, and Cast of what is float32 to float32."""
    if node.operator == "Cast" and attributes.attribute(node, "to", 1) != 1:
        raise UnsupportedOperator(f"{node.label}: Cast of a computed tensor to another type; only float32 is computed")
    state.alias(node, state.tensor(node))


READS = {
    **dict.fromkeys(attributes.ACTIVATION_OPERATORS, activation),
    **dict.fromkeys(["Add", "Sub", "Mul", "Div", "Pow"], arithmetic),
    **dict.fromkeys(VARIADIC, variadic),
    **dict.fromkeys(["Identity", "Cast"], identity),
    "BatchNormalization": batch_normalisation,
    "Dropout": dropout,
    "InstanceNormalization": instance_normalisation,
    "LRN": local_response,
    "PRelu": prelu,
}


def _affine(_: Affine, layer: Layer, y: str) -> Parts:
    x, scale, shift = names(layer)
    scaled = f"{layer.name}/scaled"
    nodes = [node("Mul", [x, scale], scaled, f"{layer.name}/scale"), node("Add", [scaled, shift], y, layer.name)]
    return nodes, {}


def _instance_norm(norm: InstanceNorm, layer: Layer, y: str) -> Parts:
    x, mean, spread, scale, shift = names(layer)
    name = layer.name
    epsilon = {f"{name}/epsilon": np.array(norm.epsilon, np.float32)}
    nodes = [
        node("Sub", [x, mean], f"{name}/centred", f"{name}/centred"),
        node("Add", [spread, *epsilon], f"{name}/spread", f"{name}/spread"),
        node("Sqrt", [f"{name}/spread"], f"{name}/root", f"{name}/root"),
        node("Div", [f"{name}/centred", f"{name}/root"], f"{name}/divided", f"{name}/divided"),
        node("Mul", [f"{name}/divided", scale], f"{name}/scaled", f"{name}/scaled"),
        node("Add", [f"{name}/scaled", shift], y, name),
    ]
    return nodes, epsilon


def _local_response(norm: LocalResponse, layer: Layer, y: str) -> Parts:
    numbers = {"size": norm.size, "alpha": norm.alpha, "beta": norm.beta, "bias": norm.bias}
    return [node("LRN", [layer.inputs[0].name], y, layer.name, **numbers)], {}


WRITES: Writers = {
    Affine: _affine,
    Arithmetic: lambda made, layer, y: single(made.how.capitalize(), layer, y),
    Copy: lambda _, layer, y: single("Identity", layer, y),
    InstanceNorm: _instance_norm,
    LocalResponse: _local_response,
    Prelu: lambda _, layer, y: single("PRelu", layer, y),
}
