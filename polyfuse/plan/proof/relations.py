"""The steps of a placed group as relations of isl: which elements are written and read in each step, where, and when.

    PlacedGroup ──Relations()──> Accesses of every tensor: by transfers and by operations

An access is `[s, a]`: a step, as its image, block and tiles, and an element. Axes along which nothing differs are left
out: along them all of a tensor is written whenever something is, each element into a cell of its own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import islpy as isl
import numpy as np

from polyfuse.network.layer import Layer
from polyfuse.network.tensor import Tensor
from polyfuse.plan.graph.access import Integers
from polyfuse.plan.graph.operations import Operation, Part, image_shape
from polyfuse.plan.proof.placed import BufferLayout, PlacedGroup, PlacedWeights
from polyfuse.schedule.valueflow import Accesses
from polyfuse.sets.coalescing import coalesced
from polyfuse.sets.grids import pieces

IN, OUT, SET = isl.dim_type.in_, isl.dim_type.out, isl.dim_type.set
AXES = (0, 1, 2, 3)
"""Images, channels, rows, columns: the axes of a tensor in memory."""
MOST_PIECES = 120
"""The most pieces of a table: isl's work grows with more than their square."""


@dataclass(frozen=True, eq=False)
class Boxes:
    """A box of a tensor in each step: `ends` is (steps, 8), a start and an end along each axis."""

    shape: Sequence[int]
    ends: Integers

    @cached_property
    def some(self) -> Integers:
        """1 where the box is not empty."""
        return np.asarray((self.ends[:, ::2] < self.ends[:, 1::2]).all(axis=1), np.int64)

    @cached_property
    def cut(self) -> tuple[int, ...]:
        """The axes along which some box is only a part of the tensor."""
        return tuple(
            axis
            for axis in AXES
            if ((self.ends[:, 2 * axis : 2 * axis + 2] != [0, self.shape[axis]]).any(axis=1) & (self.some > 0)).any()
        )


@dataclass(frozen=True, eq=False)
class Steps:
    """Steps as the first dimensions of sets, and moments: so many `stages` in each step."""

    counts: tuple[int, ...]
    stages: int

    @property
    def rank(self) -> int:
        """How many dimensions a step has."""
        return len(self.counts)

    def space(self, axes: int) -> isl.Space:
        """The space of `[s, a]` for so many axes."""
        return isl.Space.set_alloc(isl.DEFAULT_CONTEXT, 0, self.rank + axes)

    def number(self, at: Sequence[int]) -> int:
        """The number of a step."""
        return int(np.ravel_multi_index(tuple(at[: self.rank]), self.counts))

    def moment(self, axes: int, stage: int) -> isl.Map:
        """`{ [s, a] -> [s, stage] }`."""
        space = self.space(axes)
        local = isl.LocalSpace.from_space(space)
        step = [isl.Aff.var_on_domain(local, SET, d) for d in range(self.rank)]
        return joined(space, [*step, isl.Aff.zero_on_domain(local).set_constant_val(isl.Val(stage))])

    @cached_property
    def later(self) -> isl.Map:
        """`{ [s, stage] -> [s', stage] }`: the same stage of the next step, and of the one behind the last one."""
        space = isl.Space.set_alloc(isl.DEFAULT_CONTEXT, 0, self.rank + 1)
        found = isl.Map.empty(space.map_from_domain_and_range(space))
        for axis in range(self.rank):
            step = isl.Map.universe(found.get_space())
            for d in (*range(axis), self.rank):
                step = step.equate(IN, d, OUT, d)
            here = isl.Aff.var_on_domain(isl.LocalSpace.from_space(space), SET, axis).add_constant_val(isl.Val(1))
            step = step & isl.Map.from_aff(here).insert_dims(OUT, 0, axis).insert_dims(OUT, axis + 1, self.rank - axis)
            for d in range(axis + 1, self.rank):
                step = step.fix_val(IN, d, isl.Val(self.counts[d] - 1)).fix_val(OUT, d, isl.Val(0))
            for d in range(1, axis + 1):
                most = self.counts[d] - 1 - (d == axis)
                step = step.lower_bound_val(IN, d, isl.Val(0)).upper_bound_val(IN, d, isl.Val(most))
            found = found.union(step)
        return found

    def instances(self, boxes: Boxes, axes: Sequence[int]) -> isl.Set:
        """`{ [s, a] }`: the elements of a box in each step, along some axes."""
        columns = [boxes.ends[:, 2 * axis + end] for axis in axes for end in (0, 1)]
        table = np.stack([boxes.some, *columns], axis=1) * boxes.some[:, None]
        space = self.space(len(axes))
        found = isl.Set.empty(space)
        for piece in pieces(table, self.counts, MOST_PIECES):
            held = piece.steps(space) & positive(piece.value(0, space))
            for k in range(len(axes)):
                here = isl.Aff.var_on_domain(isl.LocalSpace.from_space(space), SET, self.rank + k)
                start, end = piece.value(1 + 2 * k, space), piece.value(2 + 2 * k, space)
                held = held & positive((here - start).add_constant_val(isl.Val(1))) & positive(end - here)
            found = found.union(held)
        return coalesced(found)

    def values(self, table: Integers, axes: int) -> list[tuple[isl.Set, list[isl.Aff]]]:
        """The columns of a table as expressions in `[s, a]`, on sets of steps."""
        space = self.space(axes)
        return [
            (piece.steps(space), [piece.value(k, space) for k in range(table.shape[1])])
            for piece in pieces(table, self.counts, MOST_PIECES)
        ]


