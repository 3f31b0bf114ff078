"""Whether a changed SCoP computes what the original one does: its order, and where it keeps values.

Scop + changed Scop ──check_changed()──> None, or IllegalSchedule with the two instances that are in the wrong order

Polly makes the first of these checks itself when it imports a file, and relies on the second:

    order     conflicting instances, two accesses of one element of which one is a write, keep their order
    accesses  a read finds where it now looks the value that the same write as before has put there
"""

from collections.abc import Iterator
from itertools import product

import islpy as isl

from polyfuse.errors import IllegalSchedule, InvalidInput
from polyfuse.network.scop.dataflow import Writes, read_of
from polyfuse.network.scop.scop import Scop, ScopAccess, ScopStatement
from polyfuse.sets.limits import operation_limit
from polyfuse.sets.spaces import one_of, relation_space


def check_changed(scop: Scop, changed: Scop) -> None:
    """Prove that a changed SCoP computes the same: other schedules, other arrays for values, nothing else.

    Errors: InvalidInput where statements or domains differ; IllegalSchedule with a witness; TooComplex above isl's
    operation limit.
    """
    _check_same_statements(scop, changed)
    with operation_limit(what=f"legality of a schedule of scop {scop.name!r}"):
        check_singular(changed)
        check_order(scop, changed)
        if any(not _same_accesses(scop, changed, statement) for statement in scop.statements):
            check_values(scop, changed)


def moved_arrays(scop: Scop, changed: Scop) -> tuple[str, ...]:
    """The arrays that the original writes and that the changed one writes to no longer, or not all of."""
    writes = [(s, access) for s in scop.statements for access in s.of_kind("write")]
    return tuple(
        dict.fromkeys(
            access.array
            for s, access in writes
            if not _same_accesses(scop, changed, s) and not _writes(changed, s, access)
        )
    )


def _writes(changed: Scop, statement: ScopStatement, access: ScopAccess) -> bool:
    there = [other for other in changed.statement(statement.name).of_kind("write") if other.array == access.array]
    wanted = access.relation.intersect_domain(statement.domain)
    return any(wanted.is_subset(other.relation) for other in there)


def check_singular(scop: Scop) -> None:
    """Every instance has one time. Errors: IllegalSchedule with an instance that has several."""
    for statement in scop.statements:
        if not statement.times.is_single_valued():
            later = statement.times.lex_lt_map(statement.times)
            twice = later.intersect(isl.Map.identity(later.get_space())).domain()
            raise IllegalSchedule(
                f"illegal: {one_of(twice)} runs at several times; Polly imports singular schedules: expand its "
                "copies in the C (polyfuse export-scop does), or keep the values that tiles share"
            )


def check_order(scop: Scop, changed: Scop) -> None:
    """Conflicting instances run in their original order. Errors: IllegalSchedule with two that do not."""
    for first in scop.statements:
        for second in scop.statements:
            conflicts = _conflicts(first, second)
            if conflicts.is_empty():
                continue
            ordered = conflicts.intersect_params(scop.context) & before(first, second)
            wrong = ordered.subtract(before(changed.statement(first.name), changed.statement(second.name)))
            if not wrong.is_empty():
                raise IllegalSchedule(_disorder(first, second, wrong))


def before(first: ScopStatement, second: ScopStatement) -> isl.Map:
    """`{ S[i] -> T[j] : S[i] runs before T[j] }`."""
    return first.times.lex_lt_map(second.times)


def check_values(scop: Scop, changed: Scop) -> None:
    """Reads find the same values. Errors: IllegalSchedule with a read that finds another."""
    old, new = Writes.of(scop), Writes.of(changed)
    for statement in scop.statements:
        there = changed.statement(statement.name)
        for k, access in enumerate(statement.accesses):
            if access.kind == "read":
                _check_read(old, new, statement, there, k)


