"""`count` is exact, fast on products, and refuses what has no number."""

import islpy as isl
import pytest
from hypothesis import given, settings

from polyfuse.errors import InvalidInput, TooComplex, Unbounded
from polyfuse.sets import counting
from polyfuse.sets.counting import count
from polyfuse.sets.limits import operation_limit
from tests.sets.random_sets import RandomSet, random_sets

TILED_CONVOLUTION = (
    "{ S[oc,oh,ow,ic,kh,kw,t0,t1] : 0 <= oc < 64 and 0 <= ic < 64 and 72t0 <= oh < 72t0 + 76 and 0 <= oh < 552 "
    "and 0 <= t0 < 8 and 60t1 <= ow < 60t1 + 66 and 0 <= ow < 972 and 0 <= t1 < 17 and 0 <= oh + kh - 1 < 552 "
    "and 0 <= kh < 3 and 0 <= kw < 3 and 0 <= ow + kw - 1 < 972 }"
)

SETS = [
    ("{ A[] }", 1),
    ("{ A[i] : 1 = 0 }", 0),
    ("{ A[i] : 0 <= i < 1000000000000 }", 10**12),
    ("{ A[i] : 0 <= i < 1000000000000 and i mod 3 = 1 }", 333333333333),
    ("{ A[i, j] : 0 <= i < 1000000 and 0 <= j <= i }", 500000500000),
    ("{ A[i, j] : 0 <= i, j < 4 or 2 <= i, j < 6 }", 28),
    ("{ A[i] : 0 <= i < 10 or 5 <= i < 12 or i = 20 }", 13),
    ("{ A[i] : exists e : i = 2e and 0 <= e < 5 or exists f : i = 3f and 0 <= f < 4 }", 7),
    ("{ A[i, j] : exists e : 0 <= e < 4 and i <= 3e <= i + 4 and j <= 5e <= j + 6 }", 4 * 35 - 3 * 4),
    ("{ A[i] : exists e, f : i = 6e + 10f and 0 <= i <= 100 }", 51),
    ("{ A[i, j] : 0 <= i, j < 100000 and (i + j) mod 2 = 0 }", 5 * 10**9),
    ("{ A[i, j, k] : 0 <= i < j < k < 2000 }", 2000 * 1999 * 1998 // 6),
    ("{ [A[i] -> B[j]] : 0 <= i < 3 and i <= j < 3 }", 6),
    ("{ A[i, j] : 2i = 3j and 0 <= i < 30000000 }", 10**7),
    ("{ A[i] : -5 <= 2i <= 5 }", 5),
    (TILED_CONVOLUTION, 64 * 64 * 1738 * 3202),
]


@pytest.mark.parametrize("text, expected", SETS)
def test_count_of_sets(text: str, expected: int) -> None:
    assert count(isl.Set(text)) == expected


def test_tiled_rows_by_hand() -> None:
    """Tiles 0 to 6 hold 76 rows, tile 7 the last 48; each row has 3 taps, but one less at each image border."""
    tiles = "72t <= y < 72t + 76 and 0 <= y < 552 and 0 <= t < 8"
    rows = f"{{ S[t, y, k] : {tiles} and 0 <= k < 3 and 0 <= y + k - 1 < 552 }}"
    assert count(isl.Set(rows)) == 3 * (7 * 76 + 48) - 2 == 1738


@pytest.mark.parametrize(
    "s, expected",
    [
        (isl.BasicSet("{ A[i] : 0 <= i < 4 }"), 4),
        (isl.BasicMap("{ A[i] -> B[j] : 0 <= i <= j < 4 }"), 10),
        (isl.Map("{ A[i] -> B[j] : 0 <= i < 2 and j = 1 or i = 9 and 0 <= j < 3 }"), 5),
        (isl.UnionSet("{ A[i] : 0 <= i < 4; B[i, j] : 0 <= i, j < 3 }"), 13),
        (isl.UnionMap("{ A[i] -> B[i] : 0 <= i < 4; A[i] -> C[] : i = 1 }"), 5),
        (isl.UnionSet("{ }"), 0),
        (isl.Map("{ [A[i] -> B[j]] -> C[i + j] : 0 <= i, j < 3 }"), 9),
    ],
)
def test_count_of_every_kind(s: counting.Countable, expected: int) -> None:
    assert count(s) == expected


@pytest.mark.parametrize("text", ["[N] -> { A[i] : 0 <= i < 4 }", "[N, M] -> { A[i] : 0 <= i < N and N = 4 }"])
def test_parameters_that_do_not_matter(text: str) -> None:
    assert count(isl.Set(text)) == 4


def test_empty_set_with_parameters_counts_zero() -> None:
    assert count(isl.Set("[N] -> { A[i] : i > N and i < N }")) == 0


TRIANGLE = "{ A[i, j] : 0 <= i < 10000000 and 0 <= j <= i }"
FEW_OPERATIONS = 20_000


@pytest.mark.parametrize(
    "text, expected",
    [
        (TILED_CONVOLUTION, 22_794_551_296),
        (TRIANGLE, 50_000_005_000_000),
        ("{ S[t, y] : 8t <= y < 8t + 10 and 0 <= y < 80000000 and 0 <= t < 10000000 }", 10**8 - 2),
    ],
)
def test_products_and_long_systems_take_few_operations(text: str, expected: int) -> None:
    with operation_limit(FEW_OPERATIONS):
        assert count(isl.Set(text)) == expected


def test_visiting_points_takes_many_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    """isl then returns how many points it has visited: a number, and a wrong one."""
    monkeypatch.setattr(counting, "MAX_ENUMERATED_ROWS", 10**9)
    with pytest.raises(TooComplex, match="expected to visit all points"), operation_limit(100 * FEW_OPERATIONS):
        count(isl.Set(TRIANGLE))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(random_sets(parameters=0, dimensions=3))
def test_count_matches_brute_force(random: RandomSet) -> None:
    assert count(isl.Set(random.text())) == random.points()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(random_sets(parameters=0, dimensions=3))
def test_closed_forms_match_brute_force(random: RandomSet) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "MAX_ENUMERATED_ROWS", 0)
        assert count(isl.Set(random.text())) == random.points()


