"""One node of an ONNX graph evaluated on constants, at import.

A `NodeProto` and the values of its inputs enter; the values of its outputs leave. Files are not trusted: only operators
of a list are evaluated, and what they make is bounded before anything is allocated.
"""

import warnings
from collections.abc import Sequence
from math import ceil, prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper
from onnx.reference import ReferenceEvaluator

from polyfuse.errors import InvalidInput, UnsupportedOperator
from polyfuse.network.onnx.file import Constant, check_size, tensor_value
from polyfuse.network.onnx.schemas import check_form
from polyfuse.network.onnx.subgraphs import own

POINTWISE = (
    "Abs Add And Ceil Clip Div Equal Exp Floor Greater GreaterOrEqual Less LessOrEqual Log Max Mean Min Mod Mul "
    "Neg Not Or Pow Reciprocal Relu Round Sigmoid Sign Sqrt Sub Sum Tanh Where"
)
MOVING = (
    "Cast Concat Expand Flatten Gather GatherElements Identity Range Reshape Slice Split Squeeze Tile Transpose "
    "Unsqueeze ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum DequantizeLinear QuantizeLinear"
)
SCALING = frozenset(["DequantizeLinear", "QuantizeLinear"])
"""Operators that are evaluated here: ONNX's evaluator has one of them only from operator set 19 on."""
CONTRIBUTED = "com.microsoft"
"""The domain whose operators of these names, which onnxruntime's quantiser can write, are the same."""
WHOLE = ("int8", "uint8", "int16", "uint16", "int32")
"""The types of the elements that they are evaluated for."""
FOLDED = frozenset([*POINTWISE.split(), *MOVING.split(), "Constant", "ConstantOfShape", "Shape", "Size"])
"""The operators that are evaluated on constants."""
MAX_AXES = 64
"""The most axes of a constant, as numpy has it."""


def can_evaluate(node: onnx.NodeProto) -> bool:
    """A node makes constants of constants by an operator that is evaluated."""
    ours = own(node.domain) or (node.domain == CONTRIBUTED and node.op_type in SCALING)
    return node.op_type in FOLDED and ours


def evaluated(node: onnx.NodeProto, inputs: Sequence[Constant | None], opset: int) -> list[Constant]:
    """The outputs of a node; `inputs` are None where they are left out.

    Errors: UnsupportedOperator for operators that are not evaluated; InvalidInput for results that are too large and
    inputs that do not fit.
    """
    where = f"constant {node.output[0]!r}"
    if not can_evaluate(node):
        raise UnsupportedOperator(
            f"{where}: made by the operator {node.op_type!r}; only {', '.join(sorted(FOLDED))} are evaluated at "
            "import; fold the model's constants first, e.g. with onnxsim"
        )
    check_form(node, where, opset)
    try:
        if node.op_type == "Constant":
            return [_constant(node)]
        if node.op_type == "ConstantOfShape":
            return [_constant_of_shape(node, inputs)]
        if node.op_type == "Unsqueeze":
            return [_unsqueezed(node, inputs)]
        check_size(where, (largest_result(node, [value for value in inputs if value is not None]),))
        with np.errstate(all="ignore"):
            scaled = _scaled(node, *inputs) if node.op_type in SCALING else None  # type: ignore[arg-type]
        return [scaled] if scaled is not None else _computed(node, inputs, opset)
    except (InvalidInput, UnsupportedOperator):
        raise
    except Exception as error:  # the evaluator raises anything on damaged nodes
        why = " ".join(str(error).split())[:200]
        raise InvalidInput(f"{where}: cannot evaluate its {node.op_type!r} ({why})") from None


def _constant(node: onnx.NodeProto) -> Constant:
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    for name in attributes.keys() - {"value"}:
        if name.removesuffix("s") in ("value_float", "value_int"):
            return np.asarray(attributes[name], dtype=np.float32 if "float" in name else np.int64)
    value = attributes["value"]
    if not isinstance(value, onnx.TensorProto):
        raise TypeError("its value is no tensor")
    return tensor_value(value, None)


