"""`cardinality` agrees with counts of concrete sets at every size tried, and refuses what it cannot do exactly."""

from itertools import product

import islpy as isl
import pytest
from hypothesis import assume, given, settings

from polyfuse.errors import InvalidInput, TooComplex, Unbounded
from polyfuse.sets.counting import count
from polyfuse.sets.symbolic import closed_forms
from polyfuse.sets.symbolic.closed_forms import cardinality, has_barvinok
from tests.sets.random_sets import RandomSet, random_sets

PARAM = isl.dim_type.param
IN = isl.dim_type.in_

SIZES = [
    ("[H] -> { A[y, x] : 0 <= y < H and 0 <= x < 3 }", {"H": 7}, 21),
    ("[H] -> { A[y, x] : 0 <= y <= x < H }", {"H": 10}, 55),
    ("[H] -> { A[y] : 0 <= y < H and y mod 2 = 0 }", {"H": 7}, 4),
    ("[H] -> { A[y] : 0 <= y < H and y mod 2 = 0 }", {"H": 8}, 4),
    ("[H] -> { A[y] : 0 <= 3y <= H }", {"H": 11}, 4),
    ("[H] -> { A[y] : 0 <= y < H }", {"H": -3}, 0),
    ("[H] -> { A[] : H > 3 }", {"H": 3}, 0),
    ("[H] -> { A[] : H > 3 }", {"H": 4}, 1),
    ("[H] -> { A[] : H mod 4 = 2 }", {"H": 6}, 1),
    ("[H] -> { A[] : H mod 4 = 2 }", {"H": 7}, 0),
    ("[H] -> { A[y] : 2y = H }", {"H": 8}, 1),
    ("[H] -> { A[y] : 2y = H }", {"H": 9}, 0),
    ("[a, b] -> { A[x] : a <= x < b or b <= x < a }", {"a": 3, "b": -4}, 7),
    ("[H, W] -> { A[i, j] : i >= 0 and j >= 0 and 2i + 3j <= H and i < W }", {"H": 6, "W": 10}, 7),
    ("[N] -> { A[i, j, k] : 0 <= i < j < k < N }", {"N": 10**9}, 10**9 * (10**9 - 1) * (10**9 - 2) // 6),
    ("{ A[i, j] : 0 <= i <= j < 4 }", {}, 10),
    ("{ A[i] : 1 = 0 }", {}, 0),
]

LAYERS = [
    "[H] -> { [t, h] : 0 <= t and 8t <= h < 8t + 10 and h < H + 2 and 8t < H }",
    "[H] -> { [t, h, k] : 8t - 1 <= h < 8t + 9 and 0 <= t and 8t < H and 0 <= h < H "
    "and 0 <= k < 3 and 0 <= h + k - 1 < H }",
    "[H] -> { [t, h, k] : 8t <= h < 8t + 9 and 0 <= t and 16t < H and 0 <= 2h < H "
    "and 0 <= k < 3 and 0 <= 2h + k - 1 < H }",
    "[H] -> { [t, h, k] : 4t - 2 <= h < 4t + 6 and 0 <= t and 4t < H and 0 <= h < H "
    "and 0 <= k < 3 and 0 <= h + 2k - 2 < H }",
    "[H] -> { [t, a] : exists h, k : 4t <= h < 4t + 4 and 0 <= h < H and 0 <= k < 2 and a = 3h + k and 0 <= t }",
    "[H] -> { [t, h, p] : 0 <= t and 6t <= p < 6t + 6 and 0 <= 2p < H and 2p <= h < 2p + 3 and h < H }",
    "[H] -> { [t, u] : 0 <= t <= u and 8u < H and 12t < H }",
]

TILES = [
    "[T, H] -> { tile[o] -> row[h] : o - 2 <= h < o + T + 2 and 0 <= h < H and 0 <= o < H and T > 0 }",
    "[T, H] -> { tile[o] -> S[h, k] : o - 1 <= h < o + T + 1 and 0 <= h < H and 0 <= k < 3 and 0 <= h + k - 1 < H "
    "and 0 <= o < H and T > 0 }",
    "[T, H] -> { tile[o] -> S[h] : 2o - 1 <= h < 2o + 2T + 1 and 0 <= h < 2H and 0 <= o < H and T > 0 }",
    "[T, H] -> { tile[o] -> S[a] : exists h, k : o <= h < o + T and 0 <= h < H and 0 <= k < 2 and a = 3h + k "
    "and o >= 0 }",
    "[T, H] -> { tile[o] -> S[h] : o <= h < o + T and 0 <= h < H and h mod 2 = 0 and o mod 4 = 0 }",
    "[T, H] -> { tile[o] -> S[h] : o <= h < o + T and 0 <= h < H or h = H + o and T > 2 }",
]

HARD = "[N, M] -> { A[i, j, k] : 89i + 97j + 101k <= N and 0 <= i, j, k <= M }"


def at_parameters(s: isl.Set, values: tuple[int, ...]) -> isl.Set:
    """The set at given values of its parameters, without them."""
    for position, value in enumerate(values):
        s = s.fix_val(PARAM, position, value)
    return s.project_out(PARAM, 0, len(values))


@pytest.mark.parametrize("text, sizes, expected", SIZES)
def test_cardinality_by_hand(text: str, sizes: dict[str, int], expected: int) -> None:
    assert cardinality(isl.Set(text), "own").at(**sizes) == expected


@pytest.mark.parametrize("text", LAYERS)
def test_layers_match_concrete_counts(text: str) -> None:
    rows = cardinality(isl.Set(text), "own")
    for height in range(-3, 70):
        assert rows.at(H=height) == at_parameters(isl.Set(text), (height,)).count_val().to_python()


@pytest.mark.parametrize("text", TILES)
def test_tiles_match_concrete_counts(text: str) -> None:
    relation = isl.Map(text)
    formula = cardinality(relation, "own")
    assert formula.symbols == ("T", "H", "o")
    for tile, height, origin in product(range(-1, 7), range(9), range(-2, 10)):
        image = at_parameters(relation.fix_val(IN, 0, origin).range(), (tile, height))
        assert formula.at(T=tile, H=height, o=origin) == image.count_val().to_python()


def test_worked_example_of_two_convolutions() -> None:
    """Tiles of 8x8 on 16x16: 10x10 of the first layer for each tile, 400 executions of 324 instances."""
    relation = isl.Map(
        "[T, H, W] -> { tile[y, x] -> conv1[a, b] : y <= a < y + T + 2 and x <= b < x + T + 2 "
        "and 0 <= a < H + 2 and 0 <= b < W + 2 }"
    )
    executions = cardinality(relation, "own")
    tiles = [executions.at(T=8, H=16, W=16, y=y, x=x) for y in (0, 8) for x in (0, 8)]
    assert tiles == [100] * 4
    assert executions.at(T=16, H=16, W=16, y=0, x=0) == 18 * 18


@settings(max_examples=60, deadline=None, derandomize=True)
@given(random_sets(parameters=2, dimensions=2, largest=2))
def test_cardinality_matches_brute_force(random: RandomSet) -> None:
    formula = cardinality(isl.Set(random.text()), "own")
    for values in product(range(-3, 7), repeat=random.parameters):
        assert formula.at(**dict(zip(random.symbols, values, strict=True))) == random.points(values)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(random_sets(parameters=1, dimensions=3, largest=2))
def test_three_dimensions_match_brute_force(random: RandomSet) -> None:
    assume(random.dimensions == 3)
    formula = cardinality(isl.Set(random.text()), "own")
    for values in product(range(-3, 7), repeat=random.parameters):
        assert formula.at(**dict(zip(random.symbols, values, strict=True))) == random.points(values)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(random_sets(parameters=2, dimensions=2, largest=2))
def test_pieces_are_disjoint(random: RandomSet) -> None:
    pieces = cardinality(isl.Set(random.text()), "own").pieces
    for index, piece in enumerate(pieces):
        assert all(piece.domain.is_disjoint(other.domain) for other in pieces[:index])


def test_sums_of_a_map_over_its_domain_are_its_count() -> None:
    relation = isl.Map("{ A[i, j] -> B[k] : 0 <= i < 5 and 0 <= j < 4 and i <= 2k <= 3j + 7 }")
    formula = cardinality(relation, "own")
    assert sum(formula.at(i=i, j=j) for i in range(5) for j in range(4)) == count(relation)


def test_dilated_and_strided_planes_match_concrete_counts() -> None:
    """Existential variables of one axis do not tie it to the other: the axes are counted on their own."""
    relation = isl.Map(
        "[T, H] -> { tile[o, p] -> x[u, v] : exists a, i, b, j : o <= a < o + T and 0 <= a < H and 0 <= i < 3 "
        "and u = a + 2i - 2 and 0 <= u < H and p <= b < p + 2 and 0 <= b < 8 and 0 <= j < 2 and v = 3b + j and o >= 0 }"
    )
    formula = cardinality(relation, "own")
    for tile, height, origin in product((1, 2, 5), (1, 6, 9), (0, 2, 5)):
        image = at_parameters(relation.fix_val(IN, 0, origin).fix_val(IN, 1, 7).range(), (tile, height))
        assert formula.at(T=tile, H=height, o=origin, p=7) == image.count_val().to_python() == count(image)


def test_unnamed_and_repeated_dimensions_get_names() -> None:
    relation = isl.Map("[H] -> { A[y, 5] -> B[y] : 0 <= y < H }")
    formula = cardinality(relation, "own")
    assert formula.symbols == ("H", "y", "i1")
    assert formula.at(H=9, y=3, i1=5) == 1
    assert formula.at(H=9, y=3, i1=4) == 0


def test_formula_reads_well() -> None:
    formula = cardinality(isl.Set("[H] -> { A[y, x] : 0 <= y < H and 0 <= x < 3 }"), "own")
    assert str(formula) == "[H] -> { 3*H : H > 0 }"


@pytest.mark.parametrize("text", ["[N] -> { A[i] : i >= N }", "[N] -> { A[i, j] : 0 <= i < N }"])
def test_unbounded_set_is_refused(text: str) -> None:
    with pytest.raises(Unbounded, match="infinitely many points; bound every dimension"):
        cardinality(isl.Set(text), "own")


def test_no_closed_form_is_an_error_not_an_approximation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polyfuse.sets.names.MAX_STEPS", 10)
    with pytest.raises(TooComplex, match="no closed form within 10 steps; fix some parameters"):
        cardinality(isl.Set("[N, M] -> { A[i, j, k] : 7i + 11j + 13k <= N and 0 <= i, j, k <= M }"), "own")


def test_too_many_residue_classes_are_refused() -> None:
    with pytest.raises(TooComplex, match="no closed form"):
        cardinality(isl.Set(HARD), "own")


def test_too_many_pieces_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polyfuse.sets.symbolic.pieces.MAX_PIECES", 2)
    with pytest.raises(TooComplex, match="at most 2 convex pieces"):
        cardinality(isl.Set("[H, o] -> { A[y] : 0 <= y < H and o <= y < o + 9 }"), "own")


def test_unknown_backend_and_type_are_refused() -> None:
    with pytest.raises(InvalidInput, match="expected backend 'auto', 'own' or 'barvinok', got 'latte'"):
        cardinality(isl.Set("{ A[] }"), "latte")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="got UnionSet"):
        cardinality(isl.UnionSet("{ A[] }"))  # type: ignore[arg-type]


def test_missing_barvinok_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closed_forms, "has_barvinok", lambda: False)
    with pytest.raises(InvalidInput, match="islpy-barvinok"):
        cardinality(isl.Set("{ A[] }"), "barvinok")


def test_auto_without_barvinok_gives_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closed_forms, "has_barvinok", lambda: False)
    with pytest.raises(TooComplex, match="no closed form"):
        cardinality(isl.Set(HARD))


def test_has_barvinok_looks_at_the_installed_islpy() -> None:
    assert has_barvinok() == hasattr(isl.Map, "card")
