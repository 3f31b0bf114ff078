"""Where the points of a Resize lie, against whole-number arithmetic and onnxruntime: every mode, and ties above all."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest

from polyfuse.errors import InvalidInput, UnsupportedOperator
from polyfuse.network.layers.resizing import resize
from polyfuse.network.onnx.load import imported
from polyfuse.network.reference import run
from polyfuse.network.resampling import COORDINATES, ROUNDINGS, Resampling, fraction_of
from polyfuse.network.tensor import Tensor
from tests.network.onnx.models import model, onnxruntime_run

PAIRS = [(14, 19), (20, 6), *((size, made) for size in range(1, 24) for made in range(1, 24))]
"""Sizes along an axis and what they become; the first two are ties that float32 misses."""


def position(coordinates: str, point: int, size: int, made: int) -> tuple[int, int]:
    """Numerator and denominator of where a point lies, in whole numbers, by ONNX's formulas with `made / size`."""
    match coordinates:
        case "half_pixel" | "half_pixel_symmetric":
            return (2 * point + 1) * size - made, 2 * made
        case "pytorch_half_pixel":
            return ((2 * point + 1) * size - made, 2 * made) if made > 1 else (0, 1)
        case "align_corners":
            return (point * (size - 1), made - 1) if made > 1 else (0, 1)
        case "asymmetric":
            return point * size, made
        case "tf_half_pixel_for_nn":
            return (2 * point + 1) * size, 2 * made
    raise AssertionError(coordinates)


def nearest(rounding: str, n: int, d: int) -> int:
    """The whole number next to n / d."""
    match rounding:
        case "floor":
            return n // d
        case "ceil":
            return -(-n // d)
        case "round_prefer_ceil":
            return (2 * n + d) // (2 * d)
    return -((d - 2 * n) // (2 * d))


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("coordinates", COORDINATES)
def test_nearest_elements_are_those_of_whole_number_arithmetic(coordinates: str, rounding: str) -> None:
    how, ties = Resampling("nearest", coordinates, rounding), 0
    for size, made in PAIRS:
        places = [position(coordinates, point, size, made) for point in range(made)]
        expected = [min(max(nearest(rounding, n, d), 0), size - 1) for n, d in places]
        at = how.positions(size, made, Fraction(made, size))
        assert at == [Fraction(n, d) for n, d in places]
        assert how.nearest(at, size) == expected, (size, made)
        ties += sum(2 * n % d == 0 for n, d in places)
    assert ties > 500


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("coordinates", sorted({*COORDINATES} - {"tf_half_pixel_for_nn"}))
@pytest.mark.parametrize(("rows", "columns"), [((14, 19), (20, 6)), ((9, 15), (5, 7))])
def test_models_with_sizes(coordinates, rounding, rows, columns, tmp_path):  # type: ignore[no-untyped-def]
    sizes = {"sizes": np.array([rows[1], columns[1]])}
    options = {"mode": "nearest", "coordinate_transformation_mode": coordinates, "nearest_mode": rounding}
    node = onnx.helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], **options)
    x = np.arange(rows[0] * columns[0], dtype=np.float32).reshape(rows[0], columns[0])
    first, second = (
        [min(max(nearest(rounding, *position(coordinates, point, size, made)), 0), size - 1) for point in range(made)]
        for size, made in (rows, columns)
    )
    made = model([node], {"x": x.shape}, ["y"], sizes)
    np.testing.assert_array_equal(reading(made, x, tmp_path), x[np.ix_(first, second)])


def reading(made: onnx.ModelProto, x: np.ndarray, folder: Path) -> np.ndarray:
    """What polyfuse makes of a model of one input and one output."""
    path = folder / "m.onnx"
    path.write_bytes(made.SerializeToString())
    network = imported(path).network
    return run(network, {"x": x})[network.outputs[0].name]


