"""The ONNX operators that become layers.

A `Node` and an `Import` enter; one layer or a few are added to the builder. Nothing is fused.
"""

from collections.abc import Callable

from polyfuse.errors import InvalidInput, UnsupportedOperator
from polyfuse.network.onnx import attributes, elementwise, moving, quantised, reducing, resizing, windows
from polyfuse.network.onnx.attributes import ACTIVATION_OPERATORS
from polyfuse.network.onnx.graph import Node
from polyfuse.network.onnx.importing import Import
from polyfuse.network.onnx.schemas import check_form

CONVERTERS: dict[str, Callable[[Import, Node], None]] = {
    **dict.fromkeys(ACTIVATION_OPERATORS, elementwise.activation),
    **dict.fromkeys(["Add", "Sub", "Mul", "Div", "Pow"], elementwise.arithmetic),
    **dict.fromkeys(["Sum", "Max", "Min", "Mean"], elementwise.variadic),
    **dict.fromkeys(reducing.REDUCTIONS, reducing.reduction),
    **dict.fromkeys(["Softmax", "LogSoftmax"], reducing.softmax),
    **dict.fromkeys(["MaxPool", "AveragePool"], windows.pool),
    **dict.fromkeys(["GlobalAveragePool", "GlobalMaxPool"], windows.global_pool),
    **dict.fromkeys(["Identity", "Cast"], elementwise.identity),
    **dict.fromkeys(["com.microsoft.QLinearAdd", "com.microsoft.QLinearMul"], quantised.binary),
    **dict.fromkeys(["com.microsoft.QLinearSigmoid", "com.microsoft.QLinearLeakyRelu"], quantised.function),
    "BatchNormalization": elementwise.batch_normalisation,
    "Concat": moving.concat,
    "Conv": windows.convolution,
    "ConvTranspose": windows.deconvolution,
    "DepthToSpace": moving.depth_to_space,
    "DequantizeLinear": quantised.dequantize_linear,
    "Dropout": elementwise.dropout,
    "Expand": moving.expand,
    "Flatten": moving.flatten,
    "Gather": moving.gather,
    "Gemm": reducing.gemm,
    "InstanceNormalization": elementwise.instance_normalisation,
    "LRN": elementwise.local_response,
    "MatMul": reducing.matmul,
    "PRelu": elementwise.prelu,
    "Pad": moving.pad,
    "QLinearConv": quantised.convolution,
    "QLinearMatMul": quantised.matmul,
    "QuantizeLinear": quantised.quantize_linear,
    "Reshape": moving.reshape,
    "Resize": resizing.resize,
    "Slice": moving.slice_,
    "SpaceToDepth": moving.space_to_depth,
    "Split": moving.split,
    "Squeeze": moving.squeeze,
    "Transpose": moving.transpose,
    "Unsqueeze": moving.unsqueeze,
    "Upsample": resizing.upsample,
    "com.microsoft.DequantizeLinear": quantised.dequantize_linear,
    "com.microsoft.QGemm": quantised.gemm,
    "com.microsoft.QLinearAveragePool": quantised.average_pool,
    "com.microsoft.QLinearConcat": quantised.concat,
    "com.microsoft.QLinearGlobalAveragePool": quantised.global_average_pool,
    "com.microsoft.QuantizeLinear": quantised.quantize_linear,
}
"""What converts a node of each operator."""


def add(state: Import, node: Node) -> None:
    """Import a node.

    Nothing of it is ignored: what its converter has not read is refused, unless it is without effect.
    Errors: UnsupportedOperator for operators, attributes, inputs and outputs that are not known.
    """
    convert = CONVERTERS.get(node.operator)
    if convert is None:
        raise UnsupportedOperator(
            f"{node.label}: the operator {node.operator} is not supported; name a first and a last node that leave "
            f"it out, or export the model with one of the {len(CONVERTERS)} operators that docs/operators.md lists"
        )
    if not node.outputs or not all(node.inputs[:1]):
        raise InvalidInput(f"{node.label}: expected an input and an output for {node.operator}")
    check_form(node.proto, node.label, state.opset)
    convert(state, node)
    attributes.check_read(node)
    attributes.check_made(node, state.tensors, {*state.graph.readers, *state.graph.outputs})
