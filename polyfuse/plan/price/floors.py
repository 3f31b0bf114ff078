"""What tiles cost at least, for whole ranges of them at once: bounds that prove that the rest need not be priced.

`Profile` of rows + `Profile` of columns + `Load` ──Bounds.of()──> `Floor`: arrays of (blocks, heights, widths)

Off-chip bytes, multiply-accumulates and energy are exact, as products of sums along axes. Workspace leaves out what a
ring holds from one sweep to the next. Cycles are the larger of all computing and all transfers, with the first load and
the last store: a sum of maxima is no less than the maximum of the sums.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyfuse.machines.accelerator import Accelerator
from polyfuse.plan.graph.access import Integers
from polyfuse.plan.graph.group import Group
from polyfuse.plan.graph.operations import Operation
from polyfuse.plan.memory.addresses import aligned_up
from polyfuse.plan.price.objective import PARTS, Objective
from polyfuse.plan.price.sheet import Cut, Sink, Source, block_channels, channel_bytes
from polyfuse.plan.price.space import Cutting, blocks_of
from polyfuse.plan.tiles.measures import SUM_BYTES, Measures, Numbers
from polyfuse.plan.tiles.profiles import Profile
from polyfuse.plan.tiles.tables import Residence, Tile, grid_of

AnyNumbers = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Floor:
    """Of each tile of a range, what it costs at least: workspace, and what is asked for in 1/1024 of its unit."""

    workspace: Integers
    asked: Integers


@dataclass(frozen=True, eq=False)
class Load:
    """How weights come: resident or streamed, or in blocks of channels; arrays have an entry for each size of block.

    depth, deepest, opening, closing  channels of each tensor: in all blocks, in the largest, the first, the last one
    same      1 where all blocks read the same channels of a tensor, else 0
    turns     in how many blocks a tensor has any channels
    largest   the channels of a block, at most
    blocks, weights, before  how many blocks, bytes of weight buffers, cycles before the first step
    idle      how much longer multiply-accumulates take because lanes are idle
    read      bytes of weights that one step of each block reads on chip
    block     bytes of the weights of a block that is not the last, and of the last: `rest`
    kept_bytes  weights loaded before the first step
    streams   for operations whose weights are streamed: their bytes, cycles of their transfers in a step, and cycles
              that the step takes at least
    """

    residence: Residence
    channels: Integers
    depth: Mapping[str, Integers]
    deepest: Mapping[str, Integers]
    opening: Mapping[str, Integers]
    closing: Mapping[str, Integers]
    same: Mapping[str, Integers]
    turns: Mapping[str, Integers]
    blocks: Integers
    largest: Integers
    weights: Integers
    idle: Numbers
    read: Mapping[str, Integers]
    block: Integers
    rest: Integers
    before: float
    kept_bytes: int
    streams: Mapping[str, tuple[int, float, float]]
    in_blocks: bool

    def part(self, some: slice) -> "Load":
        """Some of the sizes of blocks."""
        return self._mapped(lambda _, values: values[some])

    def coarse(self) -> "Load":
        """One entry for all sizes that make as many blocks: the least of each array, the most of `same`, `largest`."""
        starts = np.flatnonzero(np.diff(self.blocks, prepend=-1))
        return self._mapped(
            lambda name, values: (np.maximum if name in ("same", "largest") else np.minimum).reduceat(values, starts)
        )

    def _mapped(self, change: Callable[[str, Integers], Integers]) -> "Load":
        changed: dict[str, object] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, np.ndarray):
                changed[each.name] = change(each.name, value)
            elif each.name in ("depth", "deepest", "opening", "closing", "same", "turns", "read"):
                changed[each.name] = {name: change(each.name, values) for name, values in value.items()}
        return replace(self, **changed)  # type: ignore[arg-type]


def whole_load(group: Group, residence: Residence, machine: Accelerator) -> Load:
    """Weights that are kept, or streamed; all channels at once."""
    rows = group.graph.tensors[group.reference].shape[2]
    tile = Tile(rows, weights=residence)
    cut = Cut(tile, Measures(machine, grid_of(group, tile, [rows])))
    streams = {}
    for operation in cut.streams:
        channels = group.graph.tensors[operation.output].shape[1]
        count = -(-channels // block_channels(group.graph, operation, machine))
        cycles = count * machine.offchip.latency_cycles + operation.weight_bytes / machine.offchip.bytes_per_cycle
        streams[operation.name] = (operation.weight_bytes, cycles, cycles if machine.double_buffer else 0.0)
    depth = {name: np.array([group.graph.tensors[name].shape[1]]) for name in group.links}
    size = sum(aligned_up(each, machine.alignment_bytes) for each in cut.weight_buffers.values())
    kept = sum(operation.weight_bytes for operation in cut.kept)
    one = np.ones(1, np.int64)
    read = {operation.name: operation.weight_bytes * one for operation in group.operations}
    return Load(
        residence=residence,
        channels=0 * one,
        depth=depth,
        deepest=depth,
        opening=depth,
        closing=depth,
        same=dict.fromkeys(depth, one),
        turns=dict.fromkeys(depth, one),
        blocks=one,
        largest=0 * one,
        weights=size * one,
        idle=np.ones(1),
        read=read,
        block=0 * one,
        rest=0 * one,
        before=cut.before_cycles,
        kept_bytes=kept,
        streams=streams,
        in_blocks=False,
    )


def block_load(group: Group, machine: Accelerator) -> Load | None:
    """Weights in blocks of channels of every size; none where there are no blocks."""
    sizes = np.array(blocks_of(group), np.int64)
    if not len(sizes):
        return None
    (operation,) = group.operations
    whole = group.graph.tensors[operation.output].shape[1]
    parts: dict[str, list[tuple[int, ...]]] = {name: [] for name in group.links}
    for size in sizes:
        first = np.arange(0, whole, size)
        stop = np.minimum(first + size, whole)
        for name, found in parts.items():
            depth, same = stop - first, False
            if name != operation.output:
                reads = [link.reads[0] for link in group.links[name]]
                start = np.min([read.begins(first) for read in reads], axis=0)
                end = np.max([read.ends(stop) for read in reads], axis=0)
                depth, same = np.maximum(end - start, 0), bool((start == start[0]).all() and (end == end[0]).all())
            some = int((depth > 0).sum())
            found.append((int(depth.sum()), int(depth.max()), int(depth[0]), int(depth[-1]), int(same), some))
    arrays = {name: np.array(found, np.int64).T for name, found in parts.items()}
    blocks = -(-whole // sizes)
    buffers = np.zeros_like(sizes)
    if operation.weight_bytes and not machine.weights_in_place:
        copies = 2 if machine.double_buffer else 1
        buffers = np.minimum(operation.weight_bytes, copies * sizes * channel_bytes(group.graph, operation))
    unit, size = machine.alignment_bytes, channel_bytes(group.graph, operation)
    each = [{name: values[k] for name, values in arrays.items()} for k in range(6)]
    last = whole - (blocks - 1) * sizes
    read = (blocks - 1) * (sizes * operation.weight_bytes // whole) + last * operation.weight_bytes // whole
    return Load(
        residence="resident",
        channels=sizes,
        depth=each[0],
        deepest=each[1],
        opening=each[2],
        closing=each[3],
        same=each[4],
        turns=each[5],
        blocks=blocks,
        largest=sizes,
        weights=-(-buffers // unit) * unit,
        idle=-(-sizes // machine.lanes) * machine.lanes / sizes,
        read={operation.name: read},
        block=sizes * size,
        rest=last * size,
        before=0.0,
        kept_bytes=0,
        streams={},
        in_blocks=not machine.weights_in_place and size > 0,
    )


@dataclass(frozen=True, eq=False)
class Bounds:
    """Bounds of one group in one place: what it reads and leaves is on or off chip."""

    group: Group
    machine: Accelerator
    objective: Objective
    sources: Mapping[str, Source]
    sinks: Mapping[str, Sink]

    @cached_property
    def number(self) -> dict[str, int]:
        """The place of each tensor in the arrays of a profile."""
        return {name: k for k, name in enumerate(self.group.links)}

    @cached_property
    def loaded(self) -> tuple[str, ...]:
        """The tensors that are loaded."""
        return tuple(name for name, source in self.sources.items() if source == "off")

    @cached_property
    def stored(self) -> tuple[str, ...]:
        """The tensors that are stored."""
        return tuple(name for name, sink in self.sinks.items() if sink != "on")

    @cached_property
    def rings(self) -> tuple[str, ...]:
        """The tensors that have a ring: what is loaded, and what is made and not left on chip."""
        made = tuple(name for name in self.group.makers if self.sinks.get(name) not in ("on", "both"))
        return self.loaded + made

    @cached_property
    def terms(self) -> tuple[tuple[Operation, int], ...]:
        """The operation and the channels of each term of work."""
        found = []
        for operation in self.group.operations:
            if self.group.accumulates(operation):
                for name in self.group.added_up(operation):
                    parts = [part for part in operation.operands[0] if part.tensor == name]
                    found.append((operation, sum(part.channels for part in parts)))
            else:
                channels = self.group.graph.tensors[operation.output].shape[1]
                terms = self.group.analysis.tables[operation.name].work.terms
                found += [(operation, int(term[0][channels] - term[0][0])) for term in terms]
        return tuple(found)

    def of(self, rows: Profile, columns: Profile, cutting: Cutting, load: Load, loose: bool = False) -> Floor:
        """The floor of every tile of some heights, widths and blocks; `loose`: whatever is kept along rows."""
        step = _Step(self, rows, columns, cutting, load, loose)
        cycles = step.cycles() if self.objective.goal == "latency" else 0.0 * step.moved
        energy = step.energy() if self.objective.goal == "energy" else 0.0 * step.moved
        asked = self.asked(cycles, step.moved, energy, step.macs)
        workspace, asked = np.broadcast_arrays(step.workspace(), asked)
        return Floor(workspace, asked)

    def asked(self, cycles: AnyNumbers, moved: Integers, energy_pj: AnyNumbers, macs: Integers) -> Integers:
        """What the objective asks for, as `Objective.price` counts it; nothing for the goal `peak`."""
        match self.objective.goal:
            case "latency":
                wanted = cycles + self.objective.cycles_per_byte * moved
            case "bytes":
                wanted = moved.astype(np.float64)
            case "macs":
                wanted = macs.astype(np.float64)
            case "energy":
                wanted = energy_pj
            case "peak":
                wanted = np.zeros(moved.shape)
        return np.asarray(np.rint(wanted * PARTS).astype(np.int64))


class _Step:
    """One product of rows and columns, under way."""

    def __init__(
        self, bounds: Bounds, rows: Profile, columns: Profile, cutting: Cutting, load: Load, loose: bool
    ) -> None:
        self.loose = loose
        self.bounds, self.rows, self.columns, self.cutting, self.load = bounds, rows, columns, cutting, load
        self.group, self.machine = bounds.group, bounds.machine
        self.images = self.group.graph.images
        self.steps = self._box("steps", None)
        self.moved = self._moved()

    def _box(self, name: str, tensor: str | None, other: str | None = None) -> Integers:
        """An entry of rows times the same, or another, of columns: (1, heights, widths)."""
        first, second = getattr(self.rows, name), getattr(self.columns, other or name)
        if tensor is not None:
            first, second = (each[self.bounds.number[tensor]] for each in (first, second))
        return np.asarray(first[None, :, None] * second[None, None, :])

    def _deep(self, depth: Mapping[str, Integers], tensor: str) -> Integers:
        return depth[tensor][:, None, None] * self.group.graph.tensors[tensor].element_bytes

    @cached_property
    def _blocks(self) -> Integers:
        return self.load.blocks[:, None, None]

    def _held(self, tensor: str) -> Integers:
        """Where blocks of channels are one step each that reads all channels, so that an input is loaded once."""
        every = (self.load.same[tensor] > 0)[:, None, None]
        return np.asarray((self._blocks > 1) & (self.steps == 1) & every)

    def _loads(self, tensor: str) -> tuple[Integers, Integers]:
        """The bytes of a tensor that is loaded, and how many transfers these are at least, in one image."""
        whole, once = self._deep(self.load.depth, tensor), self._deep(self.load.opening, tensor)
        held = self._held(tensor)
        box = self._box("new", tensor)
        return box * np.where(held, once, whole), self._box("loads", tensor) * np.where(held, 1, self._turns(tensor))

    def _stores(self, tensor: str) -> tuple[Integers, Integers]:
        return self._box("fresh", tensor) * self._deep(self.load.depth, tensor), (
            self._box("stores", tensor) * self._turns(tensor)
        )

    def _turns(self, tensor: str) -> Integers:
        """The blocks that a tensor has channels in."""
        return np.asarray(self.load.turns[tensor][:, None, None])

    @cached_property
    def _active(self) -> dict[str, Integers]:
        """How many steps each operation works in, in one image and block."""
        return {
            operation.name: self.rows.active[k][None, :, None] * self.columns.active[k][None, None, :]
            for k, operation in enumerate(self.group.operations)
        }

    @property
    def _rounds(self) -> Integers:
        """How often weights in blocks are loaded: for each image, but once where they are one block."""
        return np.where(self._blocks > 1, self.images, 1)

    @cached_property
    def _weight_bytes(self) -> Integers:
        total = np.asarray(self.load.kept_bytes + 0 * self.steps)
        for name, (size, _, _) in self.load.streams.items():
            total = total + self._active[name] * size * self.images
        if self.load.in_blocks:
            total = total + self._rounds * self.group.operations[0].weight_bytes
        return total

    def _moved(self) -> Integers:
        loads = sum((self._loads(name)[0] for name in self.bounds.loaded), 0 * self._blocks)
        stores = sum((self._stores(name)[0] for name in self.bounds.stored), 0 * self._blocks)
        return np.asarray((loads + stores) * self.images + self._weight_bytes)

    @cached_property
    def _work(self) -> dict[str, Integers]:
        """The work of each operation in one image."""
        found: dict[str, Integers] = {}
        for k, (operation, channels) in enumerate(self.bounds.terms):
            part = self.rows.work[k][None, :, None] * self.columns.work[k][None, None, :] * channels
            found[operation.name] = found.get(operation.name, 0) + part
        return found

    @property
    def macs(self) -> Integers:
        """All multiply-accumulates."""
        every = [self._work[o.name] for o in self.group.operations if o.layer.macs]
        return np.asarray(sum(every, 0 * self.steps) * self.images)

    def cycles(self) -> Numbers:
        """The larger of computing and transfers, with what nothing runs beside."""
        machine, offchip = self.machine, self.machine.offchip
        compute, streaming = np.zeros(self.moved.shape), np.zeros(self.moved.shape)
        for operation in self.group.operations:
            rate = machine.rate(operation.cls, self.group.graph.tensors[operation.output].dtype)
            own = self._work[operation.name] / rate * (self.load.idle[:, None, None] if operation.layer.macs else 1.0)
            if operation.name in self.load.streams:
                _, cycles, least = self.load.streams[operation.name]
                streaming = streaming + self._active[operation.name] * cycles
                own = np.maximum(own, self._active[operation.name] * least)
            compute = compute + own
        loads, first = np.zeros_like(compute), np.zeros_like(compute)
        stores, last = np.zeros_like(compute), np.zeros_like(compute)
        for name in self.bounds.loaded:
            size, pieces = self._loads(name)
            loads = loads + size / offchip.bytes_per_cycle + pieces * offchip.latency_cycles
            box = self._box("first", name) * self._deep(self.load.opening, name)
            first = first + box / offchip.bytes_per_cycle + (box > 0) * offchip.latency_cycles
        for name in self.bounds.stored:
            size, pieces = self._stores(name)
            stores = stores + size / offchip.bytes_per_cycle + pieces * offchip.latency_cycles
            box = self._box("last", name) * self._deep(self.load.closing, name)
            last = last + box / offchip.bytes_per_cycle + (box > 0) * offchip.latency_cycles
        if self.load.in_blocks:
            weights = self.group.operations[0].weight_bytes
            blocks = weights / offchip.bytes_per_cycle + self._blocks * offchip.latency_cycles
            loads = loads + blocks * self._rounds / self.images
            first = first + self.load.block[:, None, None] / offchip.bytes_per_cycle + offchip.latency_cycles
        waits = self._waits() if self.load.in_blocks and machine.double_buffer else 0.0
        compute, loads, stores, streaming = (each * self.images for each in (compute, loads, stores, streaming))
        if not machine.double_buffer:
            return self.load.before + compute + loads + stores + streaming
        beside, behind = loads - first + streaming, stores - last
        transfers = np.maximum(beside, behind) if machine.dma_engines == 2 else beside + behind
        return self.load.before + first + last + np.maximum(compute + waits, transfers)

    def _waits(self) -> Numbers:
        """How long the last step of each block waits for the weights of the next one, and for what that begins with."""
        offchip, (operation,) = self.machine.offchip, self.group.operations
        rate = self.machine.rate(operation.cls, self.group.graph.tensors[operation.output].dtype)
        idle = -(-self.load.largest // self.machine.lanes) * self.machine.lanes if operation.layer.macs else None
        channels = (self.load.largest if idle is None else idle)[:, None, None]
        last: Numbers = np.zeros(self.steps.shape)
        for k, term in enumerate(self.group.analysis.tables[operation.name].work.terms):
            deepest = int(np.diff(term[0]).max())
            last = last + deepest * self.rows.ending[k][None, :, None] * self.columns.ending[k][None, None, :]
        last = last * channels / rate
        first: Numbers = np.zeros(self.steps.shape)
        for name in self.bounds.loaded:
            every = (self.load.same[name] > 0)[:, None, None] & ~self._held(name)
            box = self._box("first", name) * self._deep(self.load.opening, name) * every
            first = first + box / offchip.bytes_per_cycle + (box > 0) * offchip.latency_cycles
        full, rest = (
            np.maximum(first + offchip.latency_cycles + size[:, None, None] / offchip.bytes_per_cycle - last, 0.0)
            for size in (self.load.block, self.load.rest)
        )
        turns = np.where(self._blocks > 1, self._blocks * self.images - 1, 0)
        closing = np.minimum(self.images, turns)
        return np.asarray((turns - closing) * full + closing * rest)

    def energy(self) -> Numbers:
        """Picojoules."""
        machine = self.machine
        accesses, work = np.zeros(self.moved.shape), np.zeros(self.moved.shape)
        for name in self.group.links:
            readers = {link.reader.name for link in self.group.links[name]}
            box = self._box("needed", name) * len(readers) + self._box("new", name) * (name in self.group.makers)
            accesses = accesses + box * self._deep(self.load.depth, name)
        for operation in self.group.operations:
            accesses = accesses + self._active[operation.name] * self.load.read[operation.name][:, None, None]
            price = machine.work_pj(operation.cls, self.group.graph.tensors[operation.output].dtype)
            work = work + self._work[operation.name] * price
        moved = self.moved * (machine.offchip.pj_per_byte + machine.onchip.pj_per_byte)
        return moved + self.images * (accesses * machine.onchip.pj_per_byte + work)

    def workspace(self) -> Integers:
        """Rings, weights and sums."""
        unit, double = self.machine.alignment_bytes, self.machine.double_buffer
        total = np.asarray(self.load.weights[:, None, None] + 0 * self.steps)
        for name in self.bounds.rings:
            loads, stores = name in self.bounds.sources, name in self.bounds.sinks
            ring = self._ring(name, double and loads, double and stores) * self._deep(self.load.deepest, name)
            total = total + -(-ring // unit) * unit
        if not self.machine.accumulator_bytes:
            total = total + -(-self.scratch() // unit) * unit
        return total

    def _ring(self, tensor: str, ahead: bool, behind: bool) -> Integers:
        """The rows and columns of a ring, at least."""
        k, cutting = self.bounds.number[tensor], self.cutting
        if self.loose:
            if tensor not in cutting.columns:
                return self._box("widest", tensor)
            return np.minimum(self._box("window", tensor, "extent"), self._box("widest", tensor, "window"))
        key = "ahead" if ahead else "behind" if behind else "window"
        rows, columns = cutting.cuts_rows and tensor in cutting.rows, tensor in cutting.columns
        along = getattr(self.rows, key)[k][None, :, None]
        if columns and not rows:
            turning = getattr(self.columns, key)[k][None, None, :]
            return np.asarray(self.rows.widest[k][None, :, None] * turning)
        if columns:
            return np.asarray(along * self.columns.extent[k][None, None, :])
        if not rows and key != "window":
            twice = 2 * self.rows.widest[k][None, :, None]
            if cutting.rows_first:
                every = (self.columns.loads[k] == self.columns.steps) & (self.columns.steps > 1)
                along = np.where(every[None, None, :], twice, self.rows.widest[k][None, :, None])
            else:
                alone = (self.rows.steps == 1)[None, :, None] & (self.columns.loads[k] == self.columns.steps)
                more = self.images * self._blocks * self.steps > 1
                held = ahead and self._held(tensor)
                along = np.where(alone & more & ~np.asarray(held), twice, along)
        return np.asarray(along * self.columns.widest[k][None, None, :])

    def scratch(self) -> Integers:
        """The bytes of sums."""
        lasting, passing = 0 * self.steps, 0 * self.steps
        for operation in self.group.operations:
            k, deepest = self.bounds.number[operation.output], self.load.deepest[operation.output][:, None, None]
            if self.group.accumulates(operation):
                lasting = lasting + deepest * SUM_BYTES
            elif sums_up(self.group, operation):
                lanes = np.minimum(deepest, self.machine.lanes)
                passing = np.maximum(passing, self.columns.widest[k][None, None, :] * lanes * SUM_BYTES)
        return lasting + passing


def sums_up(group: Group, operation: Operation) -> bool:
    """Whether an operation needs sums that are wider than what it makes."""
    return operation.cls != "elementwise" and group.graph.tensors[operation.output].element_bytes < SUM_BYTES
