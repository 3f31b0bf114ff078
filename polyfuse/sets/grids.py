"""Tables of whole numbers over a grid of steps, as pieces in which they are affine.

A table with a row for each step ──pieces()──> `AffinePiece`s, which together are exactly the table.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import lcm

import islpy as isl
import numpy as np

from polyfuse.errors import TooComplex
from polyfuse.sets.points import Integers

SET = isl.dim_type.set
LONGEST_PERIOD = 8
"""The longest period along a dimension that is looked for."""


@dataclass(frozen=True, eq=False)
class AffinePiece:
    """Steps `first + every * k` up to `last` along each dimension, where column c of a table is affine.

    Its value is `(constants[c] + factors[c] . step) / over`.
    """

    first: tuple[int, ...]
    last: tuple[int, ...]
    every: tuple[int, ...]
    factors: Integers
    constants: Integers
    over: int

    def value(self, column: int, space: isl.Space) -> isl.Aff:
        """A column as an expression in a space whose first dimensions are those of a step."""
        found = isl.Aff.zero_on_domain(isl.LocalSpace.from_space(space))
        found = found.set_constant_val(isl.Val(int(self.constants[column])))
        for d, factor in enumerate(self.factors[column].tolist()):
            found = found.set_coefficient_val(isl.dim_type.in_, d, isl.Val(factor))
        return found.scale_down_val(isl.Val(self.over))

    def steps(self, space: isl.Space) -> isl.Set:
        """The steps of the piece, in a space whose first dimensions are those of a step; the others may be anything."""
        found = isl.Set.universe(space)
        for d, (first, last, every) in enumerate(zip(self.first, self.last, self.every, strict=True)):
            found = found.lower_bound_val(SET, d, isl.Val(first)).upper_bound_val(SET, d, isl.Val(last))
            if every > 1:
                here = isl.Aff.var_on_domain(isl.LocalSpace.from_space(space), SET, d)
                apart = (here - isl.Aff.val_on_domain_space(space, isl.Val(first))).mod_val(isl.Val(every))
                found = found & isl.Set.from_basic_set(apart.zero_basic_set())
        return found


def pieces(table: Integers, counts: Sequence[int], most: int) -> tuple[AffinePiece, ...]:
    """A table of (steps, columns) as pieces; steps go through a grid of so many along each dimension, row by row.

    A table without steps has no pieces.

    Errors: TooComplex for more than `most` pieces.

    >>> table = np.array([[max(0, 4 * t - 1), 4 * t + 5] for t in range(9)])
    >>> [(piece.first, piece.last, piece.factors.tolist()) for piece in pieces(table, (9,), 10)]
    [((0,), (1,), [[3], [4]]), ((2,), (8,), [[4], [4]])]
    """
    found: list[AffinePiece] = []
    if not len(table):
        return ()
    for piece in _split(table.reshape(*counts, table.shape[1]), [range(count) for count in counts]):
        found.append(piece)
        if len(found) > most:
            raise TooComplex(
                f"a table of {len(table):,} steps: expected at most {most} pieces in which it is affine, it has more"
            )
    return tuple(found)


def _split(values: Integers, steps: list[range]) -> Iterator[AffinePiece]:
    """Pieces of a part of a table: cut along the first dimension in which it is not affine, or the shortest one."""
    for axis in range(len(steps)):
        along = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
        runs = runs_of(along)
        if len(runs) > 1:
            for run in runs:
                part = list(steps)
                part[axis] = steps[axis][run]
                yield from _split(values[(slice(None),) * axis + (run,)], part)
            return
    piece = fitted(values, steps)
    if piece is not None:
        yield piece
        return
    axis = min((axis for axis in range(len(steps)) if len(steps[axis]) > 1), key=lambda axis: len(steps[axis]))
    for k in range(values.shape[axis]):
        run = slice(k, k + 1)
        part = list(steps)
        part[axis] = steps[axis][run]
        yield from _split(values[(slice(None),) * axis + (run,)], part)


def runs_of(rows: Integers) -> list[slice]:
    """Rows in runs that grow by the same amount; of every second, third, ... row where that makes fewer of them."""
    best = list(runs_every(rows, 1))
    for period in range(2, LONGEST_PERIOD + 1):
        if len(best) <= period or period > len(rows) // 2:
            break
        found = list(runs_every(rows, period))
        best = found if len(found) < len(best) else best
    return best


def runs_every(rows: Integers, period: int) -> Iterator[slice]:
    """Runs of each residue of a period."""
    for residue in range(period):
        part = rows[residue::period]
        grows = np.diff(part, axis=0)
        start = 0
        while start < len(part):
            end = start + 1
            if end < len(part):
                changes = (grows[start + 1 :] != grows[start]).any(axis=1)
                end = start + 2 + (int(np.argmax(changes)) if changes.any() else len(changes))
            yield slice(residue + start * period, residue + (end - 1) * period + 1, period)
            start = end


def fitted(values: Integers, steps: Sequence[range]) -> AffinePiece | None:
    """The piece of values that are affine in all dimensions together; None where they are not."""
    rank = len(steps)
    origin = values[(0,) * rank]
    grows = [
        np.take(values, 1, axis)[(0,) * (rank - 1)] - origin if len(steps[axis]) > 1 else 0 * origin
        for axis in range(rank)
    ]
    factors = np.stack(grows, axis=1)
    at = np.indices(values.shape[:-1]).reshape(rank, -1).T
    if not np.array_equal((at @ factors.T + origin).reshape(values.shape), values):
        return None
    over = lcm(*(step.step for step in steps))
    factors = factors * np.array([over // step.step for step in steps])
    constants = origin * over - factors @ np.array([step.start for step in steps])
    first, last, every = zip(*((step.start, step[-1], step.step) for step in steps), strict=True)
    return AffinePiece(first, last, every, factors, constants, over)
