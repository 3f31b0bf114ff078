"""Schedules: the worked example, strategies against brute force, symbolic sizes, metamorphic properties, refusals."""

from itertools import product

import islpy as isl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyfuse.choices import PLACES
from polyfuse.errors import InvalidInput
from polyfuse.network.network import Builder, Network
from polyfuse.schedule.legality import check
from polyfuse.schedule.lower import copies_bound, lower
from polyfuse.schedule.schedule import Schedule, Stage, scheduled
from polyfuse.schedule.storage import storage
from polyfuse.schedule.strategy import Strategy
from tests.schedule.networks import (
    Chain,
    Element,
    Pairs,
    chains,
    elements,
    image_pairs,
    pair,
    pairs,
    retained,
    same_chain,
    size_of,
    stencils,
)


def executed(found: Schedule) -> dict[str, int]:
    """How many executions every layer has."""
    return {layer.name: size_of(found.executions(layer)) for layer in found.network.layers}


@pytest.mark.parametrize(
    ("strategy", "conv1", "copies", "loaded"),
    [
        (Strategy.named("recompute", (8, 8)), 400, [324, 68, 4, 4], 576),
        (Strategy((8, 8), ("local", "recompute")), 360, [324, 36], 480),
        (Strategy((8, 8), ("recompute", "local")), 360, [324, 36], 480),
        (Strategy((8, 8), ("local", "local")), 324, [324], 400),
        (Strategy.named("local", (8, 8), "shifted"), 324, [324], 400),
        (Strategy.named("global", (8, 8)), 324, [324], 484),
        (Strategy((8,)), 360, [324, 36], 480),
        (Strategy(()), 324, [324], 400),
    ],
    ids=str,
)
def test_worked_example(strategy: Strategy, conv1: int, copies: list[int], loaded: int) -> None:
    network = pair()
    found = scheduled(network, strategy)
    assert executed(found) == {"conv1": conv1, "conv2": 256}
    lowered = lower(found.executions(network.layer("conv1")))
    lowered.check()
    assert [size_of(copy) for copy in lowered.copies] == copies
    assert size_of(found.flows["x"].loads) == loaded
    assert size_of(found.flows["conv2_out"].stores) == 256


def test_worked_example_has_324_instances_and_copies_below_the_bound() -> None:
    network = pair()
    conv1 = network.layer("conv1")
    assert size_of(conv1.points) == 324
    assert copies_bound(scheduled(network, Strategy((8, 8))).executions(conv1)) == 4


def test_worked_example_stored_globally_loads_the_shared_rows_and_columns() -> None:
    flow = scheduled(pair(), Strategy.named("global", (8, 8))).flows["conv1_out"]
    assert size_of(flow.loads) == 400 - 324
    assert size_of(flow.stores) == size_of(flow.stores.domain()) == 18 * 18 - 16 * 16
    assert flow.stores.domain() == flow.loads.domain()


def test_nothing_is_retained_where_no_two_tiles_share_an_element() -> None:
    build = Builder("entry")
    x = build.input("x", (1, 1, 8, 8))
    network = build.network(build.conv("b", build.conv("a", x, 1, kernel=1), 1, kernel=3, padding=1))
    found = scheduled(network, Strategy.named("local", (4,)))
    places = {name: flow.places for name, flow in found.flows.items()}
    alone = ("recompute", "recompute")
    assert places == {"b_out": alone, "a_out": ("recompute", "local"), "x": alone}


def test_an_input_is_global_anyway_and_loaded_again() -> None:
    found = scheduled(pair(), Strategy.named("global", (8,)))
    assert found.flows["x"].places == ("recompute", "recompute")
    assert found.flows["x"].loads == found.flows["x"].arrivals


