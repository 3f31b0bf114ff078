"""Lowering to singular copies."""

import islpy as isl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyfuse.errors import IllegalSchedule, TooComplex, Unbounded
from polyfuse.schedule.lower import Lowered, copies_bound, lower
from polyfuse.sets.limits import operation_limit
from tests.schedule.networks import Element, Pairs, pairs, relation_of

PAPER = "{ Stmt[0] -> [0,0]; Stmt[1] -> [0,1]; Stmt[1] -> [1,0]; Stmt[2] -> [1,1] }"


def test_the_example_of_the_paper_gives_exactly_its_four_lines() -> None:
    lowered = lower(isl.Map(PAPER))
    lowered.check()
    assert lowered.renamed() == isl.UnionMap(
        "{ Stmt[0,0] -> [0,0]; Stmt[1,0] -> [0,1]; Stmt[2,0] -> [1,1]; Stmt[1,1] -> [1,0] }"
    )


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("{ S[i] -> [t] : false }", []),
        ("{ S[i] -> [i] : 0 <= i < 3 }", ["{ S[i] -> [i] : 0 <= i < 3 }"]),
        ("{ S[] -> [t] : 0 <= t <= 1 }", ["{ S[] -> [0] }", "{ S[] -> [1] }"]),
        ("{ S[i] -> [] : i = 0 }", ["{ S[0] -> [] }"]),
        ("{ S[i] -> tile[t] : 0 <= t <= 1 and i = 0 }", ["{ S[0] -> tile[0] }", "{ S[0] -> tile[1] }"]),
    ],
)
def test_copies_are_successive_first_times(schedule: str, expected: list[str]) -> None:
    lowered = lower(isl.Map(schedule))
    lowered.check()
    assert len(lowered.copies) == len(expected)
    assert all(found == isl.Map(wanted) for found, wanted in zip(lowered.copies, expected, strict=True))


def test_a_halo_of_one_row_on_both_sides_gives_two_copies_for_every_image() -> None:
    schedule = isl.Map("[H] -> { S[h] -> [t] : 0 <= h < H and 4t - 1 <= h <= 4t + 4 and 0 <= 4t < H }")
    lowered = lower(schedule)
    lowered.check()
    again = "0 <= h < H and 4t - 1 <= h <= 4t and 0 < 4t < H"
    assert lowered.copies[1] == isl.Map(f"[H] -> {{ S[h] -> [t] : {again} }}")
    assert len(lowered.copies) == 2


def test_copies_of_a_statement_without_a_name() -> None:
    renamed = lower(isl.Map("{ [i] -> [t] : i = 0 and 0 <= t <= 1 }")).renamed()
    assert renamed == isl.UnionMap("{ [0, 0] -> [0]; [0, 1] -> [1] }")


@pytest.mark.parametrize(
    ("schedule", "bound"),
    [
        ("{ S[i] -> [t] : false }", 0),
        ("{ S[i] -> [i] : i >= 0 }", 1),
        ("{ S[i] -> [t] : i <= t < i + 3 }", 3),
        ("{ S[i] -> [t, u] : i <= t < i + 3 and 0 <= u <= 1 }", 6),
        ("[H] -> { S[h] -> [t] : 4t - 1 <= h <= 4t + 4 and 0 <= h < H }", 2),
        ("{ S[i] -> [t] : t mod 5 = 0 and 0 <= t < 10 }", 6),
    ],
)
def test_the_bound_of_copies_is_the_product_of_extents(schedule: str, bound: int) -> None:
    assert copies_bound(isl.Map(schedule)) == bound


@pytest.mark.parametrize(
    "schedule", ["{ S[i] -> [t] : t >= i }", "{ S[i] -> [0, t] : true }", "[N] -> { S[i] -> [t] : 0 <= t < N }"]
)
def test_an_infinite_schedule_is_refused(schedule: str) -> None:
    with pytest.raises(Unbounded, match="schedule of S: an instance runs at infinitely many values of time dimension"):
        lower(isl.Map(schedule))


def test_too_many_copies_are_refused() -> None:
    with pytest.raises(TooComplex, match="up to 10000 copies of an instance, at most 4096"):
        lower(isl.Map("{ S[i] -> [t, u] : 0 <= t, u < 100 }"))


def test_lowering_stops_at_the_operation_limit() -> None:
    schedule = isl.Map("{ Stmt[i] -> [t, u] : 0 <= t, u <= 6 and 2t <= i + u and i <= 3t + u and i mod 3 = 1 }")
    with pytest.raises(TooComplex, match="copies of Stmt: expected at most 20 isl operations"), operation_limit(20):
        lower(schedule)


@pytest.mark.parametrize(
    ("copies", "message"),
    [
        (["{ S[0] -> [t] : 0 <= t <= 1 }"], "repeats an execution"),
        (["{ S[0] -> [0] }", "{ S[0] -> [0] }"], "repeats an execution"),
        (["{ S[0] -> [0] }"], "are not its schedule"),
        (["{ S[0] -> [0] }", "{ S[0] -> [2] }"], "are not its schedule"),
    ],
)
def test_check_sees_copies_that_are_no_partition(copies: list[str], message: str) -> None:
    wrong = Lowered(isl.Map("{ S[0] -> [t] : 0 <= t <= 1 }"), tuple(isl.Map(copy) for copy in copies))
    with pytest.raises(IllegalSchedule, match=message):
        wrong.check()


@st.composite
def schedules(draw: st.DrawFn) -> tuple[Pairs, tuple[int, int]]:
    """Random pairs of instances and times in one or two dimensions each."""
    ranks = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    points: list[st.SearchStrategy[Element]] = [st.tuples(*[st.integers(0, 3)] * rank) for rank in ranks]
    return draw(st.sets(st.tuples(*points), max_size=20)), ranks


@settings(max_examples=80, deadline=None)
@given(schedules())
def test_copy_k_holds_the_kth_time_of_every_instance(drawn: tuple[Pairs, tuple[int, int]]) -> None:
    found, ranks = drawn
    times: dict[Element, list[Element]] = {}
    for instance, time in sorted(found):
        times.setdefault(instance, []).append(time)
    lowered = lower(relation_of(found, "S", "T", ranks))
    lowered.check()
    most = max(map(len, times.values()), default=0)
    expected = [{(i, each[k]) for i, each in times.items() if k < len(each)} for k in range(most)]
    assert [pairs(copy) for copy in lowered.copies] == expected


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.integers(0, 5), st.integers(0, 3), st.integers(1, 12))
def test_overlapped_tiles_are_lowered_for_every_image_size(size: int, overlap: int, before: int, rows: int) -> None:
    tile = f"{size}t - {before} <= h < {size}t + {size + overlap - before} and 0 <= {size}t < H and 0 <= h < H"
    lowered = lower(isl.Map(f"[H] -> {{ S[h] -> [t] : {tile} }}"))
    lowered.check()
    concrete = lower(isl.Map(f"{{ S[h] -> [t] : {tile.replace('H', str(rows))} }}"))
    fixed = isl.Set(f"[H] -> {{ : H = {rows} }}")
    found = [pairs(copy.intersect_params(fixed).project_out(isl.dim_type.param, 0, 1)) for copy in lowered.copies]
    assert [copy for copy in found if copy] == [pairs(copy) for copy in concrete.copies]