@dataclass(frozen=True, eq=False)
class Relations:
    """The accesses of a placed group."""

    placed: PlacedGroup

    @cached_property
    def steps(self) -> Steps:
        """Its steps: loads first, then its operations in order, then stores."""
        counts = tuple(count for count in self.placed.tables.counts if count > 1) or (1,)
        return Steps(counts, len(self.placed.operations) + 2)

    def steps_of(self, tensor: str) -> Steps:
        """The steps in which a tensor is accessed; those of weights are their moments, for their operation alone."""
        weights = self.placed.weights.get(tensor)
        return self.steps if weights is None else Steps(tuple(n for n in weights.counts if n != 1) or (1,), 3)

    def shape(self, tensor: str) -> Sequence[int]:
        """The shape of a tensor of the group; weights are one of so many channels."""
        weights = self.placed.weights.get(tensor)
        return self.placed.graph.tensors[tensor].shape if weights is None else (1, weights.channels, 1, 1)

    def place(self, tensor: str) -> BufferLayout:
        """Its layout."""
        weights = self.placed.weights.get(tensor)
        return self.placed.places[tensor] if weights is None else weights.place

    def boxes(self, tensor: str, box: Integers, channels: Integers | None = None) -> Boxes:
        """Rows and columns of a tensor in each step; of all channels that the step works on, or of others."""
        table, image = self.placed.tables.of[tensor], self.placed.tables.image
        channels = table.channels if channels is None else channels
        ends = np.concatenate([image[:, None], image[:, None] + 1, channels, box], axis=1)
        return Boxes(self.shape(tensor), ends)

    def of_channels(self, weights: PlacedWeights, channels: Integers) -> Boxes:
        """Weights of some channels at each moment."""
        ends = np.tile(np.array([0, 1]), (len(channels), 4))
        ends[:, 2:4] = channels
        return Boxes((1, weights.channels, 1, 1), ends)

    def made(self, tensor: str) -> Boxes:
        """The box that each step makes or loads of a tensor."""
        if (weights := self.placed.weights.get(tensor)) is not None:
            return self.of_channels(weights, weights.loaded)
        return self.boxes(tensor, self.placed.tables.of[tensor].new)

    def axes(self, tensor: str) -> tuple[int, ...]:
        """The axes of a tensor along which steps, or cells, differ."""
        place, shape = self.place(tensor), self.shape(tensor)
        cut = set(self.made(tensor).cut)
        if not place.whole:
            turned = place.shifts % np.array([place.rows, place.columns, 1 << 40])
            room = (place.planes, place.rows, place.columns)
            cut |= {axis for axis, k in ((2, 0), (3, 1), (1, 2)) if turned[:, k].any() or room[axis - 1] < shape[axis]}
        return tuple(sorted(cut))

    def cells(self, tensor: str) -> isl.Map:
        """`{ [s, a] -> [cell] }`: the plane, row and column where an element lies, along the axes that matter."""
        place, axes, steps = self.place(tensor), self.axes(tensor), self.steps_of(tensor)
        space = steps.space(len(axes))
        at = [isl.Aff.var_on_domain(isl.LocalSpace.from_space(space), SET, steps.rank + k) for k in range(len(axes))]
        if place.whole:
            return joined(space, at)
        kept = [(k, axis) for k, axis in enumerate(axes) if axis]
        columns = [(2, 0, 1)[axis - 1] for _, axis in kept]
        signs = np.array([-1 if column == 2 else 1 for column in columns], np.int64)
        found = isl.Map.empty(joined(space, at[: len(kept)]).get_space())
        for where, values in steps.values(place.shifts[:, columns] * signs, len(axes)):
            shifted = zip([at[k] + value for (k, _), value in zip(kept, values, strict=True)], kept, strict=True)
            sizes = (0, 0, place.rows, place.columns)
            turned = [each.mod_val(isl.Val(sizes[axis])) if sizes[axis] else each for each, (_, axis) in shifted]
            found = found.union(joined(space, turned).intersect_domain(where))
        return found

    def accesses(self, name: str, tensor: str, instances: isl.Set, begins: isl.Map, ends: isl.Map) -> Accesses:
        """Accesses to a tensor in its layout."""
        axes, shape = self.axes(tensor), self.shape(tensor)
        number = isl.Aff.zero_on_domain(isl.LocalSpace.from_space(instances.get_space()))
        for k, axis in enumerate(axes):
            stride = prod(shape[other] for other in axes if other > axis)
            number = number.set_coefficient_val(IN, self.steps_of(tensor).rank + k, isl.Val(stride))
        return Accesses(name, self.cells(tensor).intersect_domain(instances), isl.Map.from_aff(number), begins, ends)

    def writes(self, tensor: str) -> Accesses | None:
        """The loads of a tensor, or its points as they are made; None where it is there, whole, from the start."""
        placed, axes = self.placed, self.axes(tensor)
        if tensor in placed.loaded or tensor in placed.weights:
            return self.transfer(f"the load of {tensor}", tensor, self.made(tensor), -1)
        maker = placed.group.makers.get(tensor)
        if maker is None:
            return None
        moment = self.moment(maker, axes)
        return self.accesses(f"'{maker.name}'", tensor, self.steps.instances(self.made(tensor), axes), moment, moment)

    def reads(self, tensor: str) -> Iterator[Accesses]:
        """The reads of a tensor by operations, and its stores."""
        placed, axes = self.placed, self.axes(tensor)
        if (weights := placed.weights.get(tensor)) is not None:
            moment = self.steps_of(tensor).moment(len(axes), 1)
            instances = self.steps_of(tensor).instances(self.of_channels(weights, weights.used), axes)
            yield self.accesses(f"'{weights.operation}'", tensor, instances, moment, moment)
            return
        for operation in placed.operations:
            if tensor in operation.reads:
                moment = self.moment(operation, axes)
                instances = self.instances_read(operation, tensor, axes)
                yield self.accesses(f"'{operation.name}'", tensor, instances, moment, moment)
        if tensor in placed.stored:
            yield self.transfer(f"the store of {tensor}", tensor, self.stored(tensor), 1)

    def stored(self, tensor: str) -> Boxes:
        """The box that each step stores of a tensor."""
        return self.boxes(tensor, self.placed.tables.of[tensor].fresh)

    def moment(self, operation: Operation, axes: Sequence[int]) -> isl.Map:
        """When an operation runs in its step."""
        return self.steps.moment(len(axes), 1 + self.placed.operations.index(operation))

    def transfer(self, name: str, tensor: str, boxes: Boxes, later: int) -> Accesses:
        """Transfers before (-1) or after (1) a step computes; with double buffers, while another one computes."""
        axes, steps = self.axes(tensor), self.steps_of(tensor)
        instances = steps.instances(boxes, axes)
        if not self.placed.double_buffer:
            moment = steps.moment(len(axes), 0 if later < 0 else steps.stages - 1)
            return self.accesses(name, tensor, instances, moment, moment)
        shift = steps.later if later > 0 else steps.later.reverse()
        begins = steps.moment(len(axes), 0).apply_range(shift)
        ends = steps.moment(len(axes), steps.stages - 1).apply_range(shift)
        return self.accesses(name, tensor, instances, begins, ends)

    def instances_read(self, operation: Operation, tensor: str, axes: Sequence[int]) -> isl.Set:
        """`{ [s, a] }`: the elements of a tensor that an operation reads in each step."""
        found = isl.Set.empty(self.steps.space(len(axes)))
        for operand, parts in zip(operation.layer.inputs, operation.operands, strict=True):
            for part in parts:
                if part.tensor != tensor:
                    continue
                if operation.name in self.placed.tables.taken_in:
                    found = found.union(self.steps.instances(self.taken(operation, part), axes))
                else:
                    reads = self.part_reads(operation.layer, operand, part)
                    found = found.union(self.elements(operation.output, reads, axes))
        return coalesced(found)

    def elements(self, output: str, reads: isl.Map, axes: Sequence[int]) -> isl.Set:
        """`{ [s, a] }`: the elements read by the points that a step makes, by `{ [p] -> [a] }` over all four axes."""
        made, rank = self.made(output), self.steps.rank
        points = self.steps.instances(made, made.cut)
        for axis in reversed(AXES):
            if axis not in made.cut:
                reads = reads.project_out(IN, axis, 1)
            if axis not in axes:
                reads = reads.project_out(OUT, axis, 1)
        of_steps = reads.insert_dims(IN, 0, rank).intersect_domain(points).project_out(IN, rank, len(made.cut))
        return of_steps.wrap().flatten()

    def part_reads(self, layer: Layer, operand: Tensor, part: Part) -> isl.Map:
        """`{ [n, c, h, w] -> [n, c, h, w] }`: what a point of a layer reads of a part of an operand.

        A part that is a view of a tensor in another shape is taken to be read as a whole.
        """
        reads, shape = in_memory(layer, operand), self.shape(part.tensor)
        reads = reads.lower_bound_val(OUT, 1, isl.Val(part.offset))
        reads = reads.upper_bound_val(OUT, 1, isl.Val(part.offset + part.channels - 1))
        if shape[1:] == (part.channels, *image_shape(operand)[2:]):
            space = isl.Space.set_alloc(isl.DEFAULT_CONTEXT, 0, len(AXES))
            at = [isl.Aff.var_on_domain(isl.LocalSpace.from_space(space), SET, axis) for axis in AXES]
            at[1] = at[1].add_constant_val(isl.Val(-part.offset))
            return reads.apply_range(joined(space, at))
        for axis in AXES[1:]:
            reads = reads.project_out(OUT, axis, 1).insert_dims(OUT, axis, 1)
            reads = reads.lower_bound_val(OUT, axis, isl.Val(0)).upper_bound_val(OUT, axis, isl.Val(shape[axis] - 1))
        return reads

    def taken(self, operation: Operation, part: Part) -> Boxes:
        """The box of a part that an operation adds up in each step, in the channels of the part's tensor."""
        channels = np.clip(self.placed.tables.of[operation.output].channels - part.offset, 0, part.channels)
        return self.boxes(part.tensor, self.placed.tables.taken_in[operation.name][part.tensor], channels)


