"""Homes: the arrays of a SCoP in which values are, and the cell of each element.

    cell   { [tile[t] -> A[a]] -> array[c] }

A tensor that stays in place is an array as it is. One that waits on chip is, in the program, an array with an element
for each of its copies, so that any order is legal that keeps its dependences; when the fused schedule is imported, its
accesses are redirected to a local array of the size of its buffer. Axes of size 1 are left out: LLVM would lose them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import islpy as isl

from polyfuse.codegen.c.elements import ELEMENTS, Element
from polyfuse.codegen.lower.places import Places
from polyfuse.network.scop.scop import ScopArray
from polyfuse.network.tensor import Tensor
from polyfuse.schedule.buffers import why_no_rows
from polyfuse.schedule.cells import tile_and_element, variable
from polyfuse.schedule.retention import in_buffer
from polyfuse.schedule.schedule import Schedule
from polyfuse.schedule.steps import Touch, chip_name
from polyfuse.schedule.storage import Storage

MOST_STACK_BYTES = 1 << 16
"""Local arrays above this are put on the heap."""
MEMORY_PREFIX = "MemRef_"
"""How Polly begins the names of the arrays of a program."""


@dataclass(frozen=True, eq=False)
class ScopHome:
    """An array: its name in C, its sizes, `{ [tile[t] -> A[a]] -> array[c] }`, and the type of its elements."""

    name: str
    sizes: tuple[int, ...]
    cell: isl.Map
    element: Element

    def of(self, touch: Touch) -> isl.Map:
        """`{ step[t, i] -> array[c] }`."""
        return touch.element.apply_range(self.cell)

    def described(self) -> ScopArray:
        """The array as Polly knows it when the program has it: the size of its first axis is not known then."""
        return ScopArray(f"{MEMORY_PREFIX}{self.name}", (None, *self.sizes[1:]), self.element.name)

    def allocated(self, element_type: str) -> ScopArray:
        """The array as one that Polly shall make, of elements that it calls so."""
        large = self.element.bytes * prod(self.sizes) > MOST_STACK_BYTES
        return ScopArray(self.name, self.sizes, element_type, "heap" if large else "stack")


@dataclass(frozen=True, eq=False)
class Homes:
    """Which arrays the accesses of a group go to: those of the program, or with `redirected` those on chip."""

    storage: Storage
    expanded: bool

    def is_local(self, touch: Touch) -> bool:
        """Whether an access goes to a tensor that waits on chip."""
        return not Places(self.storage, staged=False).is_offchip(touch)

    def in_program(self, touch: Touch) -> ScopHome:
        """The array in the program."""
        if self.is_local(touch) and self.expanded:
            return copies(self.storage, touch.tensor)
        return whole(self.storage.schedule, touch.tensor)

    def redirected(self, touch: Touch) -> ScopHome:
        """The array when the fused schedule has been imported."""
        return on_chip(self.storage, touch.tensor) if self.is_local(touch) else self.in_program(touch)


def whole(schedule: Schedule, tensor: Tensor) -> ScopHome:
    """A tensor as an array."""
    space = tile_and_element(schedule, tensor)
    coordinates = len(schedule.tiling.dims)
    affs = [isl.PwAff.from_aff(variable(space, coordinates + d)) for d in range(len(tensor.shape))]
    return _home(tensor, tensor.name, space, affs, tensor.concrete_shape)


def on_chip(storage: Storage, tensor: Tensor) -> ScopHome:
    """The buffer of a tensor: rings wrap."""
    space, buffer = tile_and_element(storage.schedule, tensor), storage.buffers[tensor.name]
    values = [index.value for index in buffer.indices]
    return _home(tensor, chip_name(tensor, buffer.array), space, values, buffer.shape)


def copies(storage: Storage, tensor: Tensor) -> ScopHome:
    """An array with an element for each arrival of an element of a tensor.

    Its indices are the coordinates of the tile along which nothing is retained on chip, and what the buffer counts
    from its origin, without wrapping.
    """
    schedule = storage.schedule
    flow = schedule.flows[tensor.name]
    space = tile_and_element(schedule, tensor)
    arrivals = flow.arrivals.reverse().wrap()
    free = [variable(space, d) for d in range(len(flow.places)) if d not in in_buffer(flow.places)]
    affs, sizes = [], []
    for aff in (*free, *local_axes(storage, tensor)):
        low = int(arrivals.min_val(aff).to_python())
        affs.append(isl.PwAff.from_aff(aff.add_constant_val(isl.Val(-low))))
        sizes.append(int(arrivals.max_val(aff).to_python()) - low + 1)
    return _home(tensor, f"tiles_{tensor.name}", space, affs, sizes)


def local_axes(storage: Storage, tensor: Tensor) -> tuple[isl.Aff, ...]:
    """What the buffer of a tensor counts along each axis, without wrapping; the element where it counts otherwise."""
    rank, indices = len(tensor.shape), storage.buffers[tensor.name].indices
    if why_no_rows(storage.schedule, storage.buffers, tensor.name) is None:
        return tuple(index.affine for index in indices[len(indices) - rank :])
    space, coordinates = tile_and_element(storage.schedule, tensor), len(storage.schedule.tiling.dims)
    return tuple(variable(space, coordinates + axis) for axis in range(rank))


def _home(tensor: Tensor, name: str, space: isl.Space, affs: Sequence[isl.PwAff], sizes: Sequence[int]) -> ScopHome:
    kept = [d for d, size in enumerate(sizes) if size > 1] or [0][: len(sizes)]
    range_ = isl.Space.set_alloc(isl.DEFAULT_CONTEXT, 0, max(1, len(kept)))
    cell = isl.PwMultiAff.from_multi_aff(isl.MultiAff.zero(space.map_from_domain_and_range(range_)))
    for k, d in enumerate(kept):
        if sizes[d] > 1:
            cell = cell.set_pw_aff(k, affs[d])
    relation = cell.as_map().set_tuple_name(isl.dim_type.out, name)
    return ScopHome(name, tuple(sizes[d] for d in kept) or (1,), relation, ELEMENTS[tensor.dtype])
