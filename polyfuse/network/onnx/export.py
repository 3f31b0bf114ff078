"""ONNX models from networks, to run them in other tools.

A `Network` of built-in layers and concrete sizes enters; an ONNX model that computes the same leaves. Nodes are called
like layers, tensors like tensors; what has to stand between two nodes of one layer has a slash in its name. Inputs and
outputs are those of the network's signature: in its order, by its names, with what nothing reads and what is constant.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from polyfuse.errors import UnsupportedOperator
from polyfuse.files import write_atomically
from polyfuse.network.layer import Layer
from polyfuse.network.network import Network, require_float32
from polyfuse.network.onnx.file import Constant
from polyfuse.network.onnx.registry import WRITERS
from polyfuse.network.onnx.writing import OPSET, Parts, activation_nodes
from polyfuse.network.operator import Activate
from polyfuse.network.signature import Input, Output
from polyfuse.network.tensor import distinct_name

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
    names = _distinct(exported_names(network), nodes, constants)
    for node in nodes:
        for values in (node.input, node.output):
            values[:] = [names.get(name, name) for name in values]
    nodes = [node for node in nodes if node.op_type != "Identity" or node.input[:] != node.output[:]]
    constants = {names.get(name, name): value for name, value in constants.items()}
    constants |= {each.name: each.value for each in network.ends.outputs if each.value is not None}
    graph = helper.make_graph(
        [*nodes, *_repeated(network, names)],
        network.name,
        [_input(network, each) for each in network.ends.inputs],
        [_output(network, each) for each in network.ends.outputs],
        [numpy_helper.from_array(np.array(value, order="C"), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, producer_name="polyfuse", opset_imports=opsets, ir_version=IR_VERSION)


def layer_nodes(layer: Layer) -> Parts:
    """The nodes of one layer; the last one makes its output.

    Errors: UnsupportedOperator where ONNX has no operator for it.
    """
    output = layer.output.name
    if layer.activation is not None and layer.operator == Activate():
        return activation_nodes(layer.name, layer.activation, layer.inputs[0].name, output)
    write = next((WRITERS[each] for each in type(layer.operator).__mro__ if each in WRITERS), None)
    if write is None:
        raise UnsupportedOperator(
            f"layer {layer.name!r}: no ONNX operator computes a layer of kind {layer.kind!r}; export the layers "
            f"around it, or build it of {', '.join(sorted(each.__name__ for each in WRITERS))} and activations"
        )
    if layer.activation is None:
        return write(layer.operator, layer, output)
    linear = f"{layer.name}/linear"
    nodes, constants = write(layer.operator, layer, linear)
    ending, numbers = activation_nodes(f"{layer.name}/activation", layer.activation, linear, output)
    return [*nodes, *ending], {**constants, **numbers}


def exported_names(network: Network) -> dict[str, str]:
    """What the tensors of a network are called in its model, where that is something else: the model's own ends.

    A tensor inside of the network whose name an end has gets another.
    """
    ends = network.ends
    names: dict[str, str] = {}
    for inside, listed in ((network.inputs, ends.inputs), (network.outputs, ends.outputs)):
        for each in listed:
            if each.tensor is not None:
                names.setdefault(inside[each.tensor].name, each.name)
    taken = {*ends.input_names, *ends.output_names}
    for layer in network.layers:
        for tensor in (layer.output, *layer.weights):
            if tensor.name not in names and tensor.name in taken:
                names[tensor.name] = distinct_name(f"{tensor.name}_inner", taken)
    return names


def _distinct(
    names: Mapping[str, str], nodes: Sequence[onnx.NodeProto], constants: Mapping[str, Constant]
) -> dict[str, str]:
    """The names, with another one for each tensor between nodes of a layer that is called like an end."""
    own = {name for node in nodes for name in (*node.input, *node.output)} | set(constants)
    ends = set(names.values())
    return {**{name: f"{name}/inner" for name in own & ends if name not in names}, **names}


def _repeated(network: Network, names: Mapping[str, str]) -> list[onnx.NodeProto]:
    """Nodes that give a tensor to each further output that it is."""
    found = []
    for each in network.ends.outputs:
        if each.tensor is not None and (first := names.get(network.outputs[each.tensor].name)) not in (None, each.name):
            found.append(helper.make_node("Identity", [first], [each.name], name=each.name))
    return list({node.output[0]: node for node in found}.values())


def _input(network: Network, each: Input) -> onnx.ValueInfoProto:
    if each.tensor is not None:
        return _float(each.name, network.inputs[each.tensor].concrete_shape)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(each.dtype or "float32"))
    return helper.make_tensor_value_info(each.name, kind, each.shape)


def _output(network: Network, each: Output) -> onnx.ValueInfoProto:
    if each.tensor is not None:
        return _float(each.name, network.outputs[each.tensor].concrete_shape)
    if each.given is not None:
        return _input(network, network.ends.inputs[each.given])
    assert each.value is not None
    return helper.make_tensor_value_info(each.name, helper.np_dtype_to_tensor_dtype(each.value.dtype), each.value.shape)


def _float(name: str, shape: Sequence[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def save_onnx(network: Network, path: str | Path) -> None:
    """Write the model of a network, all of it or nothing.

    Errors: those of onnx_model; InvalidInput where the file cannot be written.
    """
    write_atomically(Path(path), onnx_model(network).SerializeToString())
