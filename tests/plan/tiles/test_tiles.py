"""Steps of groups: equal to isl's counts and rings, and to needs enumerated point by point."""

import re
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import polyfuse as pf
from polyfuse.errors import InvalidInput
from polyfuse.network.layers.copies import slice_of
from polyfuse.network.network import Builder, Network
from polyfuse.plan.graph.group import OperationGroup, group_of
from polyfuse.plan.graph.operations import Graph, graph_of
from polyfuse.plan.tiles.tables import Table, Tile, tables
from tests.plan.tiles.replay import replay

Boxes = np.ndarray


def area(boxes: Boxes) -> int:
    """How many rows x columns the boxes hold together."""
    return int(((boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2])).sum())


def elements(table: Table, boxes: Boxes) -> int:
    """How many elements the boxes hold together."""
    sizes = (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2])
    return int((sizes * (table.channels[:, 1] - table.channels[:, 0])).sum())


@st.composite
def layers(draw: st.DrawFn) -> tuple[str, int, int, int]:
    """A kind, a kernel, a stride no larger than the kernel, and padding smaller than it."""
    kernel = draw(st.integers(1, 4))
    return (
        draw(st.sampled_from(["conv", "depthwise", "max_pool"])),
        kernel,
        draw(st.integers(1, min(kernel, 2))),
        draw(st.integers(0, kernel - 1)),
    )


def chain(sizes: tuple[int, int], specs: Sequence[tuple[str, int, int, int]]) -> Network:
    """Layers after each other on an image of two channels."""
    build = Builder("chain")
    x = build.input("x", (1, 2, *sizes))
    for k, (kind, kernel, stride, padding) in enumerate(specs):
        rows, columns = x.concrete_shape[2:]
        assume(min(rows, columns) + 2 * padding >= kernel)
        if kind == "conv":
            x = build.conv(f"l{k}", x, 2, kernel=kernel, stride=stride, padding=padding)
        elif kind == "depthwise":
            x = build.depthwise(f"l{k}", x, kernel=kernel, stride=stride, padding=padding)
        else:
            x = build.max_pool(f"l{k}", x, kernel=kernel, stride=stride, padding=padding)
    return build.network(x)


def strategy_of(network: Network, tile: Tile, names: Sequence[str]) -> pf.Strategy:
    """The core's strategy that means the same tile."""
    d = 2 if tile.columns else 1
    retention = {name: tile.retention_of(name)[:d] for name in names}
    sizes = (tile.rows, tile.columns)[:d]
    return pf.Strategy(sizes, ("local", "recompute")[:d], retention, placement="shifted")


def check_against_isl(network: Network, tile: Tile) -> None:
    """Executions, loads and stores are those that isl counts, and rings are those that it sizes from liveness."""
    graph = graph_of(network)
    rows, columns = network.outputs[-1].concrete_shape[2:]
    assume(not any(operation.accumulates for operation in graph.operations))
    assume(tile.rows < rows and (not tile.columns or tile.columns < columns))
    found = tables(graph, list(graph.by_name), tile)
    storage = pf.storage(pf.scheduled(network, strategy_of(network, tile, list(found.of))))
    flows = storage.schedule.flows
    for name, table in found.of.items():
        flow = flows[name]
        assert elements(table, table.new) == pf.count(flow.arrivals), (name, "new")
        if name in graph.outputs:
            assert elements(table, table.fresh) == pf.count(flow.stores), (name, "stores")
        if tile.retention_of(name) != ("local", "local"):
            held = storage.buffers[name].shape[-2:]
            assert table.window()[0] <= held[0] and table.window()[1] <= held[1], (name, "ring")


