"""Spaces of relations, their dimensions one by one, names of dimensions: removed, or distinct; points as numbers."""

from collections.abc import Iterable
from functools import reduce
from typing import TypeVar

import islpy as isl

from polyfuse.sets.interrupts import interrupts_held

IN, OUT, PARAM = isl.dim_type.in_, isl.dim_type.out, isl.dim_type.param
Part = TypeVar("Part", isl.Set, isl.Map)


def relation_space(domain: isl.Space, range_: isl.Space) -> isl.Space:
    """`[p] -> { D[i] }` and `[q] -> { R[j] }` to `[p, q] -> { D[i] -> R[j] }`.

    isl itself refuses two tuples that do not have the same parameters.

    >>> image = isl.Set("[H] -> { A[i] : 0 <= i < H }").get_space()
    >>> print(relation_space(image, isl.Set("{ W[k] : 0 <= k < 3 }").get_space()))
    [H] -> { A[i] -> W[k] }
    """
    return domain.align_params(range_).map_from_domain_and_range(range_.align_params(domain))


def only_axis(part: Part, kind: isl.dim_type, axis: int) -> Part:
    """A set or relation with one dimension left of a tuple, which has no name then.

    >>> print(only_axis(isl.Map("{ S[i] -> T[a, b, c] : a = b = i and c = 2i }"), OUT, 2))
    { S[i] -> [c = 2i] }
    """
    return part.project_out(kind, axis + 1, part.dim(kind) - axis - 1).project_out(kind, 0, axis)


def union(parts: Iterable[Part]) -> Part:
    """The union of sets or relations, at least one."""
    return reduce(lambda one, other: one.union(other), parts)


def freed(relation: isl.Map, kind: isl.dim_type, axes: Iterable[int]) -> isl.Map:
    """A relation with some dimensions of a tuple unconstrained.

    >>> print(freed(isl.Map("{ A[a, b] -> tile[t] : a = t and b = 2t }"), IN, [1]))
    { A[a, i1] -> tile[t = a] }
    """
    name = relation.get_tuple_name(kind) if relation.has_tuple_name(kind) else None
    for axis in axes:
        relation = relation.project_out(kind, axis, 1).insert_dims(kind, axis, 1)
    return relation if name is None else relation.set_tuple_name(kind, name)


def latest(relation: isl.Map) -> isl.Map:
    """The lexmax of a relation without parameters, as the lexmin of its negatives.

    That of isl 0.27 is sometimes wrong for relations with strides (see tests/schedule/test_regressions.py).

    >>> print(latest(isl.Map("{ S[i] -> [t] : 0 <= t <= i < 4 }")))
    { S[i] -> [t = i] : 0 <= i <= 3 }
    """
    minus = isl.Map.from_multi_aff(isl.MultiAff.identity_on_domain_space(relation.get_space().range()).neg())
    return relation.apply_range(minus).lexmin().apply_range(minus)


def coordinates(point: isl.Point) -> list[int]:
    """The coordinates of a point as numbers."""
    rank = point.get_space().dim(isl.dim_type.set)
    return [int(point.get_coordinate_val(isl.dim_type.set, d).to_python()) for d in range(rank)]


def one_of(points: isl.Set | isl.BasicSet) -> str:
    """One point of a set in words, with the values of parameters where there are any.

    >>> one_of(isl.Set("{ S[i, j] : i = 1 and j = 2 }"))
    'S[1, 2]'
    """
    every = isl.Set.from_basic_set(points) if isinstance(points, isl.BasicSet) else points
    return str(every.sample_point()).removeprefix("{ ").removesuffix(" }").replace("{ ", "").strip()


def unnamed(relation: isl.Map, ends: tuple[isl.dim_type, ...] = (IN, OUT)) -> isl.Map:
    """The same relation with no name for any dimension of its tuples, and without pieces that hold nothing.

    With `ends`, of these tuples.

    Names of dimensions are decoration, which isl keeps for each piece of a union and compares in some operations: what
    people write is cleaned where it enters.

    >>> named = isl.Map("{ S[i] -> x[j] : j = i; S[k] -> x[l] : l = k + 1 and 2k = 1 }")
    >>> print(unnamed(named), unnamed(named).get_dim_name(OUT, 0))
    { S[i0] -> x[i0] } None
    """
    pieces = relation.get_basic_maps()
    whole = [piece for piece in pieces if not piece.is_empty()]
    if len(whole) < len(pieces):
        relation = isl.Map.empty(relation.get_space())
        for piece in whole:
            relation = relation.union(isl.Map.from_basic_map(piece))
    for end in ends:
        if any(piece.get_dim_name(end, d) for piece in pieces for d in range(piece.dim(end))):
            same = _plain_identity(relation, end)
            relation = same.apply_range(relation) if end == IN else relation.apply_range(same)
    return relation


def _plain_identity(relation: isl.Map, end: isl.dim_type) -> isl.Map:
    """`{ S[i] -> S[i] }` for a tuple of a relation, without names of dimensions."""
    rank = relation.dim(end)
    space = isl.Space.alloc(isl.DEFAULT_CONTEXT, 0, rank, rank)
    if relation.has_tuple_name(end):
        for each in (IN, OUT):
            space = space.set_tuple_name(each, relation.get_tuple_name(end))
    return isl.Map.identity(space)


def without_domain(function: isl.PwMultiAff) -> isl.PwMultiAff:
    """A function that is one affine expression in all of its pieces, defined everywhere; others as they are.

    Where it is printed its argument is known to be in its domain, which may be a union of many pieces: every
    expression that is made of it would be simplified by it again.

    >>> print(without_domain(isl.PwMultiAff("{ [t] -> S[2t] : t mod 3 = 0 or 4 <= t < 9 }")))
    { [t] -> S[(2t)] }
    """
    pieces: list[isl.MultiAff] = []
    with interrupts_held():
        function.foreach_piece(lambda _, expression: pieces.append(expression))
    if any(not piece.plain_is_equal(pieces[0]) for piece in pieces):
        return function
    return isl.PwMultiAff.from_multi_aff(pieces[0])


def tidied(points: isl.Set) -> isl.Set:
    """The same set without pieces that hold nothing, all of its pieces with the names that the set itself has.

    >>> print(tidied(isl.Set("{ S[i] : 0 <= i < 4; S[k] : 2k = 1 }")))
    { S[i] : 0 <= i <= 3 }
    """
    plain = unnamed(points.identity()).domain()
    for d in range(points.dim(isl.dim_type.set)):
        if name := points.get_dim_name(isl.dim_type.set, d):
            plain = plain.set_dim_name(isl.dim_type.set, d, name)
    return plain


def dimension_names(space: isl.Space, kind: isl.dim_type) -> tuple[str, ...]:
    """Distinct names of the dimensions of one kind; unnamed or repeated ones get `i0`, `i1`, ….

    >>> dimension_names(isl.Set("[H] -> { A[y, 5] }").get_space(), isl.dim_type.set)
    ('y', 'i1')
    """
    taken = {space.get_dim_name(PARAM, k) for k in range(space.dim(PARAM))} if kind != PARAM else set()
    names: list[str] = []
    for position in range(space.dim(kind)):
        name = space.get_dim_name(kind, position)
        candidates = [name] if name and name not in taken else []
        fallback = (f"i{position}{'_' * extra}" for extra in range(len(taken) + 1))
        names.append(next(option for option in (*candidates, *fallback) if option not in taken))
        taken.add(names[-1])
    return tuple(names)
