"""ONNX operators that sum over axes as layers: products of matrices, reductions, softmax."""

import numpy as np

from polyfuse.errors import InvalidInput, UnsupportedOperator
from polyfuse.network import copies, layers, matrices, reductions
from polyfuse.network.layer import Layer
from polyfuse.network.network import Values
from polyfuse.network.onnx import attributes
from polyfuse.network.onnx.graph import Node
from polyfuse.network.onnx.importing import Import, in_double
from polyfuse.network.operators import Array
from polyfuse.network.tensor import Tensor


def gemm(state: Import, node: Node) -> None:
    """Gemm: with constant weights one layer; else a product, a scale and a sum."""
    alpha, beta = (attributes.float_attribute(node, name, 1.0) for name in ("alpha", "beta"))
    if state.is_constant(node, 1) and not state.is_constant(node, 0) and not _computed(state, node, 2):
        a = _factor(state, node, 0, "transA", "a")
        w: Array | Values = state.constant(node, 1)
        w = w if alpha == 1.0 else in_double(w) * alpha
        w = w if attributes.flag(node, "transB") else w.T
        bias = in_double(state.constant(node, 2)) * beta if node.input(2) else None
        weight = state.weight(f"{node.name}_weight", w)
        shift = None if bias is None else state.weight(f"{node.name}_bias", np.atleast_1d(bias))
        known = state.dequantised(node, 1) if alpha == 1.0 else None
        if known is not None and not attributes.flag(node, "transB"):
            known = known.transposed()
        layer = matrices.gemm(node.name, a, weight, shift)
        state.add_knowing(node, layer, {weight: known, shift: state.dequantised(node, 2) if beta == 1.0 else None})
        return
    _computed_gemm(state, node, alpha, beta)


def _computed(state: Import, node: Node, position: int) -> bool:
    return bool(node.input(position)) and not state.is_constant(node, position)


def _computed_gemm(state: Import, node: Node, alpha: float, beta: float) -> None:
    """`alpha * A * B + beta * C` of operands that are computed, or constant but not weights."""
    a, b = _factor(state, node, 0, "transA", "a"), _factor(state, node, 1, "transB", "b")
    summed = bool(node.input(2))
    last = "sum" if summed else "scaled" if alpha != 1.0 else "product"
    names = {stage: f"{node.name}_{stage}" for stage in ("product", "scaled", "c")} | {last: node.name}
    constants = [tensor for position, tensor in enumerate((a, b)) if state.is_constant(node, position)]
    made = matrices.matmul(names["product"], a, b, constants)
    if alpha != 1.0:
        made = _times(state, names["scaled"], state.build.add(made), alpha)
    if summed:
        fixed = ["b"] if state.is_constant(node, 2) else []
        if fixed:
            c = state.weight(f"{node.name}_constant2", np.atleast_1d(in_double(state.constant(node, 2)) * beta))
        else:
            c = state.tensor(node, 2)
            c = c if beta == 1.0 else state.build.add(_times(state, names["c"], c, beta))
        made = layers.arithmetic(node.name, "add", state.build.add(made), c, constants=fixed)
    state.add(node, made)


def _factor(state: Import, node: Node, position: int, flag: str, ending: str) -> Tensor:
    """A matrix, transposed where a flag says so: at import where it is constant."""
    turned = attributes.flag(node, flag)
    if state.is_constant(node, position):
        value = state.constant(node, position)
        if value.ndim == 2:
            value = np.ascontiguousarray(value.T) if turned else value
            return state.weight(f"{node.name}_constant{position}", value)
        raise InvalidInput(f"{node.label}: expected a matrix as input {position} of {node.operator}, got {value.shape}")
    found = state.tensor(node, position)
    if len(found.shape) != 2:
        raise InvalidInput(f"{node.label}: expected a matrix as input {position} of {node.operator}, got {found}")
    return state.build.add(copies.transpose(f"{node.name}_{ending}", found, (1, 0))) if turned else found


def _times(state: Import, name: str, x: Tensor, factor: float) -> Layer:
    """A tensor times a number."""
    weight = state.weight(f"{name}_constant", np.full((1,) * len(x.shape), factor))
    return layers.arithmetic(name, "mul", x, weight, constants=("b",))


def matmul(state: Import, node: Node) -> None:
    """MatMul: of a matrix and constant weights the same layer as Gemm."""
    if state.is_constant(node, 1) and not state.is_constant(node, 0) and len(state.tensor(node).shape) == 2:
        w = state.constant(node, 1)
        if w.ndim == 2:
            weight = state.weight(f"{node.name}_weight", np.ascontiguousarray(w.T))
            known = state.dequantised(node, 1)
            layer = matrices.gemm(node.name, state.tensor(node), weight)
            state.add_knowing(node, layer, {weight: None if known is None else known.transposed()})
            return
    read, constants = state.operands(node)
    if len(read) != 2:
        raise InvalidInput(f"{node.label}: expected two operands for MatMul, got {len(read)}")
    layer = matrices.matmul(node.name, read[0], read[1], constants)
    state.add_knowing(node, layer, {t: state.dequantised(node, k) for k, t in enumerate(read) if t in constants})


REDUCTIONS = {
    "ReduceSum": "reduce_sum",
    "ReduceMean": "reduce_mean",
    "ReduceMax": "reduce_max",
    "ReduceMin": "reduce_min",
    "ReduceProd": "reduce_prod",
    "ReduceSumSquare": "reduce_sum_square",
    "ReduceL1": "reduce_l1",
    "ReduceL2": "reduce_l2",
    "ReduceLogSum": "reduce_sum",
    "ReduceLogSumExp": "",
}
"""The reductions, and what layers they are."""


def reduction(state: Import, node: Node) -> None:
    """A reduction along the axes given, or all."""
    x = state.tensor(node)
    given = state.listed(node, "axes", 1)
    keepdims = bool(attributes.int_attribute(node, "keepdims", 1))
    untouched = attributes.flag(node, "noop_with_empty_axes")
    if untouched and not given:
        if node.operator not in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"):
            raise UnsupportedOperator(f"{node.label}: {node.operator} along no axes; name the axes")
        state.alias(node, x)
        return
    axes = attributes.axes_of(node, x, given or range(len(x.shape)))
    if node.operator == "ReduceLogSumExp":
        state.add_all(node, reductions.log_sum_exp(node.name, x, axes, keepdims))
        return
    spec = ("log",) if node.operator == "ReduceLogSum" else None
    kind = REDUCTIONS[node.operator]
    state.add(node, reductions.reduce(node.name, kind, x, axes, keepdims=keepdims, activation=spec))


def softmax(state: Import, node: Node) -> None:
    """Softmax and LogSoftmax: along one axis, before opset 13 along all axes from one on."""
    x = state.tensor(node)
    flat = state.opset < 13
    axis = attributes.axis_of(node, x, attributes.int_attribute(node, "axis", 1 if flat else -1))
    axes = range(axis, len(x.shape)) if flat else (axis,)
    make = reductions.softmax if node.operator == "Softmax" else reductions.log_softmax
    state.add_all(node, make(node.name, x, axes))
