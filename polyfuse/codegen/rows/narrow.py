"""A last output block that is half empty or more: its lanes share out the input channels, too.

    lane `ways * c + i` of an accumulator: output channel c, of every input channel that is i modulo `ways`
    weights of that block: [in block][kernel row][taps at once][step of `ways` channels][tap][V]

`ways` input channels are broadcast at once, and each output channel's lanes are added up when a chunk is done. Of
24 output channels in vectors of 16, the last 8 then cost half a block and not a whole one. The order of additions
differs from that of the other blocks.
"""

from functools import partial

import numpy as np

from polyfuse.codegen.c.text import braces, listed
from polyfuse.codegen.rows.accumulate import (
    accumulators,
    input_blocks,
    place_of,
    pointers,
    prefetch_in,
    products,
    terms_of,
)
from polyfuse.codegen.rows.activation import finished, finished_later
from polyfuse.codegen.rows.chunks import Chunk, tap_groups, uses
from polyfuse.codegen.rows.folds import Folds
from polyfuse.codegen.rows.shape import Floats, RowShape, Tuning, block_sizes


def narrow_chunk(shape: RowShape, tuning: Tuning, floats: int, chunk: Chunk) -> list[str]:
    """The body of the function that computes one chunk of the last output block, `group`."""
    v, (kh, kw) = floats, shape.kernel
    per_lane = kw * v // tuning.ways
    folds, steps = Folds(accumulators(1, chunk), v, terms_of(shape)), partial(_steps, shape, tuning, v, chunk)
    bias = f"GET{v}(bias, group * {v})" if shape.bias else f"SPLAT{v}(0.0f)"
    lines = [
        f"const float *w = weights + (ptrdiff_t)group * {v * shape.in_channels * kh * kw};",
        f"const vec{v} b0 = {bias}, zero = SPLAT{v}(0.0f);",
        *listed(f"vec{v} ", (f"a0_{p} = zero" for p in range(chunk.pixels))),
        *input_blocks(shape, tuning, folds, chunk, per_lane, steps),
        *pointers(shape, v, "group"),
    ]
    for p in range(chunk.pixels):
        lines += [*_summed(v, tuning.ways, f"a0_{p}"), *finished(shape, f"a0_{p}", v, str(p * shape.apart * v))]
    return [*lines, *finished_later(shape, chunk.pixels, v)]


def _steps(shape: RowShape, tuning: Tuning, v: int, chunk: Chunk, taps: range) -> list[str]:
    """The loop over input channels of a block, `ways` at a time."""
    used = uses(shape, chunk, taps)
    if not used:
        return [f"w += lanes * {len(taps) * v // tuning.ways};"]
    places = {column: place_of(shape, chunk, column, v, 0) for column, _ in used}
    body = products(1, v, used, taps, 0, places, ways=tuning.ways)
    body += prefetch_in(shape, tuning, v, chunk, taps)
    head = f"for (int lane = 0; lane < lanes; lane += {tuning.ways})"
    return braces(head, ["const float *xl = x + lane;", *body, f"w += {len(taps) * v};"])


def _summed(v: int, ways: int, value: str) -> list[str]:
    """Neighbouring lanes added up until one is left for each output channel; zeros follow them; then the bias."""
    lines = []
    while ways > 1:
        even, odd = (", ".join(str(2 * k + o if k < v // 2 else v) for k in range(v)) for o in (0, 1))
        lines.append(f"{value} = SHUFFLE{v}({value}, zero, {even}) + SHUFFLE{v}({value}, zero, {odd});")
        ways //= 2
    return [*lines, f"{value} += b0;"]


def best_ways(shape: RowShape, floats: int) -> int:
    """Into how many parts the input channels can be shared out: the largest power of two that fits, 1 for no sharing.

    >>> from polyfuse.codegen.rows.direct import Direct
    >>> best_ways(RowShape("project", Direct(), 144, 24, 56), 16), best_ways(RowShape("last", Direct(), 16, 3, 56), 16)
    (2, 4)
    """
    last = block_sizes(shape.out_channels, floats)[-1]
    sizes = block_sizes(shape.in_channels, floats)
    fitting = (w for w in (16, 8, 4, 2) if w * last <= floats and all(size % w == 0 for size in sizes))
    return next(fitting, 1)


def packed_narrow(shape: RowShape, tuning: Tuning, floats: int, block: Floats) -> Floats:
    """`[V, in channel, kernel row, tap]` of the block, whose lanes are shared out among `ways` input channels, flat."""
    ways = tuning.ways
    parts, first = [], 0
    for lanes in block_sizes(shape.in_channels, floats):
        for row in range(shape.kernel[0]):
            for taps in tap_groups(shape, tuning):
                part = block[: floats // ways, first : first + lanes, row, taps.start : taps.stop]
                steps = part.reshape(floats // ways, lanes // ways, ways, len(taps))
                parts.append(steps.transpose(1, 3, 0, 2).reshape(-1))
        first += lanes
    return np.concatenate(parts)