@settings(max_examples=50, deadline=None, derandomize=True)
@given(random_sets(parameters=0, dimensions=3))
def test_enumeration_is_the_fallback(random: RandomSet) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "MAX_ENUMERATED_ROWS", 0)
        patch.setattr(counting, "sum_over", refuse)
        assert count(isl.Set(random.text())) == random.points()


def refuse(*_: object) -> None:
    raise TooComplex("no closed form")


def test_renaming_and_reordering_change_nothing() -> None:
    first = isl.Set("{ A[t, y] : 8t <= y < 8t + 10 and 0 <= y < 100 and 0 <= t < 12 }")
    second = isl.Set("{ B[row, tile] : 8tile <= row < 8tile + 10 and 0 <= row < 100 and 0 <= tile < 12 }")
    assert count(first) == count(second) == 12 * 10


@pytest.mark.parametrize("text", ["{ A[i] : i >= 0 }", "{ A[i, j] : 0 <= i < 3 }", "{ A[i, j] : i = 2j }"])
def test_unbounded_set_is_refused(text: str) -> None:
    with pytest.raises(Unbounded, match=r"expected a finite set, got .*A"):
        count(isl.Set(text))


@pytest.mark.parametrize("text", ["[N] -> { A[i] : 0 <= i < N }", "[N] -> { A[i] : 0 <= i < 4 and N > 0 }"])
def test_parameter_that_matters_is_refused(text: str) -> None:
    with pytest.raises(
        InvalidInput,
        match=r"depends on N.*use `polyfuse.sets.symbolic.cardinality` for a formula, or fix the parameters",
    ):
        count(isl.Set(text))


def test_other_types_are_refused() -> None:
    with pytest.raises(InvalidInput, match="expected an isl set or map, got int"):
        count(4)  # type: ignore[arg-type]