places = st.sampled_from(
    [("local", "recompute"), ("recompute", "recompute"), ("local", "local"), ("recompute", "local")]
)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_chains_count_as_isl_does(data: st.DataObject) -> None:
    specs = data.draw(st.lists(layers(), min_size=1, max_size=3))
    network = chain((data.draw(st.integers(3, 9)), data.draw(st.integers(3, 7))), specs)
    rows, columns = network.outputs[0].concrete_shape[2:]
    tile = Tile(data.draw(st.integers(1, rows)))
    if data.draw(st.booleans()):
        usual = data.draw(places)
        names = ["x", *(layer.output.name for layer in network.layers)]
        tile = Tile(tile.rows, data.draw(st.integers(1, columns)), retention=dict.fromkeys(names, usual))
    elif data.draw(st.booleans()):
        names = ["x", *(layer.output.name for layer in network.layers)]
        some = data.draw(st.lists(st.sampled_from(names), unique=True))
        tile = Tile(tile.rows, retention=dict.fromkeys(some, ("recompute", "recompute")))
    check_against_isl(network, tile)


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """Branches that join by addition and concatenation, several readers and outputs, a mean at the end or aside."""
    build = Builder("dag")
    tensors = [build.input("x", (draw(st.integers(1, 2)), 2, draw(st.integers(4, 9)), draw(st.integers(4, 7))))]
    for k in range(draw(st.integers(2, 5))):
        x = draw(st.sampled_from(tensors[-3:]))
        alike = [t for t in tensors if t.shape[2:] == x.shape[2:]]
        kind = draw(st.sampled_from(["window", "window", "add", "concat", "mean", "mean of joined"]))
        if kind == "add" and len([t for t in alike if t.shape == x.shape]) > 1:
            y = draw(st.sampled_from([t for t in alike if t.shape == x.shape and t is not x]))
            tensors.append(build.arithmetic(f"l{k}", "add", x, y))
        elif kind == "concat" and len(alike) > 1:
            both = build.concat(f"l{k}", x, draw(st.sampled_from(alike)))
            tensors.append(build.conv(f"m{k}", both, 2, kernel=1))
        elif kind == "mean of joined" and min(x.concrete_shape[2:]) > 1:
            both = build.concat(f"l{k}", x, *draw(st.lists(st.sampled_from(alike), min_size=1, max_size=2)))
            tensors.append(build.conv(f"m{k}", build.global_average_pool(f"g{k}", both), 2, kernel=1))
        elif kind == "mean" and min(x.concrete_shape[2:]) > 1:
            mean = build.conv(f"g{k}", build.global_average_pool(f"l{k}", x), x.concrete_shape[1], kernel=1)
            tensors.append(build.arithmetic(f"m{k}", "mul", x, mean))
        else:
            _, kernel, stride, padding = draw(layers())
            assume(min(x.concrete_shape[2:]) + 2 * padding >= kernel)
            tensors.append(build.conv(f"l{k}", x, 2, kernel=kernel, stride=stride, padding=padding))
    read = {tensor for layer in build.layers for tensor in layer.inputs}
    ends = [layer.output for layer in build.layers if layer.output not in read]
    some = [t for t in tensors[1:] if t not in ends]
    more = [draw(st.sampled_from(some))] if some and draw(st.booleans()) else []
    return build.network(*more, *ends)


@st.composite
def cut_groups(draw: st.DrawFn, graph: Graph) -> tuple[OperationGroup, Tile]:
    """Operations in a row of a graph, in tiles of every kind."""
    names = list(graph.by_name)
    first = draw(st.integers(0, len(names) - 1))
    group = group_of(graph, names[first : draw(st.integers(first, len(names) - 1)) + 1])
    _, channels, rows, columns = graph.tensors[group.reference].shape
    tile = Tile(draw(st.integers(1, rows)), draw(st.integers(0, columns)))
    one = draw(places)
    some = draw(st.lists(st.sampled_from(list(group.links)), unique=True))
    mixed = {name: ("recompute", "recompute") if name in some else ("local", "recompute") for name in group.links}
    patches = {name: ("recompute", "local") if name in some else ("local", "local") for name in group.links}
    retention = {"local": mixed, "recompute": dict.fromkeys(group.links, one)}[one[0]]
    retention = patches if one == ("local", "local") else retention
    blocks = draw(st.integers(0, channels)) if len(group.operations) == 1 else 0
    return group, Tile(tile.rows, tile.columns, blocks, retention)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_every_group_of_a_network_runs_in_its_rings(data: st.DataObject) -> None:
    network = data.draw(networks())
    graph = graph_of(network)
    found = tables(graph, *data.draw(cut_groups(graph)))
    group, retention = found.group, found.tile.retention
    for overlapped in (False, True):
        executed = replay(found, overlapped=overlapped)
    if all(place == ("local", "local") for place in retention.values()):
        points = {o.name: int(np.prod(graph.tensors[o.output].shape)) for o in group.operations}
        assert all(executed[name] <= points[name] for name in executed)


def pair() -> Graph:
    """Two convolutions on 9 x 7."""
    build = Builder("pair")
    y = build.conv("l0", build.input("x", (1, 2, 9, 7)), 2, kernel=3, padding=1)
    return graph_of(build.network(build.conv("l1", y, 2, kernel=3, padding=1)))


@pytest.mark.parametrize(
    ("tile", "says"),
    [
        (Tile(0), "expected 1 to 9 rows of 'l1_out', got 0"),
        (Tile(10), "expected 1 to 9 rows of 'l1_out', got 10"),
        (Tile(3, 8), "expected 0 to 7 columns of 'l1_out', got 8"),
        (Tile(3, channels=1), "expected blocks of channels of one operation"),
        (Tile(3, retention={"y": ("local", "local")}), "expected retention of a tensor of the group, got 'y'"),
        (Tile(3, retention={"x": ("local", "global")}), "expected local or recompute along rows and columns of 'x'"),
        (Tile(3, 3, retention={"x": ("local", "local")}), "'l0_out' is kept along rows alone and others are kept"),
    ],
)
def test_tile_that_does_not_fit_is_refused(tile: Tile, says: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(says)):
        tables(pair(), ("l0", "l1"), tile)


