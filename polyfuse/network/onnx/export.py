"""ONNX models from networks, to run them in other tools.

A `Network` of built-in layers and concrete sizes enters; an ONNX model that computes the same leaves. Nodes are called
like layers, tensors like tensors; what has to stand between two nodes of one layer has a slash in its name.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from polyfuse.errors import InvalidInput, UnsupportedOperator
from polyfuse.network.layer import Layer
from polyfuse.network.layers import is_activation
from polyfuse.network.network import Network, Values
from polyfuse.network.onnx.attributes import SIMPLE, WITH_NUMBERS
from polyfuse.network.tensor import Tensor

OPSET = 20
IR_VERSION = 9

Parts = tuple[list[onnx.NodeProto], dict[str, Values]]
"""Nodes, and the constants they read besides weights."""

ARITHMETIC = {"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div"}
PLAIN = {spec[0]: operator for operator, spec in SIMPLE.items()}
NUMBERED = {spec: (operator, [key for key, _ in keys]) for operator, (spec, keys) in WITH_NUMBERS.items()}


def onnx_model(network: Network) -> onnx.ModelProto:
    """The model of a network; `load_onnx` of it gives a network of the same values.

    Errors: UnsupportedOperator for a layer that is not built in; InvalidInput for sizes that are parameters.

    >>> from polyfuse.network.network import Builder
    >>> build = Builder("pair")
    >>> y = build.conv("conv1", build.input("x", (1, 1, 20, 20)), 2, kernel=3, activation="relu")
    >>> model = onnx_model(build.network(build.max_pool("pool", y, kernel=2)))
    >>> [f"{node.op_type} -> {node.output[0]}" for node in model.graph.node]
    ['Conv -> conv1/linear', 'Relu -> conv1_out', 'MaxPool -> pool_out']
    """
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, Values] = dict(network.weights)
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


def layer_nodes(layer: Layer) -> Parts:
    """The nodes of one layer; the last one makes its output."""
    convert = _activation if is_activation(layer) else CONVERTERS.get(layer.kind)
    if convert is None:
        raise UnsupportedOperator(
            f"layer {layer.name!r}: no ONNX operator computes a layer of kind {layer.kind!r}; export the layers "
            f"around it, or build it of {', '.join(sorted(CONVERTERS))} and activations"
        )
    return convert(layer)


def activation_nodes(name: str, spec: object, x: str, y: str) -> Parts:
    """What applies an activation to the tensor `x` and makes `y`.

    >>> [node.op_type for node in activation_nodes("act", "silu", "x", "y")[0]]
    ['Sigmoid', 'Mul']
    """
    kind, *numbers = _spec(spec)
    if kind in PLAIN:
        return [_node(PLAIN[kind], [x], y, name)], {}
    if kind in NUMBERED:
        operator, keys = NUMBERED[kind]
        return [_node(operator, [x], y, name, **dict(zip(keys, numbers, strict=True)))], {}
    if kind in ("gelu", "gelu_tanh"):
        mode = "tanh" if kind == "gelu_tanh" else "none"
        return [_node("Gelu", [x], y, name, approximate=mode)], {}
    if kind == "silu":
        gate = f"{name}/gate"
        nodes = [_node("Sigmoid", [x], gate, gate), _node("Mul", [x, gate], y, name)]
        return nodes, {}
    bounds = {"relu6": (0.0, 6.0), "clip": tuple(numbers), "at_least": (*numbers, None), "at_most": (None, *numbers)}
    if kind not in bounds:
        raise UnsupportedOperator(f"layer {name!r}: no ONNX operator computes the activation {kind!r}")
    read = {f"{name}/{key}": value for key, value in zip(("min", "max"), bounds[kind], strict=True)}
    given = [bound if value is not None else "" for bound, value in read.items()]
    constants = {bound: np.array(value, np.float32) for bound, value in read.items() if value is not None}
    return [_node("Clip", [x, *given] if given[-1] else [x, given[0]], y, name)], constants


def _spec(spec: object) -> tuple[str, *tuple[float, ...]]:
    """An activation's name and numbers."""
    name, *numbers = (spec,) if isinstance(spec, str) else tuple(spec) if isinstance(spec, Iterable) else (spec,)
    return str(name), *(float(str(number)) for number in numbers)


