"""Rewriting as a whole: fixed points, names, weights that are shared, and why near misses are no matches."""

import re

import numpy as np
import pytest

from polyfuse.network.activated import with_activation
from polyfuse.network.activation import Activation
from polyfuse.network.layers import copies, pointwise
from polyfuse.network.layers.convolution import convolution
from polyfuse.network.network import Builder, Network
from polyfuse.network.reference import max_relative_error, random_inputs, run
from polyfuse.rewrite.rewriting import NearMiss, rewrite
from tests.rewrite.rules.examples import EXAMPLES, Draw


def kinds(network: Network) -> list[tuple[str, str]]:
    return [(layer.name, layer.kind) for layer in network.layers]


def test_batch_norm_scale_and_activation_become_part_of_the_convolution() -> None:
    draw = Draw(0)
    y = draw.affine("bn", draw.conv("conv", draw.input(), bias=False))
    y = draw.with_weight("more", "mul", y, 1, 4, 1, 1)
    network = draw.build.network(draw.build.activation("act", y, "relu"))
    found = rewrite(network)
    assert kinds(found.network) == [("conv", "conv")]
    assert found.network.layers[0].activation == Activation("relu")
    assert [tensor.name for tensor in found.network.layers[0].weights] == ["conv_weight", "conv_bias"]
    assert found.tensors["act_out"] == found.network.outputs[0]
    assert "bn_out" not in found.tensors and "more_out" not in found.tensors


def test_rewriting_again_changes_nothing() -> None:
    for example in EXAMPLES.values():
        once = rewrite(example(1)).network
        again = rewrite(once)
        assert not again.applied and again.network.layers == once.layers


def test_rewriting_is_deterministic() -> None:
    for example in EXAMPLES.values():
        first, second = rewrite(example(2)), rewrite(example(2))
        assert first.applied == second.applied and str(first.network) == str(second.network)


def test_foldings_are_rounded_once() -> None:
    """Three scalings whose products float32 cannot hold: the result is the float64 product, rounded."""
    build = Builder("chain")
    factors = [np.full((1, 1, 1, 1), value, np.float32) for value in (0.1, 0.3, 0.7)]
    y = build.conv("conv", build.input("x", (1, 1, 2, 2)), 1, kernel=1, weight=factors[0], bias=False)
    for name, value in zip("ab", factors[1:], strict=True):
        w = build.weight(f"{name}_constant", (1, 1, 1, 1), 1, value)
        y = build.add(pointwise.arithmetic(name, "mul", y, w, constants=["b"]))
    exact = np.prod([float(value.ravel()[0]) for value in factors])
    assert rewrite(build.network(y)).network.weights["conv_weight"].ravel()[0] == np.float32(exact)


def test_weights_that_another_layer_reads_stay() -> None:
    """Two convolutions share their weights; only one of them is scaled."""
    draw = Draw(3)
    x, w = draw.input(), draw.weight("shared", 4, draw.channels, 3, 3)
    first, second = (draw.build.add(convolution(name, x, w)) for name in ("first", "second"))
    network = draw.build.network(draw.affine("bn", first), second)
    found = rewrite(network)
    assert kinds(found.network) == [("first", "conv"), ("second", "conv")]
    inputs = random_inputs(network, 0)
    before, after = run(network, inputs), run(found.network, inputs)
    for old, new in zip(network.outputs, found.network.outputs, strict=True):
        assert max_relative_error(after[new.name], before[old.name]) <= 1e-12


def test_an_output_in_the_middle_stays_what_it_is() -> None:
    draw = Draw(1)
    y = draw.conv("conv", draw.input())
    found = rewrite(draw.build.network(y, draw.build.activation("act", y, "relu")))
    assert not found.applied
    assert found.near_misses[0].reason == "conv_out is also read by the caller, as an output"


def test_new_layers_come_behind_all_that_they_read() -> None:
    """a c + b c, where b is made between the two products."""
    build = Builder("late")
    a, c = build.input("a", (1, 1, 2, 2)), build.input("c", (1, 1, 2, 2))
    left = build.arithmetic("left", "mul", a, c)
    right = build.arithmetic("right", "mul", c, build.activation("b", a, "tanh"))
    found = rewrite(build.network(build.arithmetic("sum", "add", left, right)))
    assert kinds(found.network) == [("b", "tanh"), ("left", "add"), ("sum", "mul")]


def near_miss(network: Network, rule: str) -> NearMiss:
    (found,) = [miss for miss in rewrite(network).near_misses if miss.rule == rule]
    return found


