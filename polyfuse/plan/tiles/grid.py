"""The steps of a group for several tile sizes at once: which tile each step is, and the boxes of each tensor.

    `OperationGroup` + heights + width + channels + what is kept ──grid()──> `Grid`: arrays of (heights, steps)

Fewer steps than the most are filled up with empty ones at the end.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from polyfuse.plan.graph.access import NONE, Integers
from polyfuse.plan.graph.group import OperationGroup
from polyfuse.plan.graph.operations import Operation
from polyfuse.plan.tiles.axis import AxisIntervals, Booleans, GroupIntervals, group_intervals

ROWS, COLUMNS = 1, 2
Interval = tuple[Integers, Integers]


@dataclass(frozen=True, eq=False)
class Box:
    """Rows and columns, from a start to an end, of each height and step: 0 to 0 where there are none."""

    rows: Interval
    columns: Interval

    @cached_property
    def height(self) -> Integers:
        """How many rows."""
        return np.asarray(self.rows[1] - self.rows[0])

    @cached_property
    def width(self) -> Integers:
        """How many columns."""
        return np.asarray(self.columns[1] - self.columns[0])

    @cached_property
    def area(self) -> Integers:
        """How many rows x columns."""
        return self.height * self.width

    def where(self, some: Booleans) -> "Box":
        """The box in some of the steps, nothing in the others."""
        (top, bottom), (left, right) = self.rows, self.columns
        return Box((top * some, bottom * some), (left * some, right * some))


@dataclass(frozen=True, eq=False)
class Order:
    """Which image, block of channels, tile of rows and tile of columns each step is; arrays of (heights, steps).

    busy   whether it is a step, and not filled up
    sweep  how often all tiles of the inner axis were gone through before; turn: those of both axes
    """

    image: Integers
    block: Integers
    row: Integers
    column: Integers
    sweep: Integers
    turn: Integers
    busy: Booleans

    @staticmethod
    def of(turns: tuple[int, int], rows: Interval, columns: Interval, rows_first: bool) -> "Order":
        """The order of steps of so many images and blocks, from the first and the last tile of rows and of columns."""
        (first, last), (left, right) = rows, columns
        outer, inner = (last - first, right - left) if rows_first else (right - left, last - first)
        steps = turns[0] * turns[1] * outer * inner
        step = np.arange(int(steps.max()))
        outer, inner = outer[:, None], inner[:, None]
        sweep, inside = step // inner, step % inner
        turn, outside = sweep // outer, sweep % outer
        row, column = (outside, inside) if rows_first else (inside, outside)
        busy = step < steps[:, None]
        row, column = np.where(busy, row + first[:, None], 0), np.where(busy, column + left[:, None], 0)
        return Order(turn // turns[1], turn % turns[1], row, column, sweep, turn, busy)


@dataclass(frozen=True, eq=False)
class Cells:
    """One tensor in every step: its boxes, channels and ring. plan/tiles/tables.py says what each of them means.

    held  an input that is loaded in the first block of channels of an image and kept for the others
    """

    order: Order
    channels: Interval
    rows: AxisIntervals
    columns: AxisIntervals
    held: bool

    def _at(self, axis: AxisIntervals, interval: Interval) -> Interval:
        return self._of(axis, interval[0]), self._of(axis, interval[1])

    def _of(self, axis: AxisIntervals, values: Integers) -> Integers:
        index = self.order.row if axis is self.rows else self.order.column
        if len(values) == 1:
            return np.asarray(values[0].take(index))
        return np.asarray(values.ravel().take(index + np.arange(len(values))[:, None] * values.shape[1]))

    def box(self, rows: Interval, columns: Interval) -> Box:
        """The product of an interval of rows and one of columns."""
        (top, bottom), (left, right) = self._at(self.rows, rows), self._at(self.columns, columns)
        some = (top < bottom) & (left < right) & (self.channels[0] < self.channels[1]) & self.order.busy
        return Box((top, bottom), (left, right)).where(some)

    @cached_property
    def need(self) -> Box:
        """Elements that a step reads, or holds as an output."""
        return self.box(self.rows.need, self.columns.need)

    @cached_property
    def new(self) -> Box:
        """Elements that a step makes or loads."""
        every = self.box(self.rows.new, self.columns.new)
        return every.where(self.order.block == 0) if self.held else every

    @cached_property
    def fresh(self) -> Box:
        """New elements that no step made before."""
        if self.rows.fresh is self.rows.new and self.columns.fresh is self.columns.new:
            return self.new
        return self.box(self.rows.fresh, self.columns.fresh)

    @property
    def is_made_again(self) -> Booleans:
        """For each height, whether some step makes what was made before."""
        return np.asarray((self.new.area != self.fresh.area).any(axis=1))

    @cached_property
    def depth(self) -> Integers:
        """How many channels."""
        return self.channels[1] - self.channels[0]

    @property
    def turning(self) -> int:
        """The axis that the ring turns along: 0 for rows, 1 for columns."""
        return 1 if self.columns.local and not self.rows.local else 0

    @cached_property
    def shifts(self) -> Interval:
        """Offsets that lead from rows and from columns to those of the ring."""
        top, bottom = (edge[:, None] for edge in self.rows.span)
        left, right = (edge[:, None] for edge in self.columns.span)
        if self.turning == 1:
            return -self._of(self.rows, self.rows.new[0]), self.order.sweep * (right - left) - left
        if self.columns.local:
            return self.order.turn * (bottom - top) - top, -left + np.zeros_like(self.order.turn)
        across = -self._of(self.columns, self.columns.new[0])
        if self.held:
            return self.order.image * (bottom - top) - top, across
        if self.rows.local:
            return self.order.sweep * (bottom - top) - top, across
        height = self.new.height
        return np.cumsum(height, axis=1) - height - self.new.rows[0], across

    @cached_property
    def alive(self) -> tuple[Integers, Integers, Integers]:
        """Along the turning axis, shifted: the start of what is read or new, the end of all, the start of the new."""
        axis, shift = (self.columns, self.shifts[1]) if self.turning else (self.rows, self.shifts[0])
        if self.held:
            start, end = self.need.rows
            return start + shift, end + shift, np.where(self.order.block == 0, start, end) + shift
        if not axis.local:
            start, end = self.new.rows
            return start + shift, end + shift, start + shift
        begin, end = self._at(axis, axis.new)
        return self._of(axis, axis.alive) + shift, end + shift, begin + shift

    @cached_property
    def across(self) -> Integers:
        """The extent of the ring along the other axis, for each height."""
        if self.turning == 1:
            return largest(self.new.height)
        if self.columns.local:
            return np.broadcast_to(self.columns.span[1] - self.columns.span[0], len(self.order.row))
        return largest(self.new.width)

    def window(self, ahead: bool = False, behind: bool = False) -> Interval:
        """The rows and columns of the ring for each height.

        ahead: the next step's elements are loaded while a step runs. behind: the last step's are stored meanwhile.
        """
        start, end, arriving = self.alive
        end = np.where(self.order.busy, end, -NONE)
        if ahead:
            end = np.maximum(end, np.append(end[:, 1:], end[:, -1:], axis=1))
        if behind:
            start = np.minimum(start, np.append(start[:, :1], arriving[:, :-1], axis=1))
        turned = largest(end - start)
        return (turned, self.across) if self.turning == 0 else (self.across, turned)


def largest(values: Integers) -> Integers:
    """The largest value of each height, and at least 0."""
    return np.asarray(values.max(axis=1, initial=0))


@dataclass(frozen=True, eq=False)
class Taken:
    """The elements of one tensor that an operation adds up in each step: a box, and how many channels."""

    tensor: str
    box: Box
    depth: Integers


@dataclass(frozen=True, eq=False)
class Grid:
    """A group in tiles of several heights: the order of steps, the cells of each tensor, what is added up."""

    group: OperationGroup
    heights: Integers
    order: Order
    of: Mapping[str, Cells]
    taken_in: Mapping[str, tuple[Taken, ...]]


def grid(
    group: OperationGroup,
    heights: Sequence[int],
    width: int,
    channels: int,
    local_rows: Sequence[str],
    local_columns: Sequence[str],
) -> Grid:
    """The steps of tiles of several heights, and one width and number of channels."""
    rows = group_intervals(group, ROWS, tuple(heights), frozenset(local_rows))
    columns = group_intervals(group, COLUMNS, (width,), frozenset(local_columns))
    extent = group.graph.tensors[group.operations[0].output].shape[1]
    blocks = -(-extent // channels) if channels else 1
    turns = (group.graph.images, blocks)
    left, right = span(columns)
    along = (np.broadcast_to(left, len(heights)), np.broadcast_to(right, len(heights)))
    order = Order.of(turns, span(rows), along, rows_first=bool(local_columns))
    once = blocks > 1 and bool((order.busy.sum(axis=1) == turns[0] * blocks).all())
    cells = {}
    for name in group.links:
        depth = channels_of(group, order, name, channels)
        held = once and name in group.inputs and all(bool((edge == edge[0, 0]).all()) for edge in depth)
        cells[name] = Cells(order, depth, rows.of[name], columns.of[name], held)
    sums = {}
    for name, intervals in rows.taken_in.items():
        sums[name] = tuple(
            Taken(
                tensor,
                cells[tensor].box(interval, columns.taken_in[name][tensor]),
                depth_taken(group, order, group.graph.operation(name), tensor, channels),
            )
            for tensor, interval in intervals.items()
        )
    return Grid(group, np.array(heights), order, cells, sums)


def span(found: GroupIntervals) -> Interval:
    """For each size, the first tile in which anything happens, and one more than the last."""
    sums = (interval for each in found.taken_in.values() for interval in each.values())
    every = [*(each.new for each in found.of.values()), *sums]
    busy = np.logical_or.reduce([start < end for start, end in every])
    used = busy.any(axis=1)
    last = busy.shape[1] - np.argmax(busy[:, ::-1], axis=1)
    return np.where(used, np.argmax(busy, axis=1), 0), np.where(used, last, 1)


def channels_of(group: OperationGroup, order: Order, tensor: str, channels: int) -> Interval:
    """The channels of a tensor that each step works on."""
    operation, whole = group.operations[0], group.graph.tensors[tensor].shape[1]
    if not channels:
        return np.zeros((1, 1), np.int64), np.full((1, 1), whole)
    made = group.graph.tensors[operation.output].shape[1]
    first, stop = order.block * channels, np.minimum((order.block + 1) * channels, made)
    if tensor == operation.output:
        return first, stop
    reads = [link.reads[0] for link in group.links[tensor]]
    start = np.min([read.begins(first) for read in reads], axis=0)
    end = np.max([read.ends(stop) for read in reads], axis=0)
    return np.where(start < end, start, 0), np.where(start < end, end, 0)


def depth_taken(group: OperationGroup, order: Order, operation: Operation, tensor: str, channels: int) -> Integers:
    """How many channels of a tensor an operation adds up in each step: it may be several parts of the operand."""
    whole = group.graph.tensors[operation.output].shape[1]
    first, stop = order.block * channels, np.minimum((order.block + 1) * channels, whole)
    if not channels:
        first, stop = np.zeros((1, 1), np.int64), np.full((1, 1), whole)
    reads = [link.reads[0] for link in group.links[tensor] if link.reader is operation]
    depths = [np.maximum(read.ends(stop) - read.begins(first), 0) for read in reads]
    return np.asarray(np.sum(depths, axis=0))