@pytest.mark.parametrize("names", [(), ("l0", "l0"), ("l0", "l7")])
def test_group_of_other_operations_is_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput, match=r"expected (each operation once|an operation, got 'l7')"):
        tables(pair(), names, Tile(1))


def test_two_convolutions_roll_by_hand() -> None:
    found = tables(pair(), ("l0", "l1"), Tile(4))
    assert {name: table.new[:, :2].tolist() for name, table in found.of.items()} == {
        "x": [[0, 2], [2, 6], [6, 9], [0, 0]],
        "l0_out": [[0, 1], [1, 5], [5, 9], [0, 0]],
        "l1_out": [[0, 0], [0, 4], [4, 8], [8, 9]],
    }
    windows = {name: table.window() for name, table in found.of.items()}
    assert windows == {"x": (6, 7), "l0_out": (6, 7), "l1_out": (4, 7)}


def test_squeeze_and_excite_keeps_the_map_until_its_mean_is_known() -> None:
    build = Builder("excite")
    x = build.input("x", (1, 4, 8, 8))
    y = build.depthwise("deep", x, kernel=3, padding=1)
    gate = build.conv("gate", build.global_average_pool("mean", y), 4, kernel=1)
    graph = graph_of(build.network(build.arithmetic("excite", "mul", y, gate)))
    found = tables(graph, ("deep", "mean", "gate", "excite"), Tile(2))
    assert found.of["deep_out"].window() == (8, 8) and found.of["x"].window() == (4, 8)
    assert found.of["excite_out"].new[-1].tolist() == [0, 8, 0, 8] and not found.of["excite_out"].new[:-1].any()
    alone = tables(graph, ("deep", "mean"), Tile(2))
    assert alone.of["deep_out"].window() == (2, 8)
    assert alone.taken_in["mean"]["deep_out"].tolist() == alone.of["deep_out"].new.tolist()


def pooled_joined() -> Graph:
    """A convolution reads one of two images whose means are taken together."""
    build = Builder("pooled")
    x, y = build.input("x", (2, 3, 8, 6)), build.input("y", (2, 2, 8, 6))
    mean = build.global_average_pool("mean", build.concat("both", x, y, x))
    return graph_of(build.network(build.conv("c", x, 2, kernel=3, padding=1), mean))


@pytest.mark.parametrize("overlapped", [False, True])
def test_joined_images_are_added_up_each_as_it_arrives(overlapped: bool) -> None:
    graph = pooled_joined()
    found = tables(graph, ("c", "mean"), Tile(2))
    assert replay(found, overlapped=overlapped) == {"c": 2 * 2 * 48, "mean": 2 * 8}
    assert found.taken_in["mean"]["x"][:, 1].tolist() == 2 * [1, 3, 5, 7, 8]
    assert found.taken_in["mean"]["y"][:, 1].tolist() == 2 * [0, 2, 4, 6, 8]
    for channels in range(1, 9):
        alone = tables(graph, ("mean",), Tile(3, 2, channels))
        assert replay(alone, overlapped=overlapped) == {"mean": 2 * 8}


def test_layer_that_reads_from_the_end_on_takes_its_operand_as_a_whole() -> None:
    build = Builder("flip")
    x = build.input("x", (1, 2, 6, 5))
    flipped = build.add(slice_of("flip", x, (0, 0, 5, 0), (1, 2, 6, 5), (1, 1, -1, 1)))
    graph = graph_of(build.network(build.conv("c", flipped, 2, kernel=1)))
    found = tables(graph, ("flip", "c"), Tile(2))
    assert found.of["x"].window() == (6, 5) and found.of["x"].new[0].tolist() == [0, 6, 0, 5]
    assert found.of["flip_out"].window() == (2, 5)


@pytest.mark.parametrize("overlapped", [False, True])
def test_blocks_of_channels_of_a_concatenation_read_their_parts(overlapped: bool) -> None:
    build = Builder("parts")
    x = build.input("x", (2, 3, 6, 5))
    both = build.concat("both", build.conv("a", x, 5, kernel=1), x)
    graph = graph_of(build.network(build.depthwise("deep", both, kernel=3, padding=1)))
    for channels in range(1, 9):
        found = tables(graph, ("deep",), Tile(2, channels=channels))
        assert replay(found, overlapped=overlapped) == {"deep": 2 * 8 * 30}
        for name in ("x", "a_out"):
            depth = found.of[name].channels[:, 1] - found.of[name].channels[:, 0]
            assert depth.max() <= channels and elements(found.of[name], found.of[name].new) == np.prod(
                graph.tensors[name].shape
            )