def _unsqueezed(node: onnx.NodeProto, inputs: Sequence[Constant | None]) -> Constant:
    """Axes of size 1 put in, counted in the result, in any order. ONNX's evaluator puts them in one after the other."""
    given = next((helper.get_attribute_value(each) for each in node.attribute if each.name == "axes"), None)
    data, axes = inputs[0], given if given is not None else inputs[1]
    if data is None or axes is None:
        raise ValueError("it has no data or no axes")
    places = [int(axis) for axis in np.ravel(axes)[:MAX_AXES]]
    return np.expand_dims(data, tuple(places))


def _constant_of_shape(node: onnx.NodeProto, inputs: Sequence[Constant | None]) -> Constant:
    """One element as often as the shape says, stored once."""
    if not inputs or inputs[0] is None:
        raise ValueError("it has no shape")
    if inputs[0].size > MAX_AXES:
        raise ValueError(f"a shape of {inputs[0].size} axes, at most {MAX_AXES} are known")
    shape = tuple(int(size) for size in inputs[0].ravel())
    check_size("ConstantOfShape", shape)
    value = next((helper.get_attribute_value(each) for each in node.attribute if each.name == "value"), None)
    fill = tensor_value(value, None) if isinstance(value, onnx.TensorProto) else np.zeros(1, dtype=np.float32)
    return np.broadcast_to(fill.reshape(()), shape)


def _scaled(
    node: onnx.NodeProto, x: NDArray[Any], factors: NDArray[Any], zeros: NDArray[Any] | None = None
) -> Constant | None:
    """Whole numbers as float32 or the other way round, by scales of float32; None for other types, and for blocks.

    Errors: ValueError, TypeError for inputs that do not fit.
    """
    given = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    stores = node.op_type == "QuantizeLinear"
    wanted = given.get("output_dtype", 0) or onnx.TensorProto.UINT8
    whole = zeros.dtype if zeros is not None else helper.tensor_dtype_to_np_dtype(wanted) if stores else x.dtype
    plain = str(whole) in WHOLE and factors.dtype == np.float32 and x.dtype == (factors.dtype if stores else whole)
    if not plain or given.get("block_size", 0) or (factors.ndim > 1 and factors.size > 1):
        return None
    column = [1] * x.ndim
    if factors.size > 1:
        column[_axis(given.get("axis", 1), x.ndim)] = -1
    scale = factors.reshape(column)
    zero = np.zeros(column) if zeros is None else zeros.astype(np.float64).reshape(column)
    limits = np.iinfo(whole)
    made: NDArray[Any] = (x - zero).astype(np.float32) * scale
    if stores:
        made = np.clip(np.rint(x / scale) + zero, limits.min, limits.max).astype(whole)
    return made.reshape(x.shape)


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise ValueError(f"it has no axis {axis}")
    return axis % rank


def largest_result(node: onnx.NodeProto, inputs: Sequence[Constant]) -> int:
    """The largest number of elements that an output of a node may have."""
    whole = sum(value.size for value in inputs)
    match node.op_type, inputs:
        case "Expand", [data, shape]:
            return prod(np.broadcast_shapes(data.shape, tuple(int(size) for size in shape.ravel()[:MAX_AXES])))
        case "Gather", [data, indices]:
            return data.size * indices.size
        case "Range", [start, limit, step]:
            return max(0, ceil((float(limit.item()) - float(start.item())) / float(step.item())))
        case "Tile", [data, repeats]:
            return data.size * prod(max(0, int(times)) for times in repeats.ravel()[:MAX_AXES])
    return prod(np.broadcast_shapes(*(value.shape for value in inputs))) if node.op_type in POINTWISE.split() else whole


def _computed(node: onnx.NodeProto, inputs: Sequence[Constant | None], opset: int) -> list[Constant]:
    """The outputs of a node by ONNX's own evaluator."""
    given = {name: value for name, value in zip(node.input, inputs, strict=True) if value is not None}
    entering = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in given.items()
    ]
    leaving = [helper.make_value_info(name, onnx.TypeProto()) for name in filter(None, node.output)]
    graph = helper.make_graph([node], "folded", entering, leaving)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        made = ReferenceEvaluator(model).run(None, given)
    return [np.asarray(value) for value in made]
