"""Proofs of the weights of placed groups: isl's verdict is that of a replay, for whole ones and broken ones."""

import random
from dataclasses import replace

import numpy as np
import pytest

from polyfuse.errors import IllegalSchedule
from polyfuse.network.network import Builder
from polyfuse.plan.checking import check_plan
from polyfuse.plan.graph.operations import graph_of
from polyfuse.plan.memory.addresses import Allocation
from polyfuse.plan.planning import plan_for
from polyfuse.plan.proof.placed import PlacedGroup, PlacedWeights
from polyfuse.plan.proof.prove import prove, prove_plan
from polyfuse.plan.tiles.tables import Tile
from tests.codegen.scratchpad.placing import placed
from tests.codegen.scratchpad.test_drawn_tiles import case_of, groups_of
from tests.plan import planned

SUITE = 6


def is_right(weights: PlacedWeights, double_buffer: bool) -> bool:
    """Whether every plane that is read is in its cell, none is loaded there meanwhile, and all cells are in the buffer.

    The load for a moment runs while the one before reads, or before it reads itself.
    """
    room, moments = weights.place.room.bytes // weights.place.element_bytes, range(len(weights.used))

    def planes(boxes: np.ndarray, moment: int) -> dict[int, int]:
        if moment not in moments:
            return {}
        return {plane - int(weights.place.shifts[moment, 2]): plane for plane in range(*boxes[moment].tolist())}

    cells: dict[int, int] = {}
    for moment in moments:
        cells |= planes(weights.loaded, moment)
        coming = planes(weights.loaded, moment + 1) if double_buffer else {}
        wanted = planes(weights.used, moment)
        if any(cells.get(cell) != plane or cell in coming for cell, plane in wanted.items()):
            return False
        if not all(0 <= cell < room for cell in (*cells, *coming)):
            return False
    return True


def is_proved(group: PlacedGroup) -> bool:
    """Whether isl finds a group right."""
    try:
        prove(group)
    except IllegalSchedule as refusal:
        assert "\n" not in str(refusal) and "weights_" in str(refusal)
        return False
    return True


def in_one_slot(weights: PlacedWeights) -> PlacedWeights:
    """Every block at the start of the buffer."""
    shifts = weights.place.shifts.copy()
    shifts[:, 2] = weights.used[:, 0]
    return replace(weights, place=replace(weights.place, shifts=shifts))


def in_less_room(weights: PlacedWeights) -> PlacedWeights:
    """The buffer a byte smaller."""
    room = weights.place.room
    return replace(weights, place=replace(weights.place, room=Allocation(room.address, room.bytes - 1)))


def without_a_load(weights: PlacedWeights) -> PlacedWeights:
    """The last load left out."""
    loaded = weights.loaded.copy()
    loaded[np.flatnonzero(loaded[:, 0] < loaded[:, 1])[-1]] = 0
    return replace(weights, loaded=loaded)


def later(weights: PlacedWeights) -> PlacedWeights:
    """Every load a moment later."""
    return replace(weights, loaded=np.roll(weights.loaded, 1, axis=0))


BREAKS = (in_one_slot, in_less_room, without_a_load, later)


def verdicts(seed: int, streams: bool) -> list[bool]:
    """The verdicts on the weights of random groups, whole and broken, which a replay shares."""
    rng = random.Random(seed)
    case = case_of(seed, rng, streams)
    found = []
    for group in placed(case.graph, case.machine, groups_of(case, rng, streams)).groups:
        for name, weights in group.weights.items():
            assert is_right(weights, group.double_buffer) and is_proved(group)
            for change in BREAKS:
                broken = replace(group, weights={**group.weights, name: change(weights)})
                found.append(is_right(broken.weights[name], group.double_buffer))
                assert is_proved(broken) == found[-1], (seed, name, change.__name__)
    return found


@pytest.mark.parametrize("streams", [False, True])
def test_weights_are_proved_as_a_replay_finds_them(streams: bool) -> None:
    every = [verdict for seed in range(SUITE) for verdict in verdicts(seed, streams)]
    assert every.count(False) > 20 and every.count(True) > 3


def test_witnesses_name_the_step_and_what_is_in_the_way() -> None:
    build, machine = Builder("wide"), planned.machine(1 << 20)
    machine = replace(machine, offchip=replace(machine.offchip, latency_cycles=0.0), lanes=2)
    graph = graph_of(build.network(build.conv("a", build.input("x", (1, 4, 6, 6)), 7, kernel=3, padding=1)), "int8")
    (group,) = placed(graph, machine, [(("a",), Tile(3, weights="streamed"))], dtype="int8").groups
    (weights,) = group.weights.values()
    assert weights.block == 2 and weights.slots == 2 and weights.counts == (2, 4)
    unloaded = weights.loaded * (np.arange(len(weights.loaded)) > 0)[:, None]
    for broken, problem in (
        (
            in_one_slot(weights),
            r"step 0: 'a' reads weights_a.*, but the load of weights_a of step 0 is under way",
        ),
        (in_less_room(weights), r"weights_a has 4 planes of \d+ B in a buffer of \d+ B; enlarge it"),
        (replace(weights, loaded=unloaded), r"step 0: 'a' reads weights_a\[.*\], but nothing has put it there before"),
    ):
        with pytest.raises(IllegalSchedule, match=problem):
            prove(replace(group, weights={"weights_a": broken}))


def test_a_plan_whose_buffer_of_weights_is_too_small_is_refused() -> None:
    build = Builder("two")
    y = build.conv("b", build.conv("a", build.input("x", (1, 4, 6, 6)), 4, kernel=3), 4, kernel=3)
    graph = graph_of(build.network(y), "int8")
    plan = plan_for(graph, planned.machine(2048))
    assert not prove_plan(plan, graph).unproved
    for index, group in enumerate(plan.groups):
        for name, room in group.buffers.items():
            if name.startswith("weights_"):
                buffers = {**group.buffers, name: Allocation(room.address, room.bytes - 1)}
                changed = replace(group, buffers=buffers)
                groups = [changed if k == index else each for k, each in enumerate(plan.groups)]
                with pytest.raises(IllegalSchedule, match=rf"{name} has \d+ planes? of .*; enlarge it"):
                    check_plan(replace(plan, groups=tuple(groups)), graph, plan.machine)
