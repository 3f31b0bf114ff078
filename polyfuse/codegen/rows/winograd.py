"""Winograd's convolution F(m x m', 3x3) of blocked rows, `height` output rows at once, as a kind.

winograd_functions.py has its C, regions.py its tiles, pricing.py its operations, tune.py how it is tuned.

    weights  [group of A out blocks][frequency][in channel][A][V], transformed in float64, for each size of tiles
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polyfuse.codegen.rows.chunks import taps_inside
from polyfuse.codegen.rows.direct import Direct
from polyfuse.codegen.rows.interpolation import TILES, transformed_weights
from polyfuse.codegen.rows.pricing import (
    Calls,
    memory_price,
    products_price,
    read_again,
    read_bytes,
    transforms_price,
    worthwhile,
)
from polyfuse.codegen.rows.regions import Region, Sizes, regions_of, transforms, workspace_bytes
from polyfuse.codegen.rows.shape import Floats, Kind, RowShape, RowWork, Tuning, Vectors, filled
from polyfuse.codegen.rows.stencil import sliding_uses
from polyfuse.codegen.rows.tune import tiled, winograd_tuning
from polyfuse.codegen.rows.winograd_functions import winograd_functions
from polyfuse.errors import InvalidInput
from polyfuse.network.layer import Layer
from polyfuse.network.operator import Conv
from polyfuse.network.window import Window


@dataclass(frozen=True)
class Winograd(Kind):
    """3x3 convolutions by Winograd's algorithm. No layer is claimed: it is chosen in place of the direct one.

    tile    the size m of a layer's tiles; 0 in the shape of a kernel, whose tuning has it
    priced  whether `tile` only suits whole rows of the layer: what a group executes of them may make another tile, or
            the direct algorithm, cheaper
    edge    the smaller tiles (`Tuning.edge`) of a layer with a tile of its own; None where price chooses them
    """

    tile: int = 0
    priced: bool = False
    edge: Sizes | None = None

    name = "winograd"
    weighted = True
    several_blocks = True
    unrolls = True
    tall = 24
    streams = True
    has_workspace = True
    skips_rows = False

    def check(self, shape: RowShape) -> None:
        if (shape.kernel, shape.stride, shape.dilation) != ((3, 3), 1, 1):
            raise InvalidInput(
                f"row kernel {shape.name!r}: winograd expects kernel (3, 3), stride 1 and dilation 1; "
                "use direct instead"
            )
        super().check(shape)

    def row_uses(self, shape: RowShape) -> tuple[int, ...]:
        return sliding_uses(shape)

    def prefetches_in(self, shape: RowShape, is_large: bool) -> bool:
        return is_large

    def prefetches_out(self, shape: RowShape, is_large: bool) -> bool:
        return is_large and not shape.stream

    def placed(self, padding: tuple[int, int], outside: tuple[int, int], pitches: Sequence[int]) -> Kind:
        return Winograd()

    def otherwise(self, shape: RowShape, vectors: Vectors) -> Kind | None:
        return None if worthwhile(shape, self.tuning(shape, vectors), vectors.floats) else Direct()

    def tuning(self, shape: RowShape, vectors: Vectors) -> Tuning:
        return winograd_tuning(((shape, 1),), vectors)

    def layer_tuning(self, calls: Calls, vectors: Vectors) -> Tuning:
        """The tuning of all kernels of a layer, of which the first computes most."""
        if self.edge is not None:
            return tiled(calls[0][0], vectors, self.tile, self.edge)
        return winograd_tuning(calls, vectors, TILES if self.priced else (self.tile,))

    def check_tiles(self, where: str, tuning: Tuning) -> None:
        if tuning.tile not in TILES or tuning.batch < 1:
            raise InvalidInput(f"{where}: expected a tile of {TILES} and a batch of at least 1 tile, got {tuning}")
        smaller = (0, *(m for m in TILES if m < tuning.tile))
        if not all(edge in smaller for edge in tuning.edge):
            raise InvalidInput(f"{where}: expected tiles of {smaller} at the edges of larger ones, got {tuning}")

    def header(self, shape: RowShape, tuning: Tuning, floats: int) -> list[str]:
        sizes = ", ".join(f"{high}x{wide}" for high, wide in transforms(tuning))
        return [
            *map(_region_header, regions_of(shape, tuning, floats)),
            f"weights [group][frequency][in channel][{tuning.blocks} blocks][{floats}], transformed for {sizes}",
            f"workspace {self.workspace_bytes(shape, tuning, floats)} bytes: inputs [frequency][block][tile]"
            f"[{floats}], then products alike",
        ]

    def workspace_bytes(self, shape: RowShape, tuning: Tuning, floats: int) -> int:
        return workspace_bytes(shape, tuning, floats)

    def packed(self, shape: RowShape, tuning: Tuning, floats: int, weights: Floats) -> Floats:
        """Weights as the frequencies of every size of tiles are multiplied by them."""
        return np.concatenate([_frequencies(tuning, floats, weights, tile) for tile in transforms(tuning)])

    def weight_bytes(self, shape: RowShape, tuning: Tuning, floats: int) -> int:
        """Those of the transformed weights that a call reads, blocks filled up."""
        return read_bytes(shape, tuning, floats)

    def vectors_once(self, shape: RowShape, tuning: Tuning, floats: int) -> float:
        return memory_price(shape, tuning, floats)

    def work(self, shape: RowShape, tuning: Tuning, floats: int) -> RowWork:
        """Vectors and transforms are those of its price; multiply-accumulates are the layer's."""
        batches = sum(len(region.batches) for region in regions_of(shape, tuning, floats))
        macs = taps_inside(shape) * 3 * shape.height * shape.in_channels * shape.out_channels
        products, moved = products_price(shape, tuning, floats), transforms_price(shape, tuning, floats)
        again = read_again(shape, tuning, floats)
        return RowWork(macs, products, 0.0, shape.height * shape.columns, batches, moved, again)

    def functions(self, shape: RowShape, tuning: Tuning, floats: int) -> list[str]:
        return winograd_functions(shape, tuning, floats)


