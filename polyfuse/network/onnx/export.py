"""ONNX models from networks, to run them in other tools.

A `Network` of built-in layers and concrete sizes enters; an ONNX model that computes the same leaves. Nodes are called
like layers, tensors like tensors; what has to stand between two nodes of one layer has a slash in its name.
"""

import os
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from polyfuse.errors import InvalidInput
from polyfuse.network.network import Network, require_float32
from polyfuse.network.onnx.file import Constant
from polyfuse.network.onnx.nodes import OPSET, layer_nodes
from polyfuse.network.tensor import Tensor

IR_VERSION = 9


def onnx_model(network: Network) -> onnx.ModelProto:
    """The model of a network; `load_onnx` of it gives a network of the same values.

    Errors: UnsupportedOperator for a layer that is not built in; InvalidInput for sizes that are parameters and
    elements that are not float32.

    >>> from polyfuse.network.network import Builder
    >>> build = Builder("pair")
    >>> y = build.conv("conv1", build.input("x", (1, 1, 20, 20)), 2, kernel=3, activation="relu")
    >>> model = onnx_model(build.network(build.max_pool("pool", y, kernel=2)))
    >>> [f"{node.op_type} -> {node.output[0]}" for node in model.graph.node]
    ['Conv -> conv1/linear', 'Relu -> conv1_out', 'MaxPool -> pool_out']
    """
    require_float32(network, "an ONNX model")
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, Constant] = dict(network.weights)
    for layer in network.layers:
        made, read = layer_nodes(layer)
        nodes += made
        constants |= read
    graph = helper.make_graph(
        nodes,
        network.name,
        [_value_info(tensor) for tensor in network.inputs],
        [_value_info(tensor) for tensor in network.outputs],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, producer_name="polyfuse", opset_imports=opsets, ir_version=IR_VERSION)


def save_onnx(network: Network, path: str | Path) -> None:
    """Write the model of a network, all of it or nothing.

    Errors: those of onnx_model; InvalidInput where the file cannot be written.
    """
    target = Path(path)
    data = onnx_model(network).SerializeToString()
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        os.replace(part, target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InvalidInput(
            f"model '{target}': expected a file that can be written, got: {error.strerror}; name another path"
        ) from error


def _value_info(tensor: Tensor) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.concrete_shape)
