"""Piecewise quasi-polynomials evaluate the same, and exactly, as integers, arrays and sympy expressions."""

import pickle

import islpy as isl
import numpy as np
import pytest
import sympy
from hypothesis import given, settings

from polyfuse.errors import InvalidInput, TooComplex, Unbounded
from polyfuse.sets.symbolic.closed_forms import cardinality
from polyfuse.sets.symbolic.expressions import symbol
from polyfuse.sets.symbolic.quasi import Piece, PiecewiseQuasiPolynomial, from_pw_qpolynomial
from polyfuse.sets.symbolic.vectorise import Evaluator
from tests.sets.random_sets import RandomSet, random_sets

ROWS = "[T, H] -> { tile[o] -> row[h] : o - 2 <= h < o + T + 2 and 0 <= h < H and h mod 2 = 0 and 0 <= o < H }"


def formula(text: str) -> PiecewiseQuasiPolynomial:
    return cardinality(isl.Set(text), "own")


def grid(symbols: tuple[str, ...]) -> dict[str, np.ndarray]:
    """All values from -3 to 6 of each symbol, as arrays that broadcast."""
    axes = np.meshgrid(*[np.arange(-3, 7)] * len(symbols), indexing="ij", sparse=True)
    return dict(zip(symbols, axes, strict=True))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(random_sets(parameters=2, dimensions=2, largest=2))
def test_numpy_and_sympy_match_brute_force(random: RandomSet) -> None:
    counted = formula(random.text())
    values = counted.to_numpy()(**grid(counted.symbols))
    expression = counted.to_sympy()
    assert values.dtype == np.int64
    assert values.shape == (10,) * random.parameters
    for index in np.ndindex(values.shape):
        point = tuple(position - 3 for position in index)
        assert values[index] == random.points(point)
    for point in [(0,) * random.parameters, (3,) * random.parameters, (6, 2)[: random.parameters]]:
        substituted = expression.subs({symbol(n): v for n, v in zip(counted.symbols, point, strict=True)})
        assert substituted == random.points(point)


