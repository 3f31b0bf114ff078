"""Layers as ONNX nodes.

A `Layer` enters; nodes of which the last makes its output, and the constants that they read besides weights, leave.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from polyfuse.errors import UnsupportedOperator
from polyfuse.network.layer import Layer
from polyfuse.network.layers import is_activation
from polyfuse.network.onnx.attributes import SIMPLE, WITH_NUMBERS
from polyfuse.network.onnx.file import Constant
from polyfuse.network.reductions import REDUCTIONS
from polyfuse.network.resizing import Resampling

OPSET = 20
"""The version of the operators."""

Parts = tuple[list[onnx.NodeProto], Mapping[str, Constant]]
"""Nodes, and the constants they read besides weights."""

ARITHMETIC = {
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "max": "Max",
    "min": "Min",
    "pow": "Pow",
    "sum": "Sum",
    "mean": "Mean",
}
PLAIN = {spec[0]: operator for operator, spec in SIMPLE.items()}
NUMBERED = {spec: (operator, [key for key, _ in keys]) for operator, (spec, keys) in WITH_NUMBERS.items()}


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
    return [_node("Concat", _operands(layer), layer.output.name, layer.name, axis=layer.attributes["axis"])], {}


def _copy(layer: Layer) -> Parts:
    return [_node("Identity", _operands(layer), layer.output.name, layer.name)], {}


def _activation(layer: Layer) -> Parts:
    return activation_nodes(layer.name, layer.attributes["activation"], layer.inputs[0].name, layer.output.name)


def _deconvolution(layer: Layer) -> Parts:
    reads = [tensor.name for tensor in (*layer.inputs, *layer.weights)]
    attributes = {**_window(layer), "group": layer.attributes["groups"]}
    attributes["output_padding"] = layer.attributes["output_padding"]
    return _with_activation(layer, lambda y: iter([_node("ConvTranspose", reads, y, layer.name, **attributes)]))


def _gemm(layer: Layer) -> Parts:
    reads = [tensor.name for tensor in (*layer.inputs, *layer.weights)]
    return _with_activation(layer, lambda y: iter([_node("Gemm", reads, y, layer.name, transB=1)]))


def _matmul(layer: Layer) -> Parts:
    vectors = [tensor for tensor in (*layer.inputs, *layer.weights) if len(tensor.shape) == 1]
    if layer.output.shape == (1,) and len(vectors) == len(_operands(layer)):
        return _of_one_element(layer, lambda y: _node("MatMul", _operands(layer), y, f"{layer.name}/product"))
    return [_node("MatMul", _operands(layer), layer.output.name, layer.name)], {}


def _of_one_element(layer: Layer, node: Callable[[str], onnx.NodeProto]) -> Parts:
    """A node that makes a tensor of rank 0, in the shape (1,)."""
    flat, shape = f"{layer.name}/flat", f"{layer.name}/shape"
    nodes = [node(flat), _node("Reshape", [flat, shape], layer.output.name, layer.name)]
    return nodes, {shape: np.array([1], np.int64)}


def _reduction(layer: Layer) -> Parts:
    operator = "".join(part.capitalize() for part in layer.kind.split("_"))
    axes, along, keepdims = f"{layer.name}/axes", layer.attributes["axes"], bool(layer.attributes["keepdims"])
    reads = [layer.inputs[0].name, axes]
    constants = {axes: np.array(along, np.int64)}
    if not keepdims and len(constants[axes]) == len(layer.inputs[0].shape) and layer.attributes["activation"] is None:
        nodes, shape = _of_one_element(layer, lambda y: _node(operator, reads, y, f"{layer.name}/all", keepdims=0))
        return nodes, {**constants, **shape}
    nodes, more = _with_activation(
        layer, lambda y: iter([_node(operator, reads, y, layer.name, keepdims=int(keepdims))])
    )
    return nodes, {**constants, **more}


def _variance(layer: Layer) -> Parts:
    (x, mean), name = (tensor.name for tensor in layer.inputs), layer.name
    axes = {f"{name}/axes": np.array(layer.attributes["axes"], np.int64)}
    nodes = [
        _node("Sub", [x, mean], f"{name}/centred", f"{name}/centred"),
        _node("Mul", [f"{name}/centred"] * 2, f"{name}/squared", f"{name}/squared"),
        _node("ReduceMean", [f"{name}/squared", *axes], layer.output.name, name),
    ]
    return nodes, axes


def _instance_norm(layer: Layer) -> Parts:
    x, mean, spread, scale, shift = _operands(layer)
    name = layer.name
    epsilon = {f"{name}/epsilon": np.array(layer.attributes["epsilon"], np.float32)}

    def nodes(y: str) -> Iterator[onnx.NodeProto]:
        yield _node("Sub", [x, mean], f"{name}/centred", f"{name}/centred")
        yield _node("Add", [spread, *epsilon], f"{name}/spread", f"{name}/spread")
        yield _node("Sqrt", [f"{name}/spread"], f"{name}/root", f"{name}/root")
        yield _node("Div", [f"{name}/centred", f"{name}/root"], f"{name}/divided", f"{name}/divided")
        yield _node("Mul", [f"{name}/divided", scale], f"{name}/scaled", f"{name}/scaled")
        yield _node("Add", [f"{name}/scaled", shift], y, name)

    made, constants = _with_activation(layer, nodes)
    return made, {**epsilon, **constants}


def _local_response(layer: Layer) -> Parts:
    given = {name: layer.attributes[name] for name in ("size", "alpha", "beta", "bias")}
    return [_node("LRN", [layer.inputs[0].name], layer.output.name, layer.name, **given)], {}


def _with_numbers(operator: str, *names: str) -> Callable[[Layer], Parts]:
    """A node whose further inputs are attributes of the layer, as whole numbers."""

    def convert(layer: Layer) -> Parts:
        constants = {f"{layer.name}/{name}": np.array(layer.attributes[name], np.int64) for name in names}
        reads = [layer.inputs[0].name, *constants]
        return [_node(operator, reads, layer.output.name, layer.name)], constants

    return convert


def _transpose(layer: Layer) -> Parts:
    order = layer.attributes["permutation"]
    return [_node("Transpose", [layer.inputs[0].name], layer.output.name, layer.name, perm=order)], {}


def _slice(layer: Layer) -> Parts:
    starts, sizes, steps = (np.array(layer.attributes[name], np.int64) for name in ("starts", "sizes", "steps"))
    ends = starts + sizes * steps
    ends = np.where(ends < 0, np.iinfo(np.int64).min, ends)
    numbers = {"starts": starts, "ends": ends, "axes": np.arange(len(starts)), "steps": steps}
    constants = {f"{layer.name}/{name}": value for name, value in numbers.items()}
    return [_node("Slice", [layer.inputs[0].name, *constants], layer.output.name, layer.name)], constants


def _gather(layer: Layer) -> Parts:
    indices = {f"{layer.name}/indices": np.array(layer.attributes["indices"], np.int64)}
    axis = layer.attributes["axis"]
    return [_node("Gather", [layer.inputs[0].name, *indices], layer.output.name, layer.name, axis=axis)], indices


def _pad(layer: Layer) -> Parts:
    before, after = (np.array(layer.attributes[name], np.int64) for name in ("before", "after"))
    pads, value = f"{layer.name}/pads", f"{layer.name}/value"
    constants = {pads: np.concatenate([before, after]), value: np.array(layer.attributes["value"], np.float32)}
    reads = [layer.inputs[0].name, pads, value]
    return [_node("Pad", reads, layer.output.name, layer.name, mode=layer.attributes["mode"])], constants


def _depth_and_space(layer: Layer) -> Parts:
    block, mode, x = layer.attributes["block"], layer.attributes["mode"], layer.inputs[0]
    if layer.kind == "depth_to_space":
        return [_node("DepthToSpace", [x.name], layer.output.name, layer.name, blocksize=block, mode=mode)], {}
    if mode != "DCR":
        raise UnsupportedOperator(f"layer {layer.name!r}: ONNX {OPSET} has no SpaceToDepth of the mode {mode}")
    return [_node("SpaceToDepth", [x.name], layer.output.name, layer.name, blocksize=block)], {}


def _resize(layer: Layer) -> Parts:
    how, name = layer.attributes["how"], layer.name
    assert isinstance(how, Resampling)
    if how.coordinates == "tf_half_pixel_for_nn":
        raise UnsupportedOperator(f"layer {name!r}: ONNX {OPSET} has no Resize of the mode {how.coordinates}")
    sizes, scales = np.array(layer.attributes["sizes"], np.int64), np.array(layer.attributes["scales"], np.float32)
    whole = np.array_equal(scales, (sizes / np.array(layer.inputs[0].concrete_shape)).astype(np.float32))
    constants: dict[str, Constant] = {f"{name}/sizes": sizes} if whole else {f"{name}/scales": scales}
    reads = [layer.inputs[0].name, "", "", *constants] if whole else [layer.inputs[0].name, "", *constants]
    node = _node(
        "Resize",
        reads,
        layer.output.name,
        name,
        mode=how.mode,
        coordinate_transformation_mode=how.coordinates,
        nearest_mode=how.rounding,
        cubic_coeff_a=how.cubic,
        exclude_outside=int(how.exclude_outside),
    )
    return [node], constants


def _node(operator: str, reads: Sequence[str], output: str, name: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, reads, [output], name, **attributes)


CONVERTERS: dict[str, Callable[[Layer], Parts]] = {
    "conv": _convolution,
    "max_pool": _pool,
    "average_pool": _pool,
    "global_average_pool": _global_average_pool,
    **dict.fromkeys(ARITHMETIC, _arithmetic),
    **dict.fromkeys(REDUCTIONS, _reduction),
    "affine": _affine,
    "prelu": _prelu,
    "concat": _concat,
    "conv_transpose": _deconvolution,
    "copy": _copy,
    "depth_to_space": _depth_and_space,
    "expand": _with_numbers("Expand", "shape"),
    "gather": _gather,
    "gemm": _gemm,
    "instance_norm": _instance_norm,
    "lrn": _local_response,
    "matmul": _matmul,
    "pad": _pad,
    "reshape": _with_numbers("Reshape", "shape"),
    "resize": _resize,
    "slice": _slice,
    "space_to_depth": _depth_and_space,
    "split": _slice,
    "transpose": _transpose,
    "variance": _variance,
}
"""The kinds of layers that have a node; activations on their own have one, too."""
