"""Executions and orders of tiles made by hand."""

import islpy as isl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyfuse.choices import PLACES
from polyfuse.errors import IllegalSchedule, InvalidInput
from polyfuse.network.network import Builder
from polyfuse.schedule.executions import with_executions, with_tile_order
from polyfuse.schedule.legality import check
from polyfuse.schedule.overlapped import Overlap, overlapped_executions
from polyfuse.schedule.schedule import Flow, Schedule, scheduled
from polyfuse.schedule.storage import storage
from polyfuse.schedule.strategy import Strategy
from tests.schedule.networks import Chain, chains, pair, same_chain, size_of

RELATIONS = ("need", "arrivals", "executions", "loads", "stores")


def differing(one: Flow, other: Flow) -> list[str]:
    """The relations in which two flows differ."""
    return [name for name in RELATIONS if getattr(one, name) != getattr(other, name)]


@settings(max_examples=25, deadline=None)
@given(chains(), st.data())
def test_the_executions_a_schedule_has_change_nothing(chain: Chain, data: st.DataObject) -> None:
    network = chain.network()
    sizes = tuple(data.draw(st.integers(1, size)) for size in chain.sizes[-1])
    names = ["x", *(layer.output.name for layer in network.layers)]
    places = {name: data.draw(st.tuples(*[st.sampled_from(PLACES)] * 2)) for name in names}
    found = scheduled(network, Strategy(sizes, retention=places))  # type: ignore[arg-type]
    given_layers = data.draw(st.sets(st.sampled_from([layer.name for layer in network.layers])))
    executions = {name: found.executions(network.layer(name)) for name in given_layers}
    for pull in (True, False):
        again = with_executions(found, executions, pull=pull)
        assert again.stages == found.stages
        for name, flow in found.flows.items():
            assert differing(flow, again.flows[name]) == []


def narrowed(overlap: int, **options: bool) -> Schedule:
    """The worked example in strips of 8 rows, the first convolution in strips with another overlap."""
    network = pair()
    found = scheduled(network, Strategy((8,)))
    mine = overlapped_executions(found, network.layer("conv1"), [Overlap(2, 8, overlap, 16)])
    return with_executions(found, {"conv1": mine}, **options)


@pytest.mark.parametrize(("overlap", "executions", "loads"), [(2, 360, 480), (3, 378, 500), (4, 396, 520)])
def test_an_overlap_as_large_as_the_halo_or_larger_is_legal(overlap: int, executions: int, loads: int) -> None:
    found = narrowed(overlap)
    check(storage(found))
    rows = min(8 + overlap, 18) + 10
    assert executions >= size_of(found.flows["conv1_out"].executions) == rows * 18
    assert loads >= size_of(found.flows["x"].loads) == (rows + 4) * 20


@pytest.mark.parametrize("pull", [True, False])
def test_an_overlap_one_too_small_is_refused(pull: bool) -> None:
    later, nobody = r"9, :\], but only conv1\[0, :, 9, :\] at tile \(0, 1\) makes it", r"17, :\], but no tile makes it"
    with pytest.raises(IllegalSchedule, match=rf"conv2 at tile \(0, [01]\) reads conv1_out\[0, :, ({later}|{nobody})"):
        check(storage(narrowed(1, pull=pull)))


def test_a_gap_filled_by_another_tile_needs_retention() -> None:
    network = same_chain(2, 8, 4)
    executions = {"c0": isl.Map("{ c0[0, 0, h, w] -> tile[0, t] : 0 <= t < 2 and 4t <= h <= 4t + 4 and 0 <= h < 8 "
                                "and 0 <= w < 4 }")}  # fmt: skip
    private, ring = (with_executions(scheduled(network, Strategy.named(name, (4,))), executions)
                     for name in ("recompute", "local"))  # fmt: skip
    with pytest.raises(IllegalSchedule, match=r"c1 at tile \(0, 1\) reads c0_out\[0, :, 3, :\], but"):
        check(storage(private))
    check(storage(ring))
    assert size_of(ring.flows["c0_out"].executions) == 36


def test_global_loads_what_a_tile_needs_and_does_not_make() -> None:
    network = pair()
    found = scheduled(network, Strategy.named("global", (8,)))
    mine = isl.Map("{ conv1[0, 0, h, w] -> tile[0, t] : 0 <= t < 2 and 9t <= h < 10 + 8t and 0 <= w < 18 }")
    changed = with_executions(found, {"conv1": mine})
    check(storage(changed))
    flow = changed.flows["conv1_out"]
    assert flow.loads == isl.Map("{ conv1_out[0, 0, 8, w] -> tile[0, 1] : 0 <= w < 18 }")
    assert flow.stores == isl.Map("{ conv1_out[0, 0, 8, w] -> tile[0, 0] : 0 <= w < 18 }")
    assert size_of(flow.executions) == 19 * 18


def test_without_pulling_inputs_are_loaded_as_before() -> None:
    wide = narrowed(4, pull=False)
    assert size_of(wide.flows["x"].loads) == 480
    with pytest.raises(IllegalSchedule, match=r"conv1 at tile \(0, 0\) reads x\[0, :, 1[23], :\]"):
        check(storage(wide))


def test_an_output_moved_to_another_tile_is_stored_there() -> None:
    network = pair()
    found = scheduled(network, Strategy((8,)))
    one_tile = isl.Map("{ conv2[0, 0, h, w] -> tile[0, 5] : 0 <= h, w < 16 }")
    changed = with_executions(found, {"conv2": one_tile})
    check(storage(changed))
    assert size_of(changed.flows["conv1_out"].executions) == 324
    assert changed.flows["conv2_out"].stores.range() == isl.Set("{ tile[0, 5] }")


