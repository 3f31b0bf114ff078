"""Buffers: rings by hand, and against liveness counted in plain Python."""

from itertools import pairwise

import islpy as isl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyfuse.errors import InvalidInput
from polyfuse.schedule.executions import with_tile_order
from polyfuse.schedule.legality import check
from polyfuse.schedule.schedule import Flow, Schedule, scheduled
from polyfuse.schedule.storage import storage
from polyfuse.schedule.strategy import Strategy
from tests.schedule.networks import Chain, Window, chains, image_pairs, pair, pairs, same_chain, stencils


def rows_kept(found: Schedule) -> dict[str, int]:
    """The rows of every buffer of a schedule in strips."""
    buffers = storage(found).buffers
    return {name: buffers[name].shape[2] for name in found.flows}


@pytest.mark.parametrize(
    ("placement", "rows"),
    [
        ("first", {"x": 7, "c0_out": 6, "c1_out": 6, "c2_out": 4}),
        ("shifted", {"x": 6, "c0_out": 6, "c1_out": 6, "c2_out": 4}),
    ],
)
def test_rings_of_three_convolutions_in_strips_of_4_rows(placement: str, rows: dict[str, int]) -> None:
    found = scheduled(same_chain(3, 20, 20), Strategy.named("local", (4,), placement))  # type: ignore[arg-type]
    assert rows_kept(found) == rows
    buffers = storage(found).buffers
    assert [buffers[name].indices[2].folded for name in ("x", "c0_out", "c1_out", "c2_out")] == [True] * 3 + [False]


@pytest.mark.parametrize(
    ("strategy", "shape"),
    [
        (Strategy.named("recompute", (8, 8)), (1, 1, 10, 10)),
        (Strategy.named("local", (8, 8)), (1, 1, 10, 18)),
        (Strategy.named("local", (8, 8), "shifted"), (1, 1, 10, 18)),
        (Strategy((8, 8), ("local", "recompute")), (1, 1, 10, 10)),
        (Strategy((8, 8), ("recompute", "local")), (1, 1, 10, 10)),
        (Strategy.named("global", (8, 8)), (1, 1, 10, 10)),
        (Strategy.named("local", (8,)), (1, 1, 10, 18)),
        (Strategy(()), (1, 1, 18, 18)),
    ],
    ids=str,
)
def test_worked_example_keeps_10_rows_of_the_first_convolution(strategy: Strategy, shape: tuple[int, ...]) -> None:
    found = storage(scheduled(pair(), strategy))
    check(found)
    assert found.buffers["conv1_out"].shape == shape
    assert found.buffers["conv1_weight"].shape == (1, 1, 3, 3)
    assert found.onchip_bytes == sum(buffer.bytes for buffer in found.buffers.values())


def test_strips_inside_of_rows_keep_a_ring_for_each_strip() -> None:
    found = storage(scheduled(pair(), Strategy((8, 8), ("local", "recompute"), order=(0, 1))))
    check(found)
    assert found.buffers["conv1_out"].shape == (2, 1, 1, 10, 10)
    assert str(found.buffers["conv1_out"]) == "conv1_out_buffer[2 (ring), 1, 1, 10 (ring), 10]"


def alive_at_once(flow: Flow, axis: int) -> int:
    """The most rows, from the first to the last, that are alive at one tile; tiles run in lexicographic order."""
    arrivals, need = image_pairs(flow.arrivals), image_pairs(flow.need)
    last: dict[int, tuple[int, ...]] = {}
    for element, tile in need | arrivals:
        last[element[axis]] = max(last.get(element[axis], tile), tile)
    longest = 0
    for _, tile in arrivals:
        alive = {e[axis] for e, arrived in arrivals if arrived <= tile <= last[e[axis]]}
        longest = max(longest, max(alive) - min(alive) + 1)
    return longest


@settings(max_examples=40, deadline=None)
@given(chains(largest=12), st.data())
def test_ring_heights_are_the_rows_alive_at_once(chain: Chain, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, chain.sizes[-1][0]))
    for placement in ("first", "shifted"):
        found = scheduled(chain.network(), Strategy.named("local", (size,), placement))
        kept = rows_kept(found)
        for name, flow in found.flows.items():
            if "local" in flow.places:
                assert kept[name] == alive_at_once(flow, 0), (name, placement)


def test_rank_1_rings() -> None:
    found = storage(scheduled(stencils(), Strategy.named("local", (4,), "shifted")))
    assert {name: buffer.shape for name, buffer in found.buffers.items()} == {"z": (4,), "y": (6,), "x": (6,)}
    cell = found.buffers["y"].cell.as_map().intersect_domain(isl.Set("{ [tile[t] -> y[i]] : t = 0 and 0 <= i < 18 }"))
    by_element = sorted(pairs(cell.flatten_domain()))
    assert [(b[0] - a[0]) % 6 for (_, a), (_, b) in pairwise(by_element)] == [1] * 17


def test_a_tensor_of_which_nothing_is_read_takes_one_cell() -> None:
    padding_only = Chain((Window("conv", (1, 2), (1, 1), (1, 2), (0, 1)),), (1, 1))
    found = storage(scheduled(padding_only.network(), Strategy.named("local", (1, 1))))
    check(found)
    assert found.buffers["x"].shape == (1, 1, 1, 1)


def test_liveness_follows_the_order_of_tiles() -> None:
    rows_first = scheduled(pair(), Strategy.named("local", (8, 4)))
    columns_first = with_tile_order(rows_first, isl.Map("{ tile[n, y, x] -> [n, x, y] }"))
    shapes = []
    for found in (rows_first, columns_first):
        check(storage(found))
        shapes.append(storage(found).buffers["conv1_out"].shape)
    assert shapes == [(1, 1, 10, 18), (1, 1, 18, 6)]


def test_symbolic_sizes_have_no_buffers() -> None:
    with pytest.raises(InvalidInput, match="expected concrete sizes"):
        storage(scheduled(same_chain(2, "H", "W"), Strategy((4,))))
