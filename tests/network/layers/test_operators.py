"""The reference semantics of every operator against onnxruntime."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from polyfuse.errors import InvalidInput
from polyfuse.network.activation import ACTIVATIONS
from polyfuse.network.layer import Layer
from polyfuse.network.layers import copies, pointwise, pooling
from polyfuse.network.layers.convolution import convolution
from polyfuse.network.network import Network
from polyfuse.network.reference import max_relative_error, random_inputs, run
from polyfuse.network.tensor import Tensor
from polyfuse.network.window import Window
from tests.network.onnx.models import Array, model, onnxruntime_run, values

CLOSE = 1e-5


def value(layer: Layer, **given_values: Array) -> np.ndarray:
    """The layer's output as a network of one layer."""
    weights = {t.name: given_values.pop(t.name) for t in layer.weights}
    return run(Network("one", layer.inputs, (layer,), (layer.output,), weights), given_values)[layer.output.name]


windows = st.fixed_dictionaries(
    {
        "kernel": st.tuples(st.integers(1, 4), st.integers(1, 4)),
        "stride": st.tuples(st.integers(1, 4), st.integers(1, 4)),
        "dilation": st.tuples(st.integers(1, 3), st.integers(1, 3)),
    }
)
paddings = st.tuples(*[st.integers(0, 3)] * 4)
PADDED = Window((3, 3), padding=(1, 1, 1, 1))
sizes = st.tuples(st.integers(1, 2), st.sampled_from([1, 2, 4]), st.integers(10, 15), st.integers(10, 15))


@settings(max_examples=80, deadline=None)
@given(windows, paddings, sizes, st.sampled_from([1, 2, 4]), st.integers(1, 3), st.booleans())
def test_convolution_is_that_of_onnx(window, padding, size, groups, per_group, biased):  # type: ignore[no-untyped-def]
    batch, in_group, rows, columns = size
    x = values((batch, in_group * groups, rows, columns))
    w = values((per_group * groups, in_group, *window["kernel"]), 1)
    b = values((per_group * groups,), 2)
    node = helper.make_node(
        "Conv", ["x", "w", "b"] if biased else ["x", "w"], ["y"], kernel_shape=window["kernel"], pads=padding,
        strides=window["stride"], dilations=window["dilation"], group=groups,
    )  # fmt: skip
    (expected,) = onnxruntime_run(model([node], {"x": x.shape}, ["y"], {"w": w, "b": b}), {"x": x})
    bias = Tensor("b", b.shape) if biased else None
    tensors = Tensor("x", x.shape), Tensor("w", w.shape), bias
    layer = convolution("conv", *tensors, Window(**window, padding=padding), groups)
    given_values = {"x": x, "w": w} | ({"b": b} if biased else {})
    assert max_relative_error(value(layer, **given_values), expected) <= CLOSE


def pool_node(kind: str, window: dict[str, tuple[int, int]], padding, ceil: bool, **attributes: int):  # type: ignore[no-untyped-def]
    return helper.make_node(
        kind, ["x"], ["y"], kernel_shape=window["kernel"], strides=window["stride"], dilations=window["dilation"],
        pads=padding, ceil_mode=int(ceil), **attributes,
    )  # fmt: skip


def smaller(padding: tuple[int, ...], kernel: tuple[int, int]) -> tuple[int, ...]:
    """Padding that a pooling window accepts: smaller than the kernel."""
    return tuple(min(p, kernel[d % 2] - 1) for d, p in enumerate(padding))


@settings(max_examples=80, deadline=None)
@given(windows, paddings, sizes, st.booleans())
def test_max_pool_is_that_of_onnx(window, padding, size, ceil):  # type: ignore[no-untyped-def]
    x = values((size[0], size[1], size[2], size[3]))
    padding = smaller(padding, window["kernel"])
    (expected,) = onnxruntime_run(model([pool_node("MaxPool", window, padding, ceil)], {"x": x.shape}, ["y"]), {"x": x})
    layer = pooling.max_pool("pool", Tensor("x", x.shape), Window(**window, padding=padding), ceil)
    assert max_relative_error(value(layer, x=x), expected) <= CLOSE


