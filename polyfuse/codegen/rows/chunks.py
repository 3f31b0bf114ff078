"""The columns of a row in chunks, and which input columns and taps each chunk uses.

RowShape + Tuning ──chunks()──> (Chunk, ...)
"""

from dataclasses import dataclass

from polyfuse.codegen.rows.shape import RowShape, Tuning, balanced


@dataclass(frozen=True)
class Chunk:
    """`pixels` output columns from `first`; `left` and `right` columns of its windows are outside.

    Where rows are joined, the columns of `rows` rows from row `first` on.
    """

    first: int
    pixels: int
    left: int
    right: int
    rows: int = 1

    @property
    def variant(self) -> tuple[int, int, int]:
        """What its code depends on."""
        return self.pixels, self.left, self.right


def chunks(shape: RowShape, most: int) -> tuple[Chunk, ...]:
    """The columns of a row in balanced chunks, with what of each one's windows is outside.

    >>> from polyfuse.codegen.rows.direct import Direct
    >>> shape = RowShape("conv", Direct(), 8, 8, 20, kernel=(3, 3), outside=(1, 1))
    >>> chunks(shape, 8)
    (Chunk(first=0, pixels=7, left=1, right=0, rows=1), Chunk(first=7, pixels=7, left=0, right=0, rows=1), \
Chunk(first=14, pixels=6, left=0, right=1, rows=1))
    """
    found, first = [], 0
    if shape.joins_rows:
        for rows in balanced(shape.height, max(1, most // shape.columns)):
            found.append(Chunk(first, rows * shape.columns, 0, 0, rows))
            first += rows
        return tuple(found)
    for pixels in balanced(shape.columns, most):
        low = shape.stride * first
        high = shape.stride * (first + pixels - 1) + shape.reach
        left = max(0, shape.outside[0] - low)
        right = max(0, high - (shape.span - shape.outside[1]))
        found.append(Chunk(first, pixels, left, right))
        first += pixels
    return tuple(found)


def runs(cut: tuple[Chunk, ...]) -> list[list[Chunk]]:
    """Neighbouring chunks of the same code."""
    found: list[list[Chunk]] = []
    for chunk in cut:
        if found and found[-1][0].variant == chunk.variant:
            found[-1].append(chunk)
        else:
            found.append([chunk])
    return found


def uses(shape: RowShape, chunk: Chunk, taps: range) -> list[tuple[int, list[tuple[int, int]]]]:
    """For each input column of a chunk that some tap reads: the column, and its (pixel, tap) pairs.

    Columns count from the first column of the chunk's first window; those outside are left out. Where rows are joined,
    they are numbered like the pixels.

    >>> from polyfuse.codegen.rows.direct import Direct
    >>> shape = RowShape("conv", Direct(), 8, 8, 2, kernel=(1, 3), stride=2, outside=(1, 0))
    >>> uses(shape, chunks(shape, 8)[0], range(3))
    [(1, [(0, 1)]), (2, [(0, 2), (1, 0)]), (3, [(1, 1)]), (4, [(1, 2)])]
    """
    if shape.joins_rows:
        return [(pixel, [(pixel, 0)]) for pixel in range(chunk.pixels)]
    found: dict[int, list[tuple[int, int]]] = {}
    end = shape.stride * (chunk.pixels - 1) + shape.reach - chunk.right
    for pixel in range(chunk.pixels):
        for tap in taps:
            column = shape.stride * pixel + shape.dilation * tap
            if chunk.left <= column < end:
                found.setdefault(column, []).append((pixel, tap))
    return sorted(found.items())


def reads(shape: RowShape, chunk: Chunk) -> bool:
    """Whether any window of the chunk reaches a column that is inside."""
    return bool(uses(shape, chunk, range(shape.kernel[1])))


def tap_groups(shape: RowShape, tuning: Tuning) -> tuple[range, ...]:
    """The columns of a kernel row in groups whose weights are held at once."""
    groups, first = [], 0
    for count in balanced(shape.kernel[1], tuning.taps):
        groups.append(range(first, first + count))
        first += count
    return tuple(groups)


def taps_inside(shape: RowShape) -> int:
    """Pairs of an output column and a tap of a kernel row that is inside, for all rows of the shape."""
    (whole,) = chunks(shape, shape.columns * shape.height)
    return sum(len(pairs) for _, pairs in uses(shape, whole, range(shape.kernel[1])))
