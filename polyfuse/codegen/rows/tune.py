"""How each shape is computed by default, and which tunings suit a shape.

The defaults follow measurements (`python -m polyfuse.bench.rows`), as a rule of registers: accumulators, the weights
held, and one or two for the input.
"""

from collections.abc import Sequence
from itertools import product

from polyfuse.codegen.rows.interpolation import TILES
from polyfuse.codegen.rows.narrow import best_ways
from polyfuse.codegen.rows.pricing import Calls, cheapest_tile
from polyfuse.codegen.rows.shape import RowShape, Target, Tuning, balanced, block_sizes
from polyfuse.codegen.rows.tiling import Sizes, tilings
from polyfuse.errors import InvalidInput

BATCHES = (12, *range(13, 17), *range(11, 5, -1))
"""Tiles transformed at once: with more, transforms leave the second cache; with fewer, weights are read too often. The
first of these is taken that leaves enough tiles to multiply at once."""

ENOUGH = 10
"""Accumulators that keep two units of four cycles busy, and some; a short row takes several output blocks at once."""


def default_tuning(shape: RowShape, target: Target) -> Tuning:
    """A good tuning of the shape on the target.

    >>> default_tuning(RowShape("conv", "direct", 64, 64, 56, kernel=(3, 3), outside=(1, 1)), Target(16, 32)).pixels
    26
    """
    if shape.kind in ("direct", "few_channels"):
        return _convolution(shape, target)
    if shape.kind == "grouped":
        taps = min(shape.kernel[1], 7 if target.registers >= 32 else 2)
        return Tuning(pixels=target.registers - 3 - taps if target.registers >= 32 else 12, taps=taps)
    if shape.kind == "stencil":
        fits = shape.height + shape.kernel[0] * shape.kernel[1] + 2 <= target.registers
        return Tuning(pixels=target.floats, taps=shape.kernel[1] if fits else 1)
    if shape.kind == "winograd":
        return winograd_tuning(((shape, 1),), target)
    if shape.kind == "depthwise":
        small = shape.kernel[1] <= 3 or target.registers < 32
        return Tuning(pixels=16 if not small else 10 if shape.stride == 1 else 8)
    if shape.kind in ("max_pool", "average_pool"):
        return Tuning(pixels=target.registers // 4)
    return Tuning(pixels=64)


def winograd_tuning(calls: Calls, target: Target, tiles: Sequence[int] = TILES) -> Tuning:
    """The cheapest tuning with one of the tiles, for all kernels of a layer; the first of them computes most."""
    main = calls[0][0]
    edges = {tile: (0, *(m for m in TILES if m < tile)) for tile in tiles}
    choices = ([tiled(main, target, m, edge) for edge in product(edges[m], edges[m])] for m in tiles)
    return cheapest_tile(calls, choices, target.floats)


def tiled(shape: RowShape, target: Target, tile: int, edge: Sizes = (0, 0)) -> Tuning:
    """2 x 12 accumulators, or 2 x 6 with few registers; of few tiles more output blocks at once."""
    blocks = len(block_sizes(shape.out_channels, target.floats))
    plain = Tuning(tile=tile, batch=1, edge=edge)
    tiles = max(region.tiles for region in tilings(shape, plain, target.floats))
    accumulators, wide = (12, (2, 3, 1)) if target.registers < 32 else (24, (2, 1))
    if target.registers >= 32 and 2 * tiles < ENOUGH:
        wide = (4, 2, 1)
    together = next(a for a in wide if blocks % a == 0)
    pixels = min(12, accumulators // together)
    whole = (tiles,) if tiles <= max(BATCHES) else ()
    batch = next((n for n in (*whole, *BATCHES) if together * min(_chunks(tiles, n, pixels)) >= ENOUGH), BATCHES[0])
    return Tuning(blocks=together, pixels=pixels, taps=1, tile=tile, batch=batch, edge=edge)


def _chunks(tiles: int, batch: int, pixels: int) -> set[int]:
    """How many tiles are multiplied at once."""
    return {chunk for part in balanced(tiles, batch) for chunk in balanced(part, pixels)}


def _convolution(shape: RowShape, target: Target) -> Tuning:
    """With few registers 2x6, one tap at a time; with many, all taps of a kernel row for as many columns as fit.

    With a stride few taps read a column, so that two output blocks share it. Where rows are joined, two output blocks
    share the columns of as many rows as fit.
    """
    if shape.joins_rows:
        accumulators = 12 if target.registers < 32 else 28
        wide = 2 if len(block_sizes(shape.out_channels, target.floats)) % 2 == 0 else 1
        return Tuning(blocks=wide, pixels=accumulators // wide, taps=1)
    ways = best_ways(shape, target.floats)
    blocks = len(block_sizes(shape.out_channels // shape.groups, target.floats)) - (ways > 1)
    if target.registers < 32 and shape.kind == "few_channels":
        taps = min(shape.kernel[1], 7)
        return Tuning(pixels=max(8, 13 - taps), taps=taps)
    if target.registers < 32:
        wide = 2 if blocks % 2 == 0 and blocks else 1
        taps = 1 if wide == 2 else min(shape.kernel[1], 2)
        return Tuning(blocks=wide, pixels=12 // wide, taps=taps, ways=ways)
    if shape.kernel[1] == 1:
        wide = next(a for a in (4, 3, 2, 1) if blocks % a == 0) if blocks else 1
        return Tuning(blocks=wide, pixels=24 // wide, taps=1, ways=ways)
    taps = min(shape.kernel[1], 7)
    together = (2, 1, 3) if shape.stride > 1 else (1, 2, 3)
    held = {a: (target.registers - 3) // a - taps for a in together if blocks % a == 0}
    wide = next((a for a, pixels in held.items() if blocks and a * min(pixels, shape.columns) >= ENOUGH), 1)
    return Tuning(blocks=wide, pixels=held.get(wide, target.registers - taps - 3), taps=taps, ways=ways)


def check_tuning(shape: RowShape, floats: int, tuning: Tuning) -> None:
    """Raises InvalidInput where the tuning does not suit the shape."""
    where = f"row kernel {shape.name!r}"
    if min(tuning.blocks, tuning.pixels, tuning.taps, tuning.unroll) < 1:
        raise InvalidInput(f"{where}: expected numbers of at least 1, got {tuning}")
    if shape.kind == "winograd":
        _check_winograd(where, tuning)
    elif tuning.tile or tuning.batch or any(tuning.edge):
        raise InvalidInput(f"{where}: {shape.kind} has no tiles, got {tuning}; leave tile, batch and edge at 0")
    if tuning.ways > 1 and best_ways(shape, floats) % tuning.ways:
        raise InvalidInput(f"{where}: {tuning.ways} ways do not fit, at most {best_ways(shape, floats)}; set ways=1")
    out_blocks = len(block_sizes(shape.out_channels // shape.groups, floats)) - (tuning.ways > 1)
    if out_blocks % tuning.blocks or (tuning.blocks > 1 and shape.kind not in ("direct", "few_channels", "winograd")):
        raise InvalidInput(
            f"{where}: expected a number of blocks that divides {out_blocks} blocks of {floats} output channels, "
            f"got {tuning.blocks}"
        )
    sizes = block_sizes(shape.in_channels // shape.groups, floats)
    if shape.kind in ("direct", "winograd") and any(size % tuning.unroll for size in sizes):
        raise InvalidInput(f"{where}: {tuning.unroll} channels at once do not divide blocks of {sizes} input channels")
    if shape.kind not in ("direct", "winograd") and tuning.unroll > 1:
        raise InvalidInput(f"{where}: only direct convolution unrolls over input channels; set unroll=1")
    channels = (shape.in_channels, shape.out_channels)
    if shape.kind == "direct" and shape.groups > 1 and any(c % (shape.groups * floats) for c in channels):
        raise InvalidInput(
            f"{where}: {shape.groups} groups of {channels[0]} and {channels[1]} channels expect a multiple of {floats} "
            "channels in each; use narrower vectors, or weights with zeros and groups=1"
        )


def _check_winograd(where: str, tuning: Tuning) -> None:
    if tuning.tile not in TILES or tuning.batch < 1:
        raise InvalidInput(f"{where}: expected a tile of {TILES} and a batch of at least 1 tile, got {tuning}")
    smaller = (0, *(m for m in TILES if m < tuning.tile))
    if not all(edge in smaller for edge in tuning.edge):
        raise InvalidInput(f"{where}: expected tiles of {smaller} at the edges of larger ones, got {tuning}")