def test_a_shift_before_padding_is_refused_with_the_border_as_witness() -> None:
    """x = 0: the corner of the padded convolution sees the shift in four of its nine taps, folded in all nine."""
    build = Builder("padded")
    x = build.input("x", (1, 1, 5, 5))
    one, two = (np.full((1, 1, 1, 1), value, np.float32) for value in (1, 2))
    scale, shift = build.weight("scale", (1, 1, 1, 1), 1, one), build.weight("shift", (1, 1, 1, 1), 1, two)
    weight = np.ones((1, 1, 3, 3), np.float32)
    y = build.conv("conv", build.add(pointwise.affine("bn", x, scale, shift)), 1, kernel=3, padding=1, weight=weight)
    network = build.network(y)
    found = near_miss(network, "scaling-into-conv-after")
    assert found.layers == ("bn", "conv") and "padding" in found.reason
    bias = float(network.weights["conv_bias"][0])
    truth, folded = re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", found.counterexample)[-2:]
    assert float(truth) == pytest.approx(4 * 2 + bias, rel=1e-5)
    assert float(folded) == pytest.approx(9 * 2 + bias, rel=1e-5)


def test_the_activation_between_is_shown_to_matter() -> None:
    build = Builder("between")
    y = build.conv("conv", build.input("x", (1, 1, 4, 4)), 1, kernel=3, activation="relu")
    minus = build.weight("minus", (1, 1, 1, 1), 1, np.full((1, 1, 1, 1), -2, np.float32))
    found = near_miss(
        build.network(build.add(pointwise.arithmetic("scaled", "mul", y, minus, constants=["b"]))),
        "scaling-into-conv-before",
    )
    assert found.counterexample == "relu(-1) * -2 + 0 = 0, relu(-1 * -2 + 0) = 2"


def test_what_is_not_linear_before_a_convolution_is_shown() -> None:
    build = Builder("preactivation")
    x, one = build.input("x", (1, 1, 4, 4)), np.ones((1, 1, 1, 1), np.float32)
    weights = [build.weight(name, (1, 1, 1, 1), 1, value) for name, value in (("scale", 2 * one), ("shift", one))]
    y = build.conv("conv", build.add(with_activation(pointwise.affine("bn", x, *weights), "relu")), 1, kernel=3)
    found = near_miss(build.network(y), "scaling-into-conv-after")
    assert found.reason == "bn ends in relu, which is not linear"
    assert found.counterexample == "relu(-1 * 2 + 1) = 0, -1 * 2 + 1 = -1"


def test_a_scale_that_differs_over_the_image_is_shown() -> None:
    build = Builder("image")
    y = build.conv("conv", build.input("x", (1, 1, 4, 4)), 1, kernel=3)
    values = np.array([1, 3], np.float32).reshape(1, 1, 1, 2)
    wide = build.weight("wide", (1, 1, 1, 2), 1, values)
    found = near_miss(
        build.network(build.add(pointwise.arithmetic("scaled", "mul", y, wide, constants=["b"]))),
        "scaling-into-conv-before",
    )
    assert found.counterexample == "the scale is 1 at [0, 0, 0, 0] and 3 at [0, 0, 0, 1]"


def test_weights_that_would_overflow_are_not_folded() -> None:
    build = Builder("large")
    weight = np.full((1, 1, 1, 1), 1e30, np.float32)
    y = build.conv("conv", build.input("x", (1, 1, 2, 2)), 1, kernel=1, weight=weight)
    large = build.weight("large_constant", (1, 1, 1, 1), 1, weight)
    found = near_miss(
        build.network(build.add(pointwise.arithmetic("scaled", "mul", y, large, constants=["b"]))),
        "scaling-into-conv-before",
    )
    assert "1e+60" in found.counterexample


def test_products_without_a_common_factor_are_a_near_miss() -> None:
    draw = Draw(0)
    a, b, c, d = (draw.input(name) for name in "abcd")
    products = draw.build.arithmetic("left", "mul", a, b), draw.build.arithmetic("right", "mul", c, d)
    network = draw.build.network(draw.build.arithmetic("sum", "add", *products))
    assert near_miss(network, "shared-factor").reason == "the products have no factor in common"


def test_a_factor_that_is_broadcast_is_not_shared_where_that_takes_more() -> None:
    """a c + b c with columns a and b and a wide c: three operations an element either way, and (a + b) c takes two."""
    build = Builder("broadcast")
    a, b = (build.input(name, (1, 2, 1, 8)) for name in "ab")
    c = build.input("c", (1, 2, 8, 1))
    products = build.arithmetic("left", "mul", a, c), build.arithmetic("right", "mul", b, c)
    found = rewrite(build.network(build.arithmetic("sum", "add", *products)))
    assert (found.applied[0].operations_before, found.applied[0].operations_after) == (3 * 128, 16 + 128)


def test_silu_needs_the_same_x() -> None:
    draw = Draw(0)
    gate = draw.build.activation("gate", draw.input(), "sigmoid")
    network = draw.build.network(draw.build.arithmetic("product", "mul", gate, draw.input("z")))
    assert "multiplies other tensors" in near_miss(network, "silu").reason


def test_a_copy_of_an_input_that_is_an_output_stays() -> None:
    build = Builder("copied")
    x = build.input("x", (1, 1, 2, 2))
    network = build.network(build.add(copies.copy("nothing", x)))
    assert near_miss(network, "identity").layers == ("nothing",)