def in_memory(layer: Layer, operand: Tensor) -> isl.Map:
    """`{ [n, c, h, w] -> [n, c, h, w] }`: what a point of a layer reads of an operand."""
    reads = layer.reads(operand).reset_tuple_id(IN).reset_tuple_id(OUT)
    return reads.apply_domain(memory_of(layer.output)).apply_range(memory_of(operand))


def memory_of(tensor: Tensor) -> isl.Map:
    """`{ [a] -> [n, c, h, w] }`: the elements of a tensor as memory has them, as `image_shape` does."""
    rank, sizes = len(tensor.shape), tensor.concrete_shape
    space = isl.Space.set_alloc(isl.DEFAULT_CONTEXT, 0, rank)
    at = [isl.Aff.var_on_domain(isl.LocalSpace.from_space(space), SET, d) for d in range(rank)]
    zero = isl.Aff.zero_on_domain(isl.LocalSpace.from_space(space))
    if rank == len(AXES):
        return joined(space, at)
    first = 1 if rank > 1 else 0
    channel = zero
    for d in range(first, rank):
        channel = channel + at[d].scale_val(isl.Val(prod(sizes[d + 1 :])))
    return joined(space, [at[0] if first else zero, channel, zero, zero])


def joined(space: isl.Space, values: Sequence[isl.Aff]) -> isl.Map:
    """`{ [x] -> [values] }`."""
    found = isl.Map.from_domain(isl.Set.universe(space))
    for value in values:
        found = found.flat_range_product(isl.Map.from_aff(value))
    return found


def positive(value: isl.Aff) -> isl.Set:
    """Where an expression is 1 or more."""
    return isl.Set.from_basic_set(value.neg().neg_basic_set())
