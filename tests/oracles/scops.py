"""SCoPs instance by instance, without isl: small random ones, their files, and whether a changed order is legal."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

Index = tuple[int, ...]


@dataclass(frozen=True)
class Affine:
    """`sum of factor * index + constant`."""

    factors: Index
    constant: int

    def at(self, point: Index) -> int:
        """The value at a point."""
        return sum(f * i for f, i in zip(self.factors, point, strict=True)) + self.constant

    def text(self, names: list[str]) -> str:
        """As isl reads it."""
        return " + ".join([*(f"{f}{n}" for f, n in zip(self.factors, names, strict=True) if f), str(self.constant)])


@dataclass(frozen=True)
class Access:
    """A read or a write of an element; a scalar has no indices."""

    kind: str
    array: str
    indices: tuple[Affine, ...]

    def at(self, point: Index) -> Index:
        """The element."""
        return tuple(index.at(point) for index in self.indices)


@dataclass(frozen=True)
class Statement:
    """Instances in a box, below the diagonal where `triangular`; their times; their accesses."""

    name: str
    sizes: Index
    triangular: bool
    schedule: tuple[Affine, ...]
    accesses: tuple[Access, ...]

    @property
    def points(self) -> Iterator[Index]:
        """All instances."""
        for point in product(*map(range, self.sizes)):
            if not self.triangular or point[-1] <= point[0]:
                yield point

    def time(self, point: Index) -> Index:
        """When an instance runs."""
        return tuple(dim.at(point) for dim in self.schedule)

    @property
    def names(self) -> list[str]:
        """The names of the indices."""
        return [f"i{d}" for d in range(len(self.sizes))]

    def entry(self) -> dict[str, Any]:
        """The statement in a JSCoP file."""
        names = self.names
        here = f"{self.name}[{', '.join(names)}]"
        bounds = [f"0 <= {name} < {size}" for name, size in zip(names, self.sizes, strict=True)]
        bounds += [f"{names[-1]} <= {names[0]}"] if self.triangular else []
        times = ", ".join(dim.text(names) for dim in self.schedule)
        return {
            "name": self.name,
            "domain": f"{{ {here} : {' and '.join(bounds)} }}",
            "schedule": f"{{ {here} -> [{times}] }}",
            "accesses": [
                {
                    "kind": access.kind,
                    "relation": f"{{ {here} -> {access.array}[{', '.join(i.text(names) for i in access.indices)}] }}",
                }
                for access in self.accesses
            ],
        }


Program = tuple[Statement, ...]


def document(program: Program, ranks: Mapping[str, int], kind: str = "double") -> dict[str, Any]:
    """A JSCoP file of a program whose arrays have these ranks."""
    arrays = [{"name": a, "sizes": ["*", *["32"] * (rank - 1)], "type": kind} for a, rank in ranks.items() if rank]
    return {"name": "f", "context": "{ : }", "arrays": arrays, "statements": [s.entry() for s in program]}


def in_order(program: Program) -> list[tuple[Statement, Index]]:
    """All instances in the order of their times."""
    every = [(statement, point) for statement in program for point in statement.points]
    return sorted(every, key=lambda each: each[0].time(each[1]))


def conflict(one: Statement, i: Index, other: Statement, j: Index) -> set[tuple[str, Index]]:
    """The elements that two instances access, one of them writing."""
    return {
        (a.array, a.at(i))
        for a, b in product(one.accesses, other.accesses)
        if a.array == b.array and "write" in (a.kind, b.kind) and a.at(i) == b.at(j)
    }


def disorders(program: Program, changed: Program) -> Iterator[tuple[str, Index, str, Index, tuple[str, Index]]]:
    """Conflicting instances that the changed program does not run in the order of the program."""
    new = {statement.name: statement for statement in changed}
    order = in_order(program)
    for k, (one, i) in enumerate(order):
        for other, j in order[k + 1 :]:
            if new[one.name].time(i) >= new[other.name].time(j):
                for element in conflict(one, i, other, j):
                    yield one.name, i, other.name, j, element


def drawn_program(draw: random.Random) -> tuple[Program, dict[str, int]]:
    """One to three loop nests over two arrays and a scalar."""
    ranks = {"A": 1, "B": 2, "s": 0}
    statements = []
    for k in range(draw.randint(1, 3)):
        depth = draw.randint(1, 2)
        accesses = [drawn_access(draw, "read", ranks, depth) for _ in range(draw.randint(0, 3))]
        accesses.append(drawn_access(draw, "write", ranks, depth))
        unit = [tuple(int(d == e) for e in range(depth)) for d in range(depth)]
        loops = [Affine(u, 0) for u in unit] + [Affine((0,) * depth, 0)] * (2 - depth)
        schedule = (Affine((0,) * depth, k), *loops)
        sizes = tuple(draw.randint(2, 4) for _ in range(depth))
        statements.append(Statement(f"S{k}", sizes, depth == 2 and draw.random() < 0.3, schedule, tuple(accesses)))
    return tuple(statements), ranks


def drawn_access(draw: random.Random, kind: str, ranks: Mapping[str, int], depth: int) -> Access:
    """An access with one loop index and a constant along each axis, reversed at times."""
    array = draw.choice(["A", "A", "B", "B", "s"])
    indices = []
    for _ in range(ranks[array]):
        d, sign = draw.randrange(depth), draw.choice([1, 1, 1, -1, 0])
        factors = tuple(sign * int(d == e) for e in range(depth))
        indices.append(Affine(factors, draw.randint(0, 2) + (4 if sign < 0 else 0)))
    return Access(kind, array, tuple(indices))


def redrawn(draw: random.Random, program: Program) -> Program:
    """The program with loops reversed, interchanged, shifted, skewed or fused; every instance has its own time."""
    changed = []
    fuse = draw.random() < 0.5
    for k, statement in enumerate(program):
        place, *loops = statement.schedule
        depth = len(statement.sizes)
        how = draw.choice(["same", "same", "reverse", "interchange", "skew", "shift"])
        d = draw.randrange(depth)
        if how == "reverse":
            loops[d] = Affine(tuple(-f for f in loops[d].factors), 0)
        elif how == "interchange":
            loops.reverse()
        elif how == "skew" and depth == 2:
            loops[1] = Affine((draw.choice([-1, 1]), 1), 0)
        elif how == "shift":
            loops[d] = replace(loops[d], constant=draw.randint(1, 3))
        place = Affine((0,) * depth, draw.randrange(3)) if draw.random() < 0.3 else place
        order = Affine((0,) * depth, k)
        times = (Affine((0,) * depth, 0), *loops, order) if fuse else (place, *loops, order)
        changed.append(replace(statement, schedule=times))
    return tuple(changed)
