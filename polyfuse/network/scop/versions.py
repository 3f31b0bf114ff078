"""The values of a SCoP: which of its writes begin one, which go on with one, and what becomes one tensor.

    Scop ──versions_of()──> Versions ──families()──> (Family, ...): writes whose values are one tensor

A *value* is what an element holds from a write that sets it until the next one that does. A write that reads the
element it writes goes on with its value, as sums do, if nobody else reads what is there in between; else it begins a
new one. An instance that begins a value and reads what the element held before the SCoP reads that as an input.

Every value has a place of its own in a tensor, so that nothing but the flow of values orders the network (Feautrier,
"Dataflow analysis of array and scalar references", IJPP 1991). Values that are made from each other by turns share a
tensor.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import islpy as isl

from polyfuse.network.scop.dataflow import Key, Writes, moments, read_of
from polyfuse.network.scop.scop import Scop, ScopStatement
from polyfuse.sets.coalescing import coalesced
from polyfuse.sets.spaces import union

IN, OUT = isl.dim_type.in_, isl.dim_type.out


@dataclass(frozen=True, eq=False)
class Versions:
    """The writes of a scop, by statement and access, and the values that they make.

    flow        for each read the writes that it finds: `{ T[j] -> S[i] }`
    live_in     for each read the instances that find what was there before the scop
    kept        the writes whose values anyone can find: not those that their own instance overwrites
    continuing  the reads by which a write goes on with the value that it finds
    begins      the instances of each write that begin a value
    roots       for each write `{ S[i] -> R[j] }` to the instances that began its values, by their write
    """

    scop: Scop
    flow: Mapping[Key, Mapping[Key, isl.Map]]
    live_in: Mapping[Key, isl.Set]
    kept: tuple[Key, ...]
    continuing: Mapping[Key, tuple[int, ...]]
    begins: Mapping[Key, isl.Set]
    roots: Mapping[Key, Mapping[Key, isl.Map]]

    def array(self, key: Key) -> str:
        """The array that a write writes."""
        return self.scop.statement(key[0]).accesses[key[1]].array

    def cells(self, key: Key) -> isl.Map:
        """`{ S[i] -> A[a] }` of a write."""
        return read_of(self.scop.statement(key[0]), key[1])[0]

    def reads(self, key: Key) -> tuple[int, ...]:
        """The reads of the statement of a write but those by which it goes on with a value."""
        statement = self.scop.statement(key[0])
        own = self.continuing.get(key, ())
        return tuple(k for k, a in enumerate(statement.accesses) if a.kind == "read" and k not in own)

    def feeds(self, key: Key) -> set[Key]:
        """The writes whose values an instance of a write is made from, other than the one that it goes on with."""
        statement = self.scop.statement(key[0])
        own = dict.fromkeys(self.continuing.get(key, ()), self.begins[key])
        everywhere = dict.fromkeys(self.reads(key), statement.domain)
        return {
            root
            for k, domain in {**everywhere, **own}.items()
            for source, pairs in self.flow[key[0], k].items()
            if not (found := pairs.intersect_domain(domain)).is_empty()
            for root, begun in self.roots[source].items()
            if not found.apply_range(begun).is_empty()
        }


def versions_of(scop: Scop, broken: Collection[Key] = ()) -> Versions:
    """The values of a scop; writes that are `broken` begin a new one each time."""
    writes = Writes.of(scop)
    reads = [(s, k) for s in scop.statements for k, a in enumerate(s.accesses) if a.kind == "read"]
    flow = {
        (s.name, k): {key: pairs for key, pairs in writes.sources(*read_of(s, k)).items() if not pairs.is_empty()}
        for s, k in reads
    }
    live_in = {(s.name, k): _rest(s.domain, flow[s.name, k].values()) for s, k in reads}
    kept = tuple(
        key
        for key, cells in writes.cells.items()
        if not cells.is_empty() and not _overwritten_at_once(scop, writes, flow, key)
    )
    continuing = _continuing(scop, writes, flow, [key for key in kept if key not in broken], kept)
    begins = {
        key: live_in[key[0], continuing[key][0]] if key in continuing else scop.statement(key[0]).domain for key in kept
    }
    starts = writes.restricted(begins)
    roots: dict[Key, dict[Key, isl.Map]] = {}
    for key in kept:
        statement = scop.statement(key[0])
        roots[key] = {key: begins[key].identity()}
        if key in continuing:
            later = writes.cells[key].subtract_domain(begins[key])
            for root, pairs in starts.sources(later, moments(statement, continuing[key][0])).items():
                if not pairs.is_empty():
                    roots[key][root] = roots[key][root].union(pairs) if root in roots[key] else pairs
        roots[key] = {root: pairs for root, pairs in roots[key].items() if not pairs.is_empty()}
    return Versions(scop, flow, live_in, kept, continuing, begins, roots)


def _rest(domain: isl.Set, parts: Iterable[isl.Map]) -> isl.Set:
    for part in parts:
        domain = domain.subtract(part.domain())
    return domain


def _overwritten_at_once(scop: Scop, writes: Writes, flow: Mapping[Key, Mapping[Key, isl.Map]], key: Key) -> bool:
    """Nobody reads the value of a write, and its own instance puts another one there."""
    statement = scop.statement(key[0])
    later = [k for k in range(key[1] + 1, len(statement.accesses)) if (key[0], k) in writes.cells]
    same = [k for k in later if _same_cells(writes.cells[key], writes.cells[key[0], k])]
    return bool(same) and not any(key in found for found in flow.values())


def _same_cells(one: isl.Map, other: isl.Map) -> bool:
    return bool(one.get_space().has_equal_tuples(other.get_space())) and bool(one.is_equal(other))


def _continuing(
    scop: Scop, writes: Writes, flow: Mapping[Key, Mapping[Key, isl.Map]], asked: Sequence[Key], kept: Sequence[Key]
) -> dict[Key, tuple[int, ...]]:
    """Of the writes that are asked about, those that go on with the value they read, and by which reads.

    Not those whose instance makes several values, nor those whose values another access reads in between, nor those
    that a layer, which runs its statements one after the other for each point, would run in another order.
    """
    found: dict[Key, tuple[int, ...]] = {}
    for key in asked:
        statement = scop.statement(key[0])
        reads = [(k, read_of(statement, k)[0]) for k, a in enumerate(statement.accesses) if a.kind == "read"]
        own = tuple(k for k, cells in reads if _same_cells(cells, writes.cells[key]))
        if own and sum(other[0] == key[0] for other in kept) == 1:
            found[key] = own
    for key in tuple(found):
        links = [link for k in found[key] for link in flow[key[0], k].items()]
        if _is_read_between(flow, key, found[key]) or not all(_comes_before(scop, *link, key) for link in links):
            del found[key]
    return found


def _comes_before(scop: Scop, source: Key, pairs: isl.Map, key: Key) -> bool:
    """Whether a layer goes on with a value in the order of the scop: statement after statement, each in its own."""
    if source == key:
        return bool(pairs.is_subset(isl.Map.lex_gt(pairs.get_space().domain())))
    names = [statement.name for statement in scop.statements]
    return names.index(source[0]) < names.index(key[0])


def _is_read_between(flow: Mapping[Key, Mapping[Key, isl.Map]], key: Key, own: tuple[int, ...]) -> bool:
    """Whether others read the values that a write goes on with."""
    for k in own:
        for source, pairs in flow[key[0], k].items():
            linked = pairs.range()
            for reader, found in flow.items():
                is_own = reader[0] == key[0] and reader[1] in own
                if source in found and not is_own and not (linked & found[source].range()).is_empty():
                    return True
    return False


@dataclass(frozen=True, eq=False)
class Family:
    """Writes whose values are one tensor, and where their values are in it: `{ S[i] -> [p] }` for those that begin one.

    By `array` where the elements of one array are the points, else by the time at which values begin.
    """

    keys: tuple[Key, ...]
    points: Mapping[Key, isl.Map]
    array: str | None

    @cached_property
    def all_points(self) -> isl.Set:
        """`{ [p] }`: where a value is."""
        return coalesced(union(points.range() for points in self.points.values()))


def families(versions: Versions) -> tuple[Family, ...]:
    """The tensors of a scop, each after those that it is made from.

    Values of one array are one tensor where every element has one value. Where tensors would be made from each other
    by turns, their values become one, in the order of time.
    """
    arrays: dict[str, list[Key]] = {}
    for key in versions.kept:
        arrays.setdefault(versions.array(key), []).append(key)
    groups: list[tuple[Key, ...]] = []
    for keys in arrays.values():
        joined = [tuple(keys)]
        groups += joined if _has_one_value_each(versions, keys) else _joined_by_roots(versions, keys)
    parts = _strongly_connected(groups, lambda group: _fed_by(versions, groups, group))
    if any(len(part) > 1 for part in parts):
        turning = {group for part in parts if len(part) > 1 for group in part}
        groups = [
            smaller
            for group in groups
            for smaller in (_joined_by_roots(versions, group) if group in turning else [group])
        ]
        parts = _strongly_connected(groups, lambda group: _fed_by(versions, groups, group))
    return tuple(_family(versions, part) for part in parts)


def _has_one_value_each(versions: Versions, keys: Sequence[Key]) -> bool:
    """Whether no two values are of one element."""
    taken: list[isl.Set] = []
    for key in keys:
        cells = versions.cells(key).intersect_domain(versions.begins[key])
        if not cells.is_injective() or any(not (cells.range() & other).is_empty() for other in taken):
            return False
        taken.append(cells.range())
    return True


def _joined_by_roots(versions: Versions, keys: Sequence[Key]) -> list[tuple[Key, ...]]:
    """The writes in groups: those that go on with values are with the writes that begin them."""
    groups: list[set[Key]] = []
    for key in keys:
        together = {key, *versions.roots[key]}
        for group in [group for group in groups if group & together]:
            groups.remove(group)
            together |= group
        groups.append(together)
    return [tuple(key for key in keys if key in group) for group in groups]


def _fed_by(versions: Versions, groups: Sequence[tuple[Key, ...]], group: tuple[Key, ...]) -> list[tuple[Key, ...]]:
    """The groups whose values a group reads."""
    read = set().union(*(versions.feeds(key) for key in group))
    return [other for other in groups if read & set(other)]


Node = tuple[Key, ...]


def _strongly_connected(nodes: Sequence[Node], before: Callable[[Node], Sequence[Node]]) -> list[tuple[Node, ...]]:
    """Nodes that lead to each other, together, each part after those that lead to it."""
    edges = {node: [other for other in before(node) if other != node] for node in nodes}
    reach = {node: _reached(node, edges) for node in nodes}
    parts: list[tuple[Node, ...]] = []
    for node in nodes:
        if not any(node in part for part in parts):
            parts.append(
                tuple(other for other in nodes if other == node or (other in reach[node] and node in reach[other]))
            )
    done: list[tuple[Node, ...]] = []
    while len(done) < len(parts):
        ready = next(
            part
            for part in parts
            if part not in done
            and all(other in part or any(other in d for d in done) for node in part for other in edges[node])
        )
        done.append(ready)
    return done


def _reached(node: Node, edges: Mapping[Node, Sequence[Node]]) -> set[Node]:
    found: set[Node] = set()
    waiting = [node]
    while waiting:
        for other in edges[waiting.pop()]:
            if other not in found:
                found.add(other)
                waiting.append(other)
    return found


def _family(versions: Versions, part: Sequence[Node]) -> Family:
    """The tensor of writes that are made from each other, or of one array."""
    keys = tuple(key for key in versions.kept if any(key in node for node in part))
    arrays = {versions.array(key) for key in keys}
    if len(arrays) == 1 and _has_one_value_each(versions, keys):
        cells = {key: versions.cells(key).intersect_domain(versions.begins[key]) for key in keys}
        by_array = Family(keys, {k: c.reset_tuple_id(OUT) for k, c in cells.items()}, arrays.pop())
        if by_array.all_points.dim(isl.dim_type.set) and _runs_in_order(versions, by_array):
            return by_array
    return Family(keys, _times(versions, keys), None)


def _runs_in_order(versions: Versions, family: Family) -> bool:
    """Whether what is read of the tensor itself comes earlier in lexicographic order."""
    space = family.all_points.get_space()
    earlier = isl.Map.lex_gt(space)
    for key in family.keys:
        here = points_of(versions, family, key)
        for k in range(len(versions.scop.statement(key[0]).accesses)):
            for source, pairs in versions.flow.get((key[0], k), {}).items():
                if source not in family.keys:
                    continue
                if k in versions.continuing.get(key, ()):
                    continue
                there = points_of(versions, family, source)
                if not here.reverse().apply_range(pairs).apply_range(there).is_subset(earlier):
                    return False
    return True


def points_of(versions: Versions, family: Family, key: Key) -> isl.Map:
    """`{ S[i] -> [p] }`: the points of all instances of a write, of which some go on with values."""
    roots = versions.roots[key].items()
    return coalesced(union(pairs.apply_range(family.points[root]) for root, pairs in roots if root in family.points))


def _start(scop: Scop) -> isl.Map:
    """`{ [time] -> [time'] }`: times from 0 on, where the first is a number."""
    every = union(statement.times.range() for statement in scop.statements)
    shift = isl.MultiAff.identity_on_domain_space(every.get_space())
    for d in range(every.dim(isl.dim_type.set)):
        low = every.dim_min_val(d)
        if low.is_int():
            shift = shift.set_at(d, shift.get_at(d).add_constant_val(low.neg()))
    return isl.Map.from_multi_aff(shift)


def _times(versions: Versions, keys: Sequence[Key]) -> dict[Key, isl.Map]:
    """`{ S[i] -> [time] }` for the writes that begin values, without what is the same number for all of them.

    Times of all tensors begin together, at 0, so that tiles of several cut them alike.
    """
    found: dict[Key, isl.Map] = {}
    start = _start(versions.scop)
    for key in keys:
        statement: ScopStatement = versions.scop.statement(key[0])
        times = statement.times.intersect_domain(versions.begins[key]).apply_range(start)
        place = [other for other in versions.kept if other[0] == key[0]].index(key)
        rank = times.dim(OUT)
        found[key] = times.add_dims(OUT, 1).fix_val(OUT, rank, isl.Val(place))
    every = union(times.range() for times in found.values())
    for d in reversed(range(every.dim(isl.dim_type.set))):
        fixed = every.plain_get_val_if_fixed(isl.dim_type.set, d)
        one = isl.Map.from_domain(every).add_dims(OUT, 1).equate(OUT, 0, IN, d).range()
        if (fixed.is_int() or one.is_singleton()) and any(t.dim(OUT) > 1 for t in found.values()):
            found = {key: times.project_out(OUT, d, 1) for key, times in found.items()}
    return found
