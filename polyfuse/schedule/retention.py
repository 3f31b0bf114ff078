"""Retention: which executions of an overlapped schedule survive, and where the values wait.

One mechanism serves every strategy. Let `S = { A[a] -> tile[t] }` say which tiles need an element, `D_local` and
`D_global` the tile coordinates along which it is retained on and off chip:

    arrivals    R = S  without those that are later along D_local             the element enters its on-chip buffer
    executions  E = R  without those that are later along D_local and D_global         … because it is computed
    loads       R - E                                                          … because it is loaded from off-chip

No retained coordinate: `R = E = S`, everything is recomputed. All local: `R = E = lexmin(S)`. All global:
`R = S`, `E = lexmin(S)`, and what lowering calls the further copies of an instance become loads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import islpy as isl

from polyfuse.choices import BUFFER, RETAINED_IN, Place
from polyfuse.sets.coalescing import coalesced
from polyfuse.sets.spaces import freed

Placement = Literal["first", "shifted"]


def first_along(relation: isl.Map, kept: frozenset[int]) -> isl.Map:
    """The pairs that no other precedes along some of the range's coordinates, the others being equal.

        { A[a] -> tile[t] }   to   { A[a] -> tile[t] : t is lexmin over its coordinates in `kept` }

    >>> S = isl.Map("{ A[a] -> tile[t0, t1] : 0 <= t0, t1 <= 1 }")
    >>> print(first_along(S, frozenset({1})))
    { A[a] -> tile[t0, t1 = 0] : 0 <= t0 <= 1 }
    """
    if not kept:
        return relation
    space = relation.get_space()
    rank, coordinates = relation.dim(isl.dim_type.in_), relation.dim(isl.dim_type.out)
    others = [d for d in range(coordinates) if d not in kept]
    for moved, d in enumerate(others):
        relation = relation.move_dims(isl.dim_type.in_, rank + moved, isl.dim_type.out, d - moved, 1)
    relation = relation.lexmin()
    for d in others:
        relation = relation.move_dims(isl.dim_type.out, d, isl.dim_type.in_, rank, 1)
    relation = relation.set_tuple_name(isl.dim_type.in_, space.get_tuple_name(isl.dim_type.in_))
    return coalesced(relation.set_tuple_name(isl.dim_type.out, space.get_tuple_name(isl.dim_type.out)))


def in_buffer(places: Sequence[Place]) -> frozenset[int]:
    """The coordinates along which a value is retained in its buffer.

    >>> in_buffer(("recompute", "local", "global"))
    frozenset({1})
    """
    return frozenset(d for d, place in enumerate(places) if RETAINED_IN[place] == BUFFER)


def stored_in(places: Sequence[Place]) -> str | None:
    """The memory besides the buffer in which a value is retained along some coordinate; None where there is none.

    >>> stored_in(("local", "global")), stored_in(("local", "recompute"))
    ('offchip', None)
    """
    memories = (RETAINED_IN[place] for place in places)
    return next((memory for memory in memories if memory not in (None, BUFFER)), None)


@dataclass(frozen=True, eq=False)
class Retained:
    """The arrivals of elements in the on-chip buffer, computed and loaded ones: maps `{ A[a] -> tile[t] }`."""

    arrivals: isl.Map
    executions: isl.Map
    loads: isl.Map


def retain(need: isl.Map, extended_need: isl.Map, places: tuple[Place, ...], placement: Placement) -> Retained:
    """Decide the arrivals, executions and loads of one tensor.

    `need` and `extended_need` are `{ A[a] -> tile[t] }`, the latter as if the image had no borders; `places` has one
    entry per coordinate of a tile. Placement `first` is the definition: the first tile makes its whole halo.
    `shifted` takes the first tile of the *extended* need, so that every tile makes only what is new and the halo at
    the border is made in tiles before tile 0: one piece per statement, smallest rings, the same executions.
    """
    local = in_buffer(places)
    kept = frozenset(d for d, place in enumerate(places) if RETAINED_IN[place] is not None)
    if placement == "first":
        arrivals = first_along(need, local)
    else:
        anywhere = extended_need if need.is_subset(extended_need) else coalesced(extended_need.union(need))
        arrivals = coalesced(first_along(anywhere, local) & freed(need, isl.dim_type.out, local))
    executions = first_along(arrivals, kept)
    return Retained(arrivals, executions, coalesced(arrivals.subtract(executions)))
