"""One group of a program, lowered: what runs, when, with which kernels, on which arrays. No loops, no text.

    Storage + Selection of kernels ──lowered_group()──> LoweredGroup

emit/group.py makes its loops.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import islpy as isl

from polyfuse.choices import RETAINED_IN
from polyfuse.codegen.c.dialect import Dialect
from polyfuse.codegen.lower.kernels import RowKernels
from polyfuse.codegen.lower.layout import Array
from polyfuse.codegen.lower.places import Places, Timed, with_wraps
from polyfuse.codegen.lower.rowsteps import RowStep, group_rows
from polyfuse.codegen.lower.sums import Blocked, LongSum, Role, blocked
from polyfuse.network.tensor import Tensor
from polyfuse.schedule.schedule import Mark
from polyfuse.schedule.steps import Step, point_dims, preload_steps, steps, time_names
from polyfuse.schedule.storage import Storage
from polyfuse.sets.spaces import union


@dataclass(frozen=True, eq=False)
class LoweredGroup:
    """The steps of a group, in the order of their times, and what they work on.

    scalar               steps that are computed element by element, with the loops that count wraps
    rows                 steps that row kernels compute; `kernels` has the kernel of each, by the names of both
    sums                 what scalar steps do for long sums, by name
    preloading           steps that load the weights which stay on chip
    parallel_coordinate  the tile coordinate whose tiles threads share, if there is one
    packed               the constants that row kernels read instead of the weights of their layers, by name
    workspace_bytes      what computing takes in each thread besides buffers: layers take turns
    """

    index: int
    places: Places
    scalar: Timed
    rows: tuple[RowStep, ...]
    kernels: dict[str, str]
    sums: dict[str, tuple[Role, LongSum]]
    preloading: Timed
    parallel_coordinate: int | None
    packed: tuple[str, ...]
    workspace_bytes: int

    @property
    def storage(self) -> Storage:
        """The schedule of the group with its buffers."""
        return self.places.storage

    @property
    def steps(self) -> tuple[Step, ...]:
        """The scalar steps."""
        return self.scalar.steps

    @property
    def preload(self) -> tuple[Step, ...]:
        """The steps that load the weights which stay on chip."""
        return self.preloading.steps

    @property
    def parallel(self) -> str | None:
        """The name of the loop that threads share."""
        return None if self.parallel_coordinate is None else time_names(self.storage.schedule)[self.parallel_coordinate]

    @cached_property
    def shared_tiles(self) -> int:
        """The tiles along the coordinate that threads share; 1 where there is none."""
        d = self.parallel_coordinate
        if d is None:
            return 1
        every = [flow.arrivals.range() for flow in self.storage.schedule.flows.values()]
        tiles = union(each for each in every if not each.is_empty())
        return int(tiles.dim_max_val(d).sub(tiles.dim_min_val(d)).to_python()) + 1

    @property
    def marks(self) -> dict[str, Mark]:
        """What is asked of loops over given times, by the names of the loops."""
        schedule = self.storage.schedule
        names, count = time_names(schedule), len(schedule.tiling.dims)
        return {names[d if d < count else d + 1]: mark for d, mark in schedule.marks.items()}

    @property
    def outer_loops(self) -> tuple[str, ...]:
        """The names of the loops over tiles and their stages, the outermost first."""
        return time_names(self.storage.schedule)[: self._stage + 1]

    @property
    def point_loops(self) -> tuple[str, ...]:
        """The names of the loops inside of these over points, all but the innermost: an iteration makes its points."""
        schedule = self.storage.schedule
        return time_names(schedule)[self._stage + 1 : self._stage + point_dims(schedule)]

    @property
    def _stage(self) -> int:
        return int(self.storage.schedule.tile_to_time.dim(isl.dim_type.out))

    @property
    def dialect(self) -> Dialect:
        """The language of the target."""
        return self.places.selection.target.dialect

    @property
    def alignment(self) -> int:
        """What the address of each buffer is a multiple of, in bytes: rows of vectors start at cache lines."""
        target = self.places.selection.target
        return target.line_bytes if target.has_rows else target.element.bytes

    @property
    def buffer_bytes(self) -> int:
        """The buffers as the C has them, those of one thread, with what fills up blocks, rows and cache lines."""
        every = (*self.chip, *self.kept)
        return sum(-(-array.bytes // self.alignment) * self.alignment for array in every)

    @property
    def tensors(self) -> frozenset[Tensor]:
        """What the layers of the group read and make."""
        layers = self.storage.schedule.network.layers
        return frozenset(tensor for layer in layers for tensor in (*layer.inputs, layer.output))

    @cached_property
    def chip(self) -> tuple[Array, ...]:
        """The buffers of each thread's own."""
        tensors = (flow.tensor for flow in self.storage.schedule.flows.values())
        return self._used(self.places.array(tensor, False) for tensor in tensors if not self.places.stays(tensor))

    @cached_property
    def kept(self) -> tuple[Array, ...]:
        """The weights with a buffer that threads share."""
        weights = self.storage.schedule.preloaded if self.places.staged else ()
        return self._used(self.places.array(weight, False) for weight in weights)

    @cached_property
    def offchip(self) -> tuple[Array, ...]:
        """The off-chip arrays: inputs, weights as they are, and what is stored. Packed constants come after them."""
        schedule = self.storage.schedule
        weights = (weight for layer in schedule.network.layers for weight in layer.weights)
        stored = (f.tensor for f in schedule.flows.values() if f.role == "made" and not f.stores.is_empty())
        tensors = dict.fromkeys((*schedule.network.inputs, *weights, *stored))
        return self._used(self.places.array(tensor, True) for tensor in tensors)

    @cached_property
    def written(self) -> frozenset[str]:
        """The names of the off-chip arrays that the group writes."""
        return frozenset(layer.output.name for layer in self.storage.schedule.network.layers)

    def _used(self, arrays: Iterable[Array]) -> tuple[Array, ...]:
        """Each once, without what row kernels make unnecessary: raw weights, sums that they finish in registers."""
        return tuple(
            array
            for array in dict.fromkeys(arrays)
            if not self.places.selection.target.has_rows or array.name in self._names
        )

    @cached_property
    def _names(self) -> frozenset[str]:
        """The names of the arrays that steps touch."""
        return frozenset(self._touched())

    def _touched(self) -> Iterator[str]:
        for step in (*self.steps, *self.preload):
            if not step.executions.is_empty():
                for touch in step.touches:
                    yield self.places.array(touch.tensor, self.places.is_offchip(touch)).name
        for row in self.rows:
            if not row.executions.is_empty():
                yield from (rows.array.name for rows in row.every)


