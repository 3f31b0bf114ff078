"""A group of a plan as its C runs it: the boxes of each step, and the layout of each tensor on chip.

ScratchPlan + Graph ──placed_group()──> `PlacedGroup`, which C is written from and which prove.py judges
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from polyfuse.errors import InvalidInput
from polyfuse.plan.graph.access import Integers
from polyfuse.plan.graph.group import OperationGroup
from polyfuse.plan.graph.operations import Graph, Operation, TensorInfo
from polyfuse.plan.memory.addresses import Allocation
from polyfuse.plan.price.costs import channel_bytes
from polyfuse.plan.scratchplan import PlannedGroup, ScratchPlan
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
class BlockWeights:
    """Weights of the operation of a group that are loaded with each block of output channels.

    place      their layout, a plane for each output channel
    channels   how many output channels there are
    loaded     (steps, 2): the channels whose weights a step loads; used: those whose weights it reads
    """

    operation: str
    place: BufferLayout
    channels: int
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
    weights        those that come in blocks, by the name of their buffer
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
    weights: Mapping[str, BlockWeights] = field(default_factory=dict)

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
            room = Allocation(0, 0) if table.is_unused else buffer(where, planned, f"ring_{name}")
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
        {} if plan.machine.weights_in_place else block_weights(where, planned, cut, plan.machine.double_buffer),
    )


def arrivals(cut: Tables) -> Integers:
    """For each step, 1 where the block of output channels is another one than before."""
    first = cut.of[cut.group.operations[0].output].channels[:, 0]
    return np.append(1, first[1:] != first[:-1])


def slots(cut: Tables) -> Integers:
    """For each step, which half of the buffer has its block of weights, where transfers run while a step computes."""
    return np.asarray((np.cumsum(arrivals(cut)) - 1) % 2)


def block_weights(where: str, planned: PlannedGroup, cut: Tables, double_buffer: bool) -> dict[str, BlockWeights]:
    """The weights of a group whose steps work on blocks of output channels."""
    operation, block = cut.group.operations[0], cut.tile.channels
    size = channel_bytes(cut.group.graph, operation)
    if not block or not size:
        return {}
    table, name = cut.of[operation.output], f"weights_{operation.name}"
    shifts = np.zeros((cut.steps, 3), np.int64)
    shifts[:, 2] = table.channels[:, 0] - (slots(cut) * block if double_buffer else 0)
    taken = [table.new, *cut.taken_in.get(operation.name, {}).values()]
    runs = np.logical_or.reduce([(boxes[:, 0] < boxes[:, 1]) & (boxes[:, 2] < boxes[:, 3]) for boxes in taken])
    loaded, used = (table.channels * when[:, None] for when in (arrivals(cut), runs))
    place = BufferLayout(buffer(where, planned, name), 1, 1, shifts, size, False)
    channels = cut.group.graph.tensors[operation.output].shape[1]
    return {name: BlockWeights(operation.name, place, channels, loaded, used)}


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


def buffer(where: str, planned: PlannedGroup, name: str) -> Allocation:
    """A buffer of a group.

    Errors: InvalidInput where there is none.
    """
    if name not in planned.buffers:
        raise InvalidInput(f"{where}: expected a buffer {name!r}, got {', '.join(planned.buffers)}; add it")
    return planned.buffers[name]


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
