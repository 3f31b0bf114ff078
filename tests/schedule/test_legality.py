"""What legality refuses, each with its witness, and what it accepts."""

import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import islpy as isl
import pytest

from polyfuse.choices import PLACES
from polyfuse.errors import IllegalSchedule, TooComplex
from polyfuse.schedule.cells import Index
from polyfuse.schedule.executions import with_executions, with_tile_order
from polyfuse.schedule.legality import check
from polyfuse.schedule.schedule import Flow, Schedule, scheduled
from polyfuse.schedule.storage import Storage, storage
from polyfuse.schedule.strategy import Strategy
from polyfuse.sets.limits import operation_limit
from tests.schedule.networks import image_pairs, pair, same_chain

ROWS = Strategy.named("local", (4,))
BOTH = Strategy.named("local", (4, 4))


def shrunk(found: Storage, tensor: str, axis: int) -> Storage:
    """The storage with one cell less along one index of a buffer."""
    buffer = found.buffers[tensor]
    indices = list(buffer.indices)
    indices[axis] = Index(indices[axis].origin, indices[axis].window - 1, True)
    return replace(found, buffers={**found.buffers, tensor: replace(buffer, indices=tuple(indices))})


def with_flow(found: Schedule, tensor: str, change: Callable[[Flow], Flow]) -> Schedule:
    """The schedule with one flow changed."""
    return replace(found, flows={**found.flows, tensor: change(found.flows[tensor])})


@pytest.mark.parametrize("placement", ["first", "shifted"])
@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("tile", [(), (4,), (4, 3)])
def test_every_named_strategy_is_legal(tile: tuple[int, ...], name: str, placement: str) -> None:
    check(storage(scheduled(same_chain(2, 9, 7), Strategy.named(name, tile, placement))))  # type: ignore[arg-type]


@pytest.mark.parametrize("placement", ["first", "shifted"])
@pytest.mark.parametrize("tensor", ["x", "c0_out", "c1_out"])
def test_a_ring_one_row_too_short_is_refused(tensor: str, placement: str) -> None:
    strategy = Strategy.named("local", (4,), placement)  # type: ignore[arg-type]
    found = storage(scheduled(same_chain(3, 20, 6), strategy))
    reader = {"x": "c0", "c0_out": "c1", "c1_out": "c2"}[tensor]
    witness = rf"illegal: {reader} at tile \(0, \d+\) reads {tensor}\[0, :, \d+, :\], but tile \(0, \d+\) has put "
    clash = rf"buffer of {tensor}: \w+ writes .* and .* to the same cell"
    with pytest.raises(IllegalSchedule, match=f"{witness}|{clash}"):
        check(shrunk(found, tensor, 2))


def test_the_witness_of_a_short_ring_names_the_row_that_was_overwritten() -> None:
    found = storage(scheduled(same_chain(3, 20, 6), Strategy.named("local", (4,), "shifted")))
    witness = (
        r"c2 at tile \(0, \d\) reads c1_out\[0, :, (\d+), :\], but tile \(0, \d\) has put c1_out\[0, :, (\d+), :\]"
    )
    with pytest.raises(IllegalSchedule, match=witness) as refusal:
        check(shrunk(found, "c1_out", 2))
    match = re.search(witness, str(refusal.value))
    assert match is not None and int(match[2]) - int(match[1]) == 5


@pytest.mark.parametrize("axis", [2, 3])
@pytest.mark.parametrize("tensor", ["x", "conv1_out"])
@pytest.mark.parametrize("strategy", [BOTH, Strategy((4, 4), ("local", "recompute"))], ids=["both", "rows"])
def test_a_ring_one_row_or_column_too_short_is_refused_in_2d(strategy: Strategy, tensor: str, axis: int) -> None:
    found = storage(scheduled(pair(), strategy))
    check(found)
    with pytest.raises(
        IllegalSchedule, match=rf"(reads {tensor}\[0, :, \d+, \d+\], but tile)|(buffer of {tensor}: .* too small)"
    ):
        check(shrunk(found, tensor, axis))


def test_a_private_buffer_one_row_too_short_is_refused() -> None:
    found = storage(scheduled(pair(), Strategy((8, 8))))
    with pytest.raises(
        IllegalSchedule, match=r"buffer of conv1_out: make_conv1_out writes .* to the same cell; the buffer is too"
    ):
        check(shrunk(found, "conv1_out", 2))


