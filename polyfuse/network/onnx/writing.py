"""Functions that write the ONNX nodes of a layer; the modules in converters/ say which nodes those are.

A `Layer` enters; nodes of which the last makes its output, and the constants that they read other than weights, leave.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from polyfuse.errors import UnsupportedOperator
from polyfuse.network.activation import Activation
from polyfuse.network.layer import Layer
from polyfuse.network.onnx.attributes import SIMPLE, WITH_NUMBERS
from polyfuse.network.onnx.file import Constant
from polyfuse.network.operator import Operator

OPSET = 20
"""The version of the operators."""

Parts = tuple[list[onnx.NodeProto], Mapping[str, Constant]]
"""Nodes, and the constants that they read other than weights."""
Writers = Mapping[type[Operator], Callable[[Any, Layer, str], Parts]]
"""For operators, the nodes of a layer that make a tensor of some name: its output, or what its activation reads."""

PLAIN = {spec[0]: operator for operator, spec in SIMPLE.items()}
NUMBERED = {spec: (operator, [key for key, _ in keys]) for operator, (spec, keys) in WITH_NUMBERS.items()}


def node(operator: str, reads: Sequence[str], output: str, name: str, **attributes: Any) -> onnx.NodeProto:
    """A node with one output."""
    return helper.make_node(operator, reads, [output], name, **attributes)


def single(operator: str, layer: Layer, y: str, **attributes: Any) -> Parts:
    """One node of what a layer reads, in the order of its operands."""
    return [node(operator, names(layer), y, layer.name, **attributes)], {}


def of_weights(operator: str, layer: Layer, y: str, **attributes: Any) -> Parts:
    """One node of a layer's inputs and then its weights."""
    return [node(operator, [t.name for t in (*layer.inputs, *layer.weights)], y, layer.name, **attributes)], {}


def names(layer: Layer) -> list[str]:
    """The operands of a layer by name."""
    return [tensor.name for tensor in layer.operands]


def with_numbers(operator: str, layer: Layer, y: str, numbers: Mapping[str, Sequence[int]], **attributes: Any) -> Parts:
    """A node of the layer's input and of whole numbers, each an input of its own."""
    constants = {f"{layer.name}/{name}": np.array(values, np.int64) for name, values in numbers.items()}
    return [node(operator, [layer.inputs[0].name, *constants], y, layer.name, **attributes)], constants


def activation_nodes(name: str, activation: Activation, x: str, y: str) -> Parts:
    """The nodes that apply an activation to the tensor `x` and make `y`.

    Errors: UnsupportedOperator.

    >>> [node.op_type for node in activation_nodes("act", Activation("silu"), "x", "y")[0]]
    ['Sigmoid', 'Mul']
    """
    kind, numbers = activation.name, activation.arguments
    if kind in PLAIN:
        return [node(PLAIN[kind], [x], y, name)], {}
    if kind in NUMBERED:
        operator, keys = NUMBERED[kind]
        return [node(operator, [x], y, name, **dict(zip(keys, numbers, strict=True)))], {}
    if kind in ("gelu", "gelu_tanh"):
        mode = "tanh" if kind == "gelu_tanh" else "none"
        return [node("Gelu", [x], y, name, approximate=mode)], {}
    if kind == "silu":
        gate = f"{name}/gate"
        return [node("Sigmoid", [x], gate, gate), node("Mul", [x, gate], y, name)], {}
    if activation.clips is None:
        raise UnsupportedOperator(f"layer {name!r}: no ONNX operator computes the activation {kind!r}")
    read = {f"{name}/{key}": value for key, value in zip(("min", "max"), activation.clips, strict=True)}
    given = [bound if np.isfinite(value) else "" for bound, value in read.items()]
    constants = {bound: np.array(value, np.float32) for bound, value in read.items() if np.isfinite(value)}
    return [node("Clip", [x, *given] if given[-1] else [x, given[0]], y, name)], constants
