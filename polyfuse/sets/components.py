"""Split a set into disjoint products of small independent sets.

Enters: an isl set or map. Leaves: `Product`s of basic sets without existential variables, whose numbers of points
multiply; the products themselves are disjoint, so their numbers of points add.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import islpy as isl

from polyfuse.errors import TooComplex

SET = isl.dim_type.set
PARAM = isl.dim_type.param
DIV = isl.dim_type.div


@dataclass(frozen=True, eq=False)
class Product:
    """`context x factors[0] x factors[1] x …`: conditions on parameters, and sets over disjoint dimensions.

    `positions` are those of each factor's dimensions, in order; existential variables come after the dimensions.
    """

    context: isl.BasicSet
    factors: tuple[isl.BasicSet, ...]
    positions: tuple[tuple[int, ...], ...]


def independent_sets(s: isl.Set) -> list[isl.Set]:
    """Sets over disjoint dimensions whose numbers of points multiply to that of `s`.

    A union of several basic sets is not split; `products` splits each of its disjoint pieces.

    >>> len(independent_sets(isl.Set("{ A[i, j] : exists e : 0 <= e < 3 and 0 <= i - 4e < 6 and 0 <= j < 4 }")))
    2
    """
    pieces = s.flatten().get_basic_sets()
    if len(pieces) != 1:
        return [s]
    groups = connected_dimensions(pieces[0])
    return [restricted_to(pieces[0], group).to_set() for group in groups] if len(groups) > 1 else [s]


def products(s: isl.Set) -> list[Product]:
    """Disjoint products of independent sets that together have as many points as `s`.

    >>> [len(product.factors) for product in products(isl.Set("{ A[i,j,k] : 0 <= i < 4 and 0 <= j <= k < 9 }"))]
    [2]

    Errors: TooComplex when an existential variable of `s` cannot be written as a floor of the others.
    """
    return [_product(piece) for piece in _disjoint_pieces(s)]


def _disjoint_pieces(s: isl.Set) -> list[isl.BasicSet]:
    """Disjoint basic sets with as many points as `s`; existential variables became dimensions.

        { A[i] : exists e = floor(f(i)) : … }   gives   { [i, e] : e = floor(f(i)) and … }

    Each point has one value of each floor, so no point is counted twice.
    """
    disjoint = s.flatten().compute_divs().make_disjoint()
    return [_without_divs(piece) for piece in disjoint.get_basic_sets() if not piece.is_empty()]


def _without_divs(piece: isl.BasicSet) -> isl.BasicSet:
    for position in range(piece.dim(DIV)):
        try:
            piece.get_div(position)
        except isl.Error as error:
            raise TooComplex(
                f"counting {piece}: expected existential variables that are floors of the other dimensions, "
                f"number {position} is not; simplify the set with compute_divs, or project it differently"
            ) from error
    return piece.lift().flatten() if piece.dim(DIV) else piece


def _product(piece: isl.BasicSet) -> Product:
    groups = connected_dimensions(piece)
    context = piece.drop_constraints_involving_dims(SET, 0, piece.dim(SET)).params()
    factors = tuple(restricted_to(piece, group) for group in groups)
    return Product(context, factors, tuple(tuple(sorted(group)) for group in groups))


def restricted_to(piece: isl.BasicSet, kept: set[int]) -> isl.BasicSet:
    """The set over the kept dimensions, with the constraints that mention only them (and parameters)."""
    for position in reversed(range(piece.dim(SET))):
        if position not in kept:
            piece = piece.drop_constraints_involving_dims(SET, position, 1).project_out(SET, position, 1)
    return piece


def connected_dimensions(piece: isl.BasicSet) -> list[set[int]]:
    """Dimensions tied by a chain of constraints and existential variables, one set for each such component."""
    columns = [(SET, position) for position in range(piece.dim(SET))]
    columns += [(DIV, position) for position in range(piece.dim(DIV))]
    groups = [{column} for column in range(len(columns))]
    for constraint in piece.get_constraints():
        tied = [group for group in groups if any(constraint.involves_dims(*columns[column], 1) for column in group)]
        if len(tied) > 1:
            groups = [group for group in groups if group not in tied] + [set().union(*tied)]
    dimensions = [{column for column in group if column < piece.dim(SET)} for group in groups]
    return sorted((group for group in dimensions if group), key=min)


def total(s: isl.Set, count_factor: Callable[[isl.BasicSet], int]) -> int:
    """The number of points of a set without parameters, given that of each independent factor."""
    return prod(
        sum(prod(count_factor(factor) for factor in product.factors) for product in products(part))
        for part in independent_sets(s)
    )