@pytest.mark.parametrize("order", ["-y, x", "y, -x"])
def test_reversed_tiles_read_what_is_not_made_yet(order: str) -> None:
    found = with_tile_order(scheduled(pair(), BOTH), isl.Map(f"{{ tile[n, y, x] -> [n, {order}] }}"))
    witness = (
        r"conv2 at tile (\(0, \d, \d\)) reads (conv1_out\[0, :, \d+, \d+\]), "
        r"but only conv1\[0, :, \d+, \d+\] at tile \(0, \d, \d\) makes it, which is later; change the order"
    )
    with pytest.raises(IllegalSchedule, match=witness):
        check(storage(found))


@pytest.mark.parametrize("order", ["x, y", "y + x, y", "2y, x"])
def test_orders_that_go_on_along_both_dimensions_are_legal(order: str) -> None:
    check(storage(with_tile_order(scheduled(pair(12), BOTH), isl.Map(f"{{ tile[n, y, x] -> [n, {order}] }}"))))


@pytest.mark.parametrize("order", ["-y, -x", "x, -y"])
def test_recomputed_tiles_may_run_in_any_order(order: str) -> None:
    found = scheduled(pair(12), Strategy((4, 4)))
    check(storage(with_tile_order(found, isl.Map(f"{{ tile[n, y, x] -> [n, {order}] }}"))))


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ("{ tile[n, y, x] -> [n, y] }", r"tiles \[0, \d, \d\] and \[0, \d, \d\] have the same time"),
        ("{ tile[n, y, x] -> [n, y, x] : y > 0 }", r"tile \[0, 0, \d\] has no time"),
        ("{ tile[n, y, x] -> [n, y, z] : x <= z <= x + 1 }", r"tile \[0, \d, \d\] has several times"),
    ],
)
def test_an_order_that_is_none_is_refused(order: str, message: str) -> None:
    found = scheduled(pair(12), Strategy((4, 4)))
    with pytest.raises(IllegalSchedule, match=message):
        check(replace(storage(found), schedule=with_tile_order(found, isl.Map(order))))


def test_an_output_that_is_not_stored_everywhere_is_refused() -> None:
    some = isl.Set("{ conv2_out[n, c, h, w] : h != 5 }")
    found = with_flow(
        scheduled(pair(), ROWS), "conv2_out", lambda f: replace(f, stores=f.stores.intersect_domain(some))
    )
    with pytest.raises(IllegalSchedule, match=r"output conv2_out: element \[0, 0, 5, \d+\] is never stored"):
        check(storage(found))


def test_an_output_that_is_never_stored_is_refused() -> None:
    nothing = isl.Set("{ conv2_out[n, c, h, w] : false }")
    found = with_flow(
        scheduled(pair(), ROWS), "conv2_out", lambda f: replace(f, stores=f.stores.intersect_domain(nothing))
    )
    with pytest.raises(IllegalSchedule, match=r"output conv2_out: element .* is never stored"):
        check(storage(found))


def test_an_output_stored_twice_is_refused() -> None:
    def again(flow: Flow) -> Flow:
        row = isl.Map("{ conv2_out[n, c, 3, w] -> tile[0, 2] : n = 0 and c = 0 and 0 <= w < 16 }")
        return replace(flow, stores=flow.stores.union(row))

    with pytest.raises(
        IllegalSchedule, match=r"tensor conv2_out: element \[0, 0, 3, \d+\] is stored off-chip by several"
    ):
        check(storage(with_flow(scheduled(pair(), ROWS), "conv2_out", again)))


def test_a_store_at_a_tile_that_does_not_hold_the_element_is_refused() -> None:
    def later(flow: Flow) -> Flow:
        next_tile = isl.Map("{ tile[n, t] -> tile[n, t + 1] }")
        return replace(flow, stores=flow.stores.apply_range(next_tile))

    with pytest.raises(IllegalSchedule, match=r"store_conv2_out at tile \(0, \d\) reads conv2_out\[0, :, \d+, :\]"):
        check(storage(with_flow(scheduled(pair(), ROWS), "conv2_out", later)))


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("make conv1_out", "tensor conv1_out: elements to make, but no such stage in a tile"),
        ("load x", "tensor x: elements to load, but no such stage"),
        ("store conv2_out", "tensor conv2_out: elements to store, but no such stage"),
    ],
)
def test_a_missing_stage_is_refused(stage: str, message: str) -> None:
    found = scheduled(pair(), ROWS)
    found = replace(found, stages=tuple(each for each in found.stages if str(each) != stage))
    with pytest.raises(IllegalSchedule, match=message):
        check(storage(found))


