"""First layers: few input channels in planar rows, e.g. an NCHW image, to blocked output.

`in[channel * KH + kernel row]` points at a planar row. Each is one step of the direct convolution's inner loop; the
taps of a kernel row are held together, and a row whose pointer is NULL is skipped.

    weights  [group of A out blocks][in channel][kernel row][tap][A][V]
"""

from dataclasses import dataclass

import numpy as np

from polyfuse.codegen.c.text import braces, scope
from polyfuse.codegen.rows.accumulate import accumulators, finish, first_column, products, start, terms_of
from polyfuse.codegen.rows.chunked import Convolution, blocks_of_weights, packed_groups
from polyfuse.codegen.rows.chunks import Chunk, reads, tap_groups, uses
from polyfuse.codegen.rows.direct import roomy_tuning, weights_header
from polyfuse.codegen.rows.folds import Folds
from polyfuse.codegen.rows.shape import (
    WIDEST_WINDOW,
    Floats,
    Kind,
    RowShape,
    Site,
    Tuning,
    Vectors,
    block_sizes,
    is_thin,
)
from polyfuse.codegen.rows.text import LINE
from polyfuse.network.operator import Conv


@dataclass(frozen=True)
class FewChannels(Convolution):
    """Convolutions of inputs with few channels."""

    name = "few_channels"
    planar_in = True
    several_blocks = True

    def claim(self, site: Site) -> Kind | None:
        match site.layer.operator:
            case Conv(window=window, groups=1) if window.kernel[1] <= WIDEST_WINDOW:
                return self if is_thin(site.network, site.layer.inputs[0]) else None
        return None

    def prefetches_in(self, shape: RowShape, is_large: bool) -> bool:
        """Windows of one row prefetch none: gcc then warns of bounds that are kept."""
        return shape.kernel[0] > 1

    def tuning(self, shape: RowShape, vectors: Vectors) -> Tuning:
        if vectors.registers < 32:
            taps = min(shape.kernel[1], 7)
            return Tuning(pixels=max(8, 13 - taps), taps=taps)
        return roomy_tuning(shape, vectors, len(block_sizes(shape.out_channels, vectors.floats)))

    def header(self, shape: RowShape, tuning: Tuning, floats: int) -> list[str]:
        return [weights_header(tuning, floats), *super().header(shape, tuning, floats)]

    def packed(self, shape: RowShape, tuning: Tuning, floats: int, weights: Floats) -> Floats:
        blocks = blocks_of_weights(weights, floats)
        return np.concatenate(packed_groups(shape, tuning, blocks, (1,) * shape.in_channels))

    def chunk(self, shape: RowShape, tuning: Tuning, floats: int, chunk: Chunk) -> list[str]:
        kh, kw = shape.kernel
        rows = shape.in_channels * kh
        folds = Folds(accumulators(tuning.blocks, chunk), floats, terms_of(shape))
        body = [
            *folds.at("row", kw),
            *braces("if (!in[row])", [f"w += {kw * tuning.blocks * floats};", "continue;"]),
            f"const float *xl = in[row] + {first_column(chunk)};",
        ]
        for taps in tap_groups(shape, tuning):
            used = uses(shape, chunk, taps)
            places = {column: ("xl", column - chunk.left) for column, _ in used}
            body += scope(products(tuning.blocks, floats, used, taps, 0, places))
            body.append(f"w += {len(taps) * tuning.blocks * floats};")
        loop = folds.around(braces(f"for (int row = 0; row < {rows}; row++)", body))
        loop = [*(_prefetched(shape, chunk) if tuning.prefetch_in else []), *loop]
        summed = loop if reads(shape, chunk) else ["(void)w;"]
        return [*start(shape, tuning, floats, chunk), *summed, *finish(shape, tuning, floats, chunk)]


def _prefetched(shape: RowShape, chunk: Chunk) -> list[str]:
    """Prefetch what the next execution reads of these columns and this one does not: short pieces of each plane."""
    kh, new = shape.kernel[0], min(shape.kernel[0], shape.stride)
    touch = f"__builtin_prefetch(in[plane * {kh} + row] + below + {first_column(chunk)} + i, 0);"
    columns = braces(f"for (int i = 0; i < {chunk.pixels * shape.stride}; i += {LINE})", [touch])
    rows = braces(f"for (int row = {kh - new}; row < {kh}; row++)", columns)
    planes = braces(f"for (int plane = 0; plane < {shape.in_channels}; plane++)", rows)
    return ["const ptrdiff_t below = next_in ? next_in - in[0] : 0;", *braces("if (below)", planes)]
