"""Certificates against brute force over every tile, order, grouping and place; 200 graphs and 100 layers by themselves:

python -m tests.plan.search.test_certificates 200 100
"""

import random
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pytest

from polyfuse.machines.accelerator import accelerator
from polyfuse.network.network import Builder
from polyfuse.plan.graph.group import group_of
from polyfuse.plan.memory.addresses import aligned_up
from polyfuse.plan.planning import ways_of
from polyfuse.plan.price.objective import Objective, asked
from polyfuse.plan.price.options import option_of
from polyfuse.plan.search.baselines import Baselines
from polyfuse.plan.search.covering import TileSpace
from polyfuse.plan.search.exact import EFFORT
from polyfuse.plan.search.problem import fetch_of
from polyfuse.plan.tiles.profiles import Profile
from polyfuse.plan.tiles.tables import Tile
from tests.oracles.pinning import cheapest
from tests.oracles.tilings import every_tile, priced_tiles
from tests.plan.drawn import Drawn, drawn

pytestmark = pytest.mark.usefixtures("full_effort")

LONGEST = 3
"""Operations of a group: brute force takes all ways of keeping the tensors of each."""
SUITE_GRAPHS, SUITE_LAYERS, SUITE_STREAMS = 5, 14, 3


class Brute:
    """Everything, tried."""

    def __init__(self, case: Drawn) -> None:
        self.case, graph = case, case.graph
        self.nodes = tuple((o.name, tuple(o.reads), o.output) for o in graph.operations)
        unread = {o.output for o in graph.operations if not graph.readers(o.output)}
        self.outputs = frozenset(graph.outputs) | unread
        unit = case.machine.alignment_bytes
        self.sizes = {name: aligned_up(info.bytes, unit) for name, info in graph.tensors.items()}
        self.loads = {}
        for name, info in graph.tensors.items():
            fetch = fetch_of(case.machine, info.bytes)
            self.loads[name] = case.objective.price(fetch.cycles, fetch.bytes, fetch.energy_pj, 0)
        self._fronts: dict[tuple[object, ...], list[tuple[int, int]]] = {}

    def ways(
        self, members: frozenset[str], sources: Mapping[str, str], sinks: Mapping[str, str]
    ) -> list[tuple[int, int]]:
        """Workspaces and prices of the tiles of a group, those that no other beats."""
        if len(members) > LONGEST:
            return []
        group = group_of(self.case.graph, sorted(members))
        key = (members, tuple(sources[n] for n in group.inputs), tuple(sinks[n] for n in group.outputs))
        if key not in self._fronts:
            ends = [("off", "both") if n in self.case.graph.outputs else ("on", "off", "both") for n in group.outputs]
            every = list(product(product(("on", "off"), repeat=len(group.inputs)), product(*ends)))
            places = [
                (dict(zip(group.inputs, on, strict=True)), dict(zip(group.outputs, left, strict=True)))
                for on, left in every
            ]
            found = priced_tiles(group, self.case.machine, self.case.objective, places)  # type: ignore[arg-type]
            for (on, left), prices in zip(every, found, strict=True):
                front: list[tuple[int, int]] = []
                for size, price in sorted(prices):
                    if not front or price < front[-1][1]:
                        front.append((size, price))
                self._fronts[members, on, left] = front
        return self._fronts[key]

    def least(self, capacity: int) -> int | None:
        """The least price of a plan at a capacity; none where nothing fits."""
        spills = self.case.machine.offchip_writable
        return cheapest(self.nodes, self.outputs, self.sizes, self.loads, self.ways, capacity, spills=spills)

    def smallest(self) -> int:
        """The least capacity at which anything fits."""
        low, high = 0, 1 << 20
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.least(middle) is not None else (middle, high)
        return high


def agree(case: Drawn, seed: int) -> str:
    """The search finds what brute force finds, and calls it the optimum; what was planned, in words."""
    brute, rng = Brute(case), random.Random(seed)
    smallest = brute.smallest()
    searches = Baselines(case.graph, case.machine, case.objective, LONGEST)
    assert searches.joint.smallest_capacity() == smallest
    whole = sum(brute.sizes.values())
    capacities = [smallest, smallest + rng.randint(0, whole), smallest + rng.randint(0, 2 * whole)]
    for capacity in capacities:
        found = searches.found("joint", capacity)
        if case.objective.goal == "peak":
            assert found.peak_bytes == found.lower_peak == smallest
            continue
        least = brute.least(capacity)
        assert least is not None
        assert found.lower == found.price, f"not closed at {capacity}"
        assert abs(asked(found.price) - asked(least)) <= len(brute.nodes), (capacity, found.price, least)
    return f"{case.objective} on {case.machine.name}, {len(brute.nodes)} operations, {smallest:,} B and more"


