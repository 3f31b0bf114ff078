"""Tiles inside of tiles in memories of their own: bytes by brute force, values and counters of C, messages."""

import random
from itertools import pairwise, product
from math import prod
from typing import Any

import pytest

import polyfuse as pf
from polyfuse.choices import Place
from polyfuse.errors import DoesNotFit, InvalidInput
from polyfuse.network.layers.copies import copy
from polyfuse.network.network import Network
from polyfuse.schedule.hierarchy import hierarchy
from polyfuse.schedule.strategy import Strategy
from tests.machines.example import example
from tests.schedule.test_any_axis import agrees

Cell = tuple[int, int]


def chain(size: int, layers: list[tuple[int, int, int]]) -> Network:
    """Convolutions (kernel, stride, padding) of one channel over a square image."""
    build = pf.Builder("chain")
    y = build.input("x", (1, 1, size, size))
    for k, (kernel, stride, padding) in enumerate(layers):
        y = build.conv(f"c{k}", y, 1, kernel=kernel, stride=stride, padding=padding)
    return build.network(y)


def tiles(extent: int, size: int, first: int = 0) -> list[range]:
    """Consecutive pieces of `first` .. `first + extent - 1`, cut at multiples of the size."""
    cuts = sorted({first, first + extent, *(c for c in range(0, first + extent, size) if c > first)})
    return [range(a, b) for a, b in pairwise(cuts)]


def read_by(cells: set[Cell], layer: tuple[int, int, int], extent: int) -> set[Cell]:
    """The elements of an image that a convolution reads for some of its own."""
    kernel, stride, padding = layer
    taps = product(range(kernel), repeat=2)
    found = {(i * stride - padding + a, j * stride - padding + b) for a, b in taps for i, j in cells}
    return {(i, j) for i, j in found if 0 <= i < extent and 0 <= j < extent}


def expected(
    sizes: list[int], layers: list[tuple[int, int, int]], outer: Strategy, inner: Strategy
) -> tuple[int, int, int, int]:
    """Elements of x that enter the outer and the inner memory, the box of an outer tile's, and executions, by sets.

    The box holds the elements of every outer tile, counted from where the tile would begin if there were no borders.

    Each level recomputes along all of its axes or keeps along all of them.
    """
    kept_outer, kept_inner = outer.others[0] == "local", inner.others[0] == "local"
    entered: set[Cell] = set()
    ever: list[set[Cell]] = [set() for _ in layers]
    into_outer = into_inner = executions = 0
    offsets: tuple[set[int], set[int]] = set(), set()
    for rows, columns in product(tiles(sizes[-1], outer.tile[0]), tiles(sizes[-1], outer.tile[1])):
        here: list[set[Cell]] = [set() for _ in sizes]
        for low, right in product(
            tiles(len(rows), inner.tile[0], rows.start), tiles(len(columns), inner.tile[1], columns.start)
        ):
            cells = set(product(low, right))
            for k in reversed(range(len(layers))):
                fresh = cells - here[k + 1] if kept_inner else cells
                if kept_outer:
                    fresh = fresh - ever[k]
                here[k + 1] |= fresh
                ever[k] |= fresh
                executions += len(fresh)
                cells = read_by(fresh, layers[k], sizes[k])
            into_inner += len(cells - here[0]) if kept_inner else len(cells)
            into_outer += len(cells - here[0] - (entered if kept_outer else set()))
            here[0] |= cells
            entered |= cells
        for d, start in enumerate((rows.start, columns.start)):
            for _, stride, padding in reversed(layers):
                start = start * stride - padding
            offsets[d].update(cell[d] - start for cell in here[0])
    box = prod(1 + max(each) - min(each) for each in offsets)
    return into_outer, into_inner, box, executions


@pytest.mark.parametrize("seed", range(12))
def test_bytes_are_those_of_sets_of_elements(seed: int) -> None:
    rng = random.Random(seed)
    layers = [(rng.choice((1, 2, 3)), rng.choice((1, 1, 2)), rng.choice((0, 1))) for _ in range(rng.randint(1, 2))]
    layers = [(kernel, stride, min(padding, kernel - 1)) for kernel, stride, padding in layers]
    net = chain(rng.randint(9, 12), layers)
    sizes = [net.inputs[0].concrete_shape[2], *(layer.output.concrete_shape[2] for layer in net.layers)]
    large = rng.randint(2, sizes[-1]), rng.randint(2, sizes[-1])
    small = rng.randint(1, large[0] - 1), rng.randint(1, large[1] - 1)
    place: Place = rng.choice(("recompute", "local"))
    found = hierarchy(net, {"l2": Strategy(large), "l1": Strategy(small, (place, place))})
    into_outer, into_inner, box, executions = expected(sizes, layers, Strategy(large), Strategy(small, (place, place)))
    weights = sum(4 * weight.elements for layer in net.layers for weight in layer.weights)
    assert found.traffic["l2"][0] == 4 * into_outer + weights
    assert found.traffic["l1"][0] == 4 * into_inner + weights
    assert found.executions == executions
    assert found.bytes["l2"] == (4 * box if into_inner > into_outer else 0)
    assert found.traffic["l1"][1] == found.traffic["l2"][1] == 4 * sizes[-1] ** 2
    agrees(found.group.schedule.network, [(found.group,)])