def is_3x3(layer: Layer) -> bool:
    """A 3x3 convolution that Winograd's algorithm can compute."""
    match layer.operator:
        case Conv(window=Window(kernel=(3, 3), stride=(1, 1), dilation=(1, 1)), groups=1):
            return True
    return False


def is_suitable(layer: Layer, kind: Kind | None) -> bool:
    """Whether Winograd's algorithm can take the place of the kind of a layer: it reads and makes blocked rows."""
    return isinstance(kind, Direct | Winograd) and is_3x3(layer)


def best_tile(layer: Layer, window: Window, vectors: Vectors) -> int:
    """The cheapest tile for whole rows of a layer, several at once; 0 where the direct algorithm is expected to win."""
    _, channels, rows, columns = layer.output.concrete_shape
    left, right = window.padding[1::2]
    outside = (min(left, columns + 1), min(right, columns + 1 - left))
    height, read = min(rows, Winograd.tall), layer.inputs[0].concrete_shape[1]
    shape = RowShape("row", Winograd(), read, channels, columns, (3, 3), outside=outside, height=height)
    tuning = shape.kind.tuning(shape, vectors)
    return tuning.tile if worthwhile(shape, tuning, vectors.floats) else 0


def _frequencies(tuning: Tuning, v: int, weights: Floats, tile: Sizes) -> Floats:
    """Weights as the frequencies of one size of tiles are multiplied by them."""
    with np.errstate(over="ignore"):
        u = transformed_weights(weights, tile).astype(np.float32)
    # [group, A, V, in channel, frequency]
    groups = filled(u, v).reshape(-1, tuning.blocks, v, u.shape[1], u[0, 0].size)
    return np.ascontiguousarray(groups.transpose(0, 4, 3, 1, 2)).reshape(-1)


def _region_header(region: Region) -> str:
    batches = ", ".join(map(str, region.batches)) if len(set(region.batches)) > 1 else str(region.batches[0])
    accumulators = f"{region.tuning.blocks} x {min(region.tuning.pixels, region.batches[0])}"
    return (
        f"F({region.tile[0]}x{region.tile[1]}, 3x3): {region.bands} x {region.across} tiles, batches of {batches}, "
        f"accumulators {accumulators}"
    )