@settings(max_examples=120, deadline=None)
@given(windows, paddings, sizes, st.booleans(), st.booleans())
def test_average_pool_is_that_of_onnx(window, padding, size, ceil, counted):  # type: ignore[no-untyped-def]
    x = values((size[0], size[1], size[2], size[3]))
    padding = smaller(padding, window["kernel"])
    node = pool_node("AveragePool", window, padding, ceil, count_include_pad=int(counted))
    (expected,) = onnxruntime_run(model([node], {"x": x.shape}, ["y"]), {"x": x})
    layer = pooling.average_pool("pool", Tensor("x", x.shape), Window(**window, padding=padding), ceil, counted)
    assert max_relative_error(value(layer, x=x), expected) <= CLOSE


def test_global_average_pool_is_that_of_onnx() -> None:
    x = values((2, 3, 7, 5))
    node = helper.make_node("GlobalAveragePool", ["x"], ["y"])
    (expected,) = onnxruntime_run(model([node], {"x": x.shape}, ["y"]), {"x": x})
    assert max_relative_error(value(pooling.global_average_pool("pool", Tensor("x", x.shape)), x=x), expected) <= CLOSE


OF_ONNX = {
    "relu": ("Relu", (), {}),
    "clip": ("Clip", (-0.5, 1.25), None),
    "relu6": ("Clip", (), None),
    "at_least": ("Clip", (-0.5,), None),
    "at_most": ("Clip", (0.75,), None),
    "leaky_relu": ("LeakyRelu", (0.3,), {"alpha": 0.3}),
    "sigmoid": ("Sigmoid", (), {}),
    "tanh": ("Tanh", (), {}),
    "silu": ("silu", (), None),
    "hard_sigmoid": ("HardSigmoid", (0.3, 0.4), {"alpha": 0.3, "beta": 0.4}),
    "hard_swish": ("HardSwish", (), {}),
    "elu": ("Elu", (1.5,), {"alpha": 1.5}),
    "softplus": ("Softplus", (), {}),
    "gelu": ("Gelu", (), {}),
    "gelu_tanh": ("Gelu", (), {"approximate": "tanh"}),
    "abs": ("Abs", (), {}),
    "neg": ("Neg", (), {}),
    "exp": ("Exp", (), {}),
    "sqrt": ("Sqrt", (), {}),
    "erf": ("Erf", (), {}),
    "log": ("Log", (), {}),
    "reciprocal": ("Reciprocal", (), {}),
}
BOUNDS = {"clip": (-0.5, 1.25), "relu6": (0.0, 6.0), "at_least": (-0.5, None), "at_most": (None, 0.75)}


def test_every_activation_is_compared() -> None:
    assert set(OF_ONNX) == set(ACTIVATIONS)


@pytest.mark.parametrize("name", sorted(OF_ONNX))
def test_activation_is_that_of_onnx(name: str) -> None:
    operator, arguments, attributes = OF_ONNX[name]
    x = values((1, 2, 9, 11)) * 4
    constants = {}
    nodes = [helper.make_node(operator, ["x"], ["y"], **(attributes or {}))]
    if name in BOUNDS:
        constants = {k: np.float32(v) for k, v in zip(("lo", "hi"), BOUNDS[name], strict=True) if v is not None}
        nodes = [helper.make_node("Clip", ["x", *(k if k in constants else "" for k in ("lo", "hi"))], ["y"])]
    if name == "silu":
        nodes = [helper.make_node("Sigmoid", ["x"], ["s"]), helper.make_node("Mul", ["x", "s"], ["y"])]
    (expected,) = onnxruntime_run(model(nodes, {"x": x.shape}, ["y"], constants), {"x": x})
    layer = pointwise.activation("act", Tensor("x", x.shape), (name, *arguments))
    assert max_relative_error(value(layer, x=x), expected) <= CLOSE


