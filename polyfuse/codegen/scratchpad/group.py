"""A group of a plan with all that its C needs: where its buffers are, and what moves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from polyfuse.codegen.scratchpad.compute import ComputeFunction
from polyfuse.plan.operations import Graph
from polyfuse.plan.tiles import Tables

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Room:
    """An address and the bytes that are reserved there."""

    address: int
    bytes: int


@dataclass(frozen=True, eq=False)
class GroupInPlace:
    """A group of a plan with all that its C needs.

    functions      of its operations, by name, in order
    numbers        of tensors, among all that the machine knows
    buffers        of the group by name: `ring_<tensor>`, `weights_<operation>`, `scratch`
    pinned         the address of each whole tensor that is on chip while it runs
    preloaded      those that are loaded whole before it starts
    loaded         the inputs that arrive step by step; stored: the outputs that leave step by step
    image_at       where the weights of each operation begin in the tensor of weights
    double_buffer  whether transfers run while a step computes
    arena_bytes    the capacity of the machine, behind which the unit's own accumulators are
    unit_bytes     of these; 0 where sums are in the arena
    in_place       whether weights are read where they are off chip
    streams        the output channels of a block of each operation whose weights are loaded again in every step
    early          operations whose weights are there when it starts
    following      the transfers of the next group's such weights, as C, in each step that starts some
    """

    number: int
    graph: Graph
    functions: Mapping[str, ComputeFunction]
    numbers: Mapping[str, int]
    tables: Tables
    buffers: Mapping[str, Room]
    pinned: Mapping[str, int]
    preloaded: tuple[str, ...]
    loaded: tuple[str, ...]
    stored: tuple[str, ...]
    image_at: Mapping[str, int]
    double_buffer: bool
    in_place: bool
    streams: Mapping[str, int]
    arena_bytes: int = 0
    unit_bytes: int = 0
    early: frozenset[str] = frozenset()
    following: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    @cached_property
    def tensors(self) -> tuple[str, ...]:
        """What it touches, in order."""
        operations = [function.operation for function in self.functions.values()]
        return tuple(dict.fromkeys(name for o in operations for name in (*o.reads, o.output)))

    @cached_property
    def blocks(self) -> Integers:
        """The block of output channels of each step: (steps, 2), from and to."""
        (first, *_) = self.functions.values()
        return self.tables.of[first.operation.output].channels

    @property
    def has_blocks(self) -> bool:
        """Whether steps work on some of the output channels."""
        return self.tables.tile.channels > 0

    def place(self, tensor: str) -> "Place":
        """Where a tensor is while the group runs: whole, or in a ring."""
        info = self.graph.tensors[tensor]
        images, channels, rows, columns = info.shape
        steps = self.tables.steps
        if tensor in self.pinned:
            skip = -channels * self.tables.image if images > 1 else np.zeros(steps, np.int64)
            return Place(self.pinned[tensor], rows, columns, np.stack([0 * skip, 0 * skip, skip], axis=1))
        table, room = self.tables.of[tensor], self.buffers[f"ring_{tensor}"]
        held = int((table.channels[:, 1] - table.channels[:, 0]).max(initial=0))
        turning = room.bytes // max(1, held * table.across * info.element_bytes)
        rows, columns = (turning, table.across) if table.turning == 0 else (table.across, turning)
        sizes = np.array([[max(1, rows), max(1, columns)]])
        origins = np.concatenate([table.origin % sizes, table.channels[:, :1]], axis=1)
        return Place(room.address, int(sizes[0, 0]), int(sizes[0, 1]), origins)


@dataclass(frozen=True, eq=False)
class Place:
    """An address, the rows and columns that have room there, and the turn, shift and skip of each step."""

    address: int
    rows: int
    columns: int
    origins: Integers

    @property
    def turns(self) -> bool:
        """Whether the origins differ from step to step."""
        return bool((self.origins != self.origins[:1]).any())
