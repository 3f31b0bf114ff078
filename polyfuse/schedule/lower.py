"""Lowering: a non-singular schedule becomes singular copies by repeated lexicographic-minimum extraction.

Source: Jongen et al., "Optimization Through Recomputation in the Polyhedral Model", IMPACT 2018.
"""

from dataclasses import dataclass

import islpy as isl

from polyfuse.doors import public
from polyfuse.errors import IllegalSchedule, TooComplex, Unbounded
from polyfuse.sets.coalescing import coalesced
from polyfuse.sets.limits import operation_limit
from polyfuse.sets.reading import MapLike, as_map
from polyfuse.sets.spaces import only_axis
from polyfuse.text import html_table

MOST_COPIES = 4096


@public
@dataclass(frozen=True, eq=False)
class Lowered:
    """The copies of a schedule: `copies[k]` maps every instance executed more than k times to its k-th time."""

    schedule: isl.Map
    copies: tuple[isl.Map, ...]

    def renamed(self) -> isl.UnionMap:
        """The singular schedule of the new instances, the copy index appended.

        { S[i] -> T[t] }   to   { S[i, k] -> T[t] }
        """
        result = isl.UnionMap.empty(self.schedule.get_space())
        for k, copy in enumerate(self.copies):
            rank = copy.dim(isl.dim_type.in_)
            numbered = copy.add_dims(isl.dim_type.in_, 1).fix_val(isl.dim_type.in_, rank, isl.Val(k))
            if copy.has_tuple_name(isl.dim_type.in_):
                numbered = numbered.set_tuple_name(isl.dim_type.in_, copy.get_tuple_name(isl.dim_type.in_))
            result = result.union(isl.UnionMap.from_map(numbered))
        return result

    def __str__(self) -> str:
        count = len(self.copies)
        lines = [f"{name_of(self.schedule)}: {count} cop{'y' if count == 1 else 'ies'}"]
        return "\n".join([*lines, *(f"  {k}: {copy}" for k, copy in enumerate(self.copies))])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(str(self).splitlines()[0], ("copy", "schedule"), enumerate(self.copies))

    def check(self) -> None:
        """Prove with isl that the copies are singular, disjoint, and together are the schedule.

        Errors: IllegalSchedule.
        """
        union = isl.Map.empty(self.schedule.get_space())
        for k, copy in enumerate(self.copies):
            if not copy.is_single_valued() or not copy.is_disjoint(union):
                raise IllegalSchedule(
                    f"copy {k} of {name_of(self.schedule)} repeats an execution; this is a polyfuse bug"
                )
            union = union.union(copy)
        if union != self.schedule:
            raise IllegalSchedule(
                f"the copies of {name_of(self.schedule)} are not its schedule; this is a polyfuse bug"
            )


def lower(schedule: MapLike) -> Lowered:
    """Split `{ S[i] -> T[t] }` into singular copies: S_0 = lexmin(S), S_1 = lexmin(S - S_0), … until nothing is left.

    Errors: InvalidInput for text that isl cannot read, Unbounded where an instance runs infinitely often, TooComplex
    above MOST_COPIES copies or isl's operation limit.

    >>> for copy in lower("{ Stmt[i] -> [t0, t1] : 0 <= t0, t1 <= 1 and i = t0 + t1 }").copies:
    ...     print(copy)
    { Stmt[i] -> [t0 = -1 + i, t1 = 1] : 0 < i <= 2; Stmt[i = 0] -> [t0 = 0, t1 = 0] }
    { Stmt[i = 1] -> [t0 = 1, t1 = 0] }
    """
    relation = as_map(schedule, "schedule to lower", "{ S[i] -> [i] }")
    with operation_limit(what=f"copies of {name_of(relation)}"):
        most = copies_bound(relation)
        rest = relation
        copies: list[isl.Map] = []
        while not rest.is_empty():
            assert len(copies) < most, f"{name_of(relation)} has more copies than its bound {most}"
            copies.append(coalesced(rest.lexmin()))
            rest = coalesced(rest.subtract(copies[-1]))
    return Lowered(relation, tuple(copies))


def copies_bound(schedule: isl.Map) -> int:
    """An upper bound of how often one instance runs: the product of the extents of its times.

    Errors: Unbounded where an extent is infinite, TooComplex where the bound is above MOST_COPIES.
    """
    bound = 1
    for d in range(schedule.dim(isl.dim_type.out)):
        span = extent(schedule, d)
        if span is None:
            raise Unbounded(
                f"schedule of {name_of(schedule)}: an instance runs at infinitely many values of time dimension {d}; "
                "bound the tiles (intersect the range with the tiles of the domain)"
            )
        bound *= span
    if bound > MOST_COPIES:
        raise TooComplex(
            f"schedule of {name_of(schedule)}: up to {bound} copies of an instance, at most {MOST_COPIES} are split; "
            "use larger tiles"
        )
    return bound


def extent(schedule: isl.Map, d: int) -> int | None:
    """The number of values of time dimension d from the first to the last of one instance; None if infinite."""
    axis = only_axis(schedule, isl.dim_type.out, d)
    if axis.is_empty():
        return 0
    span = axis.reverse().apply_range(axis).deltas()
    top = span.dim_max_val(0)
    return None if top.is_infty() or top.is_nan() else int(str(top)) + 1


def name_of(schedule: isl.Map) -> str:
    """The name of the scheduled statement, for messages."""
    name = schedule.get_tuple_name(isl.dim_type.in_) if schedule.has_tuple_name(isl.dim_type.in_) else None
    return str(name or "the statement")
