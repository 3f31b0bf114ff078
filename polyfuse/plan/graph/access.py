"""Reads of layers along each axis of images, and their work, as tables of whole numbers.

    `Layer` ──layer_tables()──> `LayerTables`

Tables are derived once from the access relations: exact for every layer whose reads are products of intervals, else
their box hull.

A read is a table over the indices of the output along one axis: the first and the last index of the operand. Axes are
those of `image_shape`: channels, rows, columns.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import islpy as isl
import numpy as np
from numpy.typing import NDArray

from polyfuse.network.layer import Layer, Statement
from polyfuse.network.tensor import Tensor
from polyfuse.plan.graph.operations import class_of, image_shape
from polyfuse.sets.components import products
from polyfuse.sets.counting import count
from polyfuse.sets.points import contains, points, values_at

Integers = NDArray[np.int64]
MARGIN = 512
"""So many indices before and after an image are tabulated without its borders."""
NONE = 1 << 40
"""Beyond every index: where nothing is read, the first index is NONE and the last one -NONE."""
IN, OUT = isl.dim_type.in_, isl.dim_type.out


@dataclass(frozen=True, eq=False)
class AxisRead:
    """The indices along one axis of an operand that indices of an output read.

    first   for index p: the first index read by p or a later one
    end     for index p: one more than the last index read by p or an earlier one
    ahead   the same as `end` without the borders of the image, for p from -MARGIN to size + MARGIN - 1

    For sliding windows these are the window of p; where an operand is read in another order they hold more.
    """

    first: Integers
    end: Integers
    ahead: Integers

    def begins(self, start: Integers) -> Integers:
        """The first index that outputs from `start` on read."""
        return self.first.take(start, mode="clip")

    def ends(self, end: Integers) -> Integers:
        """One more than the last index that outputs before `end` read."""
        return self.end.take(end - 1, mode="clip")

    def ends_anywhere(self, end: Integers) -> Integers:
        """The same without the borders of the image."""
        return self.ahead.take(end + (MARGIN - 1), mode="clip")


@dataclass(frozen=True, eq=False)
class WorkTable:
    """A sum of products of three tables, one for each axis, each summed up from the start of its axis."""

    terms: tuple[tuple[Integers, Integers, Integers], ...]

    def of(self, channels: Sequence[Integers], rows: Sequence[Integers], columns: Sequence[Integers]) -> Integers:
        """The work of boxes, given the start and the end of each along each axis."""
        boxes = (channels, rows, columns)
        parts = [
            prod(table[end] - table[start] for table, (start, end) in zip(term, boxes, strict=True))
            for term in self.terms
        ]
        return np.asarray(sum(parts), np.int64)


@dataclass(frozen=True, eq=False)
class LayerTables:
    """The reads of each input of a layer along channels, rows and columns, and its work; equal layers have equal keys.

    Work is multiply-accumulates; for a pool elements taken in, and for an elementwise layer elements made.
    """

    key: tuple[object, ...]
    reads: tuple[tuple[AxisRead, AxisRead, AxisRead], ...]
    work: WorkTable


def layer_tables(layers: Sequence[Layer]) -> dict[str, LayerTables]:
    """The tables of each layer by its name; equal layers share theirs."""
    known: dict[tuple[object, ...], LayerTables] = {}
    found = {}
    for layer in layers:
        key = layer_key(layer)
        if key not in known:
            known[key] = LayerTables(key, tuple(reads_of(layer, tensor) for tensor in layer.inputs), work_of(layer))
        found[layer.name] = known[key]
    return found


def layer_key(layer: Layer) -> tuple[object, ...]:
    """All that the tables of a layer depend on, without names."""
    operands: Mapping[Tensor, int] = {tensor: k for k, tensor in enumerate((*layer.inputs, *layer.weights))}
    shapes = tuple(tensor.shape for tensor in (layer.output, *layer.inputs))
    statements = tuple(text for statement in layer.statements for text in statement_key(statement, operands))
    return (class_of(layer), shapes, statements)


def statement_key(statement: Statement, operands: Mapping[Tensor, int]) -> Iterator[object]:
    """A statement without names."""
    yield statement.macs
    yield str(statement.domain.reset_tuple_id())
    for access in statement.operands.values():
        yield operands[access.tensor]
        for relation in (access.relation, access.extended):
            yield str(relation.reset_tuple_id(IN).reset_tuple_id(OUT))


def image_axes(rank: int) -> tuple[int | None, int | None, int | None]:
    """The axes of channels, rows and columns; None for those that all elements of an image are taken together along."""
    return {4: (1, 2, 3), 2: (1, None, None)}.get(rank, (None, None, None))


def reads_of(layer: Layer, tensor: Tensor) -> tuple[AxisRead, AxisRead, AxisRead]:
    """The reads of an input along channels, rows and columns."""
    reads, anywhere = layer.reads(tensor), layer.extended_reads(tensor)
    made, read = image_axes(layer.rank), image_axes(len(tensor.shape))
    sizes = zip(image_shape(layer.output)[1:], image_shape(tensor)[1:], strict=True)
    channels, rows, columns = (
        axis_read(reads, anywhere, axes, pair) for axes, pair in zip(zip(made, read, strict=True), sizes, strict=True)
    )
    return channels, rows, columns


def axis_read(
    reads: isl.Map, anywhere: isl.Map, axes: tuple[int | None, int | None], sizes: tuple[int, int]
) -> AxisRead:
    """One axis of a read; an operand without it is read as a whole, and an output without it reads alike everywhere."""
    if axes[1] is None:
        return whole_read(sizes)
    first, last = bounds(along(reads, *axes), 0, sizes[0] if axes[0] is not None else 1)
    if axes[0] is None:
        first, last = np.full(sizes[0], first[0]), np.full(sizes[0], last[0])
        ahead = np.where(np.arange(-MARGIN, sizes[0] + MARGIN) < 0, -NONE, last[0] + 1)
    else:
        extended = along(anywhere, *axes)
        box = extended.lower_bound_val(IN, 0, isl.Val(-MARGIN)).upper_bound_val(IN, 0, isl.Val(sizes[0] + MARGIN - 1))
        if box.range().is_bounded():
            ahead = bounds(box, -MARGIN, sizes[0] + MARGIN)[1] + 1
        else:
            ahead = np.concatenate([np.full(MARGIN, -NONE), last + 1, np.full(MARGIN, last.max() + 1)])
    later = np.minimum.accumulate(first[::-1])[::-1]
    return AxisRead(later, np.maximum.accumulate(last) + 1, np.maximum.accumulate(ahead))


def whole_read(sizes: tuple[int, int]) -> AxisRead:
    """Every index of an output reads all of an axis."""
    ahead = np.where(np.arange(-MARGIN, sizes[0] + MARGIN) < 0, -NONE, sizes[1])
    return AxisRead(np.zeros(sizes[0], np.int64), np.full(sizes[0], sizes[1]), ahead)


def along(relation: isl.Map, made: int | None, read: int | None) -> isl.Map:
    """`{ L[p] -> A[a] }` to `{ [p_made] -> [a_read] }`, with 0 for an axis that there is not."""
    for kind, axis in ((IN, made), (OUT, read)):
        if axis is None:
            relation = relation.project_out(kind, 0, relation.dim(kind)).insert_dims(kind, 0, 1)
            relation = relation.fix_val(kind, 0, isl.Val(0))
        else:
            relation = relation.project_out(kind, axis + 1, relation.dim(kind) - axis - 1).project_out(kind, 0, axis)
    return relation


def bounds(relation: isl.Map, start: int, end: int) -> tuple[Integers, Integers]:
    """The smallest and the largest image of each index from `start` to `end`, NONE and -NONE where there is none."""
    at = np.arange(start, end).reshape(-1, 1)
    inside = contains(relation.domain(), at)
    first, last = np.full(len(at), NONE), np.full(len(at), -NONE)
    if not inside.any():
        return first, last
    first[inside] = values_at(relation.lexmin_pw_multi_aff().get_at(0), at[inside])
    last[inside] = values_at(relation.lexmax_pw_multi_aff().get_at(0), at[inside])
    return first, last


def work_of(layer: Layer) -> WorkTable:
    """The work of a layer along each axis of its output."""
    axes, sizes = image_axes(layer.rank), image_shape(layer.output)
    if class_of(layer) == "elementwise":
        ones = [summed_up(np.ones(size, np.int64)) for size in sizes[1:]]
        return WorkTable(((ones[0], ones[1], ones[2]),))
    counted = layer.macs or [s for s in layer.statements if len(s.dims) > layer.rank]
    terms: list[tuple[Integers, Integers, Integers]] = []
    for statement in counted:
        domain = statement.domain.fix_val(isl.dim_type.set, 0, isl.Val(0)) if sizes[0] > 1 else statement.domain
        for channels, rows, columns in tables_of(domain, axes, sizes):
            weighted = channels * (statement.macs or 1)
            terms.append((summed_up(weighted), summed_up(rows), summed_up(columns)))
    if not terms:  # all windows see padding alone
        channels, rows, columns = (np.zeros(size + 1, np.int64) for size in sizes[1:])
        terms.append((channels, rows, columns))
    return WorkTable(tuple(terms))


def summed_up(table: Integers) -> Integers:
    """Sums of the entries before each index, and before the end."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(table)])


