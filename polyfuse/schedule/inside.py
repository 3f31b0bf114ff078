"""Legality of times inside of tiles: every execution finds the values that it reads.

    Schedule with given times ──check_times()──> what tiles read before they make it again, or IllegalSchedule

The executions of an element in a tile are a chain: each of them adds to what the one before it has left. They have
numbers in the order in which the layer runs them, and legality is value flow over these numbers:

    writes  { S[p, r] at [t, time] -> the number of S[p, r] }    and loads write the last number of the element
    reads   { S[p, r] at [t, time] -> the number before it }     and who reads the element wants its last number

`legality` proves that buffers keep what one tile leaves for another, and that elements which are alive in one tile have
different cells. Where every element runs once in a tile it is enough here that its chain is in order and that its
readers come behind it; other cases are followed by `valueflow`, write by write.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NoReturn

import islpy as isl

from polyfuse.errors import IllegalSchedule, Unbounded
from polyfuse.network.expression import adds_up, takes_extreme
from polyfuse.network.layer import Access, Layer, Statement
from polyfuse.schedule.buffers import LARGEST
from polyfuse.schedule.retention import in_buffer
from polyfuse.schedule.schedule import Flow, Schedule
from polyfuse.schedule.steps import inside_tile
from polyfuse.schedule.valueflow import Accesses, collision, last_written, same_elements, unserved
from polyfuse.sets.coalescing import coalesced
from polyfuse.sets.limits import operation_limit
from polyfuse.sets.spaces import coordinates, latest, union

IN, OUT, SET = isl.dim_type.in_, isl.dim_type.out, isl.dim_type.set


@dataclass(frozen=True, eq=False)
class Runs:
    """The executions of a statement: `{ S[p, r] -> [t, time] }`.

    `numbers` is `{ S[p, r] -> [n] }`, and `loose` the same with one number for all terms whose order may change.
    """

    layer: Layer
    statement: Statement
    times: isl.Map
    numbers: isl.Map
    loose: isl.Map

    @cached_property
    def points(self) -> isl.Map:
        """`{ S[p, r] -> [p] }`."""
        relation = self.statement.domain.identity().reset_tuple_id(OUT)
        return relation.project_out(OUT, self.layer.rank, relation.dim(OUT) - self.layer.rank)

    @cached_property
    def executions(self) -> isl.Set:
        """`{ [p, r, t, time] }`."""
        return self.times.wrap().flatten()

    def words(self, execution: Sequence[int]) -> str:
        """An execution `[p, r, t, time]` in words."""
        dims = len(self.statement.dims)
        return f"{self.statement.name}{list(execution[:dims])} at time {list(execution[dims:])}"


def check_times(schedule: Schedule) -> dict[str, isl.Map]:
    """Prove that executions whose times were given come one after another, each behind what it reads.

    Returns what tiles read before they make it again, `{ A[a] -> tile[t] }` by tensor: it has to be there from earlier
    tiles.
    Errors: IllegalSchedule with a witness: the reader, what it reads, and who makes it later or puts something else in
    its place, or that nothing makes it; Unbounded for infinitely many times; TooComplex above isl's operation limit.
    """
    if schedule.times and not schedule.is_in_order:
        raise IllegalSchedule(
            "times inside of tiles are given, and tiles in another order; give both as one, as union_map has it"
        )
    layers = {layer.name: runs_of(schedule, layer) for layer in schedule.network.layers}
    every = [runs for each in layers.values() for runs in each]
    with operation_limit(what=f"times of {schedule.network.name!r}"):
        for runs in every:
            check_bounded(runs)
        for name, each in layers.items():
            if each:
                check_complete(schedule, schedule.network.layer(name), each)
        check_one_at_a_time(every)
    early: dict[str, isl.Map] = {}
    for each in layers.values():
        if each:
            tensor = each[0].layer.output
            with operation_limit(what=f"times of {tensor.name!r}"):
                early[tensor.name] = Chain(schedule, schedule.flows[tensor.name], each, every).early_reads()
    return early


def runs_of(schedule: Schedule, layer: Layer) -> list[Runs]:
    """The executions of the statements of a layer whose times are given; none of another layer."""
    if not schedule.is_given(layer):
        return []
    widths: dict[int, int] = {}
    for statement in layer.statements:
        for d in range(layer.rank, len(statement.dims)):
            low, high = ends(statement.domain, d)
            widths[d] = max(widths.get(d, 1), high - low + 1)
    found = []
    for k, statement in enumerate(layer.statements):
        sums = takes_extreme(statement.expression) or (schedule.reorder and adds_up(statement.expression))
        strict = numbers(statement, k, widths, ordered=True)
        loose = numbers(statement, k, widths, ordered=False) if sums else strict
        found.append(Runs(layer, statement, schedule.times[statement.name], strict, loose))
    return found


def ends(points: isl.Set, d: int) -> tuple[int, int]:
    """The first and the last value of an index; 0 where there are none."""
    if points.is_empty():
        return 0, 0
    return int(points.dim_min_val(d).to_python()), int(points.dim_max_val(d).to_python())


def numbers(statement: Statement, k: int, widths: Mapping[int, int], *, ordered: bool) -> isl.Map:
    """`{ S[p, r] -> [n] }`: statements in their order, each in the order of its reduction where it is ordered."""
    value = isl.Aff.zero_on_domain(isl.LocalSpace.from_space(statement.domain.get_space()))
    stride, constant = 1, 0
    for d in sorted(widths, reverse=True):
        if d < len(statement.dims) and ordered:
            value = value.set_coefficient_val(IN, d, isl.Val(stride))
            constant -= stride * ends(statement.domain, d)[0]
        stride *= widths[d]
    value = value.set_constant_val(isl.Val(constant + k * stride))
    return isl.Map.from_aff(value).intersect_domain(statement.domain)


def check_bounded(runs: Runs) -> None:
    """Times are finitely many numbers of 32 bits. Errors: Unbounded, IllegalSchedule."""
    times, name = runs.times.range(), runs.statement.name
    if not times.is_bounded():
        raise Unbounded(f"times of {name}: infinitely many; bound the dimensions of time by those of the instances")
    for d in range(0 if times.is_empty() else times.dim(SET)):
        low, high = ends(times, d)
        if max(-low, high) > LARGEST:
            raise IllegalSchedule(
                f"times of {name}: dimension {d} goes from {low:,} to {high:,}; keep it within {LARGEST:,}"
            )


def check_complete(schedule: Schedule, layer: Layer, every: Sequence[Runs]) -> None:
    """A tile that runs anything for an element runs all that it takes. Errors: IllegalSchedule with what is missing."""
    count = len(schedule.tiling.dims)
    tiles = [runs.times.project_out(OUT, count, runs.times.dim(OUT) - count) for runs in every]
    whole = union(runs.points.reverse().apply_range(each) for runs, each in zip(every, tiles, strict=True))
    for runs, each in zip(every, tiles, strict=True):
        missing = runs.points.apply_range(whole).subtract(each)
        if not missing.is_empty():
            instance, tile = sample_pair(missing)
            raise IllegalSchedule(
                f"illegal: nothing makes {layer.output.name}{instance[: layer.rank]} in tile {tuple(tile)}: "
                f"{runs.statement.name}{instance} has no time in it, other terms have; give it one, or make the "
                "parts of a sum tensors of their own"
            )
    made = schedule.executions(layer).reset_tuple_id(IN).reset_tuple_id(OUT)
    if made != whole:
        raise IllegalSchedule(f"layer {layer.name!r}: its times and its executions differ; take pf.schedule_from")


def check_one_at_a_time(every: Sequence[Runs]) -> None:
    """No two executions have the same time. Errors: IllegalSchedule that names both."""
    for k, runs in enumerate(every):
        if (clash := collision(runs.times)) is not None:
            refuse_clash(runs, runs, isl.Map.from_basic_map(clash))
        for other in every[:k]:
            if not runs.times.range().is_disjoint(other.times.range()):
                refuse_clash(runs, other, runs.times.apply_range(other.times.reverse()))


def refuse_clash(runs: Runs, other: Runs, pairs: isl.Map) -> NoReturn:
    """Errors: IllegalSchedule, always."""
    one, second = sample_pair(pairs)
    here, there = (fixed(each.times, values).range() for each, values in ((runs, one), (other, second)))
    time = coordinates((here & there).sample_point())
    raise IllegalSchedule(
        f"illegal: {runs.statement.name}{one} and {other.statement.name}{second} have the same time {time}, and "
        "nothing orders them; add a dimension to the times"
    )


def fixed(relation: isl.Map, values: Sequence[int]) -> isl.Map:
    """A relation of one point of its domain."""
    for d, value in enumerate(values):
        relation = relation.fix_val(IN, d, isl.Val(value))
    return relation


def sample_pair(pairs: isl.Map) -> tuple[list[int], list[int]]:
    """One pair of a relation, as numbers."""
    values = coordinates(pairs.wrap().flatten().sample_point())
    return values[: pairs.dim(IN)], values[pairs.dim(IN) :]


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


def read_elements(access: Access) -> isl.Map:
    """`{ S[p, r] -> [a] }`."""
    return access.relation.reset_tuple_id(OUT)
