"""Sums of products are the numbers of points that brute force finds, equal to the expanded form, and short."""

from itertools import product
from random import Random

import islpy as isl
import numpy as np
import pytest
from hypothesis import given, settings

from polyfuse.errors import InvalidInput, TooComplex, Unbounded
from polyfuse.sets.symbolic import cardinality, factored
from polyfuse.sets.symbolic.closed_forms import has_barvinok
from tests.sets.random_sets import RandomSet, random_sets
from tests.sets.symbolic.test_cardinality import LAYERS, TILES, at_parameters

PARAM = isl.dim_type.param
SIZES = range(-2, 26)


def tiles(size: int, halo: int, name: str, coordinate: str, point: str) -> str:
    """The condition that a tile along one axis needs a point of it."""
    return (
        f"0 <= {coordinate} and {size}{coordinate} <= {point} < {size}{coordinate} + {size + halo} "
        f"and {size}{coordinate} < {name} - {halo} and {point} < {name}"
    )


def needed(size: int, halo: int, columns: str = "W") -> isl.Map:
    """`{ A[y, x] -> tile[a, b] }` of square tiles with a halo."""
    rows, across = tiles(size, halo, "H", "a", "y"), tiles(size, halo, columns, "b", "x")
    return isl.Map(f"[{', '.join(dict.fromkeys(('H', columns)))}] -> {{ A[y, x] -> tile[a, b] : {rows} and {across} }}")


@settings(max_examples=40, deadline=None, derandomize=True)
@given(random_sets(parameters=2, dimensions=2, largest=2))
def test_random_sets_match_brute_force(random: RandomSet) -> None:
    formula = factored(isl.Set(random.text()))
    for values in product(range(-3, 7), repeat=random.parameters):
        assert formula.at(**dict(zip(random.symbols, values, strict=True))) == random.points(values)


@pytest.mark.parametrize("seed", range(12))
def test_unions_of_products_match_brute_force(seed: int) -> None:
    """Overlapping boxes, each with bounds and strides of its own along each axis, some empty below a size."""
    random = Random(seed)
    boxes = [[axis(random, name, symbol) for name, symbol in (("y", "H"), ("x", "W"))] for _ in range(3)]
    text = " or ".join(f"({' and '.join(condition for condition, _ in box)})" for box in boxes)
    formula = factored(isl.Set(f"[H, W] -> {{ A[y, x] : {text} }}"))
    for height, width in product((-1, 0, 3, 5, 8, 13), repeat=2):
        points = {
            (y, x)
            for box in boxes
            for y in range(-20, 40)
            if box[0][1](y, height)
            for x in range(-20, 40)
            if box[1][1](x, width)
        }
        assert formula.at(H=height, W=width) == len(points), (text, height, width)


def axis(random: Random, name: str, symbol: str):  # type: ignore[no-untyped-def]
    """A condition on one axis, as text and as a function of the coordinate and the size."""
    low, above, step, rest, least = (random.randrange(n) for n in (5, 4, 3, 2, 6))
    step += 1
    text = f"{low} <= {name} < {symbol} + {above} and {name} mod {step} = {rest % step} and {symbol} >= {least}"
    return text, lambda x, size: low <= x < size + above and x % step == rest % step and size >= least


@pytest.mark.parametrize("columns", ["W", "H"])
@pytest.mark.parametrize("size, halo", [(8, 2), (4, 4), (3, 5)])
def test_points_that_several_tiles_need(size: int, halo: int, columns: str) -> None:
    relation = needed(size, halo, columns).subtract(needed(size, halo, columns).lexmin()).domain()
    formula = factored(relation)
    for height, width in product((0, 5, 9, 14, 23), repeat=2):
        if columns == "H" and height != width:
            continue
        values = {"H": height, columns: width}
        points = sum(
            along(height, size, halo, y) * along(width, size, halo, x) > 1 for y in range(height) for x in range(width)
        )
        assert formula.at(**values) == points
    assert len(str(formula)) < 600


