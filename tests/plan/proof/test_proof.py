"""Proofs of placed groups: isl's verdict is that of a replay, for groups as they are planned and as they are broken."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from polyfuse.codegen.scratchpad.planned import build_scratchpad, scratch_program
from polyfuse.errors import IllegalSchedule, InvalidInput, SimulationError, TooComplex
from polyfuse.network.layers.copies import slice_of
from polyfuse.network.network import Builder, Network
from polyfuse.network.reference import random_inputs
from polyfuse.plan.checking import check_plan
from polyfuse.plan.graph.group import group_of
from polyfuse.plan.graph.operations import Graph, graph_of
from polyfuse.plan.memory.addresses import Allocation
from polyfuse.plan.planning import plan_for
from polyfuse.plan.price.options import option_of
from polyfuse.plan.proof.placed import PlacedGroup, placed_group
from polyfuse.plan.proof.prove import prove, prove_plan
from polyfuse.plan.scratchplan import ScratchPlan
from polyfuse.plan.tiles.tables import Tables, Tile, tables
from tests.codegen.scratchpad import networks as networks_of_c
from tests.plan import planned
from tests.plan.planned import inception
from tests.plan.proof.laid import laid
from tests.plan.tiles.replay import replay
from tests.plan.tiles.test_tiles import cut_groups, networks, pair


def is_proved(placed: PlacedGroup) -> bool:
    """Whether isl finds a group right; cases that it takes too much work to judge are not drawn."""
    try:
        prove(placed)
    except IllegalSchedule as refusal:
        assert "\n" not in str(refusal) and ("step" in str(refusal) or "output" in str(refusal))
        return False
    except TooComplex:
        assume(False)
    return True


def is_right(found: Tables, placed: PlacedGroup) -> bool:
    """Whether a replay finds it right."""
    windows = {name: (place.rows, place.columns) for name, place in placed.places.items()}
    order = [operation.name for operation in placed.operations]
    try:
        replay(found, overlapped=placed.double_buffer, windows=windows, order=order)
    except AssertionError:
        return False
    return True


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_group_of_a_network_is_proved(data: st.DataObject) -> None:
    graph = graph_of(data.draw(networks()))
    found = tables(graph, *data.draw(cut_groups(graph)))
    once = [name for name, table in found.of.items() if np.array_equal(table.new, table.fresh)]
    ends = [name for name in (*found.group.inputs, *found.group.outputs) if name in found.group.inputs or name in once]
    whole = data.draw(st.lists(st.sampled_from(ends), unique=True)) if ends else []
    for double_buffer in (False, True):
        prove(laid(graph, found, double_buffer=double_buffer, whole=whole))


def moved_edge(boxes: np.ndarray, draw: st.DrawFn) -> np.ndarray:
    """One edge of the box of one step, a row or a column further in or out."""
    step, edge = draw(st.integers(0, len(boxes) - 1)), draw(st.integers(0, 3))
    changed = boxes.copy()
    changed[step, edge] = max(0, changed[step, edge] + draw(st.sampled_from([-1, 1])))
    return changed


@st.composite
def broken(draw: st.DrawFn, placed: PlacedGroup) -> PlacedGroup:
    """A group with one thing changed: a ring, an origin, what is made, loaded, stored or added up, or the order."""
    found = placed.tables
    name = draw(st.sampled_from(list(found.of)))
    table, place = found.of[name], placed.places[name]
    kinds = ["ring", "origin", "new", "new", "fresh", "order", "steps", *(["taken"] if found.taken_in else [])]
    kind = draw(st.sampled_from(kinds))
    if kind == "ring":
        rows, columns = (
            (max(1, place.rows - 1), place.columns) if draw(st.booleans()) else (place.rows, max(1, place.columns - 1))
        )
        return replace(placed, places={**placed.places, name: replace(place, rows=rows, columns=columns)})
    if kind == "order":
        names = list(placed.operations)
        k = draw(st.integers(0, len(names) - 1))
        return replace(placed, operations=(*names[k:], *names[:k]))
    if kind == "taken":
        operation = draw(st.sampled_from(list(found.taken_in)))
        boxes = found.taken_in[operation]
        part = draw(st.sampled_from(list(boxes)))
        taken = {**found.taken_in, operation: {**boxes, part: moved_edge(boxes[part], draw)}}
        return replace(placed, tables=replace(found, taken_in=taken))
    if kind == "origin":
        origin, step = table.origin.copy(), draw(st.integers(0, found.steps - 1))
        origin[step:, draw(st.integers(0, 1))] += 1
        changed = replace(table, origin=origin)
    elif kind == "steps":
        order = np.arange(found.steps)
        a, b = draw(st.integers(0, found.steps - 1)), draw(st.integers(0, found.steps - 1))
        order[[a, b]] = order[[b, a]]
        changed = replace(table, new=table.new[order])
    else:
        changed = replace(table, **{kind: moved_edge(getattr(table, kind), draw)})
    shifts = np.concatenate([changed.origin, place.shifts[:, 2:]], axis=1)
    return replace(
        placed,
        tables=replace(found, of={**found.of, name: changed}),
        places={**placed.places, name: replace(place, shifts=shifts)},
    )


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_broken_group_is_refused_where_a_replay_refuses_it(data: st.DataObject) -> None:
    graph = graph_of(data.draw(networks()))
    found = tables(graph, *data.draw(cut_groups(graph)))
    placed = data.draw(broken(laid(graph, found, double_buffer=data.draw(st.booleans()))))
    assert is_proved(placed) == is_right(placed.tables, placed)


def chain() -> PlacedGroup:
    """Two convolutions on 9 x 7 in tiles of 2 rows, on a machine with double buffers."""
    return laid(pair(), tables(pair(), ("l0", "l1"), Tile(2)), double_buffer=True)


def pooled() -> PlacedGroup:
    """A convolution and the mean of it, row by row."""
    build = Builder("pooled")
    y = build.conv("c", build.input("x", (1, 2, 6, 5)), 3, kernel=3, padding=1)
    graph = graph_of(build.network(build.global_average_pool("mean", y)))
    return laid(graph, tables(graph, ("c", "mean"), Tile(1)), double_buffer=True)


def with_table(placed: PlacedGroup, tensor: str, **change: np.ndarray) -> PlacedGroup:
    """A group in which the boxes of a tensor are others."""
    changed = replace(placed.tables.of[tensor], **change)
    return replace(placed, tables=replace(placed.tables, of={**placed.tables.of, tensor: changed}))


def with_place(placed: PlacedGroup, tensor: str, **change: object) -> PlacedGroup:
    """A group in which a tensor lies in another place."""
    return replace(placed, places={**placed.places, tensor: replace(placed.places[tensor], **change)})


def boxes(placed: PlacedGroup, tensor: str, table: str, step: int, box: tuple[int, int, int, int]) -> np.ndarray:
    """The boxes of a tensor with another one in one step."""
    found = getattr(placed.tables.of[tensor], table).copy()
    found[step] = box
    return found


def shifted(placed: PlacedGroup, tensor: str, step: int) -> np.ndarray:
    """Shifts that are one row further from a step on."""
    shifts = placed.places[tensor].shifts.copy()
    shifts[step:, 0] += 1
    return shifts


def added_up(placed: PlacedGroup, step: int, box: tuple[int, int, int, int]) -> PlacedGroup:
    """A group whose mean adds up another box in one step."""
    taken = placed.tables.taken_in["mean"]["c_out"].copy()
    taken[step] = box
    return replace(placed, tables=replace(placed.tables, taken_in={"mean": {"c_out": taken}}))


def started_again(placed: PlacedGroup, step: int) -> PlacedGroup:
    """A group whose sums start again in a step."""
    changed = replace(placed)
    starts = placed.starts.copy()
    starts[step] = 1
    vars(changed)["starts"] = starts
    return changed


def kept() -> PlacedGroup:
    """The two convolutions, whose output stays on chip, too."""
    return laid(pair(), tables(pair(), ("l0", "l1"), Tile(2)), double_buffer=True, whole=("l1_out",))


BROKEN: dict[str, tuple[Callable[[], PlacedGroup], Callable[[PlacedGroup], PlacedGroup], str]] = {
    "ring a row short": (
        chain,
        lambda g: with_place(g, "l0_out", rows=g.places["l0_out"].rows - 1),
        r"step \d: 'l1' reads l0_out\[:, :, \d, :\], but 'l0' of step \d has put l0_out\[:, :, \d, :\] in its place in "
        "a ring of 3 rows and 7 columns; keep more of it, or enlarge its buffer",
    ),
    "next load in the way": (
        chain,
        lambda g: with_place(g, "x", rows=g.places["x"].rows - 1),
        r"step \d: 'l0' reads x\[:, :, \d, :\], but the load of x of step \d is under way in its place in a ring of 5 ",
    ),
    "origin shifted": (
        chain,
        lambda g: with_place(g, "l0_out", shifts=shifted(g, "l0_out", 2)),
        r"step 2: 'l1' reads l0_out\[:, :, \d, :\], but 'l0' of step \d has put l0_out",
    ),
    "halo a row short": (
        chain,
        lambda g: with_table(g, "x", new=boxes(g, "x", "new", 1, (2, 3, 0, 7))),
        r"step \d: 'l0' reads x\[:, :, 3, :\], but nothing has put it there before; keep more of it, or run what makes",
    ),
    "out of order": (
        chain,
        lambda g: replace(g, operations=g.operations[::-1]),
        r"step \d: 'l1' reads l0_out\[:, :, \d, :\], but ",
    ),
    "an output that is never stored": (
        chain,
        lambda g: with_table(g, "l1_out", fresh=boxes(g, "l1_out", "fresh", 2, (2, 3, 0, 7))),
        r"output l1_out\[:, :, 3, :\] is never stored; some step must do it",
    ),
    "an output that is stored twice": (
        kept,
        lambda g: with_table(g, "l1_out", fresh=boxes(g, "l1_out", "fresh", 2, (1, 4, 0, 7))),
        r"output l1_out\[:, :, 1, :\] is stored in step (1 and again in step 2|2 and again in step 1); store it once",
    ),
    "a box outside of its tensor": (
        chain,
        lambda g: with_table(g, "x", new=boxes(g, "x", "new", 4, (8, 10, 0, 7))),
        r"step 4: the load of x takes 0..0 x 0..1 x 8..9 x 0..6 of x, which has 1 x 2 x 9 x 7",
    ),
    "a row that is not added up": (
        pooled,
        lambda g: added_up(g, 3, (0, 0, 0, 0)),
        r"step 5: 'mean' is made before c_out\[:, :, 3, :\] is added up; make it later",
    ),
    "a row that is added up twice": (
        pooled,
        lambda g: added_up(with_place(g, "c_out", rows=6, room=Allocation(0, 360)), 3, (2, 4, 0, 5)),
        r"'mean' adds up c_out\[:, :, 2, :\] in step \d and again in step \d; take it once",
    ),
    "a row that is added up too early": (
        pooled,
        lambda g: added_up(with_place(g, "c_out", rows=6, room=Allocation(0, 360)), 2, (2, 4, 0, 5)),
        r"step 2: 'mean' reads c_out\[:, :, 3, :\], but nothing has put it there before",
    ),
    "sums that start again": (
        pooled,
        lambda g: started_again(g, 3),
        r"step \d: 'mean' is made before c_out\[:, :, [012], :\] is added up; make it later",
    ),
    "planes behind the end": (
        chain,
        lambda g: with_place(g, "x", room=Allocation(0, g.places["x"].room.bytes - 4)),
        r"x has 2 planes of \d+ B in a buffer of \d+ B; enlarge it",
    ),
    "made again while it is stored": (
        lambda: made_again(double_buffer=True),
        lambda g: g,
        r"step \d: the store of l0_out reads l0_out\[.*\], but 'l0' of step \d is under way in its place in its pin",
    ),
}


def made_again(*, double_buffer: bool) -> PlacedGroup:
    """The first convolution is left on chip and off, and its halo is made by two tiles."""
    build = Builder("both")
    y = build.conv("l0", build.input("x", (1, 2, 9, 7)), 2, kernel=3, padding=1)
    graph = graph_of(build.network(y, build.conv("l1", y, 2, kernel=3, padding=1)))
    retention = dict.fromkeys(("x", "l0_out", "l1_out"), ("recompute", "recompute"))
    found = tables(graph, ("l0", "l1"), Tile(2, retention=retention))  # type: ignore[arg-type]
    return laid(graph, found, double_buffer=double_buffer, whole=("l0_out",))


@pytest.mark.parametrize("name", BROKEN)
def test_a_witness_says_what_is_wrong(name: str) -> None:
    base, change, message = BROKEN[name]
    with pytest.raises(IllegalSchedule, match=f"^group: {message}"):
        prove(change(base()))


def test_groups_that_are_broken_elsewhere_are_right() -> None:
    for placed in (chain(), pooled(), kept(), made_again(double_buffer=False)):
        prove(placed)


NETWORKS: dict[str, Callable[[], Network]] = {
    "strides, padding, groups": networks_of_c.chain,
    "squeeze and excitation of a batch": lambda: networks_of_c.squeeze(2),
    "concatenation, residual, two outputs": networks_of_c.branches,
    "up, down, flat, matrices, softmax": networks_of_c.classifier,
    "inception": inception,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_groups_of_every_kind_of_layer_are_proved(name: str) -> None:
    graph = graph_of(NETWORKS[name](), "int8")
    names = list(graph.by_name)
    for group in (names, *([each] for each in names)):
        rows = graph.tensors[group_of(graph, group).reference].shape[2]
        channels = graph.tensors[graph.operation(group[0]).output].shape[1] if len(group) == 1 else 1
        for tile in (Tile(1), Tile(rows), *([Tile(1, channels=channels // 2)] if channels > 1 else [])):
            prove(laid(graph, tables(graph, group, tile), double_buffer=True))


def test_an_operand_that_is_read_from_its_end_on_is_proved() -> None:
    build = Builder("flip")
    x = build.input("x", (1, 2, 6, 5))
    flipped = build.add(slice_of("flip", x, (0, 0, 5, 0), (1, 2, 6, 5), (1, 1, -1, 1)))
    graph = graph_of(build.network(build.conv("c", flipped, 2, kernel=1)))
    placed = laid(graph, tables(graph, ("flip", "c"), Tile(2)), double_buffer=True)
    prove(placed)
    loads = boxes(placed, "x", "new", 0, (0, 5, 0, 5))
    with pytest.raises(IllegalSchedule, match=r"step 0: 'flip' reads x\[:, :, 5, :\], but nothing has put it there "):
        prove(with_table(placed, "x", new=loads))


@dataclass(frozen=True)
class Edited:
    """A plan, its graph, and a group of it with a ring."""

    plan: ScratchPlan
    graph: Graph
    number: int
    ring: str

    def with_ring(self, size: int) -> ScratchPlan:
        """The plan with a ring of so many bytes."""
        groups = list(self.plan.groups)
        group = groups[self.number]
        found = Allocation(group.buffers[self.ring].address, size)
        groups[self.number] = replace(group, buffers={**group.buffers, self.ring: found})
        return replace(self.plan, groups=tuple(groups))

    @property
    def bytes(self) -> int:
        """The bytes of the ring as it was planned."""
        return self.plan.groups[self.number].buffers[self.ring].bytes


@pytest.fixture(scope="module")
def edited() -> Edited:
    """A chain that is fused, with a ring between two convolutions."""
    graph = graph_of(planned.chain(3), "int8")
    plan = plan_for(graph, planned.machine(12288))
    number = next(k for k, group in enumerate(plan.groups) if len(group.operations) > 1)
    ring = f"ring_{graph.operation(plan.groups[number].operations[0]).output}"
    return Edited(plan, graph, number, ring)


def test_a_plan_is_proved(edited: Edited) -> None:
    proof = prove_plan(edited.plan, edited.graph)
    assert not proof.unproved and proof.groups == len(edited.plan.groups)
    assert str(proof) == "every read of every step finds its element, and every output is stored once"


def test_a_ring_that_is_too_short_is_refused_with_a_witness_wherever_a_plan_is_used(edited: Edited) -> None:
    short = edited.with_ring(edited.bytes - 1)
    message = (
        rf"^plan of 'chain', group {edited.number} \(.*\): step \d+: 'c\d' reads c\d_out\[.*\], but 'c\d' of step \d+ "
        r"has put c\d_out\[.*\] in its place in a ring of \d+ rows and \d+ columns; keep more of it, or enlarge its "
        "buffer$"
    )
    with pytest.raises(IllegalSchedule, match=message):
        check_plan(short, edited.graph, short.machine)
    with pytest.raises(IllegalSchedule, match=message):
        scratch_program(short, edited.graph)
    with pytest.raises(SimulationError, match=r"expected c\d_out\["):
        build_scratchpad(short, edited.graph, proved=False)(**random_inputs(edited.graph.network, 0))


def test_a_ring_that_is_longer_is_legal(edited: Edited) -> None:
    longer = edited.with_ring(2 * edited.bytes)
    assert not prove_plan(longer, edited.graph).unproved


def test_what_isl_cannot_judge_is_said_and_has_rings_as_planned(
    edited: Edited, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polyfuse.plan.proof.prove._REASONS", {})
    monkeypatch.setattr("polyfuse.plan.proof.relations.MOST_PIECES", 0)
    proof = prove_plan(edited.plan, edited.graph)
    assert edited.number in proof.unproved
    assert str(proof).startswith("not proved: group") and "expected at most 0 pieces" in str(proof)
    short = edited.with_ring(edited.bytes - 1)
    with pytest.raises(InvalidInput, match=rf"buffer '{edited.ring}': expected [\d,]+ B, got [\d,]+ B; enlarge it"):
        check_plan(short, edited.graph, short.machine)


def test_equal_groups_are_proved_once(edited: Edited, monkeypatch: pytest.MonkeyPatch) -> None:
    prove_plan(edited.plan, edited.graph)
    monkeypatch.setattr("polyfuse.plan.proof.prove.prove", lambda placed: pytest.fail("proved again"))
    prove_plan(edited.plan, edited.graph)


def in_blocks() -> PlacedGroup:
    """A convolution in blocks of 5 of 12 channels, row by row, of two images: weights come with each block."""
    build = Builder("blocks")
    graph = graph_of(build.network(build.conv("conv", build.input("x", (2, 8, 6, 6)), 12, kernel=1)), "int8")
    plan = plan_for(graph, planned.machine(4096))
    (group,) = plan.groups
    tile = Tile(3, channels=5)
    found = option_of(graph, ("conv",), tile, {"x": "off"}, {"conv_out": "off"}, plan.machine)
    buffers = {name: Allocation(0, size) for name, size in found.workspace.items()}
    group = replace(group, tile=tile, buffers=buffers, sources={"x": "off"}, sinks={"conv_out": "off"}, fetched=())
    return placed_group(replace(plan, groups=(group,), pins=()), 0, graph)


def with_weights(placed: PlacedGroup, **change: object) -> PlacedGroup:
    """A group whose weights are somewhere else, or arrive at another time."""
    ((name, weights),) = placed.weights.items()
    return replace(placed, weights={name: replace(weights, **change)})


def test_weights_that_come_in_blocks_are_there_when_they_are_read() -> None:
    placed = in_blocks()
    prove(placed)
    (weights,) = placed.weights.values()
    alone = weights.place.shifts.copy()
    alone[:, 2] = placed.tables.of["conv_out"].channels[:, 0]
    with pytest.raises(
        IllegalSchedule, match=r"'conv' reads weights_conv\[.*\], but the load of weights_conv of step \d+ is"
    ):
        prove(with_weights(placed, place=replace(weights.place, shifts=alone)))
    fewer = weights.loaded * (np.arange(len(weights.loaded)) > 0)[:, None]
    with pytest.raises(
        IllegalSchedule, match=r"step [01]: 'conv' reads weights_conv\[.*\], but nothing has put it there"
    ):
        prove(with_weights(placed, loaded=fewer))
    room = Allocation(0, weights.place.room.bytes - 1)
    with pytest.raises(IllegalSchedule, match=r"weights_conv has 10 planes of \d+ B in a buffer of \d+ B; enlarge it"):
        prove(with_weights(placed, place=replace(weights.place, room=room)))
