"""Single quantised operators in onnxruntime, and integer layers on the same values."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from polyfuse.network.instances import interpret
from polyfuse.network.layer import Layer
from polyfuse.network.network import Network
from polyfuse.network.quantised.scheme import Quantisation
from polyfuse.network.reference import run
from tests.network.onnx.models import onnxruntime_run

Values = NDArray[Any]
Given = tuple[str, Values | None, bool]
"""The name of an input, its value, None where it is left out, and whether it is constant."""
OWN = ("QLinearConv", "QLinearMatMul", "QuantizeLinear", "DequantizeLinear")
"""The operators of ONNX itself; the others are onnxruntime's."""


def model(operator: str, given: Sequence[Given], dtype: str, **attributes: Any) -> onnx.ModelProto:
    """A model of one node, whose result is of a type."""
    domain = "" if operator in OWN else "com.microsoft"
    node = helper.make_node(operator, ["" if v is None else n for n, v, _ in given], ["y"], domain=domain, **attributes)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    computed = [(n, v) for n, v, constant in given if v is not None and not constant]
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in computed],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(np.asarray(v), n) for n, v, constant in given if v is not None and constant],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def onnxruntime_value(operator: str, given: Sequence[Given], dtype: str, **attributes: Any) -> Values:
    """What the node makes in onnxruntime."""
    feeds = {name: value for name, value, constant in given if value is not None and not constant}
    (made,) = onnxruntime_run(model(operator, given, dtype, **attributes), feeds)
    return made


def parts(name: str, scale: Quantisation) -> list[Given]:
    """The scale and the zero point of a tensor as constant inputs of a node."""
    zero = np.asarray(scale.zero_point, dtype=scale.dtype)
    return [(f"{name}_scale", np.asarray(scale.scale, np.float32), True), (f"{name}_zero", zero, True)]


def value(layers: Layer | Sequence[Layer], weights: Mapping[str, Values], **inputs: Values) -> Values:
    """The value of the last layer of a few, which read weights and inputs by these names."""
    every = [layers] if isinstance(layers, Layer) else list(layers)
    made = {layer.output for layer in every}
    read = tuple(dict.fromkeys(t for layer in every for t in layer.inputs if t not in made))
    network = Network("one", read, tuple(every), (every[-1].output,), weights)
    return run(network, inputs)[every[-1].output.name]


def instances(layer: Layer, **values: Values) -> Values:
    """The value of a small layer, instance by instance."""
    return interpret(layer, {name: np.asarray(each, dtype=np.float64) for name, each in values.items()})


def pairs(dtype: str) -> tuple[Values, Values]:
    """All pairs of elements of a type of eight bits."""
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    a, b = np.meshgrid(np.arange(low, high + 1), np.arange(low, high + 1))
    return a.astype(dtype), b.astype(dtype)


def drawn(generator: np.random.Generator, dtype: str, shape: Sequence[int]) -> Values:
    """Elements of a type of eight bits, all equally likely."""
    return generator.integers(np.iinfo(dtype).min, np.iinfo(dtype).max + 1, shape).astype(dtype)


def scales(generator: np.random.Generator, dtype: str, ties: bool, channels: int | None = None) -> Quantisation:
    """A quantisation: realistic, or a power of two, with which results are often halfway between elements."""
    count = (channels or 1,)
    drawn_scales = 2.0 ** generator.integers(-6, 1, count) if ties else generator.uniform(1e-3, 0.1, count)
    numbers = tuple(float(np.float32(scale)) for scale in drawn_scales)
    zero = int(generator.integers(np.iinfo(dtype).min, np.iinfo(dtype).max + 1))
    return Quantisation(numbers if channels else numbers[0], 0 if channels else zero, dtype)