@pytest.mark.parametrize("kind", ["add", "sub", "mul", "div"])
@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 3, 1, 1), (1, 1, 5, 7), (2, 1, 1, 7)])
def test_arithmetic_is_that_of_onnx(kind: str, shape: tuple[int, ...]) -> None:
    a, b = values((2, 3, 5, 7)), np.abs(values(shape, 1)) + 0.5
    node = helper.make_node(kind.capitalize(), ["a", "b"], ["y"])
    (expected,) = onnxruntime_run(model([node], {"a": a.shape, "b": b.shape}, ["y"]), {"a": a, "b": b})
    layer = pointwise.arithmetic("op", kind, Tensor("a", a.shape), Tensor("b", b.shape))
    assert max_relative_error(value(layer, a=a, b=b), expected) <= CLOSE


def test_concat_is_that_of_onnx_and_may_repeat_a_tensor() -> None:
    a, b = values((2, 3, 5, 7)), values((2, 2, 5, 7), 1)
    node = helper.make_node("Concat", ["a", "b", "a"], ["y"], axis=1)
    (expected,) = onnxruntime_run(model([node], {"a": a.shape, "b": b.shape}, ["y"]), {"a": a, "b": b})
    ta, tb = Tensor("a", a.shape), Tensor("b", b.shape)
    assert max_relative_error(value(copies.concat("cat", [ta, tb, ta]), a=a, b=b), expected) == 0.0


def test_padding_is_not_read_and_nan_is_kept() -> None:
    x = np.ones((1, 1, 3, 3), dtype=np.float32)
    w = np.full((1, 1, 3, 3), 1.0, dtype=np.float32)
    w[0, 0, 0, 0] = np.inf
    layer = convolution("conv", Tensor("x", x.shape), Tensor("w", w.shape), window=PADDED)
    y = value(layer, x=x, w=w)[0, 0]
    assert y[0, 0] == 4.0 and y[1, 1] == np.inf and not np.isnan(y).any()
    x[0, 0, 1, 1] = np.nan
    assert np.isnan(value(pooling.max_pool("pool", Tensor("x", x.shape), Window((2, 2))), x=x)).all()
    assert np.isnan(value(pointwise.activation("act", Tensor("x", x.shape), "relu"), x=x)[0, 0, 1, 1])


def test_errors_are_infinite_where_a_nan_or_a_shape_disagrees() -> None:
    nan, inf = np.nan, np.inf
    assert max_relative_error([nan, 1.0], [nan, 1.0]) == 0.0
    assert max_relative_error([1.0, nan], [nan, 1.0]) == inf
    assert max_relative_error([inf, 1.0], [1.0, 1.0]) == inf
    assert max_relative_error([inf], [-inf]) == inf and max_relative_error([inf], [inf]) == 0.0
    assert max_relative_error([1.0], [[1.0]]) == inf
    assert max_relative_error([1.0], [0.0]) == inf and max_relative_error([0.0], [0.0]) == 0.0
    assert max_relative_error([-3.0, 4.0], [-4.0, 4.0]) == 0.25


def test_inputs_are_checked() -> None:
    layer = pointwise.activation("act", Tensor("x", (1, 2, 3, 4)), "relu")
    net = Network("one", layer.inputs, (layer,), (layer.output,), {})
    with pytest.raises(InvalidInput, match="expected the inputs x, got y"):
        run(net, {"y": np.zeros((1, 2, 3, 4))})
    with pytest.raises(InvalidInput, match=r"expected shape \(1, 2, 3, 4\), got \(2, 3\)"):
        run(net, {"x": np.zeros((2, 3))})
    with pytest.raises(InvalidInput, match="expected an array of numbers"):
        run(net, {"x": "text"})
    first, second = random_inputs(net, 1), random_inputs(net, 1)
    assert first["x"].dtype == np.float32 and np.array_equal(first["x"], second["x"])


def test_symbolic_average_that_depends_on_the_size_is_refused() -> None:
    x = Tensor("x", (1, 1, "H", "W"))
    with pytest.raises(InvalidInput, match="count_include_pad"):
        pooling.average_pool("pool", x, PADDED)
    counted = pooling.average_pool("pool", x, PADDED, counts_padding=True)
    assert counted.statements[-1].expression == "acc / (3 * 3)"
