"""Which executions survive: against sets of pairs in plain Python."""

from itertools import product

import islpy as isl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyfuse.choices import PLACES
from polyfuse.schedule.retention import first_along, retain
from tests.schedule.networks import Pairs, pairs, relation_of, retained

GRID = list(product(range(2), range(3)))


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        ((), "{ A[a] -> tile[t0, t1] : 0 <= a <= 1 and 0 <= t0, t1 <= 1 }"),
        ((0,), "{ A[a] -> tile[0, t1] : 0 <= a <= 1 and 0 <= t1 <= 1 }"),
        ((1,), "{ A[a] -> tile[t0, 0] : 0 <= a <= 1 and 0 <= t0 <= 1 }"),
        ((0, 1), "{ A[a] -> tile[0, 0] : 0 <= a <= 1 }"),
    ],
)
def test_first_along_keeps_the_first_tile_of_the_kept_coordinates(kept: tuple[int, ...], expected: str) -> None:
    relation = isl.Map("{ A[a] -> tile[t0, t1] : 0 <= a <= 1 and 0 <= t0, t1 <= 1 }")
    assert first_along(relation, frozenset(kept)) == isl.Map(expected)


def test_rows_kept_and_columns_recomputed_is_first_in_every_column() -> None:
    halo = isl.Map("{ A[h, w] -> tile[y, x] : 2y <= h <= 2y + 2 and 2x <= w <= 2x + 2 and 0 <= y, x <= 1 }")
    kept = retain(halo, halo, ("local", "recompute"), "first")
    expected = "2y <= h <= 2y + 2 and (y = 0 or h > 2y) and 2x <= w <= 2x + 2 and 0 <= y, x <= 1"
    assert kept.executions == isl.Map(f"{{ A[h, w] -> tile[y, x] : {expected} }}")
    assert kept.loads.is_empty()


def test_shifted_makes_the_same_halo_before_the_first_tile() -> None:
    anywhere = isl.Map("{ A[h] -> tile[t] : 4t - 1 <= h <= 4t + 4 }")
    need = anywhere.intersect_domain(isl.Set("{ A[h] : 0 <= h < 8 }")).intersect_range(
        isl.Set("{ tile[t] : 0 <= t <= 1 }")
    )
    kept = retain(need, anywhere, ("local",), "shifted")
    assert kept.executions == isl.Map("{ A[h] -> tile[t] : 0 <= h < 8 and 4t + 1 <= h <= 4t + 4 }")


@st.composite
def overlapping(draw: st.DrawFn, dims: int) -> tuple[Pairs, Pairs]:
    """A random need of up to 4 elements in up to 6 tiles, and a larger one without borders."""
    tiles = [(t,) for t in range(4)] if dims == 1 else GRID
    every = [((a,), tile) for a in range(4) for tile in tiles]
    anywhere = draw(st.sets(st.sampled_from(every), max_size=16))
    need = {found for found in sorted(anywhere) if draw(st.booleans())}
    return need, anywhere


@pytest.mark.parametrize("dims", [1, 2])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_retain_matches_brute_force_for_all_places(dims: int, data: st.DataObject) -> None:
    need, anywhere = data.draw(overlapping(dims))
    maps = [relation_of(found, "A", "tile", (1, dims)) for found in (need, anywhere)]
    for places in product(PLACES, repeat=dims):
        for placement in ("first", "shifted"):
            kept = retain(maps[0], maps[1], places, placement)  # type: ignore[arg-type]
            found = tuple(pairs(relation) for relation in (kept.arrivals, kept.executions, kept.loads))
            assert found == retained(need, anywhere, places, placement), (places, placement)


def test_shifted_takes_a_need_that_its_extension_misses() -> None:
    need, anywhere = isl.Map("{ A[0] -> tile[1] }"), isl.Map("{ A[1] -> tile[0] }")
    assert retain(need, anywhere, ("local",), "shifted").executions == need
