"""Unusual numbers through programs with row kernels: NaN, infinities, huge, tiny and denormal values."""

import numpy as np
import pytest

from polyfuse.codegen.kernel import Kernel, build
from polyfuse.codegen.lower.selection import select_kernels
from polyfuse.codegen.program import generate
from polyfuse.codegen.target import probe
from polyfuse.network.network import Builder, Network
from polyfuse.network.reference import run
from polyfuse.schedule.groups import fused
from polyfuse.schedule.strategy import Strategy

SPECIAL = {"nan": np.nan, "infinity": np.inf, "minus infinity": -np.inf}


@pytest.fixture(scope="module")
def network() -> Network:
    build_ = Builder("numbers")
    x = build_.input("x", (1, 8, 20, 20))
    first = build_.conv("first", x, 16, kernel=3, padding=1, activation="relu6")
    deep = build_.depthwise("deep", first, kernel=3, padding=1, activation=("leaky_relu", 0.1))
    back = build_.conv("back", deep, 8, kernel=1)
    both = build_.arithmetic("both", "add", back, x, activation="relu")
    return build_.network(build_.max_pool("largest", both, kernel=2), build_.average_pool("mean", both, kernel=2))


@pytest.fixture(scope="module")
def exact(network: Network) -> Kernel:
    groups = fused(network, Strategy.named("local", (4,), "shifted"))
    return build(generate(network, groups, kernels=select_kernels(network, probe(), exact=True)))


def image(seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((1, 8, 20, 20)).astype(np.float32)


@pytest.mark.parametrize("value", SPECIAL.values(), ids=SPECIAL)
def test_nan_and_infinities_go_where_the_reference_takes_them(network: Network, exact: Kernel, value: float) -> None:
    x = image()
    x[0, 3, 9, 11] = value
    x[0, 5, 0, 0] = value
    with np.errstate(invalid="ignore"):
        expected = run(network, {"x": x})
    for name, made in exact(x=x).items():
        assert np.array_equal(np.isnan(made), np.isnan(expected[name]))
        assert np.array_equal(np.isinf(made), np.isinf(expected[name]))
        finite = np.isfinite(expected[name])
        assert np.isnan(expected[name]).any() or np.isinf(expected[name]).any() or value < 0
        assert np.abs(made[finite] - expected[name][finite]).max() < 1e-5


@pytest.mark.parametrize("scale", [1e30, 1e-30, 1e-38, 1e-41])
def test_huge_tiny_and_denormal_values_keep_their_digits(network: Network, exact: Kernel, scale: float) -> None:
    x = (image() * np.float32(scale)).astype(np.float32)
    expected = run(network, {"x": x})
    smallest = float(np.finfo(np.float32).smallest_subnormal)
    for name, made in exact(x=x).items():
        largest = float(np.abs(expected[name]).max())
        assert largest > 0
        assert np.abs(made - expected[name]).max() <= 1e-5 * largest + 200 * smallest


def test_with_winograd_nan_spreads_over_tiles_and_not_further() -> None:
    build_ = Builder("tiles")
    x = build_.input("x", (1, 8, 24, 24))
    network = build_.network(build_.conv("conv", x, 8, kernel=3, padding=1))
    kernels = select_kernels(network, probe(), winograd={"conv": 4})
    kernel = build(generate(network, fused(network, Strategy((12,))), kernels=kernels))
    values = np.random.default_rng(0).standard_normal((1, 8, 24, 24)).astype(np.float32)
    values[0, 2, 13, 13] = np.nan
    made = np.isnan(kernel(x=values)["conv_out"][0])
    rows, columns = np.nonzero(made.any(axis=0))
    assert made[:, 12:15, 12:15].all()
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (12, 15, 12, 15)
