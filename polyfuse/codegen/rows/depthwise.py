"""Lane by lane over a window: depthwise convolution, maximum and mean, of blocked rows.

    for each channel block, for each chunk of columns:       accumulators a<pixel> = bias, -infinity or 0
      for each kernel row:                                   the weights of its taps in registers
        for each input column: load it once, and combine it with every accumulator it belongs to

A column that lies outside the image has no code; a kernel row whose pointer is NULL is skipped, and does not count in
the divisor of a mean. Means of rows too wide to be unrolled are a loop over columns, into several accumulators.
"""

from polyfuse.codegen.c.text import braces, listed
from polyfuse.codegen.rows.activation import finished, finished_later
from polyfuse.codegen.rows.direct import first_column, pointers
from polyfuse.codegen.rows.folds import MOST, Folds
from polyfuse.codegen.rows.shape import WIDEST_WINDOW, Chunk, RowShape, Tuning, reads, uses
from polyfuse.codegen.rows.text import LINE

START = {"depthwise": "0.0f", "max_pool": "-INFINITY", "average_pool": "0.0f"}


AT_ONCE = 4
"""The accumulators of the mean of a wide row: additions follow each other four cycles apart."""


def window_chunk(shape: RowShape, tuning: Tuning, floats: int, chunk: Chunk) -> list[str]:
    """The body of the function that computes one chunk of one channel block, `group`."""
    v, kh = floats, shape.kernel[0]
    weighted = shape.kind == "depthwise"
    first = f"GET{v}(bias, group * {v})" if weighted and shape.bias else f"SPLAT{v}({START[shape.kind]})"
    lines = [f"const vec{v} b0 = {first};"]
    count = AT_ONCE if is_wide(shape) else chunk.pixels
    terms = 1 if shape.kind == "max_pool" else -(-shape.kernel[1] // (AT_ONCE if is_wide(shape) else 1))
    folds = Folds([f"a{p}" for p in range(count)], v, 1 if shape.kind == "max_pool" else kh * terms)
    lines += listed(f"vec{v} ", (f"a{p} = b0" for p in range(count)))
    if weighted and reads(shape, chunk):
        lines.append(f"const float *w = weights + (ptrdiff_t)group * {kh * shape.kernel[1] * v};")
    if shape.kind == "average_pool":
        lines.append("int rows = 0;")
    if tuning.asks_in and reads(shape, chunk):
        lines.append(
            f"const float *ahead = next_in + (group * (ptrdiff_t){shape.in_pitch} + {first_column(chunk)}) * {v};"
        )
    if reads(shape, chunk) or not weighted:
        row = [*folds.at("kh", terms), *_kernel_row(shape, tuning, folds, chunk)]
        lines += folds.around(braces(f"for (int kh = 0; kh < {kh}; kh++)", row))
    lines += [f"a0 += {' + '.join(f'a{k}' for k in range(1, AT_ONCE))};"] if is_wide(shape) else []
    lines += _mean(shape, v, chunk) if shape.kind == "average_pool" else []
    lines += pointers(shape, v, "group")
    for p in range(chunk.pixels):
        lines += finished(shape, f"a{p}", v, str(p * v))
    return [*lines, *finished_later(shape, chunk.pixels, v)]


def _kernel_row(shape: RowShape, tuning: Tuning, folds: Folds, chunk: Chunk) -> list[str]:
    kw, v = shape.kernel[1], folds.floats
    lines = [
        *braces("if (!in[kh])", ["continue;"]),
        f"const float *x = in[kh] + (group * (ptrdiff_t){shape.in_pitch} + {first_column(chunk)}) * {v};",
    ]
    if shape.kind == "depthwise":
        used = sorted({t for _, pairs in uses(shape, chunk, range(kw)) for _, t in pairs})
        lines += [f"vec{v} w{t} = GET{v}(w, (kh * {kw} + {t}) * {v}); KEEP{v}(w{t});" for t in used]
    if shape.kind == "average_pool":
        lines.append("rows++;")
    if tuning.asks_in:
        each = -(-chunk.pixels * shape.stride * v // (LINE * shape.kernel[0]))
        lines += [f"__builtin_prefetch(ahead + (kh * {each} + {k}) * {LINE}, 0);" for k in range(each)]
    if is_wide(shape):
        return [*lines, *_wide_row(kw, folds)]
    for column, pairs in uses(shape, chunk, range(kw)):
        load = f"vec{v} x{column} = GET{v}(x, {(column - chunk.left) * v});"
        keep = f" KEEP{v}(x{column});" if len(pairs) > 1 else ""
        nan = f" mask{v} n{column} = x{column} != x{column};" if shape.kind == "max_pool" else ""
        lines.append(f"{load}{keep}{nan} {' '.join(_combined(shape, v, column, p, t) for p, t in pairs)}")
    return lines


def is_wide(shape: RowShape) -> bool:
    """Whether a shape is the mean of whole rows too wide to be unrolled."""
    return shape.kind == "average_pool" and shape.columns == 1 and shape.kernel[1] > WIDEST_WINDOW


def _wide_row(columns: int, folds: Folds) -> list[str]:
    """All columns of a row, several at once."""
    v, whole = folds.floats, columns - columns % AT_ONCE
    loop = folds.at(f"(column / {AT_ONCE})", 1, nested=True) if columns > MOST * AT_ONCE else []
    loop += [f"a{k} += GET{v}(x, (column + {k}) * {v});" for k in range(AT_ONCE)]
    rest = [f"a{k} += GET{v}(x, {(whole + k) * v});" for k in range(columns % AT_ONCE)]
    return [*braces(f"for (int column = 0; column < {whole}; column += {AT_ONCE})", loop), *rest]


def _combined(shape: RowShape, v: int, column: int, pixel: int, tap: int) -> str:
    """One element into one accumulator; a maximum keeps NaN, whichever of the two it is."""
    if shape.kind == "depthwise":
        return f"a{pixel} += w{tap} * x{column};"
    if shape.kind == "average_pool":
        return f"a{pixel} += x{column};"
    return f"AT_LEAST{v}(a{pixel}, x{column}); a{pixel} = SELECT{v}(n{column}, x{column}, a{pixel});"


def _mean(shape: RowShape, v: int, chunk: Chunk) -> list[str]:
    """Accumulators over the number of elements: rows pointed at, times columns read or counted."""
    divisors = [_counted_columns(shape, chunk, p) for p in range(chunk.pixels)]
    lines = [f"const float over{d} = 1.0f / (float)(rows * {d});" for d in sorted(set(divisors))]
    return [*lines, *(f"a{p} *= SPLAT{v}(over{d});" for p, d in enumerate(divisors))]


def _counted_columns(shape: RowShape, chunk: Chunk, pixel: int) -> int:
    first = shape.stride * (chunk.first + pixel)
    low, high = shape.outside[0] - shape.counted[0], shape.span - shape.outside[1] + shape.counted[1]
    return max(1, sum(low <= first + shape.dilation * t < high for t in range(shape.kernel[1])))
