"""Integer layers of single elements and small windows against onnxruntime, to the bit."""

import numpy as np
import pytest

from polyfuse.errors import InvalidInput
from polyfuse.network.quantised import elements
from polyfuse.network.quantised.scheme import Quantisation
from polyfuse.network.tensor import Tensor
from polyfuse.network.window import Window
from tests.network.quantised.onnx_operators import drawn, instances, onnxruntime_value, pairs, parts, scales, value

TYPES = pytest.mark.parametrize("dtype", ["int8", "uint8"])
TRIALS = 24


@TYPES
@pytest.mark.parametrize("operator, how", [("QLinearAdd", "add"), ("QLinearMul", "mul")])
def test_sums_and_products_of_all_pairs_are_those_of_onnxruntime(dtype, operator, how):  # type: ignore[no-untyped-def]
    generator = np.random.default_rng(0)
    a, b = pairs(dtype)
    for trial in range(TRIALS):
        p, q, r = (scales(generator, dtype, ties=trial % 2 == 0) for _ in range(3))
        layer = elements.arithmetic(
            "f", how, Tensor("a", a.shape, dtype), Tensor("b", b.shape, dtype), scales=(p, q, r)
        )
        given = [("a", a, False), *parts("a", p), ("b", b, False), *parts("b", q), *parts("y", r)]
        expected = onnxruntime_value(operator, given, dtype)
        np.testing.assert_array_equal(value(layer, {}, a=a, b=b), expected)


def test_products_are_scaled_before_the_zero_point_is_added() -> None:
    """Where a product that is fused with the addition, or another order of the scales, gives something else."""
    generator = np.random.default_rng(1)
    a, b = pairs("uint8")
    for _ in range(TRIALS):
        numbers = [float(np.float32(generator.integers(1, 200) / 2.0 ** generator.integers(4, 12))) for _ in range(3)]
        p, q, r = (Quantisation(n, int(generator.integers(0, 256)), "uint8") for n in numbers)
        x, y = Tensor("a", a.shape, "uint8"), Tensor("b", b.shape, "uint8")
        layer = elements.arithmetic("f", "mul", x, y, scales=(p, q, r))
        given = [("a", a, False), *parts("a", p), ("b", b, False), *parts("b", q), *parts("y", r)]
        np.testing.assert_array_equal(value(layer, {}, a=a, b=b), onnxruntime_value("QLinearMul", given, "uint8"))


@TYPES
@pytest.mark.parametrize(
    "left, right", [((1, 64, 1, 1), (1, 64, 16, 16)), ((1, 64, 16, 16), (1, 64, 1, 1)), ((16,), (2, 8, 4, 16))]
)
def test_sums_that_are_broadcast_are_those_of_onnxruntime(dtype, left, right):  # type: ignore[no-untyped-def]
    generator = np.random.default_rng(2)
    for trial in range(TRIALS):
        a, b = drawn(generator, dtype, left), drawn(generator, dtype, right)
        p, q, r = (scales(generator, dtype, ties=trial % 2 == 0) for _ in range(3))
        layer = elements.arithmetic("f", "add", Tensor("a", left, dtype), Tensor("b", right, dtype), scales=(p, q, r))
        given = [("a", a, False), *parts("a", p), ("b", b, False), *parts("b", q), *parts("y", r)]
        np.testing.assert_array_equal(value(layer, {}, a=a, b=b), onnxruntime_value("QLinearAdd", given, dtype))


@TYPES
def test_quantize_and_dequantize_are_those_of_onnxruntime(dtype: str) -> None:
    generator = np.random.default_rng(3)
    for trial in range(TRIALS):
        scale = scales(generator, dtype, ties=trial % 2 == 0)
        halves = (np.arange(600) - 300.5) * scale.scale
        wide = generator.standard_normal(2000) * 10.0 ** generator.integers(-3, 6, 2000)
        x = np.concatenate([halves, wide, [np.inf, -np.inf]]).astype(np.float32)
        layer, weights = elements.quantize("q", Tensor("x", x.shape), scale)
        expected = onnxruntime_value("QuantizeLinear", [("x", x, False), *parts("y", scale)], dtype)
        np.testing.assert_array_equal(value(layer, weights, x=x), expected)
        layer, weights = elements.dequantize("d", Tensor("x", expected.shape, dtype), scale)
        real = onnxruntime_value("DequantizeLinear", [("x", expected, False), *parts("x", scale)], "float32")
        np.testing.assert_array_equal(value(layer, weights, x=expected), real)


@TYPES
@pytest.mark.parametrize("kernel, padding, counted", [(2, 0, False), (3, 1, False), (3, 1, True), (4, 1, True)])
def test_average_pool_is_that_of_onnxruntime(dtype, kernel, padding, counted):  # type: ignore[no-untyped-def]
    generator = np.random.default_rng(4)
    for trial in range(8):
        x = drawn(generator, dtype, (1, 24, 15, 15))
        p = scales(generator, dtype, ties=trial % 3 == 0)
        r = Quantisation(p.scale, 3, dtype) if trial % 2 else scales(generator, dtype, ties=False)
        window = Window((kernel, kernel), (2, 2), padding=(padding,) * 4)
        read = Tensor("x", x.shape, dtype)
        layer = elements.average_pool("pool", read, window, counts_padding=counted, scales=(p, r))
        attributes = {"strides": [2, 2], "pads": [padding] * 4, "count_include_pad": int(counted)}
        given = [("x", x, False), *parts("x", p), *parts("y", r)]
        expected = onnxruntime_value("QLinearAveragePool", given, dtype, kernel_shape=[kernel] * 2, **attributes)
        np.testing.assert_array_equal(value(layer, {}, x=x), expected)


