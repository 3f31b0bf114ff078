"""How Winograd's algorithm computes a shape: tiles, batches, accumulators.

The constants follow measurements (`python -m polyfuse.bench.rows`).
"""

from collections.abc import Sequence
from itertools import product

from polyfuse.codegen.rows.direct import ENOUGH
from polyfuse.codegen.rows.interpolation import TILES
from polyfuse.codegen.rows.pricing import Calls, cheapest_tile
from polyfuse.codegen.rows.regions import Sizes, regions_of
from polyfuse.codegen.rows.shape import RowShape, Tuning, Vectors, balanced, block_sizes

BATCHES = (12, *range(13, 17), *range(11, 5, -1))
"""Tiles transformed at once: with more, transforms leave the second cache; with fewer, weights are read too often. The
first of these is taken that leaves enough tiles to multiply at once."""


def winograd_tuning(calls: Calls, vectors: Vectors, tiles: Sequence[int] = TILES) -> Tuning:
    """The cheapest tuning with one of the tiles, for all kernels of a layer; the first of them computes most."""
    main = calls[0][0]
    edges = {tile: (0, *(m for m in TILES if m < tile)) for tile in tiles}
    choices = ([tiled(main, vectors, m, edge) for edge in product(edges[m], edges[m])] for m in tiles)
    return cheapest_tile(calls, choices, vectors.floats)


def tiled(shape: RowShape, vectors: Vectors, tile: int, edge: Sizes = (0, 0)) -> Tuning:
    """2 x 12 accumulators, or 2 x 6 with few registers; of few tiles more output blocks at once."""
    blocks = len(block_sizes(shape.out_channels, vectors.floats))
    plain = Tuning(tile=tile, batch=1, edge=edge)
    tiles = max(region.tiles for region in regions_of(shape, plain, vectors.floats))
    accumulators, wide = (12, (2, 3, 1)) if vectors.registers < 32 else (24, (2, 1))
    if vectors.registers >= 32 and 2 * tiles < ENOUGH:
        wide = (4, 2, 1)
    together = next(a for a in wide if blocks % a == 0)
    pixels = min(12, accumulators // together)
    whole = (tiles,) if tiles <= max(BATCHES) else ()
    batch = next((n for n in (*whole, *BATCHES) if together * min(_chunks(tiles, n, pixels)) >= ENOUGH), BATCHES[0])
    return Tuning(blocks=together, pixels=pixels, taps=1, tile=tile, batch=batch, edge=edge)


def _chunks(tiles: int, batch: int, pixels: int) -> set[int]:
    """How many tiles are multiplied at once."""
    return {chunk for part in balanced(tiles, batch) for chunk in balanced(part, pixels)}
