"""A group of a plan as its C runs it: the boxes of each step, and the layout of each tensor on chip.

ScratchPlan + Graph ──placed_group()──> `PlacedGroup`, which C is written from and which prove.py judges
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from polyfuse.errors import InvalidInput
from polyfuse.machines.accelerator import Accelerator
from polyfuse.plan.graph.access import Integers
from polyfuse.plan.graph.group import OperationGroup
from polyfuse.plan.graph.operations import Graph, Operation, TensorInfo
from polyfuse.plan.memory.addresses import Allocation
from polyfuse.plan.price.costs import block_channels, channel_bytes, streamed
from polyfuse.plan.scratchplan import PlannedGroup, ScratchPlan
from polyfuse.plan.tiles.axis import Booleans
from polyfuse.plan.tiles.tables import Table, Tables, tables


@dataclass(frozen=True, eq=False)
class BufferLayout:
    """The layout of a tensor on chip while a group runs.

    In step s element (channel, row, column) is in plane channel - shifts[s, 2], at row (row + shifts[s, 0]) mod `rows`
    and column (column + shifts[s, 1]) mod `columns` of it.

    room    its address and bytes
    whole   it is a pin: all of a tensor, which no element leaves
    """

    room: Allocation
    rows: int
    columns: int
    shifts: Integers
    element_bytes: int
    whole: bool

    @property
    def address(self) -> int:
        """The address of its first byte."""
        return self.room.address

    @property
    def planes(self) -> int:
        """How many channels fit."""
        return self.room.bytes // (self.rows * self.columns * self.element_bytes)

    @cached_property
    def origins(self) -> Integers:
        """The turn, shift and skip of each step: shifts within the rows and columns that there are."""
        turned = self.shifts[:, :2] % np.array([self.rows, self.columns])
        return np.concatenate([turned, self.shifts[:, 2:]], axis=1)

    @property
    def turns(self) -> bool:
        """Whether the origins differ from step to step."""
        return bool((self.origins != self.origins[:1]).any())


@dataclass(frozen=True, eq=False)
class PlacedWeights:
    """The weights of an operation of a group, which stay, come with blocks of output channels, or are streamed.

    Their moments are the steps of the group, or, where they are streamed, the blocks of each step in which it runs.

    place      their layout, a plane for each output channel, or one for all
    channels   how many planes there are
    block      output channels of a block that is streamed, else 0; slots: how many of them the buffer holds
    counts     how many moments there are along each dimension; steps: the step of the group of each
    loaded     (moments, 2): the planes that are loaded for a moment; used: those that it reads
    """

    operation: str
    place: BufferLayout
    channels: int
    block: int
    slots: int
    counts: tuple[int, ...]
    steps: Integers
    loaded: Integers
    used: Integers


@dataclass(frozen=True, eq=False)
class PlacedGroup:
    """A group with the layouts of its tensors.

    where          its name in errors
    operations     in the order in which they run within a step
    loaded         the inputs that arrive step by step; others are there, whole, from the start
    stored         the outputs that leave step by step
    kept           the outputs that are left on chip, whole
    double_buffer  whether transfers run while a step computes
    weights        those that are on chip, by the name of their buffer
    """

    where: str
    graph: Graph
    operations: tuple[Operation, ...]
    tables: Tables
    places: Mapping[str, BufferLayout]
    loaded: tuple[str, ...]
    stored: tuple[str, ...]
    kept: tuple[str, ...]
    double_buffer: bool
    weights: Mapping[str, PlacedWeights] = field(default_factory=dict)

    @property
    def group(self) -> OperationGroup:
        """The group."""
        return self.tables.group

    @cached_property
    def starts(self) -> Integers:
        """For each step, 1 where sums start: with another image, or another block of output channels, than before."""
        image = self.tables.image
        return np.asarray(arrivals(self.tables) | np.append(1, image[1:] != image[:-1]), np.int64)


def placed_group(plan: ScratchPlan, number: int, graph: Graph, cut: Tables | None = None) -> PlacedGroup:
    """A group of a plan by its number; `cut` are its tables, where they are known.

    Errors: InvalidInput for a group that lacks a pin or a buffer, or has names that are not its own.
    """
    planned = plan.groups[number]
    where = f"plan of {plan.network!r}, group {number} ({planned.names})"
    cut = cut or tables(graph, planned.operations, planned.tile)
    check_ends(where, planned, cut.group)
    pinned = {pin.tensor: Allocation(pin.address, pin.bytes) for pin in plan.pins if pin.first <= number <= pin.last}
    whole = {name for name in cut.of if is_whole(planned, name)}
    if unpinned := sorted((whole | set(planned.fetched)) - set(pinned)):
        raise InvalidInput(f"{where}: expected a pin of {unpinned[0]!r}, there is none; add it, or leave it off chip")
    places = {}
    for name, table in cut.of.items():
        if name in whole:
            places[name] = whole_place(graph.tensors[name], pinned[name], cut.image)
        else:
            room = Allocation(0, 0) if table.is_unused else buffer(where, planned.buffers, f"ring_{name}")
            places[name] = ring_place(graph.tensors[name], room, table)
    return PlacedGroup(
        where,
        graph,
        cut.group.operations,
        cut,
        places,
        tuple(name for name, source in planned.sources.items() if source == "off"),
        tuple(name for name, sink in planned.sinks.items() if sink != "on"),
        tuple(name for name, sink in planned.sinks.items() if sink != "off"),
        plan.machine.double_buffer,
        placed_weights(where, planned.buffers, cut, plan.machine),
    )


def arrivals(cut: Tables) -> Integers:
    """For each step, 1 where the block of output channels is another one than before."""
    first = cut.of[cut.group.operations[0].output].channels[:, 0]
    return np.append(1, first[1:] != first[:-1])


def slots(cut: Tables) -> Integers:
    """For each step, which half of the buffer has its block of weights, where transfers run while a step computes."""
    return np.asarray((np.cumsum(arrivals(cut)) - 1) % 2)


def placed_weights(
    where: str, buffers: Mapping[str, Allocation], cut: Tables, machine: Accelerator
) -> dict[str, PlacedWeights]:
    """The weights of a group, by the name of their buffer; none where operations read them off chip.

    Errors: InvalidInput where a buffer is lacking.
    """
    found = {}
    streams = streamed(cut.group, cut.tile, machine)
    running = np.array([runs(cut, operation) for operation in streams], bool).T
    for operation in () if machine.weights_in_place else cut.group.operations:
        if not operation.weight_bytes:
            continue
        name = f"weights_{operation.name}"
        room = buffer(where, buffers, name)
        if operation in streams:
            found[name] = streamed_weights(operation, room, cut, machine, running, streams.index(operation))
        elif cut.tile.channels:
            found[name] = block_weights(operation, room, cut, machine.double_buffer)
        else:
            size, once = operation.weight_bytes, np.arange(cut.steps) == 0
            place = BufferLayout(room, 1, 1, np.zeros((cut.steps, 3), np.int64), size, False)
            loaded, used = (np.outer(when, [0, 1]) for when in (once, runs(cut, operation)))
            steps = np.arange(cut.steps)
            found[name] = PlacedWeights(operation.name, place, 1, 0, 1, cut.counts, steps, loaded, used)
    return found


def runs(cut: Tables, operation: Operation) -> Integers:
    """For each step, 1 where an operation makes or adds up anything."""
    taken = [cut.of[operation.output].new, *cut.taken_in.get(operation.name, {}).values()]
    some = [(boxes[:, 0] < boxes[:, 1]) & (boxes[:, 2] < boxes[:, 3]) for boxes in taken]
    return np.asarray(np.logical_or.reduce(some), np.int64)


def block_weights(operation: Operation, room: Allocation, cut: Tables, double_buffer: bool) -> PlacedWeights:
    """Weights of a group whose steps work on blocks of output channels: a block is loaded for its first step."""
    block, table = cut.tile.channels, cut.of[operation.output]
    shifts = np.zeros((cut.steps, 3), np.int64)
    shifts[:, 2] = table.channels[:, 0] - (slots(cut) * block if double_buffer else 0)
    loaded, used = (table.channels * when[:, None] for when in (arrivals(cut), runs(cut, operation)))
    graph = cut.group.graph
    place = BufferLayout(room, 1, 1, shifts, channel_bytes(graph, operation), False)
    channels, steps = graph.tensors[operation.output].shape[1], np.arange(cut.steps)
    return PlacedWeights(operation.name, place, channels, 0, 1, cut.counts, steps, loaded, used)


def streamed_weights(
    operation: Operation, room: Allocation, cut: Tables, machine: Accelerator, running: Booleans, number: int
) -> PlacedWeights:
    """Weights that are loaded, block by block, whenever their operation runs.

    With double buffering, a block is loaded while the one before is used, of this operation or of another one.
    running: (steps, streamed operations), which of them run; number: which one this is.
    """
    graph = cut.group.graph
    channels, block = graph.tensors[operation.output].shape[1], block_channels(graph, operation, machine)
    blocks = -(-channels // block)
    held = 2 if machine.double_buffer and blocks > 1 else 1
    turns = np.cumsum(running).reshape(running.shape)[running[:, number], number]
    others_between = bool((np.diff(turns) > 1).all())
    idle = 1 if machine.double_buffer and held == 1 and others_between else 0
    at = np.arange(blocks + idle)
    ends = np.stack([at * block, np.minimum(at * block + block, channels)], axis=1) * (at < blocks)[:, None]
    every = np.tile(ends, (len(turns), 1))
    shifts = np.zeros((len(every), 3), np.int64)
    slot = np.arange(len(turns))[:, None] * blocks + at
    shifts[:, 2] = every[:, 0] - slot.ravel() % held * block
    place = BufferLayout(room, 1, 1, shifts, channel_bytes(graph, operation), False)
    steps = np.repeat(np.flatnonzero(running[:, number]), len(at))
    return PlacedWeights(operation.name, place, channels, block, held, (len(turns), len(at)), steps, every, every)


def whole_place(info: TensorInfo, room: Allocation, image: Integers) -> BufferLayout:
    """The layout of a tensor that is pinned: its images follow each other."""
    images, channels, rows, columns = info.shape
    skip = -channels * image if images > 1 else 0 * image
    return BufferLayout(room, rows, columns, np.stack([0 * skip, 0 * skip, skip], axis=1), info.element_bytes, True)


def ring_place(info: TensorInfo, room: Allocation, table: Table) -> BufferLayout:
    """The layout of a tensor in a ring, which turns along one axis in as many rows or columns as fit."""
    held = int((table.channels[:, 1] - table.channels[:, 0]).max(initial=0))
    turning = room.bytes // max(1, held * table.across * info.element_bytes)
    rows, columns = (turning, table.across) if table.turning == 0 else (table.across, turning)
    shifts = np.concatenate([table.origin, table.channels[:, :1]], axis=1)
    return BufferLayout(room, max(1, rows), max(1, columns), shifts, info.element_bytes, False)


def buffer(where: str, buffers: Mapping[str, Allocation], name: str) -> Allocation:
    """A buffer of a group.

    Errors: InvalidInput where there is none.
    """
    if name not in buffers:
        raise InvalidInput(f"{where}: expected a buffer {name!r}, got {', '.join(buffers)}; add it")
    return buffers[name]


def check_ends(where: str, planned: PlannedGroup, group: OperationGroup) -> None:
    """Refuse a group whose sources and sinks are not its inputs and outputs.

    Errors: InvalidInput.
    """
    for what, given, wanted in (
        ("sources", planned.sources, group.inputs),
        ("sinks", planned.sinks, group.outputs),
    ):
        if set(given) != set(wanted):
            raise InvalidInput(f"{where}: expected {what} of {', '.join(wanted)}, got {', '.join(given)}; correct them")


def is_whole(planned: PlannedGroup, tensor: str) -> bool:
    """Whether a group reads or makes a tensor where it is pinned."""
    return planned.sources.get(tensor) == "on" or planned.sinks.get(tensor) in ("on", "both")