def _window(layer: Layer) -> dict[str, object]:
    """The attributes that convolutions and pools share."""
    kernel, stride, dilation, padding = (layer.attributes[key] for key in ("kernel", "stride", "dilation", "padding"))
    return {"kernel_shape": kernel, "strides": stride, "dilations": dilation, "pads": padding}


def _with_activation(layer: Layer, nodes: Callable[[str], Iterator[onnx.NodeProto]]) -> Parts:
    """The nodes that make a tensor of the name given, and those of the layer's activation."""
    spec, output = layer.attributes["activation"], layer.output.name
    if spec is None:
        return list(nodes(output)), {}
    linear = f"{layer.name}/linear"
    activation, constants = activation_nodes(f"{layer.name}/activation", spec, linear, output)
    return [*nodes(linear), *activation], constants


def _operands(layer: Layer) -> list[str]:
    names = layer.attributes["operands"]
    assert isinstance(names, Sequence)
    return [str(name) for name in names]


def _convolution(layer: Layer) -> Parts:
    reads = [tensor.name for tensor in (*layer.inputs, *layer.weights)]
    attributes = {**_window(layer), "group": layer.attributes["groups"]}
    return _with_activation(layer, lambda y: iter([_node("Conv", reads, y, layer.name, **attributes)]))


def _pool(layer: Layer) -> Parts:
    operator = "MaxPool" if layer.kind == "max_pool" else "AveragePool"
    attributes = {**_window(layer), "ceil_mode": int(bool(layer.attributes["ceil"]))}
    if operator == "AveragePool":
        attributes["count_include_pad"] = int(bool(layer.attributes["count_include_pad"]))
    return [_node(operator, [layer.inputs[0].name], layer.output.name, layer.name, **attributes)], {}


def _global_average_pool(layer: Layer) -> Parts:
    return [_node("GlobalAveragePool", [layer.inputs[0].name], layer.output.name, layer.name)], {}


def _arithmetic(layer: Layer) -> Parts:
    operator, reads = ARITHMETIC[layer.kind], _operands(layer)
    return _with_activation(layer, lambda y: iter([_node(operator, reads, y, layer.name)]))


def _affine(layer: Layer) -> Parts:
    x, scale, shift = _operands(layer)

    def nodes(y: str) -> Iterator[onnx.NodeProto]:
        yield _node("Mul", [x, scale], f"{layer.name}/scaled", f"{layer.name}/scale")
        yield _node("Add", [f"{layer.name}/scaled", shift], y, layer.name)

    return _with_activation(layer, nodes)


def _prelu(layer: Layer) -> Parts:
    return [_node("PRelu", _operands(layer), layer.output.name, layer.name)], {}


def _concat(layer: Layer) -> Parts:
    return [_node("Concat", _operands(layer), layer.output.name, layer.name, axis=1)], {}


def _copy(layer: Layer) -> Parts:
    return [_node("Identity", _operands(layer), layer.output.name, layer.name)], {}


def _activation(layer: Layer) -> Parts:
    return activation_nodes(layer.name, layer.attributes["activation"], layer.inputs[0].name, layer.output.name)


def _node(operator: str, reads: Sequence[str], output: str, name: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, reads, [output], name, **attributes)


def _value_info(tensor: Tensor) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.concrete_shape)


CONVERTERS: dict[str, Callable[[Layer], Parts]] = {
    "conv": _convolution,
    "max_pool": _pool,
    "average_pool": _pool,
    "global_average_pool": _global_average_pool,
    "add": _arithmetic,
    "sub": _arithmetic,
    "mul": _arithmetic,
    "div": _arithmetic,
    "affine": _affine,
    "prelu": _prelu,
    "concat": _concat,
    "copy": _copy,
}
"""The kinds of layers that have a node; activations on their own have one, too."""