@TYPES
@pytest.mark.parametrize(
    "operator, of, attributes",
    [
        ("QLinearSigmoid", lambda x: 1 / (1 + np.exp(-x)), {}),
        ("QLinearLeakyRelu", lambda x: np.where(x >= 0, x, x * np.float32(0.1)), {"alpha": 0.1}),
    ],
)
def test_tables_are_those_of_onnxruntime(dtype, operator, of, attributes):  # type: ignore[no-untyped-def]
    generator = np.random.default_rng(5)
    x = np.arange(np.iinfo(dtype).min, np.iinfo(dtype).max + 1).astype(dtype)
    for trial in range(TRIALS):
        p, r = (scales(generator, dtype, ties=trial % 2 == 0) for _ in range(2))
        layer, weights = elements.function("f", Tensor("x", x.shape, dtype), of, scales=(p, r))
        given = [("x", x, False), *parts("x", p), *parts("y", r)]
        np.testing.assert_array_equal(
            value(layer, weights, x=x), onnxruntime_value(operator, given, dtype, **attributes)
        )


@TYPES
def test_concatenation_requantises_parts_of_another_scale(dtype: str) -> None:
    generator = np.random.default_rng(6)
    for trial in range(TRIALS):
        a, b = drawn(generator, dtype, (1, 3, 4, 4)), drawn(generator, dtype, (1, 5, 4, 4))
        p, r = (scales(generator, dtype, ties=trial % 2 == 0) for _ in range(2))
        tensors = [(Tensor("a", a.shape, dtype), p), (Tensor("b", b.shape, dtype), r)]
        layers, weights = elements.concat("cat", tensors, r)
        given = [*parts("y", r), ("a", a, False), *parts("a", p), ("b", b, False), *parts("b", r)]
        expected = onnxruntime_value("QLinearConcat", given, dtype, axis=1)
        assert len(layers) == 2
        np.testing.assert_array_equal(value(layers, weights, a=a, b=b), expected)


@TYPES
def test_instances_are_the_reference(dtype: str) -> None:
    generator = np.random.default_rng(7)
    shape = (1, 3, 5, 4)
    for trial in range(4):
        p, q, r = (scales(generator, dtype, ties=trial % 2 == 0) for _ in range(3))
        x, y = Tensor("x", shape, dtype), Tensor("y", shape, dtype)
        floats, values = Tensor("f", shape), {"x": drawn(generator, dtype, shape), "y": drawn(generator, dtype, shape)}
        values["f"] = (generator.standard_normal(shape) * 4).astype(np.float32)
        numbers = tuple(float(np.float32(s)) for s in generator.uniform(0.01, 0.1, 3))
        channels = Quantisation(numbers, (1, 2, 3), dtype)
        cases = [
            (elements.arithmetic("f1", "add", x, y, scales=(p, q, r)), {}),
            (elements.arithmetic("f2", "mul", x, y, scales=(p, q, r)), {}),
            (elements.average_pool("f3", x, Window((3, 2), (1, 2), padding=(1,) * 4), scales=(p, r)), {}),
            (elements.clamp("f4", x, 3, 90), {}),
            elements.function("f5", x, np.tanh, scales=(p, r)),
            elements.quantize("f6", floats, p),
            elements.quantize("f7", floats, channels),
            elements.dequantize("f8", x, p),
            elements.dequantize("f9", x, channels),
        ]  # fmt: skip
        for layer, weights in cases:
            inputs = {tensor.name: values[tensor.name] for tensor in layer.inputs}
            np.testing.assert_array_equal(
                instances(layer, **inputs, **weights), value(layer, weights, **inputs), str(layer)
            )


def test_scales_that_are_none_are_refused() -> None:
    for scale in (0.0, -1.0, float("nan"), float("inf"), 1e-45, ()):
        with pytest.raises(InvalidInput, match="scales that are positive and finite"):
            Quantisation(scale)
    with pytest.raises(InvalidInput, match="zero points from -128 to 127, got 128"):
        Quantisation(1.0, 128)
    with pytest.raises(InvalidInput, match="expected a type of whole numbers, got float32"):
        Quantisation(1.0, 0, "float32")
    with pytest.raises(InvalidInput, match="3 scales and 2 zero points do not fit"):
        Quantisation((1.0, 1.0, 1.0), (0, 0))


def test_operands_of_another_type_than_their_scale_are_refused() -> None:
    p, x, y = Quantisation(1.0), Tensor("x", (1, 2, 3, 3), "uint8"), Tensor("y", (1, 2, 3, 3), "int8")
    with pytest.raises(InvalidInput, match="expected the operand a of int8, as its quantisation, got uint8"):
        elements.arithmetic("f", "add", x, y, scales=(p, p, p))
    with pytest.raises(InvalidInput, match="expected one scale and zero point of int8 or uint8 for a"):
        elements.arithmetic("f", "add", y, y, scales=(Quantisation((1.0, 2.0)), p, p))
    with pytest.raises(InvalidInput, match="its function is not a number at -128"):
        elements.function("f", y, np.sqrt, scales=(p, p))
    with pytest.raises(InvalidInput, match="computes in float32, got y"):
        elements.quantize("f", y, p)


def test_nan_is_not_quantised() -> None:
    layer, weights = elements.quantize("q", Tensor("x", (2,)), Quantisation(1.0))
    with pytest.raises(InvalidInput, match="expected whole numbers from -128 to 127"):
        value(layer, weights, x=np.array([1.0, np.nan], np.float32))