def _check_read(old: Writes, new: Writes, statement: ScopStatement, there: ScopStatement, k: int) -> None:
    """One read of the original, and the same one as it is changed."""
    wanted, found = old.sources(*read_of(statement, k)), new.sources(*read_of(there, k))
    unwritten = statement.domain
    for key, pairs in wanted.items():
        unwritten = unwritten.subtract(pairs.domain())
        lost = pairs if key not in found else pairs.subtract(found[key])
        if not lost.is_empty():
            pair = lost.sample()
            raise IllegalSchedule(
                f"illegal: {one_of(pair.domain())} reads what {one_of(pair.range())} has written, but not in "
                f"{there.accesses[k].array}, where it was put: by then another value is there, or it looks elsewhere; "
                "enlarge that array or change its accesses"
            )
    moved = statement.accesses[k].relation.intersect_domain(unwritten)
    if statement.accesses[k].array == there.accesses[k].array:
        moved = moved.subtract(there.accesses[k].relation)
    for instances in (moved.domain(), *(pairs.domain() & unwritten for pairs in found.values())):
        if not instances.is_empty():
            raise IllegalSchedule(
                f"illegal: {one_of(instances)} reads {statement.accesses[k].array} as it is before the scop, and in "
                f"{there.accesses[k].array} something else; leave that access as it is"
            )


def _conflicts(first: ScopStatement, second: ScopStatement) -> isl.Map:
    """`{ S[i] -> T[j] }`: both access an element, and one of them writes it."""
    pairs = isl.Map.empty(relation_space(first.domain.get_space(), second.domain.get_space()))
    for one, other in _conflicting_accesses(first, second):
        pairs = pairs.union(one.relation.apply_range(other.relation.reverse()))
    return pairs.intersect_domain(first.domain).intersect_range(second.domain)


def _conflicting_accesses(first: ScopStatement, second: ScopStatement) -> Iterator[tuple[ScopAccess, ScopAccess]]:
    """Two accesses of one array, at least one of them a write."""
    for one, other in product(first.accesses, second.accesses):
        if one.array == other.array and "write" in (one.kind, other.kind):
            yield one, other


def _disorder(first: ScopStatement, second: ScopStatement, wrong: isl.Map) -> str:
    """Two instances in the wrong order, and what both access, in words."""
    pair = isl.Map.from_basic_map(wrong.sample())
    for one, other in _conflicting_accesses(first, second):
        element = pair.domain().apply(one.relation) & pair.range().apply(other.relation)
        if not element.is_empty():
            return (
                f"illegal: {one_of(pair.domain())} must run before {one_of(pair.range())}: the one "
                f"{one.kind}s {one_of(element)} and the other {other.kind}s it; the schedule runs them in another "
                "order; change the schedule"
            )
    raise AssertionError(f"{first.name} and {second.name} conflict in no element")


def _same_accesses(scop: Scop, changed: Scop, statement: ScopStatement) -> bool:
    there = changed.statement(statement.name)
    return all(
        old.array == new.array
        and old.relation.intersect_domain(statement.domain).is_equal(new.relation.intersect_domain(statement.domain))
        for old, new in zip(statement.accesses, there.accesses, strict=True)
    )


def _check_same_statements(scop: Scop, changed: Scop) -> None:
    names, others = ([each.name for each in some.statements] for some in (scop, changed))
    if sorted(names) != sorted(others):
        raise InvalidInput(
            f"scop {changed.name!r}: expected the statements {', '.join(names)}, got {', '.join(others)}"
        )
    for statement in scop.statements:
        there = changed.statement(statement.name)
        if not statement.domain.is_equal(there.domain):
            raise InvalidInput(
                f"statement {statement.name!r}: expected the domain {statement.domain}, got {there.domain}; a changed "
                "schedule keeps the instances"
            )
        if [a.kind for a in statement.accesses] != [a.kind for a in there.accesses]:
            raise InvalidInput(
                f"statement {statement.name!r}: expected accesses of the kinds "
                f"{', '.join(a.kind for a in statement.accesses)}, got {', '.join(a.kind for a in there.accesses)}"
            )
