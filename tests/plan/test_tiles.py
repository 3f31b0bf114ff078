"""Steps of groups: equal to isl's counts and rings, and to needs enumerated point by point."""

from collections.abc import Sequence

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import polyfuse as pf
from polyfuse.network.network import Builder, Network
from polyfuse.plan.group import group_of
from polyfuse.plan.operations import graph_of
from polyfuse.plan.tiles import Table, Tile, tables
from tests.plan.replay import replay

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
    retention = {name: tile.places(name)[:d] for name in names}
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
        if tile.places(name) != ("local", "local"):
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
        kind = draw(st.sampled_from(["window", "window", "add", "concat", "mean"]))
        if kind == "add" and len([t for t in alike if t.shape == x.shape]) > 1:
            y = draw(st.sampled_from([t for t in alike if t.shape == x.shape and t is not x]))
            tensors.append(build.arithmetic(f"l{k}", "add", x, y))
        elif kind == "concat" and len(alike) > 1:
            both = build.concat(f"l{k}", x, draw(st.sampled_from(alike)))
            tensors.append(build.conv(f"m{k}", both, 2, kernel=1))
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


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_every_group_of_a_network_runs_in_its_rings(data: st.DataObject) -> None:
    network = data.draw(networks())
    graph = graph_of(network)
    names = [operation.name for operation in graph.operations]
    first = data.draw(st.integers(0, len(names) - 1))
    group = group_of(graph, names[first : data.draw(st.integers(first, len(names) - 1)) + 1])
    _, channels, rows, columns = graph.tensors[group.reference].shape
    tile = Tile(data.draw(st.integers(1, rows)), data.draw(st.integers(0, columns)))
    one = data.draw(places)
    some = data.draw(st.lists(st.sampled_from(list(group.links)), unique=True))
    mixed = {name: ("recompute", "recompute") if name in some else ("local", "recompute") for name in group.links}
    retention = mixed if one == ("local", "recompute") else dict.fromkeys(group.links, one)
    blocks = data.draw(st.integers(0, channels)) if len(group.operations) == 1 else 0
    found = tables(graph, group, Tile(tile.rows, tile.columns, blocks, retention))
    for overlapped in (False, True):
        executed = replay(found, overlapped=overlapped)
    if all(place == ("local", "local") for place in retention.values()):
        points = {o.name: int(np.prod(graph.tensors[o.output].shape)) for o in group.operations}
        assert all(executed[name] <= points[name] for name in executed)
