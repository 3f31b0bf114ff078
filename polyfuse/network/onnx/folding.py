"""One node of an ONNX graph evaluated on constants, at import.

A `NodeProto` and the values of its inputs enter; the values of its outputs leave. Files are not trusted: only operators
of a list are evaluated, and the sizes of what they make are inferred before anything is allocated.
"""

import warnings
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import defs, helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from polyfuse.errors import InvalidInput, UnsupportedOperator
from polyfuse.network.onnx.file import Constant, check_size, tensor_value

POINTWISE = (
    "Abs Add And Cast Ceil Clip Div Equal Exp Floor Greater GreaterOrEqual Less LessOrEqual Log Max Mean Min Mod Mul "
    "Neg Not Or Pow Reciprocal Relu Round Sigmoid Sign Sqrt Sub Sum Tanh Where"
)
MOVING = (
    "Concat Expand Flatten Gather GatherElements GatherND Identity Pad Range Reshape Slice Split Squeeze Tile "
    "Transpose Unsqueeze ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum"
)
FOLDED = frozenset([*POINTWISE.split(), *MOVING.split(), "Constant", "ConstantOfShape", "Shape", "Size"])
"""The operators that are evaluated on constants."""
MAX_SHAPE_ELEMENTS = 1024
"""The most integers whose values shape inference is told."""


def evaluated(node: onnx.NodeProto, inputs: Sequence[Constant | None], opset: int) -> list[Constant]:
    """The outputs of a node; `inputs` are None where they are left out.

    Errors: UnsupportedOperator for operators that are not evaluated and sizes that cannot be told beforehand;
    InvalidInput for results that are too large and inputs that do not fit.
    """
    where = f"constant {node.output[0]!r}"
    if node.op_type not in FOLDED or node.domain not in ("", "ai.onnx"):
        raise UnsupportedOperator(
            f"{where}: made by the operator {node.op_type!r}; only {', '.join(sorted(FOLDED))} are evaluated at "
            "import; fold the model's constants first, e.g. with onnxsim"
        )
    try:
        if node.op_type == "Constant":
            return [_constant(node)]
        if node.op_type == "ConstantOfShape":
            return [_constant_of_shape(node, inputs)]
        _check_results(where, node, inputs, opset)
        return _computed(node, inputs, opset)
    except (InvalidInput, UnsupportedOperator):
        raise
    except Exception as error:  # the evaluator and shape inference raise anything on damaged nodes
        why = " ".join(str(error).split())[:200]
        raise InvalidInput(f"{where}: cannot evaluate its {node.op_type!r} ({why})") from None


def _constant(node: onnx.NodeProto) -> Constant:
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    for name, dtype in (
        ("value_float", np.float32),
        ("value_floats", np.float32),
        ("value_int", np.int64),
        ("value_ints", np.int64),
    ):
        if name in attributes:
            return np.asarray(attributes[name], dtype=dtype)
    value = attributes["value"]
    if not isinstance(value, onnx.TensorProto):
        raise TypeError("its value is no tensor")
    return tensor_value(value, None)


def _constant_of_shape(node: onnx.NodeProto, inputs: Sequence[Constant | None]) -> Constant:
    """One element as often as the shape says, stored once."""
    if not inputs or inputs[0] is None:
        raise ValueError("it has no shape")
    shape = tuple(int(size) for size in inputs[0].ravel())
    check_size("ConstantOfShape", shape)
    value = next((helper.get_attribute_value(each) for each in node.attribute if each.name == "value"), None)
    fill = tensor_value(value, None) if isinstance(value, onnx.TensorProto) else np.zeros(1, dtype=np.float32)
    return np.broadcast_to(fill.reshape(()), shape)


def _check_results(where: str, node: onnx.NodeProto, inputs: Sequence[Constant | None], opset: int) -> None:
    """Refuse results that are too large, or whose size is not known before they are made."""
    given = {name: value for name, value in zip(node.input, inputs, strict=True) if value is not None}
    types = {name: _type(value) for name, value in given.items()}
    numbers = {
        name: numpy_helper.from_array(np.ascontiguousarray(value), name)
        for name, value in given.items()
        if value.size <= MAX_SHAPE_ELEMENTS
    }
    schema = defs.get_schema(node.op_type, opset, "")
    opsets = [helper.make_opsetid("", opset)]
    made = shape_inference.infer_node_outputs(schema, node, types, numbers, opset_imports=opsets)
    for name in filter(None, node.output):
        shape = made[name].tensor_type.shape if name in made else None
        if shape is None or not all(dim.HasField("dim_value") for dim in shape.dim):
            raise UnsupportedOperator(
                f"{where}: the size of what its {node.op_type!r} makes is not known beforehand; fold the model's "
                "constants first, e.g. with onnxsim"
            )
        check_size(where, tuple(int(dim.dim_value) for dim in shape.dim))


def _type(value: Constant) -> onnx.TypeProto:
    return helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)


def _computed(node: onnx.NodeProto, inputs: Sequence[Constant | None], opset: int) -> list[Constant]:
    """The outputs of a node by ONNX's own evaluator."""
    given = {name: value for name, value in zip(node.input, inputs, strict=True) if value is not None}
    entering = [helper.make_value_info(name, _type(value)) for name, value in given.items()]
    leaving = [helper.make_value_info(name, onnx.TypeProto()) for name in filter(None, node.output)]
    graph = helper.make_graph([node], "folded", entering, leaving)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        made = ReferenceEvaluator(model).run(None, given)
    return [np.asarray(value) for value in made]
