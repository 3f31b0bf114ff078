"""Exact counts of the steps of a group, for several heights of tiles at once: work, transfers, buffers.

`Grid` + `Accelerator` ──> `Measures`: arrays of (heights, steps), or of heights
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from polyfuse.machines.accelerator import Accelerator
from polyfuse.plan.graph.access import Integers
from polyfuse.plan.graph.group import OperationGroup
from polyfuse.plan.graph.operations import Operation
from polyfuse.plan.tiles.axis import Booleans
from polyfuse.plan.tiles.grid import Box, Cells, Grid, largest

Numbers = NDArray[np.float64]
SUM_BYTES = 4
"""The bytes of a sum, whatever the type of its terms."""


@dataclass(frozen=True, eq=False)
class Transfers:
    """Transfers of one tensor between the memories: bytes for each height, cycles in each step; bytes of its ring."""

    bytes: Integers
    cycles: Numbers
    ring_bytes: Integers


@dataclass(frozen=True, eq=False)
class Measures:
    """The counts of a group, but for its weights, wherever its tensors are."""

    machine: Accelerator
    steps: Grid

    @property
    def group(self) -> OperationGroup:
        """The group that is cut."""
        return self.steps.group

    def element_bytes(self, tensor: str) -> int:
        """The bytes of an element."""
        return self.group.graph.tensors[tensor].element_bytes

    def made(self, operation: Operation) -> tuple[Box, ...]:
        """The boxes an operation works on in each step: its output's, or those it adds up of each tensor."""
        taken = self.steps.taken_in.get(operation.name)
        return tuple(each.box for each in taken) if taken else (self.steps.of[operation.output].new,)

    @cached_property
    def work(self) -> dict[str, Integers]:
        """The work of each operation in each step."""
        found = {}
        for operation in self.group.operations:
            taken = self.steps.taken_in.get(operation.name)
            if taken:
                found[operation.name] = np.asarray(sum(each.box.area * each.depth for each in taken))
            else:
                cells, table = self.steps.of[operation.output], self.group.analysis.tables[operation.name].work
                found[operation.name] = table.of(cells.channels, cells.new.rows, cells.new.columns)
        return found

    @cached_property
    def active(self) -> dict[str, Booleans]:
        """Whether an operation runs in each step."""
        return {
            operation.name: np.logical_or.reduce([box.area > 0 for box in self.made(operation)])
            for operation in self.group.operations
        }

    @cached_property
    def work_pj(self) -> Numbers:
        """The energy of all work."""
        total = np.zeros(len(self.steps.heights))
        for operation in self.group.operations:
            energy = self.machine.work_pj(operation.cls, self.group.graph.tensors[operation.output].dtype)
            total = total + self.work[operation.name].sum(axis=1) * energy
        return total

    @cached_property
    def macs(self) -> Integers:
        """All multiply-accumulates."""
        each = [self.work[operation.name].sum(axis=1) for operation in self.group.operations if operation.layer.macs]
        return np.asarray(sum(each, np.zeros(len(self.steps.heights), np.int64)))

    @cached_property
    def onchip_bytes(self) -> Integers:
        """Bytes of tensors that operations read and write on chip: the need of each operand, and outputs."""
        total = np.zeros(len(self.steps.heights), np.int64)
        for name, cells in self.steps.of.items():
            readers = {link.reader.name for link in self.group.links[name]}
            accesses = cells.need.area * len(readers) + cells.new.area * (name in self.group.makers)
            total = total + (accesses * cells.depth).sum(axis=1) * self.element_bytes(name)
        return total

    def transfers(self, tensor: str, *, loaded: bool, ring: bool = True) -> Transfers:
        """An input that is loaded into its ring; an output that is stored from its ring, or from where it is whole."""
        cells, double = self.steps.of[tensor], self.machine.double_buffer
        window = cells.window(ahead=double and loaded, behind=double and not loaded)
        box = cells.new if loaded else cells.fresh
        moved = box.area * cells.depth * self.element_bytes(tensor)
        pieces = (moved > 0) + wraps(cells, box, window) * 1 if ring else moved > 0
        held = window[0] * window[1] * largest(cells.depth) * self.element_bytes(tensor)
        return Transfers(moved.sum(axis=1), self.machine.transfer_cycles(moved, pieces), held)

    def ring_bytes(self, tensor: str) -> Integers:
        """The ring of a tensor that is made and read in the group alone."""
        cells = self.steps.of[tensor]
        rows, columns = cells.window()
        return rows * columns * largest(cells.depth) * self.element_bytes(tensor)

    @cached_property
    def scratch_bytes(self) -> Integers:
        """Sums: those of one row of the lanes of an operation at a time, and those of all channels that accumulate."""
        lasting = np.zeros(len(self.steps.heights), np.int64)
        passing = lasting
        for operation in self.group.operations:
            cells = self.steps.of[operation.output]
            if operation.name in self.steps.taken_in:
                lasting = lasting + largest(cells.depth) * SUM_BYTES
            elif operation.cls != "elementwise" and self.element_bytes(operation.output) < SUM_BYTES:
                lanes = np.minimum(largest(cells.depth), self.machine.lanes)
                passing = np.maximum(passing, largest(cells.new.width) * lanes * SUM_BYTES)
        return lasting + passing


def forget(*holders: object) -> None:
    """Drop what the cached properties of some objects hold; it is found again when it is asked for."""
    for holder in holders:
        known = [name for name in vars(holder) if isinstance(getattr(type(holder), name, None), cached_property)]
        for name in known:
            del vars(holder)[name]


def wraps(cells: Cells, box: Box, window: tuple[Integers, Integers]) -> Booleans:
    """Whether a box goes over the end of its ring, so that moving it takes two transfers."""
    start, end = box.columns if cells.turning else box.rows
    size = np.maximum(window[cells.turning], 1)[:, None]
    return np.asarray((start + cells.shifts[cells.turning]) % size + (end - start) > size)