def test_executions_of_one_branch_leave_the_other() -> None:
    build = Builder("fork")
    x = build.input("x", (1, 1, 12, 4))
    left = build.conv("left", x, 1, kernel=3, padding=1)
    right = build.conv("right", x, 1, kernel=1)
    network = build.network(build.arithmetic("sum", "add", left, right))
    found = scheduled(network, Strategy((4,)))
    every = isl.Map("{ left[0, 0, h, w] -> tile[0, t] : 0 <= h < 12 and 0 <= w < 4 and 0 <= t < 3 }")
    changed = with_executions(found, {"left": every})
    check(storage(changed))
    assert size_of(changed.flows["left_out"].executions) == 3 * 48
    assert differing(changed.flows["right_out"], found.flows["right_out"]) == []
    assert size_of(changed.flows["x"].loads) == 3 * 48


@pytest.mark.parametrize(
    ("name", "relation", "message"),
    [
        ("conv3", "{ conv3[n, c, h, w] -> tile[0, 0] }", "network 'pair' has no layer 'conv3'; it has conv1, conv2"),
        (
            "conv1",
            "{ conv2[n, c, h, w] -> tile[0, 0] }",
            r"executions of layer 'conv1': expected { conv1\[i0, i1, i2, i3\] -> tile",
        ),
        ("conv1", "{ conv1[n, c, h] -> tile[0, 0] }", r"expected { conv1\[i0, i1, i2, i3\]"),
        ("conv1", "{ conv1[n, c, h, w] -> tile[0] }", r"expected { .* -> tile\[t0, t1\] }, got"),
        ("conv1", "{ conv1[n, c, h, w] -> [0, 0] }", r"expected { .* -> tile\[t0, t1\] }, got"),
        ("conv1", "{ conv1[0, 0, 18, 0] -> tile[0, 0] }", r"'conv1': expected points of .*, got none in"),
        (
            "conv1",
            "{ conv1[0, 0, 18, 0] }",
            r"'conv1': isl cannot read .* \(a set\); expected isl's notation, such as { conv1\[i0, ",
        ),
    ],
)
def test_relations_between_other_tuples_are_refused(name: str, relation: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        with_executions(scheduled(pair(), Strategy((8,))), {name: relation})


def test_text_and_objects_are_the_same_and_what_is_no_point_is_left_out() -> None:
    found = scheduled(pair(), Strategy((8,)))
    bounded = "{ conv1[0, 0, h, w] -> tile[0, t] : 0 <= t < 2 and 8t <= h < 8t + 10 and 0 <= w < 18 }"
    wanted = with_executions(found, {"conv1": isl.Map(bounded)}).flows["conv1_out"]
    free = "{ conv1[n, c, h, w] -> tile[0, t] : 0 <= t < 2 and 8t <= h < 8t + 10 }"
    for mine in (free, isl.BasicMap(free), isl.UnionMap(free)):
        assert differing(with_executions(found, {"conv1": mine}).flows["conv1_out"], wanted) == []
    order = "{ tile[n, y] -> [n, -y] }"
    for other in (isl.Map(order), isl.BasicMap(order), isl.UnionMap(order)):
        assert with_tile_order(found, other).tile_to_time == with_tile_order(found, order).tile_to_time


def test_an_order_of_other_tiles_is_refused() -> None:
    found = scheduled(pair(), Strategy((8,)))
    for relation in ("{ tile[n, y, x] -> [n, y, x] }", "{ other[n, y] -> [n, y] }", "{ [n, y] -> [n, y] }"):
        with pytest.raises(InvalidInput, match=r"order of tiles: expected { tile\[t0, t1\] -> \[time\] }, got"):
            with_tile_order(found, relation)


def test_the_name_of_a_time_is_dropped() -> None:
    found = scheduled(pair(), Strategy((8,)))
    assert with_tile_order(found, isl.Map("{ tile[n, y] -> time[n, y] }")).tile_to_time == found.tile_to_time


@pytest.mark.parametrize(("pull", "rows"), [(True, 16), (False, 12)])
def test_layers_before_the_given_one_make_what_it_needs_or_what_they_made(pull: bool, rows: int) -> None:
    network = same_chain(3, 8, 4)
    found = scheduled(network, Strategy((4,)))
    every = isl.Map("{ c1[0, 0, h, w] -> tile[0, t] : 0 <= t < 2 and 0 <= h < 8 and 0 <= w < 4 }")
    changed = with_executions(found, {"c1": every}, pull=pull)
    assert size_of(found.flows["c0_out"].executions) == 12 * 4
    assert size_of(changed.flows["c0_out"].executions) == rows * 4
    assert changed.flows["c0_out"].need == with_executions(found, {"c1": every}).flows["c0_out"].need
    if pull:
        check(storage(changed))
    else:
        with pytest.raises(IllegalSchedule, match=r"c1 at tile \(0, \d\) reads c0_out"):
            check(storage(changed))


def test_what_given_executions_share_is_retained_upstream() -> None:
    build = Builder("pointwise")
    x = build.input("x", (1, 1, 8, 4))
    network = build.network(build.conv("b", build.conv("a", x, 1, kernel=1), 1, kernel=1))
    found = scheduled(network, Strategy((4,), retention={"a_out": ("local",)}))
    assert found.flows["a_out"].places == ("recompute", "recompute")
    wide = isl.Map(
        "{ b[0, 0, h, w] -> tile[0, t] : 0 <= t < 2 and 4t - 1 <= h < 4t + 4 and 0 <= h < 8 and 0 <= w < 4 }"
    )
    changed = with_executions(found, {"b": wide})
    check(storage(changed))
    assert changed.flows["a_out"].places == ("recompute", "local")
    assert size_of(changed.flows["a_out"].executions) == 32
