"""Activations made of exp, on vectors: how exact they are over all floats, and their limits."""

import numpy as np
import pytest

from polyfuse.codegen.build import WARNINGS, Options, compile_shared, find_compiler, load
from tests.codegen.rows.images import Case, run
from tests.codegen.rows.test_row_kernels import WIDTHS, flags_for
from tests.oracles.rows import ACTIVATIONS

SMALLEST = 2.0**-149
"""The smallest denormal float."""


def applied(activation: object, values: np.ndarray, floats: int) -> np.ndarray:
    """An activation of as many values as there are, a row of four channels at a time."""
    image = np.resize(values, (4, -(-len(values) // 400), 100)).astype(np.float32)
    case = Case("apply", (4, 4), image.shape[1:], activation=activation)
    kernel = case.row_kernel("applied", floats)
    built = compile_shared(kernel.source, Options(find_compiler(), (*flags_for(floats), *WARNINGS)))
    return run(load(built).applied, kernel, case, {"x": image}).reshape(-1)[: len(values)]


@pytest.mark.parametrize("floats", WIDTHS)
def test_exp_is_exact_to_two_roundings_and_in_its_limits(floats: int) -> None:
    ends = np.array([88.0, 88.72283, 88.72284, 89.5, -87.3, -87.4, -103.2, -103.97, -103.98, 0.0, -0.0], np.float32)
    x = np.concatenate([np.linspace(-104, 89, 40_000).astype(np.float32), ends])
    made, want = applied("exp", x, floats).astype(np.float64), np.exp(x.astype(np.float64))
    finite = want < np.finfo(np.float32).max
    assert (np.abs(made - want)[finite] <= 1e-7 * want[finite] + 0.75 * SMALLEST).all()
    assert (made[~finite] == np.inf).all() and (~finite).any()
    edges = applied("exp", np.array([np.inf, -np.inf, 3e38, -3e38, np.nan]), floats)
    np.testing.assert_array_equal(edges, np.array([np.inf, 0, np.inf, 0, np.nan], np.float32))


@pytest.mark.parametrize("floats", WIDTHS)
@pytest.mark.parametrize(("activation", "low"), [("sigmoid", -87), ("silu", -87), ("tanh", -20), (("elu", 0.7), 0.1)])
def test_what_is_made_of_exp_is_exact_relative_to_itself(activation: object, low: float, floats: int) -> None:
    random = np.random.default_rng(7)
    x = np.concatenate([np.linspace(low, 95, 20_000), random.uniform(max(low, -1), 1, 20_000)]).astype(np.float32)
    made, want = applied(activation, x, floats), ACTIVATIONS[activation](x.astype(np.float64))
    assert (np.abs(made - want) <= 2e-7 * np.abs(want)).all()
