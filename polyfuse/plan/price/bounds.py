"""Lower bounds of the costs of tiles, for whole ranges of them at once: a proof that the rest need not be priced.

    `Profile` of rows + `Profile` of columns + `WeightLoads` ──GroupBounds.of()──> `LowerBound` of each tile

Off-chip bytes, multiply-accumulates and energy are exact, as products of sums along axes. Workspace leaves out what a
ring holds from one sweep to the next. Cycles are `step_cycles` of the sums over all steps, with the first load and the
last store: a sum of maxima is no less than the maximum of the sums.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyfuse.machines.accelerator import Accelerator
from polyfuse.plan.graph.access import Integers
from polyfuse.plan.graph.group import OperationGroup
from polyfuse.plan.graph.operations import Operation
from polyfuse.plan.price.costs import Sinks, Sources
from polyfuse.plan.price.latency import idle_factor, rate_of, step_cycles
from polyfuse.plan.price.objective import PARTS, Objective
from polyfuse.plan.price.space import Cutting
from polyfuse.plan.price.weights import WeightLoads
from polyfuse.plan.tiles.measures import SUM_BYTES, Numbers
from polyfuse.plan.tiles.profiles import Profile

AnyNumbers = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class LowerBound:
    """Of each tile of a range, at least: bytes of workspace, and the objective in 1/1024 of its unit."""

    workspace: Integers
    asked: Integers


@dataclass(frozen=True, eq=False)
class GroupBounds:
    """Lower bounds of one group whose inputs and outputs are on or off chip."""

    group: OperationGroup
    machine: Accelerator
    objective: Objective
    sources: Sources
    sinks: Sinks

    @cached_property
    def number(self) -> dict[str, int]:
        """The row of each tensor in the arrays of a profile."""
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
        """The tensors that have a ring: those loaded, and those made and not left on chip."""
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

    def of(
        self, rows: Profile, columns: Profile, cutting: Cutting, load: WeightLoads, loose: bool = False
    ) -> LowerBound:
        """The bound of each tile of some heights, widths and blocks; `loose`: whatever is kept along rows."""
        step = _Step(self, rows, columns, cutting, load, loose)
        cycles = step.cycles() if self.objective.goal == "latency" else 0.0 * step.moved
        energy = step.energy() if self.objective.goal == "energy" else 0.0 * step.moved
        asked = self.asked(cycles, step.moved, energy, step.macs)
        workspace, asked = np.broadcast_arrays(step.workspace(), asked)
        return LowerBound(workspace, asked)

    def asked(self, cycles: AnyNumbers, moved: Integers, energy_pj: AnyNumbers, macs: Integers) -> Integers:
        """The asked part of the price, as `Objective.price` counts it; 0 for the goal `peak`."""
        wanted = self.objective.wanted(cycles, moved, energy_pj, macs) * (self.objective.goal != "peak")
        return np.asarray(np.rint(wanted * PARTS).astype(np.int64))


class _Step:
    """One product of blocks, rows and columns, whose arrays have shapes (b, 1, 1), (h, 1) and (w,)."""

    def __init__(
        self, bounds: GroupBounds, rows: Profile, columns: Profile, cutting: Cutting, load: WeightLoads, loose: bool
    ) -> None:
        self.loose = loose
        self.bounds, self.cutting, self.load = bounds, cutting, load.upright()
        self.rows, self.columns = rows.upright(), columns
        self.group, self.machine = bounds.group, bounds.machine
        self.images = self.group.graph.images
        self.steps = np.asarray(rows.steps[:, None] * columns.steps)
        self.moved = self._moved()

    def _box(self, name: str, tensor: str, other: str | None = None) -> Integers:
        """An entry of rows times the same, or another, of columns."""
        k = self.bounds.number[tensor]
        return np.asarray(getattr(self.rows, name)[k] * getattr(self.columns, other or name)[k])

    def _deep(self, depth: Mapping[str, Integers], tensor: str) -> Integers:
        return depth[tensor] * self.group.graph.tensors[tensor].element_bytes

    def _held(self, tensor: str) -> Integers:
        """Where blocks of channels are one step each that reads all channels, so that an input is loaded once."""
        every = self.load.same[tensor] > 0
        return np.asarray((self.load.blocks > 1) & (self.steps == 1) & every)

    def _loads(self, tensor: str) -> tuple[Integers, Integers]:
        """The bytes of a tensor that is loaded, and how many transfers these are at least, in one image."""
        whole, once = self._deep(self.load.depth, tensor), self._deep(self.load.opening, tensor)
        held = self._held(tensor)
        moved = self._box("new", tensor) * np.where(held, once, whole)
        return moved, self._box("loads", tensor) * np.where(held, 1, self.load.turns[tensor])

    def _stores(self, tensor: str) -> tuple[Integers, Integers]:
        moved = self._box("fresh", tensor) * self._deep(self.load.depth, tensor)
        return moved, self._box("stores", tensor) * self.load.turns[tensor]

    @cached_property
    def _active(self) -> dict[str, Integers]:
        """How many steps each operation works in, in one image and block."""
        return {
            operation.name: self.rows.active[k] * self.columns.active[k]
            for k, operation in enumerate(self.group.operations)
        }

    @property
    def _rounds(self) -> Integers:
        """How often weights in blocks are loaded: for each image, but once where they are one block."""
        return np.where(self.load.blocks > 1, self.images, 1)

    @cached_property
    def _weight_bytes(self) -> Integers:
        total = np.asarray(self.load.kept_bytes + 0 * self.steps)
        for name, (size, _, _) in self.load.streams.items():
            total = total + self._active[name] * size * self.images
        if self.load.in_blocks:
            total = total + self._rounds * self.group.operations[0].weight_bytes
        return total

    def _moved(self) -> Integers:
        loads = sum((self._loads(name)[0] for name in self.bounds.loaded), 0 * self.load.blocks)
        stores = sum((self._stores(name)[0] for name in self.bounds.stored), 0 * self.load.blocks)
        return np.asarray((loads + stores) * self.images + self._weight_bytes)

    @cached_property
    def _work(self) -> dict[str, Integers]:
        """The work of each operation in one image."""
        found: dict[str, Integers] = {}
        for k, (operation, channels) in enumerate(self.bounds.terms):
            part = self.rows.work[k] * self.columns.work[k] * channels
            found[operation.name] = found.get(operation.name, 0) + part
        return found

    @property
    def macs(self) -> Integers:
        """All multiply-accumulates."""
        every = [self._work[o.name] for o in self.group.operations if o.layer.macs]
        return np.asarray(sum(every, 0 * self.steps) * self.images)

    def cycles(self) -> Numbers:
        """All steps as if they were one, with the first load and the last store."""
        machine = self.machine
        compute, streaming = np.zeros(self.moved.shape), np.zeros(self.moved.shape)
        for operation in self.group.operations:
            own = self._work[operation.name] / rate_of(operation, self.group.graph, machine)
            own = own * self.load.idle if operation.layer.macs else own
            if operation.name in self.load.streams:
                _, cycles, least = self.load.streams[operation.name]
                streaming = streaming + self._active[operation.name] * cycles
                own = np.maximum(own, self._active[operation.name] * least - self.load.head / self.images)
            compute = compute + own
        none = np.zeros_like(compute)
        loads = sum((machine.transfer_cycles(*self._loads(name)) for name in self.bounds.loaded), none)
        stores = sum((machine.transfer_cycles(*self._stores(name)) for name in self.bounds.stored), none)
        first = sum((self._end("first", name, self.load.opening) for name in self.bounds.loaded), none)
        last = sum((self._end("last", name, self.load.closing) for name in self.bounds.stored), none)
        waits = none
        if self.load.in_blocks:
            blocks = machine.transfer_cycles(np.array(self.group.operations[0].weight_bytes), self.load.blocks)
            loads = loads + blocks * self._rounds / self.images
            first = first + machine.transfer_cycles(self.load.block)
            waits = self._waits() if machine.double_buffer else none
        if not machine.double_buffer:
            first = last = none
        compute, loads, stores, streaming = (each * self.images for each in (compute, loads, stores, streaming))
        steps = step_cycles(machine, compute + waits, loads - first + streaming - self.load.head, stores - last)
        return self.load.before + first + last + steps

    def _end(self, entry: str, tensor: str, depth: Mapping[str, Integers]) -> Numbers:
        """The cycles of the first load, or of the last store, of a tensor."""
        moved = self._box(entry, tensor) * self._deep(depth, tensor)
        return self.machine.transfer_cycles(moved, moved > 0)

    def _waits(self) -> Numbers:
        """How long the last step of each block waits for the weights and the first loads of the next one."""
        machine, (operation,) = self.machine, self.group.operations
        rate, largest = rate_of(operation, self.group.graph, machine), self.load.largest
        channels = largest * idle_factor(largest, machine) if operation.layer.macs else largest
        last: Numbers = np.zeros(self.steps.shape)
        for k, term in enumerate(self.group.analysis.tables[operation.name].work.terms):
            deepest = int(np.diff(term[0]).max())
            last = last + deepest * self.rows.ending[k] * self.columns.ending[k]
        last = last * channels / rate
        first: Numbers = np.zeros(self.steps.shape)
        for name in self.bounds.loaded:
            every = (self.load.same[name] > 0) & ~self._held(name)
            first = first + self._end("first", name, self.load.opening) * every
        full, rest = (
            np.maximum(first + machine.transfer_cycles(size) - last, 0.0) for size in (self.load.block, self.load.rest)
        )
        turns = np.where(self.load.blocks > 1, self.load.blocks * self.images - 1, 0)
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
            accesses = accesses + self._active[operation.name] * self.load.read[operation.name]
            price = machine.work_pj(operation.cls, self.group.graph.tensors[operation.output].dtype)
            work = work + self._work[operation.name] * price
        moved = self.moved * (machine.offchip.pj_per_byte + machine.onchip.pj_per_byte)
        return moved + self.images * (accesses * machine.onchip.pj_per_byte + work)

    def workspace(self) -> Integers:
        """Rings, weights and sums."""
        unit, double = self.machine.alignment_bytes, self.machine.double_buffer
        total = np.asarray(self.load.weights + 0 * self.steps)
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
        along = getattr(self.rows, key)[k]
        if columns and not rows:
            turning = getattr(self.columns, key)[k]
            return np.asarray(self.rows.widest[k] * turning)
        if columns:
            return np.asarray(along * self.columns.extent[k])
        if not rows and key != "window":
            twice = 2 * self.rows.widest[k]
            if cutting.rows_first:
                every = (self.columns.loads[k] == self.columns.steps) & (self.columns.steps > 1)
                along = np.where(every, twice, self.rows.widest[k])
            else:
                alone = (self.rows.steps == 1) & (self.columns.loads[k] == self.columns.steps)
                more = self.images * self.load.blocks * self.steps > 1
                held = ahead and self._held(tensor)
                along = np.where(alone & more & ~np.asarray(held), twice, along)
        return np.asarray(along * self.columns.widest[k])

    def scratch(self) -> Integers:
        """The bytes of sums."""
        lasting, passing = 0 * self.steps, 0 * self.steps
        for operation in self.group.operations:
            k, deepest = self.bounds.number[operation.output], self.load.deepest[operation.output]
            if self.group.accumulates(operation):
                lasting = lasting + deepest * SUM_BYTES
            elif sums_up(self.group, operation):
                lanes = np.minimum(deepest, self.machine.lanes)
                passing = np.maximum(passing, self.columns.widest[k] * lanes * SUM_BYTES)
        return np.asarray(lasting + passing)


def sums_up(group: OperationGroup, operation: Operation) -> bool:
    """Whether an operation needs sums that are wider than what it makes."""
    return operation.cls != "elementwise" and group.graph.tensors[operation.output].element_bytes < SUM_BYTES