def test_stages_run_in_the_order_of_the_layers() -> None:
    found = scheduled(pair(), Strategy.named("global", (8, 8)))
    assert [str(stage) for stage in found.stages] == [
        "load x", "load conv1_out", "make conv1_out", "store conv1_out", "make conv2_out", "store conv2_out",
    ]  # fmt: skip
    assert found.stage("store", found.network.outputs[0]) == 5
    assert found.stage("load", found.network.outputs[0]) is None
    assert Stage("make", found.network.outputs[0]) in found.stages


def pulled_by_brute_force(chain: Chain, sizes: Element, order: Element, places: dict[str, tuple[str, ...]]) -> list:
    """Arrivals, executions and loads of the input and of every output, tensor by tensor, the last output first.

    A place is given for rows and for columns; tiles are (coordinate of order[0], coordinate of order[1]).
    """
    rows, columns = chain.sizes[-1]
    names = ["x", *(f"l{k}_out" for k in range(len(chain.windows)))]
    points = product(range(rows), range(columns))
    need: Pairs = {(p, tuple(p[axis] // sizes[axis] for axis in order)) for p in points}
    found = []
    for k in reversed(range(len(names))):
        mine = [places[names[k]][axis] for axis in order]
        if k == 0:
            mine = ["local" if place == "local" else "recompute" for place in mine]
        kept = retained(need, need, mine, "first")
        found.append((names[k], *kept))
        if k:
            window, size = chain.windows[k - 1], chain.sizes[k - 1]
            need = {(read, tile) for point, tile in kept[1] for read in window.reads(point, size)}
    return found


@settings(max_examples=60, deadline=None)
@given(chains(), st.data())
def test_executions_loads_and_stores_match_brute_force(chain: Chain, data: st.DataObject) -> None:
    network = chain.network()
    sizes = tuple(data.draw(st.integers(1, size)) for size in chain.sizes[-1])
    order = data.draw(st.permutations([0, 1]))
    names = ["x", *(layer.output.name for layer in network.layers)]
    places = {name: data.draw(st.tuples(*[st.sampled_from(PLACES)] * 2)) for name in names}
    found = scheduled(network, Strategy(sizes, retention=places, order=tuple(order)))  # type: ignore[arg-type]
    last = True
    for name, arrivals, executions, loads in pulled_by_brute_force(chain, sizes, tuple(order), places):
        flow = found.flows[name]
        assert image_pairs(flow.arrivals) == arrivals
        assert image_pairs(flow.loads) == (loads if name != "x" else arrivals)
        assert image_pairs(flow.executions) == (executions if name != "x" else set())
        wanted = {e for e, _ in executions} if last else {e for e, _ in loads}
        first = {(e, min(t for a, t in executions if a == e)) for e in wanted}
        assert image_pairs(flow.stores) == (first if name != "x" else set())
        last = False


@settings(max_examples=25, deadline=None)
@given(chains(most=3, largest=7), st.data())
def test_random_strategies_are_legal(chain: Chain, data: st.DataObject) -> None:
    network = chain.network()
    dims = data.draw(st.integers(0, 2))
    sizes = tuple(data.draw(st.integers(1, size)) for size in chain.sizes[-1][:dims])
    order = data.draw(st.none() | st.permutations(range(dims)).map(tuple))
    names = ["x", *(layer.output.name for layer in network.layers)]
    places = {name: data.draw(st.tuples(*[st.sampled_from(PLACES)] * dims)) for name in names}
    for placement in ("first", "shifted"):
        strategy = Strategy(sizes, retention=places, placement=placement, order=order)  # type: ignore[arg-type]
        check(storage(scheduled(network, strategy)))


@settings(max_examples=25, deadline=None)
@given(chains(), st.data())
def test_shifted_executes_every_point_as_often_as_first(chain: Chain, data: st.DataObject) -> None:
    network = chain.network()
    sizes = tuple(data.draw(st.integers(1, size)) for size in chain.sizes[-1])
    found = [scheduled(network, Strategy.named("local", sizes, placement)) for placement in ("first", "shifted")]
    for layer in network.layers:
        assert found[0].executions(layer).domain() == found[1].executions(layer).domain()
        assert all(each.executions(layer).is_single_valued() for each in found)


@settings(max_examples=25, deadline=None)
@given(chains(), st.data())
def test_local_and_recompute_store_the_same_outputs_and_global_executes_like_local(
    chain: Chain, data: st.DataObject
) -> None:
    network = chain.network()
    sizes = tuple(data.draw(st.integers(1, size)) for size in chain.sizes[-1])
    found = {name: scheduled(network, Strategy.named(name, sizes)) for name in PLACES}
    (y,) = network.outputs
    assert found["recompute"].flows[y.name].stores == found["local"].flows[y.name].stores
    assert executed(found["global"]) == executed(found["local"])
    for layer in network.layers:
        needed = found["recompute"].executions(layer)
        assert found["local"].executions(layer) == needed.lexmin()


@pytest.mark.parametrize("name", PLACES)
def test_a_tile_as_large_as_the_image_is_no_tiling(name: str) -> None:
    network = same_chain(3, 9, 7)
    whole, one = scheduled(network, Strategy(())), scheduled(network, Strategy.named(name, (9, 7)))
    for layer in network.layers:
        there = one.executions(layer)
        assert there.project_out(isl.dim_type.out, 1, 2).set_tuple_name(isl.dim_type.out, "tile") == whole.executions(
            layer
        )
    assert storage(one).onchip_bytes == storage(whole).onchip_bytes
    assert [str(stage) for stage in one.stages] == [str(stage) for stage in whole.stages]


@pytest.mark.parametrize("name", PLACES)
def test_layers_without_a_halo_recompute_nothing(name: str) -> None:
    build = Builder("pointwise")
    x = build.input("x", (1, 2, 7, 5))
    a = build.conv("a", x, 3, kernel=1)
    b = build.activation("b", a, "relu")
    c = build.max_pool("c", build.arithmetic("d", "add", a, b), kernel=(1, 1))
    network = build.network(c)
    found = scheduled(network, Strategy.named(name, (2, 3)))
    for layer in network.layers:
        assert found.executions(layer).is_single_valued()
        assert found.executions(layer).domain() == layer.points
    assert found.flows["x"].loads.is_single_valued()
    assert not any(stage.action == "load" and stage.tensor.name != "x" for stage in found.stages)


def test_renaming_layers_changes_nothing() -> None:
    one, other = same_chain(3, 9, 9), same_chain(3, 9, 9, names="other")
    strategy = Strategy((3, 2), ("local", "recompute"))
    found, renamed = scheduled(one, strategy), scheduled(other, strategy)
    for mine, theirs in zip(one.layers, other.layers, strict=True):
        assert pairs(found.executions(mine)) == pairs(renamed.executions(theirs))
    assert storage(found).onchip_bytes == storage(renamed).onchip_bytes
    assert [stage.action for stage in found.stages] == [stage.action for stage in renamed.stages]


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("placement", ["first", "shifted"])
def test_rank_1_statements_are_tiled_like_images(name: str, placement: str) -> None:
    network = stencils()
    found = scheduled(network, Strategy.named(name, (4,), placement))  # type: ignore[arg-type]
    assert executed(found) == {"A": 24 if name == "recompute" else 18, "B": 16}
    check(storage(found))
    strips = scheduled(pair(), Strategy.named(name, (4,), placement))  # type: ignore[arg-type]
    rows = {(point[2:3], tile[1:]) for point, tile in pairs(strips.executions(strips.network.layer("conv1")))}
    assert rows == pairs(found.executions(network.layer("A")))


def test_images_of_a_batch_share_nothing() -> None:
    build = Builder("batch")
    x = build.input("x", (3, 1, 8, 8))
    network = build.network(build.conv("b", build.conv("a", x, 1, kernel=3, padding=1), 1, kernel=3, padding=1))
    found = scheduled(network, Strategy.named("local", (4, 4)))
    check(storage(found))
    assert executed(found) == {"a": 192, "b": 192}
    assert found.flows["a_out"].places == ("recompute", "local", "local")
    assert all(point[0] == tile[0] for point, tile in pairs(found.executions(network.layer("a"))))
    assert storage(found).buffers["a_out"].shape[0] == 1


@pytest.mark.parametrize("tile", [(4,), (4, 3)])
@pytest.mark.parametrize("name", [*PLACES, "rows"])
@pytest.mark.parametrize("placement", ["first", "shifted"])
def test_symbolic_schedules_agree_with_concrete_ones(tile: Element, name: str, placement: str) -> None:
    others = ("local", "recompute")[: len(tile)] if name == "rows" else (name,) * len(tile)
    strategy = Strategy(tile, others, placement=placement)  # type: ignore[arg-type]
    symbolic = scheduled(same_chain(3, "H", "W"), strategy)
    lowered = {layer.name: lower(symbolic.executions(layer)) for layer in symbolic.network.layers}
    for copies in lowered.values():
        copies.check()
    for rows, columns in ((5, 4), (9, 7), (13, 6)):
        concrete = scheduled(same_chain(3, rows, columns), strategy)
        sizes = isl.Set(f"[H, W] -> {{ : H = {rows} and W = {columns} }}")
        for layer in concrete.network.layers:
            fixed = [at(copy, sizes) for copy in lowered[layer.name].copies]
            assert at(lowered[layer.name].schedule, sizes) == concrete.executions(layer)
            expected = lower(concrete.executions(layer)).copies
            assert all(a == b for a, b in zip([each for each in fixed if not each.is_empty()], expected, strict=True))
        for flow in concrete.flows.values():
            there = symbolic.flows[flow.tensor.name]
            assert at(there.loads, sizes) == flow.loads
            assert at(there.stores, sizes) == flow.stores


def at(relation: isl.Map, sizes: isl.Set) -> isl.Map:
    """The relation for some values of the parameters."""
    return relation.align_params(sizes.get_space()).intersect_params(sizes).project_out_all_params()


def fork() -> Network:
    """A stem with two readers, one of them with stride 2; all three are outputs."""
    build = Builder("fork")
    x = build.input("x", (1, 1, 13, 9))
    stem = build.conv("stem", x, 2, kernel=3, padding=1)
    small = build.conv("small", stem, 1, kernel=3, stride=2, padding=1)
    pool = build.max_pool("pool", stem, kernel=3, stride=1, padding=1)
    return build.network(stem, small, pool)


@pytest.mark.parametrize("placement", ["first", "shifted"])
@pytest.mark.parametrize("name", PLACES)
def test_outputs_of_several_sizes_are_all_stored_once(name: str, placement: str) -> None:
    network = fork()
    found = scheduled(network, Strategy.named(name, (5, 4), placement))  # type: ignore[arg-type]
    check(storage(found))
    for output in network.outputs:
        stores = found.flows[output.name].stores
        assert stores.is_single_valued() and stores.domain() == output.box


def test_an_output_that_its_reader_skips_is_made_once_all_the_same() -> None:
    build = Builder("skip")
    x = build.input("x", (1, 1, 9, 1))
    stem = build.conv("stem", x, 1, kernel=1)
    network = build.network(stem, build.conv("even", stem, 1, kernel=1, stride=2))
    for name in PLACES:
        found = scheduled(network, Strategy.named(name, (2,)))
        assert found.executions(network.layer("stem")).domain() == network.layer("stem").points
        assert found.executions(network.layer("stem")).is_single_valued()
        check(storage(found))


def gated() -> Network:
    """Squeeze and excite: the gate is broadcast over the image, and needs all of it."""
    build = Builder("gated")
    x = build.input("x", (1, 2, 8, 8))
    a = build.conv("a", x, 2, kernel=3, padding=1)
    gate = build.conv("gate", build.global_average_pool("mean", a), 2, kernel=1)
    return build.network(build.conv("b", build.arithmetic("scale", "mul", a, gate), 2, kernel=3, padding=1))


@pytest.mark.parametrize("placement", ["first", "shifted"])
@pytest.mark.parametrize(("name", "gate"), [("recompute", 4), ("local", 2), ("global", 2)])
def test_a_broadcast_operand_is_retained(name: str, gate: int, placement: str) -> None:
    network = gated()
    found = scheduled(network, Strategy.named(name, (4,), placement))  # type: ignore[arg-type]
    check(storage(found))
    assert size_of(found.executions(network.layer("gate"))) == gate


def test_weights_are_loaded_once_or_by_every_tile_that_reads_them() -> None:
    network = pair()
    once, tile = (scheduled(network, Strategy((8, 8), weights=mode)) for mode in ("once", "tile"))  # type: ignore
    assert [weight.name for weight in once.preloaded] == ["conv1_weight", "conv1_bias", "conv2_weight", "conv2_bias"]
    assert tile.preloaded == ()
    assert size_of(tile.flows["conv2_weight"].loads) == 9 * 4
    assert elements(tile.flows["conv1_bias"].loads.range()) == {(0, y, x) for y in range(2) for x in range(2)}
    check(storage(tile))


@pytest.mark.parametrize(
    ("others", "retention", "order"),
    [
        (("recompute", "recompute"), {}, (0, 1)),
        (("local", "recompute"), {}, (1, 0)),
        (("recompute", "local"), {}, (0, 1)),
        (("recompute", "recompute"), {"conv1_out": ("global", "recompute")}, (1, 0)),
        (("local", "recompute"), {"conv1_out": ("recompute", "local")}, (0, 1)),
    ],
)
def test_dimensions_along_which_nothing_is_retained_run_outermost(
    others: tuple[str, ...], retention: dict[str, tuple[str, ...]], order: Element
) -> None:
    assert Strategy((8, 8), others, retention).running_order() == order  # type: ignore[arg-type]
    assert Strategy((8, 8), others, retention, order=(0, 1)).running_order() == (0, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tile": (8,), "others": ("local", "local")}, "retention of 'others': expected one of .* each of the 1 tile"),
        ({"tile": (8,), "others": ("near",)}, "recompute, local, global"),
        ({"tile": (8, 8), "retention": {"x": ("local",)}}, "retention of 'x': .* each of the 2 tile dimensions"),
        ({"tile": (8,), "placement": "last"}, "placement 'last': expected 'first' or 'shifted'"),
        ({"tile": (8,), "weights": "never"}, "weights 'never': expected 'once' or 'tile'"),
    ],
)
def test_wrong_strategies_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Strategy(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tile": (8,), "retention": {"conv1": ("local",)}}, "no tensor 'conv1'; it has conv1_out, conv2_out, x"),
        ({"tile": (8,), "retention": {"conv1_weight": ("local",)}}, "no tensor 'conv1_weight'"),
        (
            {"tile": (17,)},
            r"tile 17: larger than the output conv2_out\[1, 1, 16, 16\]; the largest size of axis 2 is 16",
        ),
        ({"tile": (8, 17)}, "tile 8x17: larger than .* axis 3 is 16"),
        ({"tile": (8, 8, 8)}, "tile 8x8x8"),
        ({"tile": (0,)}, "tile 0: expected whole sizes of at least 1"),
        ({"tile": (8, 8), "order": (0, 2)}, r"tile order \(0, 2\)"),
    ],
)
def test_strategies_that_do_not_fit_the_network_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        scheduled(pair(), Strategy(**arguments))


def test_an_unknown_named_strategy_is_refused() -> None:
    with pytest.raises(InvalidInput, match="strategy 'cached': expected one of recompute, local, global"):
        Strategy.named("cached", (8,))
