"""The built-in layers run instance by instance: their sets, relations and expressions agree with their references."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyfuse.errors import InvalidInput
from polyfuse.network.activated import with_activation
from polyfuse.network.activation import ACTIVATIONS
from polyfuse.network.instances import interpret
from polyfuse.network.layer import Layer
from polyfuse.network.layers import copies, pointwise, pooling
from polyfuse.network.layers.convolution import convolution
from polyfuse.network.reference import max_relative_error
from polyfuse.network.tensor import Tensor
from polyfuse.network.window import Window
from tests.network.onnx.models import values


def agrees(layer: Layer) -> bool:
    tensors = (*layer.inputs, *layer.weights)
    arrays = [values(t.concrete_shape, k).astype(np.float64) for k, t in enumerate(tensors)]
    assert layer.reference is not None
    interpreted = interpret(layer, {t.name: a for t, a in zip(tensors, arrays, strict=True)})
    with np.errstate(all="ignore"):
        return max_relative_error(interpreted, layer.reference(*arrays)) <= 1e-9


small = st.integers(1, 3)
pairs = st.tuples(small, small)
paddings = st.tuples(*[st.integers(0, 2)] * 4)
images = st.tuples(st.integers(7, 9), st.integers(7, 9))


@settings(max_examples=25, deadline=None)
@given(pairs, pairs, pairs, paddings, images, st.sampled_from([(1, 2, 1), (2, 1, 1), (2, 1, 2), (2, 2, 2), (1, 1, 3)]))
def test_convolution(kernel, stride, dilation, padding, image, channels):  # type: ignore[no-untyped-def]
    groups, in_group, per_group = channels
    x = Tensor("x", (1, groups * in_group, *image))
    w = Tensor("w", (groups * per_group, in_group, *kernel))
    b = Tensor("b", (groups * per_group,))
    window = Window(kernel, stride, dilation, padding)
    assert agrees(with_activation(convolution("conv", x, w, b, window, groups), "relu6"))


@settings(max_examples=40, deadline=None)
@given(pairs, pairs, pairs, paddings, images, st.booleans(), st.booleans(), st.booleans())
def test_pools(kernel, stride, dilation, padding, image, ceil, counted, largest):  # type: ignore[no-untyped-def]
    padding = tuple(min(p, kernel[d % 2] - 1) for d, p in enumerate(padding))
    window = Window(kernel, stride, dilation, padding)
    x = Tensor("x", (1, 1, *image))
    if largest:
        assert agrees(pooling.max_pool("pool", x, window, ceil))
    else:
        assert agrees(pooling.average_pool("pool", x, window, ceil, counted))


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activations(name: str) -> None:
    arguments = [-0.25, 0.75, 1.5][: ACTIVATIONS[name][2]]
    assert agrees(pointwise.activation("act", Tensor("x", (2, 2, 3, 4)), (name, *arguments)))


@pytest.mark.parametrize("kind", ["add", "sub", "mul", "div"])
def test_arithmetic_and_concat(kind: str) -> None:
    a, b = Tensor("a", (2, 2, 3, 4)), Tensor("b", (1, 2, 1, 4))
    assert agrees(with_activation(pointwise.arithmetic("op", kind, a, b), ("clip", -1, 1)))
    assert agrees(pointwise.arithmetic("op", kind, b, a))
    assert agrees(copies.concat("cat", [a, Tensor("c", (2, 1, 3, 4)), a]))
    assert agrees(pooling.global_average_pool("mean", a))


@pytest.mark.parametrize(
    "layer",
    [
        copies.concat("joined", [Tensor("a", (1, 2, 2, 3)), Tensor("b", (1, 1, 2, 3))]),
        copies.pad("pad", Tensor("a", (1, 2, 2, 3)), (0, 0, 1, 1), (0, 0, 0, 2), "constant", -0.5),
        copies.reshape("shape", Tensor("a", (2, 3)), (3, 2)),
        pooling.max_pool("largest", Tensor("a", (1, 1, 4, 5)), Window((2, 2))),
        pooling.average_pool("mean", Tensor("a", (1, 1, 4, 5)), Window((2, 2))),
    ],
    ids=lambda layer: str(layer.name),
)
def test_any_layer_may_end_in_an_activation(layer: Layer) -> None:
    assert agrees(with_activation(layer, ("leaky_relu", 0.25)))


def test_many_or_parametric_instances_are_refused() -> None:
    x = Tensor("x", (1, 1, 1000, 1000))
    with pytest.raises(InvalidInput, match="1,000,000 instances are too many"):
        interpret(pointwise.activation("act", x, "relu"), {"x": np.zeros(x.concrete_shape)})


def test_layers_refuse_shapes_that_do_not_fit() -> None:
    x, w = Tensor("x", (1, 4, 5, 5)), Tensor("w", (6, 2, 3, 3))
    with pytest.raises(InvalidInput, match="2 input channels"):
        convolution("conv", x, w)
    with pytest.raises(InvalidInput, match="expected a window of the 3x3 weights"):
        convolution("conv", x, w, window=Window((2, 3)), groups=2)
    with pytest.raises(InvalidInput, match="expected a bias of shape"):
        convolution("conv", x, w, Tensor("b", (5,)), groups=2)
    with pytest.raises(InvalidInput, match="does not fit"):
        pooling.max_pool("pool", x, Window((6, 6)))
    with pytest.raises(InvalidInput, match="smaller than the window"):
        pooling.max_pool("pool", x, Window((2, 2), padding=(2, 0, 0, 0)))
    with pytest.raises(InvalidInput, match="cannot broadcast"):
        pointwise.arithmetic("op", "add", x, Tensor("y", (1, 3, 5, 5)))
    with pytest.raises(InvalidInput, match="expected one of add"):
        pointwise.arithmetic("op", "modulo", x, x)
    with pytest.raises(InvalidInput, match="differ only along axis 1"):
        copies.concat("cat", [x, Tensor("y", (1, 3, 5, 6))])
    with pytest.raises(InvalidInput, match="expected one of abs"):
        pointwise.activation("act", x, "swoosh")
    with pytest.raises(InvalidInput, match="ends in relu, expected no activation yet; add tanh"):
        with_activation(pointwise.activation("act", x, "relu"), "tanh")
    with pytest.raises(InvalidInput, match="expected 2 finite numbers"):
        pointwise.activation("act", x, ("clip", 0, float("nan")))
