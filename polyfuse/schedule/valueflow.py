"""Value flow through cells of memory: whether every read finds the element that it wants.

Accesses of one reader and of all writers of a memory ──unserved()──> the accesses that find something else

Every access takes time from the moment where it begins to the one where it ends: a transfer may run while others
compute. A write serves a read of the same element in the same cell if it ends before the read begins, and no other
element is written to the cell in between. A write to the cell of a read while that goes on spoils it, whatever it
writes.

Nothing here takes the lexicographic maximum of a relation: that of isl 0.27, and with it its dataflow analysis, is
sometimes wrong for relations with strides (see tests/schedule/test_regressions.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import islpy as isl

from polyfuse.sets.coalescing import coalesced
from polyfuse.sets.spaces import tidied, union

IN, OUT, SET = isl.dim_type.in_, isl.dim_type.out, isl.dim_type.set


@dataclass(frozen=True, eq=False)
class Accesses:
    """Accesses `[x]` of one kind to one memory.

    cells     `{ [x] -> [cell] }`, whose domain are all accesses
    elements  `{ [x] -> [number] }`: the element that is wanted, or written
    begins    `{ [x] -> [moment] }`; moments are ordered lexicographically
    ends      `{ [x] -> [moment] }`: the same object for what takes no time
    """

    name: str
    cells: isl.Map
    elements: isl.Map
    begins: isl.Map
    ends: isl.Map

    @cached_property
    def instances(self) -> isl.Set:
        """`{ [x] }`: all accesses."""
        return self.cells.domain()

    def restricted(self, instances: isl.Set) -> "Accesses":
        """Some of the accesses."""
        return replace(self, cells=self.cells.intersect_domain(instances))

    def meeting(self, other: "Accesses") -> isl.Map:
        """`{ [x] -> [y] }`: accesses of another kind to the same cell."""
        return self.cells.apply_range(other.cells.reverse())

    def before(self, other: "Accesses") -> isl.Map:
        """`{ [x] -> [y] }`: accesses of another kind to the same cell that end before this one begins."""
        earlier = self.begins.apply_range(greater(self.begins)).apply_range(other.ends.reverse())
        return self.meeting(other) & earlier

    def during(self, other: "Accesses") -> isl.Map:
        """`{ [x] -> [y] }`: accesses of another kind to the same cell that go on while this one does.

        Two accesses that take no time never overlap.
        """
        if self.ends is self.begins and other.ends is other.begins:
            domain, range_ = (each.cells.get_space().domain() for each in (self, other))
            return isl.Map.empty(domain.map_from_domain_and_range(range_))
        begun = self.ends.apply_range(at_most(self.ends).reverse()).apply_range(other.begins.reverse())
        going_on = self.begins.apply_range(at_most(self.begins)).apply_range(other.ends.reverse())
        return self.meeting(other) & begun & going_on


def unserved(reader: Accesses, writers: Sequence[Accesses], agreeing: Sequence[int] = ()) -> isl.Set:
    """`{ [x] }`: the reads that do not find the element that they want.

    agreeing: dimensions in which a write must be equal to the reads that it serves.

    >>> def accesses(name, cells, time):
    ...     cells = isl.Map(cells)
    ...     elements = isl.Map("{ [t, a] -> [a] }").intersect_domain(cells.domain())
    ...     return Accesses(name, cells, elements, isl.Map(time), isl.Map(time))
    >>> makes = accesses("make", "{ [t, a] -> [a mod 3] : 0 <= t < 9 and t = a }", "{ [t, a] -> [2t] }")
    >>> reads = accesses("read", "{ [t, a] -> [a mod 3] : t - 3 <= a <= t and 0 <= t < 9 }", "{ [t, a] -> [2t + 1] }")
    >>> unserved(reads, [makes]).intersect(isl.Set("{ [5, a] }")) == isl.Set("{ [5, 2] }")
    True
    """
    lost = reader.instances
    for writer in writers:
        lost = lost.subtract(served_at_once(reader, writer, writers))
    for piece in map(isl.Set.from_basic_set, coalesced(lost).get_basic_sets()):
        lost = lost.subtract(served_later(reader.restricted(piece), writers, agreeing))
    for writer in writers:
        lost = lost.union(reader.during(writer).domain())
    return lost


def served_at_once(reader: Accesses, writer: Accesses, writers: Sequence[Accesses]) -> isl.Set:
    """`{ [x] }`: reads that are writes, too, of the same element to the same cell; no write ends between the two."""
    if not reader.cells.get_space().is_equal(writer.cells.get_space()):
        return isl.Set.empty(reader.instances.get_space())
    same = (reader.cells & writer.cells).domain() & (reader.elements & writer.elements).domain()
    after = writer.ends.intersect_domain(same).apply_range(greater(writer.ends).reverse())
    between = after & reader.begins.apply_range(greater(reader.begins))
    for each in writers:
        moments = each.ends.intersect_domain(each.instances).range()
        same = same.subtract(between.intersect_range(moments).domain())
    return same & (after & reader.begins).domain()


def served_later(reader: Accesses, writers: Sequence[Accesses], agreeing: Sequence[int]) -> isl.Set:
    """`{ [x] }`: reads before which the element is written, and no other one to the cell since."""
    earlier = [reader.before(writer) for writer in writers]
    wrong = [
        (pairs & other_elements(reader, writer)).apply_range(writer.ends)
        for pairs, writer in zip(earlier, writers, strict=True)
    ]
    overwritten = coalesced(coalesced(union(wrong)).apply_range(at_most(reader.begins).reverse())) if wrong else None
    served = isl.Set.empty(reader.instances.get_space())
    for pairs, writer in zip(earlier, writers, strict=True):
        right = pairs & same_elements(reader, writer)
        for d in agreeing:
            right = right.equate(IN, d, OUT, d)
        made = coalesced(right.apply_range(writer.ends))
        served = served.union((without(made, overwritten) if overwritten is not None else made).domain())
    return served


def without(relation: isl.Map, other: isl.Map) -> isl.Map:
    """A relation less another one, piece by piece, which keeps what is left in few pieces."""
    for piece in other.get_basic_maps():
        relation = coalesced(relation.subtract(isl.Map.from_basic_map(piece)))
    return relation


def last_written(read: isl.Point, reader: Accesses, writers: Sequence[Accesses]) -> tuple[Accesses, isl.Point] | None:
    """The write that a read finds, or that goes on meanwhile; None where nothing was written."""
    at = isl.Set.from_point(read)
    for writer in writers:
        going_on = reader.during(writer).intersect_domain(at).range()
        if not going_on.is_empty():
            return writer, going_on.sample_point()
    latest: list[int] | None = None
    found = None
    for writer in writers:
        writes = reader.before(writer).intersect_domain(at).range()
        if writes.is_empty():
            continue
        moments = tidied(writes.apply(writer.ends))
        moment = []
        for d in range(moments.dim(SET)):
            end = moments.dim_max_val(d)
            moments = moments.lower_bound_val(SET, d, end)
            moment.append(int(end.to_python()))
        if latest is None or moment > latest:
            last = writer.ends.intersect_range(moments).domain()
            latest, found = moment, (writer, (writes & last).sample_point())
    return found


def element_written(
    read: isl.Point, reader: Accesses, writers: Sequence[Accesses]
) -> tuple[Accesses, isl.Point, bool] | None:
    """A write of the element that is wanted, to whatever cell, and whether it ends before; None where there is none."""
    at = isl.Set.from_point(read)
    later = None
    for writer in writers:
        writes = same_elements(reader, writer).intersect_domain(at).intersect_range(writer.instances)
        earlier = writes & reader.begins.apply_range(greater(reader.begins)).apply_range(writer.ends.reverse())
        if not earlier.is_empty():
            return writer, earlier.range().sample_point(), True
        if later is None and not writes.is_empty():
            later = writer, writes.range().sample_point(), False
    return later


def clash(writer: Accesses) -> isl.BasicMap | None:
    """`{ [x] -> [y] }`: two elements that are written to one cell at the same time; None where there are none."""
    return collision(writer.cells.range_product(writer.ends).flatten_range())


def collision(relation: isl.Map) -> isl.BasicMap | None:
    """`{ [x] -> [y] }`: two inputs of a relation with one output in common; None where it is injective."""
    if relation.is_injective():
        return None
    pairs = relation.apply_range(relation.reverse())
    return pairs.subtract(isl.Map.identity(pairs.get_space())).sample()


def same_elements(reader: Accesses, writer: Accesses) -> isl.Map:
    """`{ [x] -> [y] }`: writes of the element that is read."""
    return reader.elements.apply_range(writer.elements.reverse())


def other_elements(reader: Accesses, writer: Accesses) -> isl.Map:
    """`{ [x] -> [y] }`: writes of other elements than the one that is read."""
    different = greater(reader.elements).union(greater(reader.elements).reverse())
    return reader.elements.apply_range(different).apply_range(writer.elements.reverse())


def greater(relation: isl.Map) -> isl.Map:
    """`{ [i] -> [j] : i > j }`, lexicographically, for what a relation leads to."""
    return isl.Map.lex_gt(relation.get_space().range())


def at_most(relation: isl.Map) -> isl.Map:
    """`{ [i] -> [j] : i <= j }`, the same."""
    return isl.Map.lex_le(relation.get_space().range())
