"""How much a row kernel does in one call, in operations on whole vectors, from the code that it is made of.

RowShape + Tuning + V ──row_work()──> RowWork
"""

from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache

from polyfuse.codegen.rows.activation import activation_vectors
from polyfuse.codegen.rows.gather import source_blocks
from polyfuse.codegen.rows.kernel import part_chunks
from polyfuse.codegen.rows.pricing import products_price, read_again, transforms_price
from polyfuse.codegen.rows.shape import RowShape, Tuning, block_sizes, chunks, tap_groups, uses
from polyfuse.codegen.rows.tiling import tilings

ALONE = 12
"""What a multiply-add of a column by itself takes, in operations on vectors: it waits for the one before."""
ROOT_VECTORS = 20
"""What square roots and the division of `lrn` take, in operations on vectors."""


@dataclass(frozen=True)
class RowWork:
    """One call with all of its rows inside of the image.

    macs        multiply-accumulates of the layer that meet no padding
    vectors     multiply-adds (or maxima, additions, moves) of vectors, their empty lanes included; and stencils' loads
    loads       input columns that are loaded or broadcast
    stores      vectors that are finished: residual, activation, store
    chunks      how often a chunk of columns of a group of output blocks is begun
    transforms  operations of Winograd's transforms, as if they were multiply-adds
    again       bytes of weights that are read again and again, and what is read between two times
    """

    macs: int
    vectors: float
    loads: float
    stores: int
    chunks: int
    transforms: float = 0.0
    again: tuple[tuple[int, int], ...] = ()


@lru_cache(maxsize=4096)
def row_work(shape: RowShape, tuning: Tuning, floats: int) -> RowWork:
    """The work of one call. Activations count among its vectors where they take many operations.

    >>> shape = RowShape("conv", "direct", 16, 24, 4, kernel=(3, 3), outside=(1, 1))
    >>> row_work(shape, Tuning(pixels=4, ways=2), 16)
    RowWork(macs=11520, vectors=720.0, loads=288.0, stores=8, chunks=2, transforms=0.0, again=())
    """
    work = _without_activation(shape, tuning, floats)
    return replace(work, vectors=work.vectors + work.stores * activation_vectors(shape, floats))


def _without_activation(shape: RowShape, tuning: Tuning, floats: int) -> RowWork:
    if shape.kind in ("direct", "grouped", "few_channels"):
        return _convolution(shape, tuning, floats)
    if shape.kind == "stencil":
        return _stencil(shape, floats)
    if shape.kind == "winograd":
        return _winograd(shape, tuning, floats)
    if shape.kind in ("depthwise", "max_pool", "average_pool"):
        return _window(shape, tuning, floats)
    if shape.kind == "gather":
        return _gather(shape, floats)
    vectors = shape.columns * len(block_sizes(shape.out_channels, floats))
    inputs = 1 if shape.spread else shape.rows_read
    each = ROOT_VECTORS + int(shape.numbers[0]) if shape.kind == "lrn" else 1
    return RowWork(0, each * vectors, inputs * vectors, vectors, len(block_sizes(shape.out_channels, floats)))


def row_uses(shape: RowShape) -> tuple[int, ...]:
    """For each row that the caller points at, of one operand and channel, how many output rows times taps read it.

    >>> row_uses(RowShape("s", "stencil", 1, 1, 64, kernel=(3, 3), height=2))
    (1, 2, 2, 1)
    """
    if shape.kind not in ("stencil", "winograd"):
        return (1,) * (1 if shape.kind in ("add", "mul", "gather") else shape.rows_read)
    found = Counter(r + shape.dilation * k for r in range(shape.height) for k in range(shape.kernel[0]))
    return tuple(found[row] for row in range(shape.rows_read))


def taps_inside(shape: RowShape) -> int:
    """Pairs of an output column and a tap of a kernel row that is inside."""
    (whole,) = chunks(shape, shape.columns * shape.height)
    return sum(len(pairs) for _, pairs in uses(shape, whole, range(shape.kernel[1])))


def _convolution(shape: RowShape, tuning: Tuning, v: int) -> RowWork:
    channels = shape.in_channels // shape.groups
    steps = channels * shape.kernel[0]
    vectors = loads = 0.0
    stores = begun = 0
    for blocks, groups, ways, cut in part_chunks(shape, tuning, v):
        for chunk in cut:
            for taps in tap_groups(shape, tuning):
                used = uses(shape, chunk, taps)
                vectors += groups * blocks * steps * sum(len(pairs) for _, pairs in used) / ways
                loads += groups * steps * len(used) / ways
            stores += groups * blocks * chunk.pixels
            begun += groups
    macs = taps_inside(shape) * steps * shape.out_channels
    return RowWork(macs, vectors, loads, stores, begun)


def _window(shape: RowShape, tuning: Tuning, v: int) -> RowWork:
    blocks, rows = len(block_sizes(shape.out_channels, v)), shape.kernel[0]
    cut = chunks(shape, tuning.pixels)
    columns = sum(len(uses(shape, chunk, range(shape.kernel[1]))) for chunk in cut)
    taps = taps_inside(shape)
    macs = taps * rows * shape.out_channels if shape.kind == "depthwise" else 0
    vectors = blocks * rows * taps * (2 if shape.kind == "max_pool" else 1)
    return RowWork(macs, vectors, blocks * rows * columns, blocks * shape.columns, blocks * len(cut))


def _gather(shape: RowShape, v: int) -> RowWork:
    """A load or a shuffle for each block that an output block takes channels from."""
    blocks = len(block_sizes(shape.out_channels, v))
    loads = shape.columns * sum(len(source_blocks(shape, v, block)) for block in range(blocks))
    return RowWork(0, loads, loads, shape.columns * blocks, blocks)


def _stencil(shape: RowShape, v: int) -> RowWork:
    """Columns whose windows reach outside, and fewer than a vector, are computed one by one.

    Loads count as much as multiply-adds, since most are not aligned: a row at a time takes half as long again as eight.
    """
    inside = max(0, shape.columns - sum(shape.outside))
    vectors = -(-inside // v) if inside >= v else 0
    alone = shape.columns - (inside if vectors else 0)
    kh, kw = shape.kernel
    macs = taps_inside(shape) * kh * shape.height
    loads = vectors * shape.rows_read * kw
    products = (vectors + ALONE * alone) * shape.height * kh * kw
    return RowWork(macs, products + loads, loads, (vectors + alone) * shape.height, 1)


def _winograd(shape: RowShape, tuning: Tuning, v: int) -> RowWork:
    """Vectors and transforms are those of its price, weights are read again; multiply-accumulates are the layer's."""
    batches = sum(len(plan.batches) for plan in tilings(shape, tuning, v))
    macs = taps_inside(shape) * 3 * shape.height * shape.in_channels * shape.out_channels
    products, transforms = products_price(shape, tuning, v), transforms_price(shape, tuning, v)
    again = read_again(shape, tuning, v)
    return RowWork(macs, products, 0.0, shape.height * shape.columns, batches, transforms, again)
