"""First layers: few input channels in planar rows, e.g. an NCHW image, to blocked output.

`in[channel * KH + kernel row]` points at a planar row. Each is one step of the direct convolution's inner loop; the
taps of a kernel row are held together, and a row whose pointer is NULL is skipped.
"""

from polyfuse.codegen.c.text import braces, scope
from polyfuse.codegen.rows.direct import accumulators, finish, first_column, products, start, terms_of
from polyfuse.codegen.rows.folds import Folds
from polyfuse.codegen.rows.shape import Chunk, RowShape, Tuning, reads, tap_groups, uses
from polyfuse.codegen.rows.text import LINE


def few_channels_chunk(shape: RowShape, tuning: Tuning, floats: int, chunk: Chunk) -> list[str]:
    """The body of the function that computes one chunk of one group of output blocks."""
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
    return [
        *start(shape, tuning, floats, chunk),
        *(_ahead(shape, chunk) if tuning.asks_in and reads(shape, chunk) else []),
        *(
            folds.around(braces(f"for (int row = 0; row < {rows}; row++)", body))
            if reads(shape, chunk)
            else ["(void)w;"]
        ),
        *finish(shape, tuning, floats, chunk),
    ]


def _ahead(shape: RowShape, chunk: Chunk) -> list[str]:
    """Ask for what the next execution reads of these columns and this one does not: short pieces of each plane."""
    kh, new = shape.kernel[0], min(shape.kernel[0], shape.stride)
    touch = f"__builtin_prefetch(in[plane * {kh} + row] + below + {first_column(chunk)} + i, 0);"
    columns = braces(f"for (int i = 0; i < {chunk.pixels * shape.stride}; i += {LINE})", [touch])
    rows = braces(f"for (int row = {kh - new}; row < {kh}; row++)", columns)
    planes = braces(f"for (int plane = 0; plane < {shape.in_channels}; plane++)", rows)
    return ["const ptrdiff_t below = next_in ? next_in - in[0] : 0;", *braces("if (below)", planes)]