def test_thousands_of_evaluations_are_a_few_operations_on_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line of source is one operation; where nothing can overflow they are on arrays of 64-bit integers."""
    overflows: list[bool] = []
    honest = Evaluator._may_overflow
    monkeypatch.setattr(Evaluator, "_may_overflow", lambda *given: overflows.append(honest(*given)) or overflows[-1])
    counted = cardinality(
        isl.Map(
            "[T, H, W] -> { t[y, x] -> S[k, a, b, i, j] : 0 <= k < 64 and 0 <= y < H and 0 <= x < W and 0 <= i, j < 3 "
            "and y - 2 <= a < y + T + 2 and 0 <= a < H and x - 2 <= b < x + T + 2 and 0 <= b < W "
            "and 0 <= a + i - 1 < H and 0 <= b + j - 1 < W }"
        ),
        "own",
    )
    random = np.random.default_rng(0)
    sizes = {name: random.integers(1, 300, 4096) for name in counted.symbols}
    values = counted.to_numpy()(**sizes)
    assert len(counted.to_numpy().values_source.splitlines()) < 500
    assert overflows == [False]
    for index in range(0, 4096, 512):
        assert values[index] == counted.at(**{name: int(size[index]) for name, size in sizes.items()})


def test_large_values_are_exact() -> None:
    triples = formula("[N] -> { A[i, j, k] : 0 <= i < j < k < N }")
    size = 3_000_000
    exact = size * (size - 1) * (size - 2) // 6
    assert 2**61 < exact < 2**63
    assert triples.to_numpy()(N=[size, 5]).tolist() == [exact, 10]
    assert triples.at(N=10**30) == 10**30 * (10**30 - 1) * (10**30 - 2) // 6


def test_value_beyond_64_bits_is_refused() -> None:
    with pytest.raises(TooComplex, match="64 bits; evaluate single points with `at`"):
        formula("[N] -> { A[i, j, k] : 0 <= i, j, k < N }").to_numpy()(N=[10**7])


def test_empty_arrays_and_scalars() -> None:
    squares = formula("[N] -> { A[i, j] : 0 <= i, j < N }").to_numpy()
    assert squares(N=np.zeros(0, dtype=np.int64)).shape == (0,)
    assert squares(N=4) == 16
    assert formula("{ A[i] : 0 <= i < 4 }").to_numpy()() == 4
    assert formula("[N] -> { A[i] : 1 = 0 }").to_numpy()(N=[1, 2]).tolist() == [0, 0]


def test_pickled_formula_evaluates_the_same() -> None:
    counted = cardinality(isl.Map(ROWS), "own")
    assert counted.at(T=4, H=20, o=7) == 4
    copy = pickle.loads(pickle.dumps(counted))
    assert copy.at(T=4, H=20, o=7) == 4
    assert copy.to_numpy()(T=4, H=20, o=[7, 8]).tolist() == counted.to_numpy()(T=4, H=20, o=[7, 8]).tolist()


def test_sums_and_products() -> None:
    rows, columns = formula("[H] -> { A[y] : 0 <= y < H }"), formula("[W] -> { A[x] : 0 <= x < W and x mod 2 = 0 }")
    area, border = rows * columns, rows + columns
    assert area.symbols == border.symbols == ("H", "W")
    for height in range(-2, 5):
        for width in range(-2, 5):
            both = max(height, 0), max(width + 1, 0) // 2
            assert area.at(H=height, W=width) == both[0] * both[1]
            assert border.at(H=height, W=width) == both[0] + both[1]


def test_sum_over_a_partition_of_the_domain_is_the_whole() -> None:
    whole = formula("[N] -> { A[i, j] : 0 <= i <= j < N }")
    parts = formula("[N] -> { A[i, j] : 0 <= i = j < N }") + formula("[N] -> { A[i, j] : 0 <= i < j < N }")
    sizes = np.arange(-2, 30)
    assert (whole.to_numpy()(N=sizes) == parts.to_numpy()(N=sizes)).all()


def test_text_and_latex() -> None:
    triangle = formula("[N] -> { A[i, j] : 0 <= i <= j < N }")
    assert str(triangle) == "[N] -> { N**2/2 + N/2 : N > 0 }"
    assert triangle._repr_latex_().startswith("$\\displaystyle \\begin{cases} \\frac{N^{2}}{2} + \\frac{N}{2}")
    assert str(formula("[N] -> { A[i] : 1 = 0 }")) == "[N] -> { 0 }"


@pytest.mark.parametrize(
    "given_values, message",
    [
        ({}, "expected the symbols T, H, o, got none"),
        ({"T": 1, "H": 2}, "expected the symbols T, H, o, got T, H"),
        ({"T": 1, "H": 2, "o": 3, "K": 4}, "got T, H, o, K"),
        ({"T": 1, "H": 2, "o": 0.5}, "symbol 'o': expected"),
    ],
)
def test_wrong_arguments_are_refused(given_values: dict[str, int], message: str) -> None:
    counted = cardinality(isl.Map(ROWS), "own")
    with pytest.raises(InvalidInput, match=message):
        counted.at(**given_values)
    with pytest.raises(InvalidInput, match=message):
        counted.to_numpy()(**given_values)


def test_expressions_without_exact_arithmetic_are_refused() -> None:
    root = PiecewiseQuasiPolynomial(("N",), (Piece(isl.Set("[N] -> { : N > 0 }"), sympy.sqrt(symbol("N"))),))
    with pytest.raises(InvalidInput, match="expected sums, products, powers and floors"):
        root.at(N=4)


def test_isl_quasi_polynomials() -> None:
    text = "[H] -> { D[d] -> 1/2 * H * d + 3 * floor((H + d)/2)^2 - 1 : 0 < d < H and d mod 2 = 0; D[d] -> 7 : d > H }"
    converted = from_pw_qpolynomial(isl.PwQPolynomial(text))
    assert converted.symbols == ("H", "d")
    assert converted.at(H=7, d=4) == 14 + 3 * 25 - 1
    assert converted.at(H=7, d=3) == 0
    assert converted.at(H=7, d=9) == 7


def test_infinite_isl_quasi_polynomial_is_refused() -> None:
    infinite = isl.PwQPolynomial("[H] -> { infty : H > 0 }")
    with pytest.raises(Unbounded, match=r"finite values, got.*bound every dimension"):
        from_pw_qpolynomial(infinite)