def test_what_the_outer_memory_keeps_is_fetched_once() -> None:
    net = chain(20, [(3, 1, 0), (3, 1, 0)])
    kept = hierarchy(net, {"l2": Strategy((8, 8), ("local", "local")), "l1": Strategy((4, 4))})
    again = hierarchy(net, {"l2": Strategy((8, 8)), "l1": Strategy((4, 4))})
    weights = 2 * (9 + 1) * 4
    assert kept.traffic["l2"][0] == 20 * 20 * 4 + weights < again.traffic["l2"][0]
    assert kept.bytes["l2"] > again.bytes["l2"]
    assert kept.recomputed < again.recomputed
    agrees(kept.group.schedule.network, [(kept.group,)])


def test_what_inner_tiles_store_waits_in_the_memory_above() -> None:
    net = chain(14, [(3, 1, 0), (3, 1, 0)])
    found = hierarchy(
        net, {"l2": Strategy((10, 10)), "l1": Strategy((2, 5), retention={"c0_out": ("global", "global")})}
    )
    assert found.recomputed == 0 and "c0_out" in found.waits("l2")
    assert found.traffic["l1"][1] > found.traffic["l2"][1] == 4 * 100
    agrees(found.group.schedule.network, [(found.group,)])


def test_an_input_that_waits_nowhere_is_fetched_again_and_never_written() -> None:
    net = chain(20, [(3, 1, 0), (3, 1, 0)])
    usual = hierarchy(net, {"l2": Strategy((8, 8)), "l1": Strategy((4, 4))})
    far = hierarchy(net, {"l2": Strategy((8, 8), retention={"x": ("global", "global")}), "l1": Strategy((4, 4))})
    assert far.traffic == usual.traffic and far.bytes == usual.bytes


def test_layers_of_the_network_that_copy_are_no_transfers() -> None:
    build = pf.Builder("copying")
    x = build.input("x", (1, 1, 12, 12))
    y = build.add(copy("conv_in_l2", build.conv("c0", x, 1, kernel=3)))
    net = build.network(build.conv("c1", y, 1, kernel=3))
    inner = Strategy((2, 4), retention={"conv_in_l2_out": ("global", "global")})
    found = hierarchy(net, {"l2": Strategy((4, 8)), "l1": inner})
    buffers = found.group.buffers
    assert found.bytes["l1"] == sum(buffer.bytes for name, buffer in buffers.items() if name != "x")
    stored = found.counted.steps["store_conv_in_l2_out"] * 4
    assert stored and found.traffic["l1"][1] == found.traffic["l2"][1] + stored


def test_three_memories() -> None:
    net = chain(20, [(3, 1, 0), (3, 1, 0)])
    levels = {"l3": Strategy((16, 8)), "l2": Strategy((8, 8)), "l1": Strategy((2, 4), ("local", "recompute"))}
    found = hierarchy(net, levels)
    above = [found.traffic[memory][0] for memory in ("l3", "l2", "l1")]
    assert above == sorted(above) and list(found.bytes) == ["l3", "l2", "l1"]
    assert found.bytes["l3"] > found.bytes["l2"] > found.bytes["l1"]
    agrees(found.group.schedule.network, [(found.group,)])


