"""Integer layers that add up products against onnxruntime, to the bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyfuse.errors import InvalidInput
from polyfuse.network.dtypes import bounds
from polyfuse.network.quantised import sums
from polyfuse.network.quantised.scheme import Quantisation
from polyfuse.network.tensor import Tensor
from polyfuse.network.window import Window
from tests.network.quantised.models import saturates
from tests.network.quantised.onnx_operators import drawn, instances, onnxruntime_value, parts, scales, value

TYPES = pytest.mark.parametrize("dtype", ["int8", "uint8"])


def weight(generator: np.random.Generator, shape: tuple[int, ...], kind: str, ties: bool, shifted: str, axis: int = 0):  # type: ignore[no-untyped-def]
    """Weights and what they stand for: `kind` is tensor, channel (symmetric) or shifted (with a zero point)."""
    dtype = shifted if kind == "shifted" else "int8"
    scale = scales(generator, dtype, ties, shape[axis] if kind == "channel" else None)
    if kind == "tensor":
        scale = Quantisation(scale.scale, 0, dtype)
    low, high = bounds(dtype)
    if dtype == "int8" and saturates():
        low, high = low // 2, high // 2
    return generator.integers(low, high + 1, shape).astype(dtype), scale


def result(generator: np.random.Generator, dtype: str, x: Quantisation, w: Quantisation, terms: int, ties: bool):  # type: ignore[no-untyped-def]
    """A quantisation of sums that fills its type, or that makes many of them ties."""
    if ties:
        return scales(generator, dtype, True)
    spread = float(x.scales[0]) * float(w.scales.mean()) * 70 * 70 * terms**0.5
    return Quantisation(
        float(np.float32(spread / generator.uniform(16, 64))), int(generator.integers(-9, 9)) % 100, dtype
    )


def parts_of_weight(scale: Quantisation):  # type: ignore[no-untyped-def]
    zeros = np.full(np.shape(scale.scale), scale.zero, dtype=scale.dtype)
    return [("w_scale", np.asarray(scale.scale, np.float32), True), ("w_zero", zeros, True)]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["int8", "uint8"]), st.sampled_from(["tensor", "channel", "shifted"]), st.booleans(), st.booleans(),
    st.sampled_from([1, 2, 6]), st.integers(1, 3), st.integers(1, 2), st.integers(1, 2), st.integers(0, 1),
    st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_convolution_is_that_of_onnxruntime(dtype, kind, ties, biased, groups, k, stride, dilation, pad, seed):  # type: ignore[no-untyped-def]
    generator = np.random.default_rng(seed)
    x, p = drawn(generator, dtype, (2, 6, 11, 9)), scales(generator, dtype, ties)
    w, q = weight(generator, (12, 6 // groups, k, k), kind, ties, dtype)
    r = result(generator, dtype, p, q, w[0].size, ties)
    b = generator.integers(-9000, 9000, 12).astype(np.int32) if biased else None
    window = Window((k, k), (stride, stride), (dilation, dilation), (pad,) * 4)
    tensors = (
        Tensor("x", x.shape, dtype),
        Tensor("w", w.shape, q.dtype),
        Tensor("b", (12,), "int32") if biased else None,
    )
    layer, more = sums.convolution("conv", *tensors, window, groups, scales=(p, q, r))
    read = [("x", x, False), *parts("x", p), ("w", w, True), *parts_of_weight(q), *parts("y", r), ("b", b, True)]
    attributes = {"strides": [stride] * 2, "dilations": [dilation] * 2, "pads": [pad] * 4, "group": groups}
    expected = onnxruntime_value("QLinearConv", read, dtype, **attributes)
    weights = {"w": w, **more} | ({"b": b} if biased else {})
    np.testing.assert_array_equal(value(layer, weights, x=x), expected)
    assert layer.output.dtype == dtype and layer.acc_dtype == "int32"


@TYPES
@pytest.mark.parametrize("kind", ["tensor", "channel", "shifted"])
@pytest.mark.parametrize("constant", [True, False])
def test_products_of_matrices_are_those_of_onnxruntime(dtype, kind, constant):  # type: ignore[no-untyped-def]
    generator = np.random.default_rng(1)
    for trial, shape in enumerate([(5, 37), (2, 3, 5, 37), (37,)] * 4):
        ties = trial % 2 == 0
        a, p = drawn(generator, dtype, shape), scales(generator, dtype, ties)
        b, q = weight(generator, (37, 8), kind, ties, dtype, axis=1)
        r = result(generator, dtype, p, q, 37, ties)
        left, right = Tensor("a", a.shape, dtype), Tensor("b", b.shape, q.dtype)
        constants = [right] if constant else []
        layer, more = sums.matmul("f", left, right, constants, scales=(p, q, r))
        read = [("a", a, False), *parts("a", p), ("b", b, constant), *parts_of_weight(q), *parts("y", r)]
        expected = onnxruntime_value("QLinearMatMul", read, dtype)
        given_values = {"a": a} | ({} if constant else {"b": b})
        found = value(layer, more | ({"b": b} if constant else {}), **given_values)
        np.testing.assert_array_equal(found.reshape(expected.shape), expected)


@TYPES
@pytest.mark.parametrize("kind", ["tensor", "channel"])
def test_gemm_is_that_of_onnxruntime(dtype: str, kind: str) -> None:
    generator = np.random.default_rng(2)
    for trial in range(8):
        ties = trial % 2 == 0
        x, p = drawn(generator, dtype, (3, 50)), scales(generator, dtype, ties)
        w, q = weight(generator, (16, 50), kind, ties, dtype)
        b, r = generator.integers(-9000, 9000, 16).astype(np.int32), result(generator, dtype, p, q, 50, ties)
        tensors = Tensor("x", x.shape, dtype), Tensor("w", w.shape, "int8"), Tensor("b", (16,), "int32")
        layer, more = sums.gemm("f", *tensors, scales=(p, q, r))
        read = [("x", x, False), *parts("x", p), ("w", w, True), *parts_of_weight(q), ("b", b, True), *parts("y", r)]
        expected = onnxruntime_value("QGemm", read, dtype, transB=1)
        np.testing.assert_array_equal(value(layer, {"w": w, "b": b, **more}, x=x), expected)


@TYPES
def test_global_average_pool_is_that_of_onnxruntime(dtype: str) -> None:
    generator = np.random.default_rng(3)
    for trial in range(40):
        size = int(generator.choice([3, 5, 6, 7, 14]))
        x, p = drawn(generator, dtype, (1, 400, size, size)), scales(generator, dtype, trial % 4 == 0)
        r = Quantisation(p.scale, p.zero, dtype) if trial % 3 == 0 else scales(generator, dtype, trial % 4 == 0)
        layer = sums.global_average_pool("f", Tensor("x", x.shape, dtype), scales=(p, r))
        read = [("x", x, False), *parts("x", p), *parts("y", r)]
        expected = onnxruntime_value("QLinearGlobalAveragePool", read, dtype, channels_last=0)
        np.testing.assert_array_equal(value(layer, {}, x=x), expected)


@TYPES
def test_instances_are_the_reference(dtype: str) -> None:
    generator = np.random.default_rng(4)
    for kind in ("tensor", "channel", "shifted"):
        x, p = drawn(generator, dtype, (1, 2, 5, 4)), scales(generator, dtype, True)
        w, q = weight(generator, (3, 2, 3, 2), kind, True, dtype)
        b, r = generator.integers(-900, 900, 3).astype(np.int32), result(generator, dtype, p, q, 12, True)
        tensors = Tensor("x", x.shape, dtype), Tensor("w", w.shape, q.dtype), Tensor("b", (3,), "int32")
        layer, more = sums.convolution(
            "conv", *tensors, Window((3, 2), padding=(1, 0, 1, 1)), scales=(p, q, r), limits=(5, 90)
        )
        found = value(layer, {"w": w, "b": b, **more}, x=x)
        np.testing.assert_array_equal(instances(layer, x=x, w=w, b=b, **more), found)
        assert found.min() >= 5 and found.max() <= 90 and found.std() > 0
        mean = sums.global_average_pool("mean", tensors[0], scales=(p, r))
        np.testing.assert_array_equal(instances(mean, x=x), value(mean, {}, x=x))


def test_types_and_scales_that_do_not_fit_are_refused() -> None:
    p, x, w = Quantisation(1.0), Tensor("x", (1, 2, 5, 5), "int8"), Tensor("w", (3, 2, 3, 3), "int8")
    every = (p, p, p)
    with pytest.raises(InvalidInput, match="expected 1 or 3 scales of weights, got 2"):
        sums.convolution("c", x, w, scales=(p, Quantisation((1.0,) * 2, (0, 1)), p))
    with pytest.raises(InvalidInput, match="expected 1 or 3 scales of weights, got 2"):
        sums.convolution("c", x, w, scales=(p, Quantisation((1.0, 2.0)), p))
    with pytest.raises(InvalidInput, match="expected a bias of int32, got b"):
        sums.convolution("c", x, w, Tensor("b", (3,)), scales=every)
    with pytest.raises(InvalidInput, match="expected the operand x of uint8, as its quantisation, got int8"):
        sums.convolution("c", x, w, scales=(Quantisation(1.0, 0, "uint8"), p, p))
    with pytest.raises(InvalidInput, match="give no finite multiplier"):
        sums.convolution("c", x, w, scales=(Quantisation(1e30), Quantisation(1e30), p))
    with pytest.raises(InvalidInput, match=r"expected limits in \(-128, 127\), got \(0, 128\)"):
        sums.convolution("c", x, w, scales=every, limits=(0, 128))
    wide = Tensor("x", (1, 200_000), "int8"), Tensor("w", (1, 200_000), "int8")
    with pytest.raises(InvalidInput, match="expected less than 2\\*\\*31 in int32"):
        sums.gemm("g", *wide, scales=every)


def test_a_sum_that_passes_int32_is_refused_when_it_is_run() -> None:
    p = Quantisation(1.0)
    tensors = Tensor("x", (1, 4), "int8"), Tensor("w", (1, 4), "int8"), Tensor("b", (1,), "int32")
    layer, more = sums.gemm("g", *tensors, scales=(p, p, p))
    weights = {"w": np.full((1, 4), 127, np.int8), "b": np.array([2**31 - 1], np.int32)}
    with pytest.raises(InvalidInput, match="a sum passes int32"):
        value(layer, {**weights, **more}, x=np.full((1, 4), 127, np.int8))
