"""Operators: what they are called, when they are equal, and that they say all that a layer was built of."""

from dataclasses import FrozenInstanceError, dataclass, fields, replace

import pytest

from polyfuse.network.activated import with_activation
from polyfuse.network.activation import ACTIVATIONS, Activation
from polyfuse.network.layer import Layer
from polyfuse.network.layers import copies, matrices, pointwise, pooling, reductions
from polyfuse.network.layers.convolution import convolution
from polyfuse.network.layers.deconvolution import conv_transpose
from polyfuse.network.operator import (
    Affine,
    Arithmetic,
    Conv,
    ConvTranspose,
    Custom,
    GlobalPool,
    LocalResponse,
    Matmul,
    Operator,
    Pool,
    Quantised,
    Reduce,
    SpaceToDepth,
    window_of,
)
from polyfuse.network.quantised.scheme import Quantisation
from polyfuse.network.tensor import Tensor
from polyfuse.network.window import Window

X = Tensor("x", (1, 4, 9, 8))
WINDOW = Window((3, 2), (2, 1), (1, 2), (1, 0, 2, 1))
SCALE = Quantisation(0.5)


@pytest.mark.parametrize(
    ("operator", "kind"),
    [
        (Conv(WINDOW), "conv"),
        (ConvTranspose(WINDOW), "conv_transpose"),
        (Pool("max", WINDOW), "max_pool"),
        (Pool("average", WINDOW), "average_pool"),
        (GlobalPool(WINDOW), "global_average_pool"),
        (Reduce("sum_square", (1,)), "reduce_sum_square"),
        (Arithmetic("pow"), "pow"),
        (LocalResponse(5, 1e-4, 0.75, 1.0), "lrn"),
        (SpaceToDepth(2, "DCR"), "space_to_depth"),
        (Quantised(Conv(WINDOW), (SCALE,) * 3, (0, 9)), "qlinear_conv"),
        (Quantised(Matmul(), (SCALE,) * 3, (0, 9)), "qlinear_matmul"),
        (Quantised(GlobalPool(WINDOW), (SCALE,) * 2, (0, 9)), "qlinear_global_average_pool"),
        (Custom(), "custom"),
        (Custom("stencil"), "stencil"),
    ],
)
def test_kinds_are_names_for_people(operator: Operator, kind: str) -> None:
    assert operator.kind == kind


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_an_activation_by_itself_is_called_by_its_name(name: str) -> None:
    numbers = (0.5, 0.75)[: ACTIVATIONS[name][2]]
    layer = pointwise.activation("act", X, (name, *numbers))
    assert layer.kind == name and layer.activation == Activation(name, numbers)
    assert Activation.of(layer.activation.spec) == layer.activation


def test_an_operator_of_ones_own_is_called_by_its_class() -> None:
    @dataclass(frozen=True)
    class MagnitudePool(Operator):
        window: Window

    assert MagnitudePool(WINDOW).kind == "magnitude_pool"
    assert MagnitudePool(WINDOW) != Pool("max", WINDOW) and window_of(MagnitudePool(WINDOW)) == WINDOW


def test_operators_are_values() -> None:
    assert Conv(WINDOW, 2) == Conv(replace(WINDOW), 2) != Conv(WINDOW)
    assert len({Conv(WINDOW), Conv(Window((3, 2))), ConvTranspose(WINDOW), Affine(), Affine()}) == 4
    with pytest.raises(FrozenInstanceError):
        Conv(WINDOW).groups = 2  # type: ignore[misc]


def test_windows_are_those_of_the_operators_within() -> None:
    assert window_of(Conv(WINDOW)) == window_of(Quantised(Pool("average", WINDOW), (SCALE,) * 2, (0, 9))) == WINDOW
    assert window_of(Affine()) is None and window_of(Quantised(Matmul(), (SCALE,) * 3, (0, 9))) is None


W, V = Tensor("w", (6, 2, 3, 2)), Tensor("v", (4, 3, 3, 2))
SAID: dict[str, tuple[Layer, Operator]] = {
    "conv": (convolution("l", X, W, None, WINDOW, 2), Conv(WINDOW, 2)),
    "plain conv": (convolution("l", X, W, groups=2), Conv(Window((3, 2)), 2)),
    "transposed": (conv_transpose("l", X, V, None, WINDOW, 2, (1, 0)), ConvTranspose(WINDOW, 2, (1, 0))),
    "max pool": (pooling.max_pool("l", X, WINDOW, ceil=True), Pool("max", WINDOW, True)),
    "means": (pooling.average_pool("l", X, WINDOW, counts_padding=True), Pool("average", WINDOW, False, True)),
    "global": (pooling.global_average_pool("l", X), GlobalPool(Window((9, 8)))),
    "reduction": (reductions.reduce("l", "max", X, (-1, 1), keepdims=False), Reduce("max", (1, 3), False)),
}


@pytest.mark.parametrize("name", SAID)
def test_layers_say_what_they_were_built_of(name: str) -> None:
    layer, operator = SAID[name]
    assert layer.operator == operator and with_activation(layer, "relu").operator == operator


def test_operands_are_those_of_the_statements_in_order() -> None:
    other = Tensor("y", X.shape)
    assert pointwise.arithmetic("l", "sub", other, X).operands == (other, X)
    assert pointwise.arithmetic("l", "mul", X, X).operands == (X, X)
    assert copies.concat("l", [X, other, X]).operands == (X, other, X)
    a, b = Tensor("a", (2, 3)), Tensor("b", (3, 4))
    assert matrices.matmul("l", a, b, [a]).operands == (a, b)


def test_nothing_but_an_operator_says_what_a_layer_is() -> None:
    assert {"kind", "attributes"}.isdisjoint(field.name for field in fields(Layer))
