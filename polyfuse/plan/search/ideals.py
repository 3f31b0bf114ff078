"""The states that a plan can go through, and the groups that lead from one to the next.

    Dag ──lattice()──> Lattice: order ideals, and for each the groups that may run next

An order ideal is a set of operations that holds, with each operation, all that it depends on: what has run at some
moment. Any partition of a graph into groups that run one after the other is a chain of ideals, in whatever topological
order, so searching all chains searches all orders. A group is the difference of two ideals, hence convex; it must also
be connected, by a tensor that one of two operations makes and the other reads, or that both read.

Sets of operations are numbers whose bits are the operations.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import or_

from polyfuse.choices import LONGEST
from polyfuse.errors import InvalidInput

MOST_IDEALS = 4000
MOST_GROUPS = 1500
ENDS = (8, 7, 6, 5)
MOST_ENDS = 6
"""Tensors that groups share with the rest, on average, where there are as many groups as there may be."""


@dataclass(frozen=True, eq=False)
class Dag:
    """Operations in topological order, the tensors that each reads and makes, and the outputs.

    Errors: InvalidInput where an operation reads what a later one makes, or two make the same.
    """

    operations: tuple[str, ...]
    reads: tuple[tuple[str, ...], ...]
    makes: tuple[str, ...]
    outputs: frozenset[str]

    def __post_init__(self) -> None:
        if len(set(self.makes)) != len(self.makes):
            raise InvalidInput("operations to plan: two make the same tensor; give each a tensor of its own")
        for index, name in enumerate(self.operations):
            late = set(self.reads[index]) & set(self.makes[index:])
            if late:
                raise InvalidInput(f"operation {name!r}: it reads {min(late)!r}, which is made later; order operations")

    @cached_property
    def tensors(self) -> tuple[str, ...]:
        """All tensors: inputs in the order in which they are read, then those that operations make."""
        given = dict.fromkeys(name for reads in self.reads for name in reads if name not in set(self.makes))
        return (*given, *self.makes)

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """The tensors that are read and not made."""
        return self.tensors[: len(self.tensors) - len(self.makes)]

    @cached_property
    def number(self) -> Mapping[str, int]:
        """The number of each tensor."""
        return {name: index for index, name in enumerate(self.tensors)}

    @cached_property
    def readers(self) -> tuple[int, ...]:
        """The operations that read each tensor, by its number."""
        found = [0] * len(self.tensors)
        for index, reads in enumerate(self.reads):
            for name in reads:
                found[self.number[name]] |= 1 << index
        return tuple(found)

    @cached_property
    def makers(self) -> tuple[int, ...]:
        """The operation that makes each tensor, by its number; 0 for inputs."""
        return (*(0 for _ in self.inputs), *(1 << index for index in range(len(self.makes))))

    @cached_property
    def before(self) -> tuple[int, ...]:
        """The operations whose tensors each operation reads."""
        return tuple(self._union(self.makers[self.number[name]] for name in reads) for reads in self.reads)

    @cached_property
    def near(self) -> tuple[int, ...]:
        """The operations that share a tensor with each operation, as its maker or its reader."""
        touching = [readers | maker for readers, maker in zip(self.readers, self.makers, strict=True)]
        tensors = [{*reads, makes} for reads, makes in zip(self.reads, self.makes, strict=True)]
        return tuple(self._union(touching[self.number[name]] for name in names) for names in tensors)

    @property
    def all(self) -> int:
        """All operations."""
        return (1 << len(self.operations)) - 1

    def names(self, operations: int) -> tuple[str, ...]:
        """The names of a set of operations, in topological order."""
        return tuple(self.operations[index] for index in bits(operations))

    @cached_property
    def ancestors(self) -> tuple[int, ...]:
        """All that must run before each operation."""
        found: list[int] = []
        for before in self.before:
            found.append(before | self._union(found[index] for index in bits(before)))
        return tuple(found)

    def upstream(self, operations: int) -> int:
        """All that must run before some of a set of operations."""
        return self._union(self.ancestors[index] for index in bits(operations))

    def connected(self, group: int) -> bool:
        """Whether every operation of a group is reached from every other over tensors that two of the group share."""
        reached = group & -group
        grown = reached
        while grown:
            grown = self._union(self.near[index] for index in bits(grown)) & group & ~reached
            reached |= grown
        return reached == group

    def ends(self, group: int) -> int:
        """How many tensors a group reads from outside, and leaves for others or as outputs."""
        made = {self.makes[index] for index in bits(group)}
        read = {name for index in bits(group) for name in self.reads[index]} - made
        left = [name for name in made if name in self.outputs or self.readers[self.number[name]] & ~group]
        return len(read) + len(left)

    def live(self, ideal: int) -> int:
        """The tensors, as bits, that exist after an ideal and that a later operation reads."""
        return self._union(
            1 << number
            for number, (maker, readers) in enumerate(zip(self.makers, self.readers, strict=True))
            if not maker & ~ideal and readers & ~ideal
        )

    @staticmethod
    def _union(sets: Iterable[int]) -> int:
        return reduce(or_, sets, 0)


@dataclass(frozen=True, eq=False)
class Lattice:
    """The ideals of a graph from the empty one to all, by size, and the groups that may run next in each.

    longest: operations of the longest group. capped: what was left out to stay small, in words; empty for nothing.
    """

    dag: Dag
    ideals: tuple[int, ...]
    moves: Mapping[int, tuple[int, ...]]
    longest: int
    capped: tuple[str, ...] = ()

    @cached_property
    def groups(self) -> frozenset[int]:
        """All groups."""
        return frozenset(group for moves in self.moves.values() for group in moves)

    @property
    def scope(self) -> str:
        """What a search over it covers."""
        ideals = f"{len(self.ideals):,} ideals"
        return "; ".join((f"connected convex groups of up to {self.longest} operations, {ideals}", *self.capped))


def lattice(
    dag: Dag, longest: int = LONGEST, most_ideals: int = MOST_IDEALS, most_groups: int = MOST_GROUPS
) -> Lattice:
    """The ideals and groups of a graph; the result names the caps that were hit.

    Where there are more than `most_ideals`, operations stay within a window of their topological order: none runs
    while one that is further behind waits. Where there are more than `most_groups`, or fewer that share many tensors
    with the rest, those of several operations share fewer, and where that is not enough they get shorter.

    >>> reads = (("x",), ("a.",), ("a.",), ("b.", "c."))
    >>> found = lattice(Dag(("a", "b", "c", "d"), reads, ("a.", "b.", "c.", "d."), frozenset(["d."])))
    >>> len(found.ideals), len(found.groups), found.capped
    (6, 12, ())
    """
    ideals, capped = _ideals(dag, most_ideals)
    known = frozenset(ideals)
    for length, ends in ((length, ends) for length in range(longest, 0, -1) for ends in (None, *ENDS)):
        moves = _moves(dag, ideals, known, length, ends, most_groups)
        if moves is None:
            continue
        if ends is not None:
            capped = (*capped, f"groups of several that share at most {ends} tensors with the rest")
        if length < longest:
            capped = (*capped, f"groups of up to {longest} operations were too many")
        return Lattice(dag, ideals, moves, length, capped)
    alone = _moves(dag, ideals, known, 1, None, len(dag.operations) * len(dag.tensors))
    assert alone is not None
    return Lattice(dag, ideals, alone, 1, (*capped, "groups of several operations were too many"))


def bits(numbers: int) -> Iterator[int]:
    """The numbers in a set.

    >>> list(bits(0b1101))
    [0, 2, 3]
    """
    while numbers:
        lowest = numbers & -numbers
        yield lowest.bit_length() - 1
        numbers ^= lowest


def _ideals(dag: Dag, most: int) -> tuple[tuple[int, ...], tuple[str, ...]]:
    window = len(dag.operations)
    while True:
        found = _ideals_within(dag, window, most)
        if found is not None:
            break
        window //= 2
    if window == len(dag.operations):
        return found, ()
    return found, (f"operations run at most {window} places ahead of their topological order",)


def _ideals_within(dag: Dag, window: int, most: int) -> tuple[int, ...] | None:
    """Ideals by size, none of which leaves out an operation that is `window` or more before one that it holds."""
    levels = [frozenset([0])]
    count = 1
    for _ in dag.operations:
        grown = set()
        for ideal in levels[-1]:
            first = (~ideal & (ideal + 1)).bit_length() - 1
            for index in range(first, min(first + max(window, 1), len(dag.operations))):
                if not ideal >> index & 1 and not dag.before[index] & ~ideal:
                    grown.add(ideal | 1 << index)
        count += len(grown)
        if count > most and window:
            return None
        levels.append(frozenset(grown))
    return tuple(ideal for level in levels for ideal in sorted(level))


def _moves(
    dag: Dag, ideals: tuple[int, ...], known: frozenset[int], longest: int, ends: int | None, most: int
) -> dict[int, tuple[int, ...]] | None:
    """The groups that may run in each ideal; none where there are more than `most`."""
    moves: dict[int, tuple[int, ...]] = {}
    judged: dict[int, bool] = {}
    count = every = 0
    for ideal in ideals:
        groups = sorted(_next(dag, ideal, known, longest), key=lambda group: (group.bit_count(), group))
        for group in groups:
            if group not in judged:
                shared = dag.ends(group)
                judged[group] = dag.connected(group) and (ends is None or shared <= ends or group.bit_count() == 1)
                count += judged[group]
                every += shared * judged[group]
        moves[ideal] = tuple(group for group in groups if judged[group])
        if count > most or every > MOST_ENDS * most:
            return None
    return moves


def _next(dag: Dag, ideal: int, known: frozenset[int], longest: int) -> set[int]:
    """Sets of up to `longest` operations that make another ideal of an ideal."""
    found: set[int] = set()
    front = {0}
    ready = {index for index, before in enumerate(dag.before) if not before & ~ideal and not ideal >> index & 1}
    for _ in range(longest):
        grown = set()
        for group in front:
            there = ideal | group
            for index in _ready(dag, there, ready, group):
                if there | 1 << index in known:
                    grown.add(group | 1 << index)
        found |= grown
        front = grown
    return found


def _ready(dag: Dag, there: int, ready: set[int], group: int) -> Iterator[int]:
    """Operations outside of an ideal with a group whose operands it makes."""
    tried: set[int] = set()
    for index in ready:
        if not there >> index & 1:
            yield index
    for made in bits(group):
        for index in bits(dag.readers[dag.number[dag.makes[made]]]):
            if index not in tried and index not in ready and not there >> index & 1 and not dag.before[index] & ~there:
                tried.add(index)
                yield index