def test_stages_in_the_wrong_order_are_refused() -> None:
    found = scheduled(pair(), ROWS)
    with pytest.raises(IllegalSchedule, match=r"reads .*, but only .* at tile .* (make|load)s it, which is later"):
        check(storage(replace(found, stages=found.stages[::-1])))


def test_a_missing_load_is_refused() -> None:
    def less(flow: Flow) -> Flow:
        some = isl.Set("{ x[n, c, h, w] : h != 7 }")
        return replace(flow, loads=flow.loads.intersect_domain(some), arrivals=flow.arrivals.intersect_domain(some))

    with pytest.raises(IllegalSchedule, match=r"conv1 at tile \(0, 1\) reads x\[0, :, 7, :\], but no tile loads it"):
        check(storage(with_flow(scheduled(pair(), ROWS), "x", less)))


def test_a_load_before_the_store_is_refused() -> None:
    found = scheduled(pair(), Strategy.named("global", (8,)))

    def without_stores(flow: Flow) -> Flow:
        return replace(flow, stores=isl.Map.empty(flow.stores.get_space()))

    with pytest.raises(
        IllegalSchedule,
        match=r"load_conv1_out at tile \(0, 1\) reads conv1_out\[0, :, [89], :\], but no tile stores it",
    ):
        check(storage(with_flow(found, "conv1_out", without_stores)))


def test_a_value_another_tile_left_is_refused_where_tiles_share_nothing() -> None:
    found = storage(scheduled(pair(), ROWS))
    everywhere = tuple("recompute" for _ in found.schedule.tiling.dims)
    private = with_flow(found.schedule, "conv1_out", lambda flow: replace(flow, places=everywhere))
    check(found)
    with pytest.raises(
        IllegalSchedule, match=r"conv2 at tile \(0, \d\) reads conv1_out.*only tile \(0, \d\) has made it, and"
    ):
        check(replace(found, schedule=private))


def test_legality_stops_at_the_operation_limit() -> None:
    found = storage(scheduled(pair(), BOTH))
    with pytest.raises(TooComplex, match=r"legality of '(pair|x|conv1_out)'"), operation_limit(10_000):
        check(found)


def test_a_witness_says_whether_an_element_is_kept_too_short_made_later_or_by_nobody() -> None:
    """Each of the three, and the tile and instance that make it are where the schedule has them."""
    rng = random.Random(15)
    told: Counter[str] = Counter()
    for _ in range(40):
        rows, size = rng.randint(6, 14), rng.randint(2, 4)
        network = same_chain(2, rows, 4)
        found = scheduled(network, Strategy.named(rng.choice(["recompute", "local", "global"]), (size,)))
        first, end, last = rng.randint(-3, 1), rng.randint(size - 1, size + 3), -(-rows // size) - 1
        here = (
            f"{size}t + {first} <= h < {size}t + {end} or (t = {last} and h >= {size * last}) or (t = 0 and h < {end})"
        )
        hole = f"h != {rng.randrange(rows)}" if rng.random() < 0.3 else "true"
        mine = f"{{ c0[0, 0, h, w] -> tile[0, t] : 0 <= t <= {last} and ({here}) and {hole} }}"
        changed = with_executions(found, {"c0": mine})
        try:
            check(storage(changed))
        except IllegalSchedule as error:
            text = str(error)
            match = re.search(r"at tile \(0, (\d+)\) reads c0_out\[0, :, (\d+), :\], but (.*)", text)
            assert match is not None, text
            told[cause_of(changed, int(match[1]), int(match[2]), match[3])] += 1
    assert set(told) == {"nobody", "later", "not kept"}, told


def cause_of(found: Schedule, reader: int, row: int, text: str) -> str:
    """Why a row is not there, by the points of the schedule; the words have to say the same."""
    makers = sorted(tile for element, tile in image_pairs(found.flows["c0_out"].executions) if element == (row, 0))
    tiles = [tile for (tile,) in makers]
    if not tiles:
        assert text.startswith("no tile makes it; have that tile or one before it make it"), text
        return "nobody"
    if min(tiles) > reader:
        match = re.match(
            rf"only (?:c0\[0, :, {row}, :\]|store_c0_out) at tile \(0, (\d+)\) (make|store)s it, which is later", text
        )
        assert match is not None and int(match[1]) in tiles, text
        return "later"
    assert re.match(
        r"(only )?tile \(0, \d+\) has (made it|put)|nothing was written before, cell .* though tile", text
    ), text
    return "not kept"