@pytest.mark.parametrize("seed", range(SUITE_LAYERS))
def test_certificates_of_single_layers_agree_with_brute_force(seed: int) -> None:
    agree(drawn(seed, 1, 5, 4), seed)


@pytest.mark.parametrize("seed", range(1000, 1000 + SUITE_GRAPHS))
def test_certificates_of_graphs_agree_with_brute_force(seed: int) -> None:
    agree(drawn(seed, 5, 3, 3), seed)


def in_blocks(case: Drawn, seed: int) -> Drawn:
    """The same for latency, on a machine on which the weights of a few channels are several blocks."""
    rng, machine = random.Random(seed), case.machine
    offchip = replace(machine.offchip, latency_cycles=rng.choice((0.0, 1.0)), bytes_per_cycle=rng.choice((0.5, 2.0)))
    machine = replace(machine, offchip=offchip, weights_in_place=False, double_buffer=True, lanes=rng.choice((1, 2)))
    return replace(case, machine=machine, objective=Objective("latency"))


@pytest.mark.parametrize("seed", range(2000, 2000 + SUITE_STREAMS))
def test_certificates_with_streamed_weights_agree_with_brute_force(seed: int) -> None:
    agree(in_blocks(drawn(seed, 2, 4, 4), seed), seed)


def disagrees(case: Drawn, seed: int) -> bool:
    """Whether brute force finds a plan that the search did not."""
    try:
        agree(case, seed)
    except AssertionError:
        return True
    return False


def test_a_search_of_the_tiles_that_are_tried_alone_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TileSpace, "families", lambda self, patches: iter(()))
    assert any(disagrees(drawn(seed, 1, 5, 4), seed) for seed in range(SUITE_LAYERS))


def test_heights_that_are_left_out_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tile of fewer rows than there are is taken for larger than any memory."""
    profile_of = TileSpace.profile

    def without(self: TileSpace, axis: int, local: frozenset[str], cut: bool) -> Profile:
        found = profile_of(self, axis, local, cut)
        large = np.full_like(found.window, 1 << 30)
        return replace(found, window=large, ahead=large, behind=large, widest=large) if cut and axis == 1 else found

    monkeypatch.setattr(TileSpace, "profile", without)
    assert any(disagrees(drawn(seed, 1, 5, 4), seed) for seed in range(SUITE_LAYERS))


def test_what_an_axis_that_is_not_cut_says_of_keeping_changes_nothing() -> None:
    case = drawn(3, 3, 4, 3)
    group = group_of(case.graph, [case.graph.operations[0].name])
    rows = case.graph.tensors[group.reference].shape[2]
    sources, sinks = dict.fromkeys(group.inputs, "off"), dict.fromkeys(group.outputs, "off")
    names = list(group.links)

    @cache
    def workspace_and_cycles(places: tuple[tuple[str, str], ...]) -> tuple[int, int, float]:
        tile = Tile(rows, retention=dict(zip(names, places, strict=True)))  # type: ignore[arg-type]
        found = option_of(case.graph, [case.graph.operations[0].name], tile, sources, sinks, case.machine)  # type: ignore[arg-type]
        return found.workspace_bytes, found.offchip_bytes, found.cycles

    every = list(product(product(("local", "recompute"), repeat=2), repeat=len(names)))
    assert len({workspace_and_cycles(places) for places in every}) == 1
    assert len(list(every_tile(group))) > rows


def test_the_layer_that_was_called_optimal_and_was_not() -> None:
    build = Builder("one")
    x = build.input("x", (1, 256, 14, 14))
    network = build.network(build.conv("c", x, 512, kernel=1, bias=False))
    ways = ways_of(network, accelerator("npu"), dtype="int8", objective=Objective("bytes"))
    plan = ways.plan(55 * 1024)
    assert plan.totals.offchip_bytes.all == 281600 == 256 * 512 + 14 * 14 * (256 + 512)
    assert plan.certificate.gap == 0 and "all tiles" in plan.certificate.scope
    assert ways.confirmed(plan, EFFORT).certificate.gap == 0


def main(graphs: int, layers: int) -> None:
    """The same of many: each is named before it is looked at, so that a seed that fails is known."""
    for seed in range(layers):
        print("layer", seed, agree(drawn(seed, 1, 5, 4), seed), flush=True)
    for seed in range(1000, 1000 + graphs):
        print("graph", seed, agree(drawn(seed, 5, 3, 3), seed), flush=True)
        print("graph in blocks", seed, agree(in_blocks(drawn(seed, 2, 4, 4), seed), seed), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
