"""A static control part (SCoP) as Polly describes it: statements of any program, whatever they compute.

    domain      { S[i] : ... }          the instances of a statement
    schedule    { S[i] -> [time] }      when they run: lexicographic order
    accesses    { S[i] -> A[a] }        what they read and write, in the order of the instructions

What a statement computes is not part of it. jscop.py reads and writes the files, order.py proves schedules legal,
layers.py makes a network of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import islpy as isl

from polyfuse.errors import InvalidInput

Kind = Literal["read", "write"]
Part = TypeVar("Part", isl.Set, isl.Map)


@dataclass(frozen=True)
class ScopArray:
    """An array: the sizes of its axes, None where the size is not known, which only the first may be.

    `allocation` is `heap` or `stack` for an array that Polly shall make, and None for one that the program has.
    """

    name: str
    sizes: tuple[int | str | None, ...]
    element_type: str
    allocation: Literal["heap", "stack"] | None = None

    def __str__(self) -> str:
        return (
            f"{self.element_type} {self.name}[{', '.join('*' if size is None else str(size) for size in self.sizes)}]"
        )


@dataclass(frozen=True, eq=False)
class ScopAccess:
    """One access of a statement: `{ S[i] -> A[a] }`."""

    kind: Kind
    relation: isl.Map

    @property
    def is_named(self) -> bool:
        """Whether what is accessed has a name."""
        return bool(self.relation.has_tuple_name(isl.dim_type.out))

    @property
    def is_scalar(self) -> bool:
        """Whether what is accessed has no indices."""
        return not self.relation.dim(isl.dim_type.out)

    @property
    def array(self) -> str:
        """The name of the array, or of the scalar."""
        return str(self.relation.get_tuple_name(isl.dim_type.out))

    def __str__(self) -> str:
        return f"{self.kind} {self.relation}"

    __repr__ = __str__


@dataclass(frozen=True, eq=False)
class ScopStatement:
    """A statement: `{ S[i] }`, `{ S[i] -> [time] }` and its accesses."""

    name: str
    domain: isl.Set
    schedule: isl.Map
    accesses: tuple[ScopAccess, ...]

    @property
    def times(self) -> isl.Map:
        """The schedule of the instances that there are."""
        return self.schedule.intersect_domain(self.domain)

    def of_kind(self, kind: Kind) -> tuple[ScopAccess, ...]:
        """The reads of the statement, or its writes."""
        return tuple(access for access in self.accesses if access.kind == kind)

    def __str__(self) -> str:
        return "\n  ".join([f"{self.name}: {self.domain} at {self.schedule}", *map(str, self.accesses)])

    __repr__ = __str__


@dataclass(frozen=True, eq=False)
class Scop:
    """Statements in the order of the program's text, the arrays they access, and what is known of the parameters.

    An access to a tuple without indices that is no array, `MemRef_alpha[]`, is one to a *scalar*: a value of the
    program that Polly keeps in no array.
    """

    name: str
    context: isl.Set
    arrays: tuple[ScopArray, ...]
    statements: tuple[ScopStatement, ...]

    def __post_init__(self) -> None:
        if not self.statements:
            raise InvalidInput(f"scop {self.name!r}: expected at least one statement")
        _check_distinct(self.name, "statements", [statement.name for statement in self.statements])
        _check_distinct(self.name, "arrays", [array.name for array in self.arrays])
        for array in self.arrays:
            if None in array.sizes[1:] or (array.allocation and None in array.sizes):
                raise InvalidInput(f"array {array}: expected a size for every axis but the first of the program's own")
        ranks = {**dict.fromkeys(self.scalars, 0), **{array.name: len(array.sizes) for array in self.arrays}}
        times = self.statements[0].schedule.dim(isl.dim_type.out)
        for statement in self.statements:
            where = f"statement {statement.name!r}"
            _check_parameters(where, self.context, statement.domain, statement.schedule)
            _check_tuple(f"{where}: its domain", statement.domain, isl.dim_type.set, statement.name, None)
            rank = statement.domain.dim(isl.dim_type.set)
            _check_tuple(f"{where}: its schedule", statement.schedule, isl.dim_type.in_, statement.name, rank)
            _check_tuple(f"{where}: its schedule", statement.schedule, isl.dim_type.out, None, times)
            _check_covers(f"{where}: its schedule", statement.domain, statement.schedule)
            for k, access in enumerate(statement.accesses):
                here = f"{where}: access {k}"
                _check_parameters(here, self.context, access.relation)
                _check_tuple(here, access.relation, isl.dim_type.in_, statement.name, rank)
                if not access.is_named or access.array not in ranks:
                    raise InvalidInput(
                        f"{here}: expected one of the arrays {', '.join(ranks) or '(none)'}, or a scalar without "
                        f"indices, got {access.relation}"
                    )
                _check_tuple(here, access.relation, isl.dim_type.out, access.array, ranks[access.array])
                _check_covers(here, statement.domain, access.relation)

    def array(self, name: str) -> ScopArray:
        """The array of that name."""
        return next(array for array in self.arrays if array.name == name)

    def statement(self, name: str) -> ScopStatement:
        """The statement of that name. Errors: InvalidInput where there is none."""
        for statement in self.statements:
            if statement.name == name:
                return statement
        known = ", ".join(each.name for each in self.statements)
        raise InvalidInput(f"scop {self.name!r} has no statement {name!r}; it has {known}")

    @property
    def scalars(self) -> tuple[str, ...]:
        """The names of the scalars: what is accessed without an index and is no array."""
        arrays = {array.name for array in self.arrays}
        accesses = (access for statement in self.statements for access in statement.accesses)
        names = (a.array for a in accesses if a.is_named and a.is_scalar)
        return tuple(dict.fromkeys(name for name in names if name not in arrays))

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the parameters."""
        return parameters_of(self.context)

    def __str__(self) -> str:
        head = f"{self.name}: {len(self.statements)} statements, context {self.context}"
        return "\n".join([head, *(f"  {array}" for array in self.arrays), *map(str, self.statements)])

    __repr__ = __str__