def tables_of(
    domain: isl.Set, axes: tuple[int | None, int | None, int | None], sizes: tuple[int, int, int, int]
) -> Iterator[tuple[Integers, Integers, Integers]]:
    """Tables whose products add up to the points of a domain at each channel, row and column.

    An axis that is tied to another one is cut into its indices.
    """
    for product in products(domain):
        tied = [[p for p in positions if p in axes] for positions in product.positions]
        both = next((group for group in tied if len(group) > 1), None)
        if both is not None:
            for index in range(sizes[1 + axes.index(both[0])]):
                yield from tables_of(domain.fix_val(isl.dim_type.set, both[0], isl.Val(index)), axes, sizes)
            return
    for product in products(domain):
        found: list[Integers | None] = [None, None, None]
        factor = 1
        for positions, part in zip(product.positions, product.factors, strict=True):
            held = [p for p in positions if p in axes]
            if held:
                k = axes.index(held[0])
                found[k] = np.bincount(points(part.to_set())[:, positions.index(held[0])], minlength=sizes[1 + k])
            else:
                factor *= count(part)
        channels, rows, columns = (
            first_alone(size) if table is None else table for table, size in zip(found, sizes[1:], strict=True)
        )
        yield channels * factor, rows, columns


def first_alone(size: int) -> Integers:
    """A table of an axis that is taken together: all at its first index."""
    return np.concatenate([np.ones(1, np.int64), np.zeros(size - 1, np.int64)])