def lowered_group(index: int, places: Places, kernels: RowKernels, blocks_sums: bool) -> LoweredGroup:
    """A group of a program; `kernels` gets the row kernels that it needs. Long sums are in blocks or not."""
    schedule = places.storage.schedule
    parts, replaced = group_rows(places)
    kept = [step for step in steps(schedule) if step.name not in replaced and places.keeps(step)]
    summed = Blocked(tuple(kept), tuple(parts), time_names(schedule), {})
    if blocks_sums and not schedule.times:
        summed = blocked(schedule, kept, parts, summed.names)
    names: dict[str, str] = {}
    packed: list[str] = []
    workspace = summed.workspace_bytes
    for part in summed.rows:
        called, constants = kernels.add(part)
        names |= called
        packed += constants
        workspace = max(workspace, kernels.workspace_bytes(called.values()))
    return LoweredGroup(
        index,
        places,
        with_wraps(places, summed.steps, summed.names),
        tuple(step for part in summed.rows for step in part),
        names,
        dict(summed.sums),
        preloading_of(places),
        parallel_coordinate(places),
        tuple(dict.fromkeys(packed)),
        workspace,
    )


def preloading_of(places: Places) -> Timed:
    """The steps that load the weights which stay on chip."""
    preload = preload_steps(places.storage.schedule) if places.staged else ()
    rank = max((len(step.dims) for step in preload), default=0)
    padded = tuple(pad_time(step, k, rank) for k, step in enumerate(preload))
    return Timed(padded, ("stage", *(f"a{d}" for d in range(rank))), {step.name: {} for step in padded})


def pad_time(step: Step, stage: int, rank: int) -> Step:
    """A step of the preload with time `[stage, indices, zeros]`."""
    time = step.time.add_dims(isl.dim_type.out, rank - len(step.dims))
    for d in range(len(step.dims), rank):
        time = time.fix_val(isl.dim_type.out, d, isl.Val(0))
    time = time.insert_dims(isl.dim_type.out, 0, 1).fix_val(isl.dim_type.out, 0, isl.Val(stage))
    return replace(step, time=time)


def parallel_coordinate(places: Places) -> int | None:
    """The outermost tile coordinate whose tiles are independent: nothing is retained along it or outside of it.

    None where there is none, or where a tensor is stored by one tile and loaded by another, or tiles were reordered, or
    threads share a loop inside of tiles.
    Inputs that are read where they are share nothing.
    """
    schedule = places.storage.schedule
    flows = [flow for flow in schedule.flows.values() if flow.role == "made" or not places.stays(flow.tensor)]
    if any(flow.role == "made" and not flow.loads.is_empty() for flow in flows):
        return None
    if any(mark.kind == "parallel" for mark in schedule.marks.values()):
        return None
    space = schedule.tiling.space
    if not schedule.is_in_order:
        return None
    executed = isl.Set.empty(space)
    for flow in flows:
        executed = executed.union(flow.arrivals.range())
    for d in range(len(schedule.tiling.dims)):
        if any(RETAINED_IN[flow.places[d]] is not None for flow in flows):
            return None
        if executed.dim_min_val(d) != executed.dim_max_val(d):
            return d
    return None
