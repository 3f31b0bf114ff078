"""Copies, matrix products and normalisation: what whole patterns become, run as C, and why near misses are none."""

import numpy as np
import pytest

from polyfuse.codegen.kernel import build as build_kernel
from polyfuse.codegen.program import generate
from polyfuse.network.activated import with_activation
from polyfuse.network.layers import copies, pointwise
from polyfuse.network.layers.matrices import gemm
from polyfuse.network.layers.normalisation import instance_norm
from polyfuse.network.layers.reductions import reduce
from polyfuse.network.network import Builder, Network
from polyfuse.network.operator import window_of
from polyfuse.network.reference import max_relative_error, random_inputs, run
from polyfuse.network.tensor import Tensor
from polyfuse.network.window import Window
from polyfuse.rewrite.mapping import MappingType, mapping_type
from polyfuse.rewrite.rewriting import rewrite
from polyfuse.rewrite.rules.catalogue import ON_REQUEST, rule
from polyfuse.schedule.groups import layer_by_layer
from tests.rewrite.rules.examples import Draw
from tests.rewrite.test_rewriting import kinds, near_miss


def shuffled(build: Builder, x: Tensor, groups: int) -> Tensor:
    """Reshape, transpose, reshape: the channels of `groups` groups taken in turns."""
    n, c, h, w = x.concrete_shape
    y = build.add(copies.reshape("apart", x, (n, groups, c // groups, h, w)))
    y = build.add(copies.transpose("turned", y, (0, 2, 1, 3, 4)))
    return build.add(copies.reshape("together", y, (n, c, h, w)))


@pytest.mark.parametrize(("channels", "groups"), [(6, 2), (12, 3), (12, 6)])
def test_a_shuffle_of_channels_is_one_layer_with_one_read(channels: int, groups: int) -> None:
    build = Builder("shuffle")
    network = build.network(shuffled(build, build.input("x", (1, channels, 3, 4)), groups))
    found = rewrite(network).network
    (layer,) = found.layers
    inputs = random_inputs(network, 0)
    assert np.array_equal(run(found, inputs)[layer.output.name], run(network, inputs)["together_out"])
    assert layer.kind == "shuffle" and len(layer.statements) == 1
    assert mapping_type(layer) is MappingType.SHUFFLE


def test_a_shuffle_of_single_channels_is_nothing() -> None:
    build = Builder("shuffle")
    y = shuffled(build, build.conv("conv", build.input("x", (1, 4, 3, 4)), 8, kernel=1), 8)
    assert kinds(rewrite(build.network(y)).network) == [("conv", "conv")]


def test_parts_that_are_moved_are_views() -> None:
    """A part of a tensor has fewer elements: its chain is no permutation, and never becomes a reshape of the whole."""
    build = Builder("parts")
    x = build.input("x", (1, 8))
    for k in range(2):
        part = build.add(copies.split(f"part{k}", x, 1, 4 * k, 4))
        build.add(copies.reshape(f"image{k}", part, (1, 1, 2, 2)))
    network = build.network(*(layer.output for layer in build.layers[1::2]))
    found = rewrite(network).network
    assert kinds(found) == [("image0", "view"), ("image1", "view")]
    assert [mapping_type(layer) for layer in found.layers] == [MappingType.REORGANIZE, MappingType.SHUFFLE]
    inputs = random_inputs(network, 0)
    before, after = run(network, inputs), run(found, inputs)
    assert all(np.array_equal(after[tensor.name], before[tensor.name]) for tensor in network.outputs)


def test_a_shuffle_runs_as_c() -> None:
    build = Builder("shuffle")
    x = build.conv("conv1", build.input("x", (1, 6, 5, 6)), 6, kernel=1)
    y = build.activation("act", shuffled(build, x, 3), "relu")
    network = build.network(build.conv("conv2", y, 4, kernel=3))
    found = rewrite(network).network
    assert kinds(found) == [("conv1", "conv"), ("together", "shuffle"), ("conv2", "conv")]
    inputs = random_inputs(network, 1)
    kernel = build_kernel(generate(found, layer_by_layer(found)))
    assert max_relative_error(kernel(**inputs)["conv2_out"], run(network, inputs)["conv2_out"]) < 1e-6


def test_a_classifier_becomes_convolutions_and_one_reshape() -> None:
    """flatten, gemm, relu, gemm: as in VGG; and as C."""
    build = Builder("classifier")
    x = build.max_pool("pool", build.input("x", (1, 6, 8, 8)), kernel=2)
    y = build.add(copies.reshape("flat", x, (1, 96)))
    for name, sizes in (("fc1", (10, 96)), ("fc2", (7, 10))):
        w, b = build.weight(f"{name}_w", sizes, sizes[1]), build.weight(f"{name}_b", sizes[:1], 1)
        y = build.activation(f"{name}_act", build.add(gemm(name, y, w, b)), "relu")
    network = build.network(y)
    found = rewrite(network).network
    assert [layer.kind for layer in found.layers] == ["max_pool", "conv", "conv", "reshape"]
    assert window_of(found.layers[1].operator) == Window((4, 4))
    assert found.outputs[0].shape == network.outputs[0].shape
    inputs = random_inputs(network, 2)
    kernel = build_kernel(generate(found, layer_by_layer(found)))
    expected = run(network, inputs)[network.outputs[0].name]
    assert max_relative_error(kernel(**inputs)[found.outputs[0].name], expected) < 1e-6


def flattened(shape: tuple[int, ...], flat: tuple[int, int], bias: tuple[int, ...] | None = None) -> Network:
    build = Builder("flattened")
    y = build.add(copies.reshape("flat", build.input("x", shape), flat))
    w = build.weight("w", (3, flat[1]), 1)
    b = None if bias is None else build.weight("b", bias, 1)
    return build.network(build.add(gemm("product", y, w, b)))


def test_images_that_share_a_row_are_no_windows() -> None:
    network = flattened((2, 3, 2, 2), (1, 24))
    (found,) = rewrite(network, (rule("flattened-product"),)).near_misses
    assert "several images" in found.reason
    assert [layer.kind for layer in rewrite(network).network.layers] == ["reshape", "conv", "reshape"]


def test_a_perceptron_becomes_convolutions_of_single_elements() -> None:
    build = Builder("perceptron")
    y = build.input("x", (3, 8))
    for name, sizes in (("fc1", (6, 8)), ("fc2", (4, 6))):
        y = build.activation(f"{name}_act", build.add(gemm(name, y, build.weight(f"{name}_w", sizes, 8))), "relu")
    network = build.network(y)
    found = rewrite(network).network
    assert [layer.kind for layer in found.layers] == ["reshape", "conv", "conv", "reshape"]
    inputs = random_inputs(network, 2)
    kernel = build_kernel(generate(found, layer_by_layer(found)))
    expected = run(network, inputs)[network.outputs[0].name]
    assert max_relative_error(kernel(**inputs)[found.outputs[0].name], expected) < 1e-6


@pytest.mark.parametrize("bias", [(3,), (1, 3), (1,), (1, 1)])
def test_biases_of_columns_fold(bias: tuple[int, ...]) -> None:
    network = flattened((2, 3, 2, 2), (2, 12), bias)
    found = rewrite(network).network
    assert [layer.kind for layer in found.layers] == ["conv", "reshape"]
    inputs = random_inputs(network, 3)
    assert max_relative_error(run(found, inputs)["product_out"], run(network, inputs)["product_out"]) < 1e-12


@pytest.mark.parametrize("bias", [(2, 3), (2, 1)])
def test_a_bias_of_rows_is_a_near_miss(bias: tuple[int, ...]) -> None:
    assert "shape" in near_miss(flattened((2, 3, 2, 2), (2, 12), bias), "flattened-product").reason


def test_three_rows_and_columns_do_not_confuse_biases() -> None:
    """A column of three biases for three rows has as many elements as there are columns."""
    assert near_miss(flattened((3, 3, 2, 2), (3, 12), (3, 1)), "flattened-product").layers == ("flat", "product")


def test_a_mean_that_ends_in_an_activation_stays() -> None:
    build = Builder("mean")
    mean = with_activation(reduce("mean", "mean", build.input("x", (1, 2, 4, 4)), (2, 3)), "relu")
    assert "activation" in near_miss(build.network(build.add(mean)), "mean-of-image").reason


@pytest.mark.parametrize("axes", [(1,), (1, 2), (3,)])
def test_means_along_other_axes_stay(axes: tuple[int, ...]) -> None:
    build = Builder("mean")
    found = rewrite(build.network(build.add(reduce("mean", "mean", build.input("x", (1, 2, 4, 4)), axes))))
    assert not found.applied and not found.near_misses


def normalised(scale: list[float]) -> Network:
    """x * scale + 1, and the instance normalisation of that."""
    draw = Draw(0)
    draw.channels = len(scale)
    values = np.asarray(scale, np.float32).reshape(1, -1, 1, 1)
    weights = [draw.build.weight("scale", values.shape, 1, values), draw.weight("shift", *values.shape)]
    y = draw.build.add(pointwise.affine("before", draw.input(), *weights))
    gamma, beta = draw.weight("gamma", *values.shape), draw.weight("beta", *values.shape)
    for part in instance_norm("norm", y, gamma, beta, epsilon=0.01):
        y = draw.build.add(part)
    return draw.build.network(y)


def test_a_scale_before_normalisation_is_declined_with_numbers() -> None:
    """With variance 1, s / sqrt(s^2 + epsilon) is not 1 / sqrt(1 + epsilon)."""
    found = near_miss(normalised([1.0, 0.5]), "scaling-then-instance-norm")
    assert f"{0.5 / np.sqrt(0.26):.9g}" in found.counterexample
    assert f"{1 / np.sqrt(1.01):.9g}" in found.counterexample


def test_folding_with_the_same_epsilon_would_be_wrong() -> None:
    """What the near miss keeps from happening, executed: the normalisation of x itself has other values."""
    network = normalised([0.5, 0.5])
    inputs = random_inputs(network, 0)
    values = run(network, inputs)
    layer = network.layers[-1]
    assert layer.reference is not None
    mean = inputs["x"].astype(np.float64).mean(axis=(2, 3), keepdims=True)
    spread = inputs["x"].astype(np.float64).var(axis=(2, 3), keepdims=True)
    weights = (network.weights["gamma"], network.weights["beta"])
    assert max_relative_error(layer.reference(inputs["x"], mean, spread, *weights), values["norm_out"]) > 1e-3


@pytest.mark.parametrize("scale", [[2.0, 3.0], [0.0, 0.0]])
def test_epsilon_is_one_number_and_no_scale_is_zero(scale: list[float]) -> None:
    found = rewrite(normalised(scale), ON_REQUEST)
    assert not found.applied and "epsilon" in found.near_misses[0].reason


def test_padding_is_no_copy_and_moves_stay_before_it() -> None:
    """Pad makes elements of its own: it is not merged with a transpose."""
    build = Builder("padded")
    y = build.add(copies.pad("pad", build.input("x", (1, 2, 3, 3)), (0, 0, 1, 1), (0, 0, 1, 1)))
    network = build.network(build.add(copies.transpose("turned", y, (0, 2, 3, 1))))
    assert not rewrite(network).applied
