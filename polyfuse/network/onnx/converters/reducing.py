"""ONNX operators that sum over axes as layers: products of matrices, reductions, softmax."""

from collections.abc import Callable

import numpy as np
from onnx import NodeProto

from polyfuse.errors import InvalidInput, UnsupportedOperator
from polyfuse.network.activated import with_activation
from polyfuse.network.dtypes import Array, Values
from polyfuse.network.layer import Layer
from polyfuse.network.layers import copies, matrices, pointwise, reductions
from polyfuse.network.onnx import attributes
from polyfuse.network.onnx.graph import Node
from polyfuse.network.onnx.importing import Import, in_double
from polyfuse.network.onnx.writing import Parts, Writers, names, node, of_weights, single, with_numbers
from polyfuse.network.operator import Gemm, Matmul, Reduce, Reduction, Variance
from polyfuse.network.tensor import Tensor


def gemm(state: Import, node: Node) -> None:
    """Gemm: with constant weights one layer; else a product, a scale and a sum."""
    alpha, beta = (attributes.attribute(node, name, 1.0) for name in ("alpha", "beta"))
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
        made = pointwise.arithmetic(node.name, "add", state.build.add(made), c, constants=fixed)
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
    return pointwise.arithmetic(name, "mul", x, weight, constants=("b",))


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


REDUCTIONS: dict[str, Reduction] = {
    "ReduceSum": "sum",
    "ReduceMean": "mean",
    "ReduceMax": "max",
    "ReduceMin": "min",
    "ReduceProd": "prod",
    "ReduceSumSquare": "sum_square",
    "ReduceL1": "l1",
    "ReduceL2": "l2",
    "ReduceLogSum": "sum",
}
"""Operators that are one reduction."""


def reduction(state: Import, node: Node) -> None:
    """A reduction along the axes given, or all."""
    x = state.tensor(node)
    given = state.listed(node, "axes", 1)
    keepdims = bool(attributes.attribute(node, "keepdims", 1))
    untouched = attributes.flag(node, "noop_with_empty_axes")
    if untouched and not given:
        if node.operator not in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"):
            raise UnsupportedOperator(f"{node.label}: {node.operator} along no axes; name the axes")
        state.alias(node, x)
        return
    axes = attributes.axes_of(node, x, given or range(len(x.shape)))
    if node.operator == "ReduceLogSumExp":
        state.add(node, *reductions.log_sum_exp(node.name, x, axes, keepdims))
        return
    layer = reductions.reduce(node.name, REDUCTIONS[node.operator], x, axes, keepdims=keepdims)
    state.add(node, with_activation(layer, "log" if node.operator == "ReduceLogSum" else None))


def softmax(state: Import, node: Node) -> None:
    """Softmax and LogSoftmax: along one axis, before opset 13 along all axes from one on."""
    x = state.tensor(node)
    flat = state.opset < 13
    axis = attributes.axis_of(node, x, attributes.attribute(node, "axis", 1 if flat else -1))
    axes = range(axis, len(x.shape)) if flat else (axis,)
    make = reductions.softmax if node.operator == "Softmax" else reductions.log_softmax
    state.add(node, *make(node.name, x, axes))


READS = {
    **dict.fromkeys([*REDUCTIONS, "ReduceLogSumExp"], reduction),
    **dict.fromkeys(["Softmax", "LogSoftmax"], softmax),
    "Gemm": gemm,
    "MatMul": matmul,
}


def _matmul(_: Matmul, layer: Layer, y: str) -> Parts:
    if layer.output.shape == (1,) and all(len(tensor.shape) == 1 for tensor in layer.operands):
        return _of_one_element(layer, y, lambda flat: node("MatMul", names(layer), flat, f"{layer.name}/product"))
    return single("MatMul", layer, y)


def _of_one_element(layer: Layer, y: str, made: Callable[[str], NodeProto]) -> Parts:
    """A node that makes a tensor of rank 0, in the shape (1,)."""
    flat, shape = f"{layer.name}/flat", f"{layer.name}/shape"
    return [made(flat), node("Reshape", [flat, shape], y, layer.name)], {shape: np.array([1], np.int64)}


def _reduction(reduced: Reduce, layer: Layer, y: str) -> Parts:
    operator = f"Reduce{''.join(part.capitalize() for part in reduced.how.split('_'))}"
    axes = {f"{layer.name}/axes": np.array(reduced.axes, np.int64)}
    reads = [layer.inputs[0].name, *axes]
    if not reduced.keepdims and len(reduced.axes) == len(layer.inputs[0].shape):
        nodes, shape = _of_one_element(
            layer, y, lambda flat: node(operator, reads, flat, f"{layer.name}/all", keepdims=0)
        )
        return nodes, {**axes, **shape}
    return with_numbers(operator, layer, y, {"axes": reduced.axes}, keepdims=int(reduced.keepdims))


def _variance(spread: Variance, layer: Layer, y: str) -> Parts:
    (x, mean), name = (tensor.name for tensor in layer.inputs), layer.name
    axes = {f"{name}/axes": np.array(spread.axes, np.int64)}
    nodes = [
        node("Sub", [x, mean], f"{name}/centred", f"{name}/centred"),
        node("Mul", [f"{name}/centred"] * 2, f"{name}/squared", f"{name}/squared"),
        node("ReduceMean", [f"{name}/squared", *axes], y, name),
    ]
    return nodes, axes


WRITES: Writers = {
    Gemm: lambda _, layer, y: of_weights("Gemm", layer, y, transB=1),
    Matmul: _matmul,
    Reduce: _reduction,
    Variance: _variance,
}
