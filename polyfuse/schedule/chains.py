"""The executions of a tensor's elements as chains, in each of which an execution adds to what that before it has left.

    Runs of a layer, Runs of all ──Chain.early_reads()──> what tiles read before they make it, all else proved

Legality is value flow over the numbers of executions:

    writes  { S[p, r] at [t, time] -> the number of S[p, r] }    and loads write the last number of the element
    reads   { S[p, r] at [t, time] -> the number before it }     and who reads the element wants its last number

Where every element runs once in a tile it is enough that its chain is in order and that its readers come behind it;
other cases are followed by `valueflow`, write by write.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NoReturn

import islpy as isl

from polyfuse.errors import IllegalSchedule
from polyfuse.network.expression import adds_up
from polyfuse.schedule.retention import in_buffer
from polyfuse.schedule.runs import Runs, read_elements
from polyfuse.schedule.schedule import Flow, Schedule
from polyfuse.schedule.steps import inside_tile
from polyfuse.schedule.valueflow import Accesses, last_written, same_elements, unserved
from polyfuse.sets.coalescing import coalesced
from polyfuse.sets.spaces import coordinates, latest, union

IN, OUT = isl.dim_type.in_, isl.dim_type.out


@dataclass(frozen=True, eq=False)
class Reader:
    """Reads of one kind: what reads, how it is called, and `{ [x] -> [a] }`, the elements it reads.

    `runs` is none for what a tile leaves behind: `[a, t]`.
    """

    runs: Runs | None
    accesses: Accesses
    verb: str


@dataclass(frozen=True, eq=False)
class Chain:
    """The executions of one tensor's elements, and their readers among all those whose times were given."""

    schedule: Schedule
    flow: Flow
    runs: Sequence[Runs]
    every: Sequence[Runs]

    def early_reads(self) -> isl.Map:
        """`{ A[a] -> tile[t] }`: what is read in tiles before they make it, all else proved.

        Errors: IllegalSchedule.
        """
        for depth in range(self.runs[0].times.dim(OUT) - self.count):
            if not self.is_once(depth):
                continue
            if self.out_of_order("numbers", depth).is_empty():
                return self.proved(self.unsure_readers(depth))
            if self.out_of_order("loose", depth).is_empty():
                unsure = self.unsure_readers(depth)
                if not unsure:
                    return self.nothing
                if depth == 0:
                    self.refuse_late(unsure[0])
        return self.proved([*self.terms(), *self.left(), *self.readers()])

    def is_once(self, depth: int) -> bool:
        """Whether every element runs once, as a whole, at each value of so many dimensions of time behind the tile."""
        count = self.count + depth
        if not all(inside_tile(each.times, count).is_single_valued() for each in self.runs):
            return False
        outer = [each.times.project_out(OUT, count, each.times.dim(OUT) - count) for each in self.runs]
        whole = union(runs.points.reverse().apply_range(each) for runs, each in zip(self.runs, outer, strict=True))
        missing = (runs.points.apply_range(whole) - each for runs, each in zip(self.runs, outer, strict=True))
        return depth == 0 or all(each.is_empty() for each in missing)

    @property
    def count(self) -> int:
        """The coordinates of a tile."""
        return len(self.schedule.tiling.dims)

    @property
    def nothing(self) -> isl.Map:
        """`{ A[a] -> tile[t] }` without pairs."""
        return isl.Map.empty(self.flow.need.get_space())

    def proved(self, readers: Sequence[Reader]) -> isl.Map:
        """The early ones of some reads, each of which finds what it wants. Errors: IllegalSchedule."""
        early = self.nothing
        for reader in readers:
            lost = unserved(reader.accesses, self.writers)
            if not lost.is_empty():
                self.refuse(reader, lost.sample_point())
            if reader.runs is not None and reader.verb == "reads":
                early = early.union(self.early(reader))
        return coalesced(early)

    def out_of_order(self, kind: str, depth: int) -> isl.Map:
        """`{ [t, p] -> [n, time] }`: executions that run before one with a smaller number, `t` being the same."""
        made = union(self.numbered(each, getattr(each, kind), depth) for each in self.runs)
        number = isl.Space.set_alloc(isl.DEFAULT_CONTEXT, 0, 1)
        moment = isl.Space.set_alloc(isl.DEFAULT_CONTEXT, 0, made.dim(OUT) - 1)
        wrong = isl.Map.lex_lt(number).flat_product(isl.Map.lex_ge(moment))
        return made.apply_range(wrong) & made

    def numbered(self, runs: Runs, number: isl.Map, depth: int) -> isl.Map:
        """`{ [t, p] -> [n, time] }`."""
        pairs = number.flat_range_product(runs.times)
        pairs = runs.points.reverse().apply_range(pairs)
        return pairs.move_dims(IN, 0, OUT, 1, self.count + depth)

    @cached_property
    def made(self) -> isl.Map:
        """`{ [t, p] -> [time] }`: every execution."""
        return self.made_in(0)

    def made_in(self, depth: int) -> isl.Map:
        """`{ [t, p] -> [time] }`: every execution, with some of its time in `t`."""
        count = self.count + depth
        return union(inside_tile(runs.points.reverse().apply_range(runs.times), count) for runs in self.runs)

    def unsure_readers(self, depth: int) -> list[Reader]:
        """The reads of elements that the tile also makes, or goes on with, afterwards.

        With some time in the tile (`depth`) those of elements that are not made in it too.
        """
        found = []
        made = self.made_in(depth)
        for reader in self.readers():
            assert reader.runs is not None
            x, start = reader.accesses.instances, len(reader.runs.statement.dims)
            key, end = start + self.count + depth, start + reader.runs.times.dim(OUT)
            moments = self.columns(x, range(start, key)).flat_range_product(self.elements(reader.accesses))
            moments = moments.apply_range(made)
            later = moments.apply_range(isl.Map.lex_ge(made.get_space().range()))
            unsure = (later & self.columns(x, range(key, end))).domain()
            if depth:
                unsure = unsure.union(x.subtract(moments.domain()))
            if not unsure.is_empty():
                found.append(Reader(reader.runs, reader.accesses.restricted(unsure), reader.verb))
        return found

    def early(self, reader: Reader) -> isl.Map:
        """`{ A[a] -> tile[t] }`: what a read finds there before its tile first makes it."""
        assert reader.runs is not None
        x, moment = reader.accesses.instances, self.made.get_space().range()
        keyed = self.columns(x, self.tile_columns(reader.runs)).flat_range_product(self.elements(reader.accesses))
        made = keyed.apply_range(self.made)
        behind = (made.apply_range(isl.Map.lex_lt(moment)) & self.columns(x, self.time_columns(reader.runs))).domain()
        early = made.domain().subtract(behind)
        elements = self.elements(reader.accesses).intersect_domain(early)
        pairs = elements.reverse().apply_range(self.columns(x, self.tile_columns(reader.runs)))
        space = self.flow.need.get_space()
        pairs = pairs.set_tuple_name(IN, space.get_tuple_name(IN))
        return pairs.set_tuple_name(OUT, space.get_tuple_name(OUT))

    def tile_columns(self, runs: Runs) -> range:
        """The positions of the tile in an execution."""
        start = len(runs.statement.dims)
        return range(start, start + self.count)

    def time_columns(self, runs: Runs) -> range:
        """The positions of the time inside the tile in an execution."""
        start = len(runs.statement.dims)
        return range(start + self.count, start + runs.times.dim(OUT))

    @staticmethod
    def columns(x: isl.Set, positions: Sequence[int]) -> isl.Map:
        """`{ [x] -> [some of x] }`."""
        found = isl.Map.from_domain(x).add_dims(OUT, len(positions))
        for k, d in enumerate(positions):
            found = found.equate(OUT, k, IN, d)
        return found

    def elements(self, accesses: Accesses) -> isl.Map:
        """`{ [x] -> [a] }`."""
        return accesses.cells.project_out(OUT, 0, len(self.private))

    @cached_property
    def private(self) -> tuple[int, ...]:
        """The coordinates along which nothing is retained."""
        kept = in_buffer(self.flow.places)
        return tuple(d for d in range(self.count) if d not in kept)

    @cached_property
    def every_number(self) -> isl.Map:
        """`{ [p] -> [n] }`."""
        return union(runs.points.reverse().apply_range(runs.numbers) for runs in self.runs)

    @cached_property
    def last_number(self) -> isl.Map:
        """`{ [p] -> [n] }`: of the execution that ends the chain of an element."""
        return latest(self.every_number)

    def accesses(self, runs: Runs, elements: isl.Map, wanted: isl.Map) -> Accesses:
        """Accesses of the executions of a statement: `{ S[p, r] -> [a] }` and `{ S[p, r] -> [n] }`."""
        x = runs.executions
        instance = self.columns(x, range(len(runs.statement.dims)))
        instance = instance.set_tuple_name(OUT, runs.statement.name)
        tile = self.tile_columns(runs)
        cells = self.columns(x, [tile[d] for d in self.private]).flat_range_product(instance.apply_range(elements))
        stage = isl.Map.from_domain(x).add_dims(OUT, 1).fix_val(OUT, 0, isl.Val(1))
        moments = self.columns(x, tile).flat_range_product(stage)
        moments = moments.flat_range_product(self.columns(x, self.time_columns(runs)))
        return Accesses(runs.statement.name, cells, instance.apply_range(wanted), moments, moments)

    def whole(self, name: str, pairs: isl.Map, stage: int) -> Accesses:
        """Accesses of whole elements before (0) or behind (2) a tile: `{ A[a] -> tile[t] }`."""
        x = pairs.wrap().flatten()
        rank = pairs.dim(IN)
        tile = range(rank, rank + self.count)
        element = self.columns(x, range(rank))
        cells = self.columns(x, [tile[d] for d in self.private]).flat_range_product(element)
        moments = self.columns(x, tile)
        for k in range(1 + self.made.dim(OUT)):
            moments = moments.add_dims(OUT, 1).fix_val(OUT, self.count + k, isl.Val(stage if k == 0 else 0))
        return Accesses(name, cells, element.apply_range(self.last_number), moments, moments)

    @cached_property
    def writers(self) -> list[Accesses]:
        """Every execution, and the loads of the tensor."""
        found = [self.accesses(runs, runs.points, runs.numbers) for runs in self.runs]
        if not self.flow.loads.is_empty():
            found.append(self.whole(f"load_{self.flow.tensor.name}", self.flow.loads, 0))
        return found

    def terms(self) -> Iterator[Reader]:
        """What goes on with what the execution before it has left."""
        for runs in self.runs:
            if runs.statement.accumulates:
                smaller = runs.numbers.apply_range(isl.Map.lex_gt(runs.numbers.get_space().range()))
                before = latest(runs.points.apply_range(self.every_number) & smaller)
                yield Reader(runs, self.accesses(runs, runs.points, before), "goes on with")

    def left(self) -> Iterator[Reader]:
        """What a tile leaves behind."""
        yield Reader(None, self.whole("end", self.flow.executions, 2), "leaves")

    def readers(self) -> Iterator[Reader]:
        """The executions that read elements of the tensor."""
        for runs in self.every:
            for access in runs.statement.operands.values():
                if access.tensor == self.flow.tensor:
                    elements = read_elements(access)
                    yield Reader(runs, self.accesses(runs, elements, elements.apply_range(self.last_number)), "reads")

    def refuse(self, reader: Reader, point: isl.Point) -> NoReturn:
        """A read that does not find what it wants. Errors: IllegalSchedule, always."""
        at = isl.Set.from_point(point)
        one = reader.accesses.restricted(at)
        name = self.flow.tensor.name
        for writer in self.writers:
            right = same_elements(one, writer).intersect_domain(at)
            if not (right & one.before(writer)).is_empty():
                found = last_written(point, one, self.writers)
                assert found is not None
                what = f"{self.words(found[0], found[1])} has put another value in its place"
                self.say(reader, point, what, self.advice(reader, "run that before or after both"))
        for writer in self.writers:
            later = (same_elements(one, writer) & one.meeting(writer)).range()
            if not later.is_empty():
                what = f"{self.words(writer, later.sample_point())} makes it later"
                self.say(reader, point, what, self.advice(reader, "run it earlier, or its reader later"))
        for writer in self.writers:
            same = self.elements(one).apply_range(self.elements(writer).reverse())
            other = (same & same_elements(one, writer)).range()
            if not other.is_empty():
                what = f"{self.words(writer, other.sample_point())} makes it, and {name} is not retained between tiles"
                self.say(reader, point, what, "retain it along that dimension or compute it in both tiles")
        self.say(reader, point, "nothing makes it", f"give {self.runs[-1].statement.name} a time there")

    def advice(self, reader: Reader, otherwise: str) -> str:
        """What to do: of a sum, about the order of its terms."""
        if reader.verb == "reads" or reader.runs is None or not adds_up(reader.runs.statement.expression):
            return otherwise
        if self.schedule.reorder:
            return "an element that runs several times in one tile keeps the order of its sum"
        return "keep the order of the sum, or pass reorder=True where rounding may change"

    def refuse_late(self, reader: Reader) -> NoReturn:
        """A read that its tile is not done with, in a sum whose order changes. Errors: IllegalSchedule, always."""
        one = reader.accesses.restricted(isl.Set.from_point(reader.accesses.instances.sample_point()))
        for writer in self.writers:
            later = one.meeting(writer).range().subtract(one.before(writer).range())
            if not later.is_empty():
                what = f"{self.words(writer, later.sample_point())} makes it later"
                self.say(reader, one.instances.sample_point(), what, "run it earlier, or its reader later")
        raise AssertionError("late readers read what is made later")

    def words(self, accesses: Accesses, point: isl.Point) -> str:
        """An access in words."""
        values = coordinates(point)
        for runs in self.runs:
            if runs.statement.name == accesses.name:
                return runs.words(values)
        rank = len(self.flow.tensor.shape)
        return f"{accesses.name}{values[:rank]} in tile {tuple(values[rank:])}"

    def say(self, reader: Reader, point: isl.Point, what: str, advice: str) -> NoReturn:
        """Errors: IllegalSchedule, always."""
        values = coordinates(point)
        at = isl.Set.from_point(point)
        element = coordinates(self.elements(reader.accesses.restricted(at)).range().sample_point())
        tile = tuple(values[len(self.flow.tensor.shape) :])
        who = f"tile {tile}" if reader.runs is None else reader.runs.words(values)
        raise IllegalSchedule(f"illegal: {who} {reader.verb} {self.flow.tensor.name}{element}, but {what}; {advice}")
