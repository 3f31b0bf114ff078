"""Which element a copy reads, as isl text: of a tensor of another shape, of a table of indices.

Sizes, tables and the names of a point's indices enter; index text leaves.
"""

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from polyfuse.errors import InvalidInput

Indices = NDArray[np.int64]
MAX_ENTRIES = 16_384
"""The longest axis along which elements are looked up in a table."""
MAX_DIVISOR = 1024
"""The largest divisor of an index that is tried."""
FEW = 16
"""The number of entries at each end of a table that are tried before all of them are."""
MAX_TRIM = 8
"""The most entries at an end of a table that are looked at on their own."""
TRIM_PRICE = 3
"""The increase of a divisor that saves one entry of its own."""


def along(dim: str, start: int, step: int) -> str:
    """`start + step * dim`, in the shortest form."""
    return f"{start} + {step}*{dim}" if step != 1 else f"{dim} + {start}" if start else dim


def reshaped_index(old: Sequence[int], new: Sequence[int], dims: Sequence[str]) -> tuple[str, frozenset[str]]:
    """Which element of the old shape a point of the new one reads, as isl text, and the dims that are plain indices.

    Axes are matched in runs of the same number of elements, so that the index of one run depends on its dims alone.

    >>> reshaped_index((1, 12, 5), (1, 3, 4, 5), ("n", "c", "h", "w"))[0]
    '0, 4*c + h, w'
    >>> reshaped_index((3, 4, 5), (12, 5), ("d0", "d1"))[0]
    'floor((d0)/4), (d0) mod 4, d1'
    """
    index, plain = ["0"] * len(old), set()
    for there, here in _runs(old, new):
        steps = [prod(new[d] for d in here[k + 1 :]) for k in range(len(here))]
        position = " + ".join(dims[d] if s == 1 else f"{s}*{dims[d]}" for d, s in zip(here, steps, strict=True))
        if len(here) == len(there) == 1:
            plain.add(dims[here[0]])
        for k, axis in enumerate(there):
            step = prod(old[a] for a in there[k + 1 :])
            whole = position if step == 1 else f"floor(({position})/{step})"
            index[axis] = whole if k == 0 else f"({whole}) mod {old[axis]}"
    return ", ".join(index), frozenset(plain)


def _runs(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The shortest runs of axes of two shapes that have the same number of elements; axes of size 1 are left out."""
    found: list[tuple[list[int], list[int]]] = []
    there, here = ([a for a, size in enumerate(shape) if size != 1] for shape in (old, new))
    while there:
        left, right = [there.pop(0)], [here.pop(0)]
        while (elements := prod(old[a] for a in left)) != (others := prod(new[a] for a in right)):
            if elements < others:
                left.append(there.pop(0))
            else:
                right.append(here.pop(0))
        found.append((left, right))
    return found


def index_runs(dim: str, table: Sequence[int]) -> list[tuple[str, str]]:
    """The intervals of an index over which a table is one expression of it, and the expressions, as isl text.

    >>> index_runs("h", [2, 1, 0, 1, 2])
    [('0 <= h <= 2', '2 + -1*h'), ('3 <= h <= 4', 'h + -2')]
    >>> index_runs("h", [0, 0, 0, 1, 1, 1])
    [('true', 'floor((h)/3)')]
    >>> index_runs("h", [0, 0, 0, 0, 1, 1, 2, 2, 3, 3])
    [('0 <= h <= 1', '0 + 0*h'), ('2 <= h <= 9', 'floor((h + -2)/2)')]
    """
    fits = [
        (fit[0] + TRIM_PRICE * (low + high), low, len(table) - high, fit[1])
        for low, high in _trims(table)
        if (fit := _fit(dim, table[low : len(table) - high], low)) is not None
    ]
    if not fits:
        return _affine_runs(dim, table)
    _, low, high, inner = min(fits)
    runs = [(f"{low} <= {dim} <= {high - 1}" if (low, high) != (0, len(table)) else "true", inner)]
    if low:
        runs.insert(0, (f"0 <= {dim} <= {low - 1}", along(dim, table[0], 0)))
    if high < len(table):
        runs.append((f"{high} <= {dim} <= {len(table) - 1}", along(dim, table[-1], 0)))
    return runs


def _trims(table: Sequence[int]) -> list[tuple[int, int]]:
    """The numbers of equal entries that may be cut off at the beginning and at the end of a table."""
    lead = next((k for k, entry in enumerate(table) if entry != table[0]), 1)
    trail = next((k for k, entry in enumerate(table[::-1]) if entry != table[-1]), 1)
    return [(low, high) for low in range(min(lead, MAX_TRIM)) for high in range(min(trail, MAX_TRIM))]


def _affine_runs(dim: str, table: Sequence[int]) -> list[tuple[str, str]]:
    """The longest intervals, from the beginning on, over which a table is affine."""
    runs, low = [], 0
    while low < len(table):
        step = table[low + 1] - table[low] if low + 1 < len(table) else 1
        high = low
        while high + 1 < len(table) and table[high + 1] - table[high] == step:
            high += 1
        runs.append((f"{low} <= {dim} <= {high}", along(dim, table[low] - step * low, step)))
        low = high + 1
    return runs


def floored(dim: str, table: Sequence[int], first: int = 0) -> str | None:
    """`floor((p*dim + q)/r)` that gives the entries of a table, which begins at an index; None where there is none.

    r is at most the number of entries, which suffices for any straight line that is rounded down, and at most 1,024.

    >>> floored("h", [0, 0, 1, 1, 2])
    'floor((h)/2)'
    """
    fit = _fit(dim, table, first)
    return fit[1] if fit is not None else None


def _fit(dim: str, table: Sequence[int], first: int) -> tuple[int, str] | None:
    """The smallest divisor of such an expression, and its text."""
    entries, points = np.asarray(table), first + np.arange(len(table))
    ends = np.r_[: min(len(table), FEW), max(len(table) - FEW, 0) : len(table)]
    for divisor in range(1, min(len(table), MAX_DIVISOR) + 1):
        rise = int(np.rint(divisor * (entries[-1] - entries[0]) / max(len(table) - 1, 1)))
        for factor in (rise, rise - 1, rise + 1):
            if _offset(entries[ends], points[ends], factor, divisor) is None:
                continue
            offset = _offset(entries, points, factor, divisor)
            if offset is not None:
                numerator = along(dim, offset, factor)
                return divisor, numerator if divisor == 1 else f"floor(({numerator})/{divisor})"
    return None


def _offset(entries: Indices, points: Indices, factor: int, divisor: int) -> int | None:
    """The smallest q for which `floor((factor*point + q)/divisor)` is the entry at each point."""
    low = int(np.max(divisor * entries - factor * points))
    high = int(np.min(divisor * entries - factor * points)) + divisor - 1
    return low if low <= high else None


def check_entries(name: str, sizes: Sequence[int]) -> None:
    """Refuse axes that are too long for their elements to be looked up one by one.

    Errors: InvalidInput.
    """
    if max(sizes) > MAX_ENTRIES:
        raise InvalidInput(
            f"layer {name!r}: expected axes of at most {MAX_ENTRIES:,} elements, got sizes {list(sizes)}"
        )