@pytest.mark.parametrize("mode", ["round_prefer_floor", "round_prefer_ceil"])
@pytest.mark.parametrize("scale", [0.2, 0.3, 0.7, 1.2, 1.4, 2.8, 19 / 14, 6 / 20, 7 / 9])
@pytest.mark.parametrize("coordinates", ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"])
def test_scales_that_float32_rounds_stand_for_the_simplest_fraction(coordinates, scale, mode, tmp_path):  # type: ignore[no-untyped-def]
    """onnxruntime picks the same elements: a tie between two of them stays one."""
    options = {"mode": "nearest", "coordinate_transformation_mode": coordinates, "nearest_mode": mode}
    node = onnx.helper.make_node("Resize", ["x", "", "scales"], ["y"], **options)
    x = np.arange(20, dtype=np.float32)
    made = model([node], {"x": x.shape}, ["y"], {"scales": np.float32([scale])})
    np.testing.assert_array_equal(reading(made, x, tmp_path), onnxruntime_run(made, {"x": x})[0])


def test_the_simplest_fraction_is_rounded_to_the_scale_and_no_simpler_one_is() -> None:
    generator = np.random.default_rng(0)
    for scale in [*generator.uniform(0.05, 20.0, 300), *(m / s for s, m in generator.integers(1, 99, (200, 2)))]:
        found = fraction_of(scale)
        assert np.float32(float(found)) == np.float32(scale)
        if found.denominator < 400:
            below = range(1, found.denominator)
            assert not [d for d in below if np.float32(round(scale * d) / d) == np.float32(scale)]
    assert fraction_of(1.0) == 1 and fraction_of(0.5) == Fraction(1, 2)


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize(("size", "made"), [(14, 19), (20, 6), (7, 3), (5, 11), (6, 1)])
def test_interpolation_weighs_the_neighbours_by_exact_distances(coordinates: str, size: int, made: int) -> None:
    layer, weights = resize("r", Tensor("x", (size,)), (made,), how=Resampling("linear", coordinates))
    assert layer.reference is not None
    x = np.random.default_rng(0).standard_normal(size)
    expected = []
    for point in range(made):
        n, d = position(coordinates, point, size, made)
        first, part = n // d, Fraction(n % d, d)
        low, high = (x[min(max(first + k, 0), size - 1)] for k in (0, 1))
        expected.append(low * float(1 - part) + high * float(part))
    given = [weights[tensor.name].astype(np.float64) for tensor in layer.weights]
    np.testing.assert_allclose(layer.reference(x, *given), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", [0.0, -1.0, np.inf, np.nan])
def test_scales_that_are_no_scales_are_refused(scale: float) -> None:
    with pytest.raises(InvalidInput, match="a positive scale for each axis"):
        resize("r", Tensor("x", (4,)), (4,), [scale])


@pytest.mark.parametrize("scales", [(0.6, 0.6), (0.7, 0.75), (0.3, 1.0), (2.0, 1.5), (1.0, 3.0)])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resizing_of_operator_set_10(mode: str, scales: tuple[float, float], tmp_path: Path) -> None:
    """Which rounds up where a tensor gets smaller."""
    x = np.arange(90, dtype=np.float32).reshape(1, 1, 9, 10)
    node = onnx.helper.make_node("Resize", ["x", "scales"], ["y"], mode=mode)
    made = model([node], {"x": x.shape}, ["y"], {"scales": np.float32([1, 1, *scales])}, opset=10)
    np.testing.assert_allclose(reading(made, x, tmp_path), onnxruntime_run(made, {"x": x})[0], rtol=1e-5)


def test_one_axis_smaller_and_one_larger_is_refused_in_operator_set_10(tmp_path: Path) -> None:
    node = onnx.helper.make_node("Resize", ["x", "scales"], ["y"])
    made = model([node], {"x": (1, 1, 4, 4)}, ["y"], {"scales": np.float32([1, 1, 0.5, 2])}, opset=10)
    with pytest.raises(UnsupportedOperator, match="some are below 1 and some above; convert the model"):
        reading(made, np.zeros((1, 1, 4, 4), np.float32), tmp_path)