def with_parameters(scop: Scop, values: Mapping[str, int]) -> Scop:
    """The scop for given values of some of its parameters.

    Errors: InvalidInput for a parameter that it does not have or a value that its context excludes.
    """
    if unknown := sorted(set(values) - set(scop.parameters)):
        known = ", ".join(scop.parameters) or "none"
        raise InvalidInput(f"scop {scop.name!r} has no parameter {unknown[0]!r}; it has {known}")
    context = fixed(scop.context, values)
    if context.is_empty():
        given = ", ".join(f"{name} = {value}" for name, value in values.items())
        raise InvalidInput(f"scop {scop.name!r}: {given} is not in its context {scop.context}; give other values")
    return replace(
        scop,
        context=context,
        arrays=tuple(
            replace(
                array, sizes=tuple(values.get(size, size) if isinstance(size, str) else size for size in array.sizes)
            )
            for array in scop.arrays
        ),
        statements=tuple(
            replace(
                statement,
                domain=fixed(statement.domain, values),
                schedule=fixed(statement.schedule, values),
                accesses=tuple(replace(a, relation=fixed(a.relation, values)) for a in statement.accesses),
            )
            for statement in scop.statements
        ),
    )


def fixed(part: Part, values: Mapping[str, int]) -> Part:
    """A set or a relation for given values of parameters, which it then no longer has."""
    for name, value in values.items():
        position = part.find_dim_by_name(isl.dim_type.param, name)
        if position >= 0:
            part = part.fix_val(isl.dim_type.param, position, isl.Val(value)).project_out(
                isl.dim_type.param, position, 1
            )
    return part


def parameters_of(part: isl.Set | isl.Map) -> tuple[str, ...]:
    """The names of the parameters of a set or relation."""
    space = part.get_space()
    return tuple(str(space.get_dim_name(isl.dim_type.param, d)) for d in range(space.dim(isl.dim_type.param)))


def _check_distinct(name: str, what: str, names: list[str]) -> None:
    for each in names:
        if names.count(each) > 1:
            raise InvalidInput(f"scop {name!r}: two of its {what} are called {each!r}; give each its own name")


def _check_parameters(where: str, context: isl.Set, *parts: isl.Set | isl.Map) -> None:
    for part in parts:
        for name in parameters_of(part):
            if context.find_dim_by_name(isl.dim_type.param, name) < 0:
                raise InvalidInput(f"{where}: its parameter {name!r} is not in the context {context}; add it there")


def _check_tuple(where: str, part: isl.Set | isl.Map, end: isl.dim_type, name: str | None, rank: int | None) -> None:
    """One end of a relation is a tuple of that name (None: no name) and, where it is known, that many indices."""
    space = part.get_space()
    got = space.get_tuple_name(end) if space.has_tuple_name(end) else None
    size = part.dim(end)
    if got != name or (rank is not None and size != rank):
        wanted = f"{name or ''}[{'...' if rank is None else f'{rank} indices'}]"
        raise InvalidInput(f"{where}: expected the tuple {wanted}, got {got or ''}[{size} indices] in {part}")


def _check_covers(where: str, domain: isl.Set, relation: isl.Map) -> None:
    missing = domain.subtract(relation.domain())
    if not missing.is_empty():
        raise InvalidInput(
            f"{where}: expected it to hold for the whole domain, {missing.sample()} is missing in {relation}"
        )
