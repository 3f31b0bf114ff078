"""Quantised ONNX operators as integer layers: those of ONNX itself, and those that onnxruntime's quantiser writes.

A `Node` and an `Import` enter; layers are added to the builder. Scales and zero points have to be constant. What a
layer computes is what onnxruntime's CPU provider has for the node.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import numpy as np
from onnx import TensorProto

from polyfuse.errors import InvalidInput, UnsupportedOperator
from polyfuse.network.activation import ACTIVATIONS
from polyfuse.network.dtypes import Array
from polyfuse.network.layers.copies import transpose
from polyfuse.network.onnx import attributes
from polyfuse.network.onnx.converters.windows import groups_of, kernel_of
from polyfuse.network.onnx.graph import Node
from polyfuse.network.onnx.importing import Import
from polyfuse.network.onnx.writing import Writers
from polyfuse.network.quantised import elements, sums
from polyfuse.network.quantised.scheme import Quantisation, Scales, check_values, quantisation_of
from polyfuse.network.tensor import Tensor

STORED: dict[int, str] = {TensorProto.UINT8: "uint8", TensorProto.INT8: "int8"}
"""The types of elements that are quantized to."""


def quantize_linear(state: Import, node: Node) -> None:
    """QuantizeLinear of a computed tensor; uint8 where neither a zero point nor an attribute says another type."""
    x = state.tensor(node)
    _element_type(node, "precision", "the division", [TensorProto.FLOAT])
    wanted = STORED.get(_element_type(node, "output_dtype", "its output", [*STORED]))
    with named_in_errors(node):
        scale = quantisation(state, node, 1, 2, wanted or "uint8")
        if wanted not in (None, scale.dtype):
            raise InvalidInput(f"{node.label}: its output_dtype is {wanted}, its zero point {scale.dtype}")
        layer, values = elements.quantize(node.name, x, scale, _axis(node, x, scale))
    state.add(node, layer, values=values)


def dequantize_linear(state: Import, node: Node) -> None:
    """DequantizeLinear of a computed tensor."""
    x = state.tensor(node)
    _element_type(node, "output_dtype", "its output", [TensorProto.FLOAT])
    with named_in_errors(node):
        scale = quantisation(state, node, 1, 2, x.dtype)
        layer, values = elements.dequantize(node.name, x, scale, _axis(node, x, scale))
    state.add(node, layer, values=values)


def _element_type(node: Node, name: str, what: str, known: Sequence[int]) -> int:
    """A type that an attribute asks for; 0 where it leaves that to the inputs.

    Errors: UnsupportedOperator for types that are not computed.
    """
    wanted = attributes.attribute(node, name, 0)
    if wanted not in (0, *known):
        named = TensorProto.DataType.Name(wanted) if wanted in TensorProto.DataType.values() else str(wanted)
        kinds = " or ".join(TensorProto.DataType.Name(each) for each in known)
        raise UnsupportedOperator(f"{node.label}: {name} asks for {named} in {what}; supported: {kinds}")
    return wanted


def _axis(node: Node, x: Tensor, scale: Quantisation) -> int:
    """The axis of channels; one scale of the whole tensor has none, whatever the attribute says."""
    if attributes.attribute(node, "block_size", 0):
        raise UnsupportedOperator(f"{node.label}: scales of blocks; quantise by tensor or by channel")
    axis = attributes.attribute(node, "axis", 1)
    return attributes.axis_of(node, x, axis) if scale.is_by_channel else 0


def convolution(state: Import, node: Node) -> None:
    """QLinearConv."""
    x, w = state.tensor(node), state.whole(node, 3)
    kernel = kernel_of(node, w)
    b = state.whole(node, 8) if node.input(8) else None
    with named_in_errors(node):
        scales = quantisations(state, node, 1, 4, 6)
        check_values(w, scales[1], scales[0], b)
        layer, values = sums.convolution(
            node.name,
            x,
            state.whole_weight(f"{node.name}_weight", w),
            None if b is None else state.whole_weight(f"{node.name}_bias", b),
            attributes.window(node, x, kernel),
            groups_of(node),
            scales=scales,
        )
    state.add(node, layer, values=values)


def matmul(state: Import, node: Node) -> None:
    """QLinearMatMul: of a matrix and constant weights the same layer as QGemm."""
    with named_in_errors(node):
        layer, values = _product(state, node, quantisations(state, node, 1, 4, 6))
    state.add(node, layer, values=values)


def _product(state: Import, node: Node, scales: Scales) -> elements.Made:
    """The layer of a QLinearMatMul."""
    matrix = not state.is_constant(node, 0) and len(state.tensor(node).shape) == 2
    if matrix and state.is_constant(node, 3) and state.whole(node, 3).ndim == 2:
        w = np.ascontiguousarray(state.whole(node, 3).T)
        check_values(w, scales[1], scales[0], None)
        return sums.gemm(node.name, state.tensor(node), state.whole_weight(f"{node.name}_weight", w), scales=scales)
    a, b = operand(state, node, 0, "weight"), operand(state, node, 3, "constant")
    constants = [tensor for position, tensor in ((0, a), (3, b)) if state.is_constant(node, position)]
    return sums.matmul(node.name, a, b, constants, scales=scales)


def gemm(state: Import, node: Node) -> None:
    """com.microsoft QGemm with constant weights."""
    if attributes.attribute(node, "alpha", 1.0) != 1.0 or not node.input(7):
        raise UnsupportedOperator(f"{node.label}: QGemm with an alpha or without a scale of its result")
    x, w = state.tensor(node), state.whole(node, 3)
    if len(x.shape) != 2 or w.ndim != 2:
        raise InvalidInput(f"{node.label}: expected matrices, got {x} and weights of shape {w.shape}")
    if attributes.flag(node, "transA"):
        x = state.build.add(transpose(f"{node.name}_a", x, (1, 0)))
    w = w if attributes.flag(node, "transB") else np.ascontiguousarray(w.T)
    b = state.whole(node, 6).reshape(-1) if node.input(6) else None
    with named_in_errors(node):
        scales = quantisations(state, node, 1, 4, 7)
        check_values(w, scales[1], scales[0], b)
        weight = state.whole_weight(f"{node.name}_weight", w)
        bias = None if b is None else state.whole_weight(f"{node.name}_bias", b)
        layer, values = sums.gemm(node.name, x, weight, bias, scales=scales)
    state.add(node, layer, values=values)


def binary(state: Import, node: Node) -> None:
    """com.microsoft QLinearAdd and QLinearMul."""
    with named_in_errors(node):
        a, b = (operand(state, node, position, f"constant{position // 3}") for position in (0, 3))
        constants = [name for name, position in (("a", 0), ("b", 3)) if state.is_constant(node, position)]
        how: Literal["add", "mul"] = "add" if node.operator.endswith("Add") else "mul"
        scales = quantisations(state, node, 1, 4, 6)
        layer = elements.arithmetic(node.name, how, a, b, scales, constants=constants)
    state.add(node, layer)


def average_pool(state: Import, node: Node) -> None:
    """com.microsoft QLinearAveragePool."""
    _channels_second(node)
    x = state.tensor(node)
    with named_in_errors(node):
        layer = elements.average_pool(
            node.name,
            x,
            attributes.window(node, x),
            quantisations(state, node, 1, 3),
            attributes.flag(node, "ceil_mode"),
            attributes.flag(node, "count_include_pad"),
        )
    state.add(node, layer)


def global_average_pool(state: Import, node: Node) -> None:
    """com.microsoft QLinearGlobalAveragePool."""
    _channels_second(node)
    with named_in_errors(node):
        layer = sums.global_average_pool(node.name, state.tensor(node), quantisations(state, node, 1, 3))
    state.add(node, layer)


def _channels_second(node: Node) -> None:
    if attributes.flag(node, "channels_last"):
        raise UnsupportedOperator(f"{node.label}: channels_last; quantise the model before its layout is changed")


def function(state: Import, node: Node) -> None:
    """com.microsoft QLinearSigmoid and QLinearLeakyRelu, as tables."""
    leaky = node.operator.endswith("LeakyRelu")
    alpha = np.float32(attributes.attribute(node, "alpha", float(np.float32(0.01))) if leaky else 0.0)

    def value(x: Array) -> Array:
        return np.where(x >= 0, x, x.astype(np.float32) * alpha) if leaky else ACTIVATIONS["sigmoid"][1](x)

    with named_in_errors(node):
        layer, values = elements.function(node.name, state.tensor(node), value, quantisations(state, node, 1, 3))
    state.add(node, layer, values=values)


def concat(state: Import, node: Node) -> None:
    """com.microsoft QLinearConcat: the scale of the result, then each part with its scale."""
    if len(node.inputs) % 3 != 2 or len(node.inputs) < 5:
        raise InvalidInput(f"{node.label}: expected a scale, and a tensor and a scale for each part")
    with named_in_errors(node):
        y_scale = quantisation(state, node, 0, 1)
        parts = [
            (state.tensor(node, position), quantisation(state, node, position + 1, position + 2))
            for position in range(2, len(node.inputs), 3)
        ]
        layers, values = elements.concat(node.name, parts, y_scale, attributes.attribute(node, "axis", 1))
    state.add(node, *layers, values=values)


def operand(state: Import, node: Node, position: int, ending: str) -> Tensor:
    """The operand that a node reads at a position, as a weight where it is constant."""
    if not state.is_constant(node, position):
        return state.tensor(node, position)
    return state.whole_weight(f"{node.name}_{ending}", state.whole(node, position))


def quantisation(state: Import, node: Node, scale: int, zero: int, dtype: str = "uint8") -> Quantisation:
    """The quantisation that a node reads at two positions; `dtype` is its type where it has no zero point.

    Errors: UnsupportedOperator for what is computed; InvalidInput for scales that are not float32, and for bad ones.
    """
    factors = state.whole(node, scale, ("float32",)).ravel()
    zeros = state.whole(node, zero) if node.input(zero) else np.zeros(1, dtype)
    return quantisation_of(factors, zeros)


def quantisations(state: Import, node: Node, *positions: int) -> Scales:
    """The quantisations whose scales a node reads at some positions, each before its zero point."""
    return tuple(quantisation(state, node, position, position + 1) for position in positions)


@contextmanager
def named_in_errors(node: Node) -> Iterator[None]:
    """Errors of scales name the node."""
    try:
        yield
    except InvalidInput as error:
        if not str(error).startswith("quantisation"):
            raise
        raise InvalidInput(f"{node.label}: {error}") from None


READS = {
    **dict.fromkeys(["com.microsoft.QLinearAdd", "com.microsoft.QLinearMul"], binary),
    **dict.fromkeys(["com.microsoft.QLinearSigmoid", "com.microsoft.QLinearLeakyRelu"], function),
    **dict.fromkeys(["DequantizeLinear", "com.microsoft.DequantizeLinear"], dequantize_linear),
    **dict.fromkeys(["QuantizeLinear", "com.microsoft.QuantizeLinear"], quantize_linear),
    "QLinearConv": convolution,
    "QLinearMatMul": matmul,
    "com.microsoft.QGemm": gemm,
    "com.microsoft.QLinearAveragePool": average_pool,
    "com.microsoft.QLinearConcat": concat,
    "com.microsoft.QLinearGlobalAveragePool": global_average_pool,
}
WRITES: Writers = {}
"""None: models are written in float32."""