@pytest.mark.parametrize(("first", "last"), [("conv1", "prelu4"), ("conv5", "wider")])
def test_fsrcnn_in_one_mebibyte_and_thirty_two_kibibytes(first: str, last: str) -> None:
    """An outer tile for a memory of 1 MiB, an inner one for 32 KiB, weights apart; two groups, so that it fits."""
    net = pf.load_workload("fsrcnn_x2", parameters={"rows": "64", "columns": "80"}).between(first, last)
    rows = net.outputs[-1].concrete_shape[2] // 2
    found = hierarchy(net, {"l2": Strategy((rows,), ("local",)), "l1": Strategy((2, 4))})
    weights = sum(4 * weight.elements for weight in found.group.schedule.preloaded)
    assert 100 << 10 < found.bytes["l2"] <= 1 << 20
    assert 8 << 10 < found.bytes["l1"] - weights <= 32 << 10
    agrees(found.group.schedule.network, [(found.group,)], interpreted=False)


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ({}, "hierarchy of no memories"),
        ({"l1": Strategy((4,))}, "hierarchy of 'l1': expected some of l4, l3, l2 in this order"),
        ({"l2": Strategy((4,)), "l3": Strategy((2,)), "l1": Strategy((1,))}, "in this order"),
        ({"l3": Strategy((4,)), "l2": Strategy((2,))}, "an innermost memory of another name"),
        ({"l2": Strategy((4,), placement="shifted"), "l1": Strategy((2,))}, "expected one placement in all memories"),
        ({"l2": Strategy((4,)), "l1": Strategy((2,), weights="tile")}, "weights that are loaded once"),
        ({"l2": Strategy((4,)), "l1": Strategy((8,))}, "expected smaller tiles inside of larger ones"),
        ({"l2": Strategy((4,)), "l1": Strategy((2,), retention={"q": ("local",)})}, "has no tensor 'q'"),
    ],
)
def test_hierarchies_that_are_refused(levels: dict[str, Strategy], message: str) -> None:
    with pytest.raises(InvalidInput) as error:
        hierarchy(chain(20, [(3, 1, 0)]), levels)
    assert message in str(error.value)


LEVELS = {"L1": 1024, "L2": 4096, "L3": 8192}
INNER, OUTER = Strategy((2,)), Strategy((4,), ("local",))


def test_levels_of_a_machine_are_memories() -> None:
    """What they hold and move is that of the memories that they are, by another name, be it that of a third one."""
    net = chain(8, [(3, 1, 0), (1, 1, 0)])
    usual = hierarchy(net, {"l2": OUTER, "l1": INNER})
    for outer, inner, levels in (("L3", "L2", LEVELS), ("l3", "l2", {"l2": 1024, "l3": 4096})):
        found = hierarchy(net, {outer: OUTER, inner: INNER}, capacities=levels)
        names = {"l2": outer, "l1": inner}
        assert found.bytes == {names[memory]: held for memory, held in usual.bytes.items()}
        assert found.traffic == {names[memory]: moved for memory, moved in usual.traffic.items()}
        assert found.waits(outer) != ()
        assert [row[3] for row in found.rows()] == [levels[outer], levels[inner]]
        assert "capacity" in str(found) and "capacity" not in str(usual)


def test_what_does_not_fit_its_level_is_refused() -> None:
    """One byte less than is needed is refused, what is needed is not."""
    net = chain(8, [(3, 1, 0)])
    strategies = {"L2": OUTER, "L1": INNER}
    needed = hierarchy(net, strategies, capacities=LEVELS).bytes
    hierarchy(net, strategies, capacities={"L1": needed["L1"], "L2": needed["L2"]})
    for level in strategies:
        small = {"L1": needed["L1"], "L2": needed["L2"], level: needed[level] - 1}
        with pytest.raises(DoesNotFit) as error:
            hierarchy(net, strategies, capacities=small)
        start = f"hierarchy: level {level!r} needs {needed[level]:,} B and has {needed[level] - 1:,} B; "
        assert str(error.value).startswith(start) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("capacities", "names", "message"),
    [
        (LEVELS, ("l2", "l1"), "hierarchy of 'l2', 'l1': expected two or more levels of the machine"),
        (LEVELS, ("L1", "L2"), "the outermost first: some of L3, L2, L1"),
        (LEVELS, ("L1",), "expected two or more levels"),
        ({"L1": 1024}, ("L2", "L1"), "some of L1"),
        ({}, ("L2", "L1"), "some of none"),
        ({**LEVELS, "L4": 9000, "L5": 9999}, ("L5", "L1"), "some of L4, L3, L2, L1"),
        ({"L1": "much", "L2": 4096}, ("L2", "L1"), "capacity of 'L1'"),
        ({"L1": 0, "L2": 4096}, ("L2", "L1"), "capacity of 'L1'"),
        (example(), ("L2", "L1"), "capacities"),
    ],
)
def test_machines_that_are_refused(capacities: Any, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(InvalidInput) as error:
        hierarchy(chain(20, [(3, 1, 0)]), dict.fromkeys(names, Strategy((4,))), capacities=capacities)
    assert message in str(error.value) and "\n" not in str(error.value)