def along(size: int, tile: int, halo: int, point: int) -> int:
    """How many tiles need a point along one axis, one by one."""
    return sum(tile * t <= point < tile * t + tile + halo for t in range(max(0, -(-(size - halo) // tile))))


def test_the_product_is_short_where_the_pieces_are_not() -> None:
    twice = needed(8, 2).subtract(needed(8, 2).lexmin()).domain()
    short, long = factored(twice), cardinality(twice, "own")
    assert len(str(long)) > 4 * len(str(short))
    sizes = np.arange(-3, 90)
    values = [form.to_numpy()(H=sizes[:, None], W=sizes[None, :]) for form in (short, long, short.expanded())]
    assert (values[0] == values[1]).all() and (values[0] == values[2]).all() and values[0].max() > 3_000


@pytest.mark.parametrize("text", LAYERS)
def test_layers_match_concrete_counts(text: str) -> None:
    rows = factored(isl.Set(text))
    for height in range(-3, 70):
        assert rows.at(H=height) == at_parameters(isl.Set(text), (height,)).count_val().to_python()


@pytest.mark.parametrize("text", TILES)
def test_tiles_match_the_expanded_form(text: str) -> None:
    short, long = factored(isl.Map(text)), cardinality(isl.Map(text), "own")
    grids = np.meshgrid(*[np.arange(-2, 12)] * 3)
    named = dict(zip(short.symbols, grids, strict=True))
    assert short.symbols == long.symbols and (short.to_numpy()(**named) == long.to_numpy()(**named)).all()


@pytest.mark.skipif(not has_barvinok(), reason="the installed islpy is not islpy-barvinok: no card()")
@pytest.mark.parametrize("size, halo", [(8, 2), (4, 4)])
def test_products_are_card(size: int, halo: int) -> None:
    relation = needed(size, halo).domain()
    own, theirs = factored(relation), cardinality(relation, "barvinok")
    for height, width in product(SIZES, repeat=2):
        assert own.at(H=height, W=width) == theirs.at(H=height, W=width)


def test_conditions_that_tie_sizes_stay() -> None:
    formula = factored(isl.Set("[H, W] -> { A[y, x] : 0 <= y < H and 0 <= x < W and H + W <= 9 }"))
    for height, width in product(range(12), repeat=2):
        assert formula.at(H=height, W=width) == (height * width if height + width <= 9 else 0)


def test_text() -> None:
    box = isl.Set("[H, W] -> { A[c, y, x] : 0 <= c < 16 and 2 <= y < H and 0 <= x < W }")
    assert str(factored(box)) == "[H, W] -> { 16*W*(H - 2) : W > 0 and H >= 3 }"
    assert str(factored(isl.Set("[H] -> { A[y] : 1 = 0 }"))) == "[H] -> 0"
    assert str(factored(isl.Set("{ A[y, x] : 0 <= y, x < 3 }"))) == "[] -> 9"


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unbounded, match="infinitely many points"):
        factored(isl.Set("[N] -> { A[i] : i >= N }"))
    with pytest.raises(InvalidInput, match=r"expected an isl.Set or isl.Map, got UnionSet"):
        factored(isl.UnionSet("{ A[] }"))  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="expected the symbols H, got W"):
        factored(isl.Set("[H] -> { A[y] : 0 <= y < H }")).at(W=3)
    plane = factored(isl.Set("[H] -> { A[y, x] : 0 <= y < H and 0 <= x < H }"))
    assert plane.at(H=10**12) == 10**24
    with pytest.raises(TooComplex, match="does not fit 64 bits"):
        plane.to_numpy()(H=[10**12])
    monkeypatch.setattr("polyfuse.sets.symbolic.factors.MOST_PRODUCTS", 1)
    with pytest.raises(TooComplex, match="at most 1 products"):
        factored(isl.Set("[H, W] -> { A[y, x] : 0 <= y < H and 0 <= x < W and (y < 3 or x < 3) }"))
