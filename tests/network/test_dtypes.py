"""Types of elements, rounding to them, and the products and sums that float32 rounds once."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyfuse.codegen.lower.selection import named_selection
from polyfuse.codegen.program import generate
from polyfuse.deploy.model import load
from polyfuse.errors import InvalidInput
from polyfuse.network.dtypes import TYPES, decoded, encoded, stored
from polyfuse.network.layers import matrices, pointwise, pooling, reductions
from polyfuse.network.layers.convolution import convolution
from polyfuse.network.network import Builder, Network
from polyfuse.network.onnx.export import onnx_model
from polyfuse.network.quantised.elements import dequantize
from polyfuse.network.quantised.scheme import Quantisation
from polyfuse.network.reference import random_inputs, run
from polyfuse.network.single import fmaf
from polyfuse.network.tensor import Tensor
from polyfuse.network.window import Window
from polyfuse.schedule.groups import layer_by_layer

singles = st.floats(width=32, allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(
    "dtype, size", [("float32", 4), ("float64", 8), ("float16", 2), ("bfloat16", 2), ("int8", 1), ("int32", 4)]
)
def test_bytes_are_those_of_what_holds_them(dtype: str, size: int) -> None:
    assert Tensor("x", (3,), dtype).element_bytes == size == np.dtype(TYPES[dtype].held).itemsize


def test_unknown_types_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"tensor 'x': expected a type of elements of float32, .*, got 'int4'"):
        Tensor("x", (3,), "int4")


def test_bfloat16_is_that_of_ml_dtypes() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    bits = np.random.default_rng(0).integers(0, 2**32, 200_000, dtype=np.uint32)
    values = np.concatenate([bits.view(np.float32), np.float32([0.0, -0.0, np.inf, -np.inf])])
    with np.errstate(invalid="ignore"):
        expected = values.astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(decoded(encoded(values, "bfloat16"), "bfloat16"), expected.astype(np.float64))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_what_is_stored_stays_when_it_is_stored_again(dtype: str) -> None:
    values = stored(np.random.default_rng(1).standard_normal(1000) * 100, dtype)
    np.testing.assert_array_equal(stored(values, dtype), values)
    assert len(set(values.tolist())) < 1000


@pytest.mark.parametrize("value", [128, -129, 0.5, np.nan, np.inf])
def test_whole_numbers_are_not_rounded_or_wrapped(value: float) -> None:
    with pytest.raises(InvalidInput, match="weight: expected whole numbers from -128 to 127"):
        encoded([0.0, value], "int8", "weight")


@settings(max_examples=2000, deadline=None)
@given(singles, singles, singles)
def test_products_and_sums_are_rounded_once(a: float, b: float, c: float) -> None:
    """Against exact fractions, rounded by walking to the nearest float32."""
    found = float(fmaf(a, b, c))
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if abs(exact) >= Fraction(2) ** 127:
        return
    below, above = (float(np.nextafter(np.float32(found), np.float32(end))) for end in (-np.inf, np.inf))
    gaps = [abs(Fraction(each) - exact) for each in (below, found, above) if np.isfinite(each)]
    assert abs(Fraction(found) - exact) == min(gaps)
    if gaps.count(min(gaps)) > 1:
        assert int(np.float32(found).view(np.uint32)) % 2 == 0


def test_products_and_sums_near_ties_are_rounded_once() -> None:
    """Where a sum in float64 is halfway between two float32, and what it lost says which is right."""
    one = np.float32(1 + 2**-23)
    tiny = np.float32(2**-80)
    assert float(fmaf(one, 2**-24, 1.0)) == float(np.float32(1 + 2**-23))
    assert float(fmaf(2**-24, 1.0, 1.0)) == 1.0
    assert float(fmaf(tiny, tiny, np.float32(1.0))) == 1.0


def quantised() -> Network:
    build = Builder("net")
    return build.network(build.add(*dequantize("d", build.input("x", (1, 2, 4, 4), "int8"), Quantisation(0.5))))


def test_what_needs_float32_says_so() -> None:
    network = quantised()
    groups = layer_by_layer(network)
    message = r"network 'net': .* needs float32( or float64)?, and x\[1, 2, 4, 4\] int8 is not; plan it for a scratch"
    for refused in (
        lambda: generate(network, groups, kernels="scalar"),
        lambda: named_selection(network, "rows"),
        lambda: onnx_model(network),
        lambda: load(network),
    ):
        with pytest.raises(InvalidInput, match=message):
            refused()


def test_float_layers_refuse_whole_numbers() -> None:
    x, w, m = Tensor("x", (1, 2, 4, 4), "int8"), Tensor("w", (2, 2, 1, 1)), Tensor("m", (2, 2), "float16")
    for refused in (
        lambda: convolution("f", x, w),
        lambda: pooling.average_pool("f", x, Window((2, 2))),
        lambda: pointwise.activation("f", x, "relu"),
        lambda: pointwise.arithmetic("f", "add", x, x),
        lambda: matrices.gemm("f", m, m),
        lambda: matrices.matmul("f", m, m),
        lambda: reductions.reduce("f", "sum", x, (2,)),
    ):
        with pytest.raises(InvalidInput, match=r"layer 'f': computes in float32, got [xm]"):
            refused()


def test_inputs_have_the_values_of_their_types() -> None:
    network = quantised()
    (found,) = random_inputs(network, 0).values()
    assert found.dtype == np.int8 and found.min() < -100 and found.max() > 100
    assert run(network, {"x": found})["d_out"].tolist() == (found * 0.5).tolist()
    with pytest.raises(InvalidInput, match=r"input x.*: expected whole numbers from -128 to 127"):
        run(network, {"x": found * 0.5})


def test_weights_are_held_in_their_types() -> None:
    build = Builder("net")
    scale = build.constant("s", [[2.0]], "float16")
    assert build.weights["s"].dtype == np.float16 and scale.element_bytes == 2
    y = build.conv("c", build.input("x", (1, 1, 3, 3)), 1, kernel=1)
    network = build.network(y)
    with pytest.raises(InvalidInput, match="expected float32 values for the weight c_weight"):
        Network(
            "n", network.inputs, network.layers, network.outputs, {**network.weights, "c_weight": np.ones((1, 1, 1, 1))}
        )
