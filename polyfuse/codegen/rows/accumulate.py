"""Sums of products in registers, which several kinds are made of: begun, added to, finished and stored."""

from collections.abc import Callable, Mapping, Sequence

from polyfuse.codegen.c.text import braces, listed, scope
from polyfuse.codegen.rows.activation import finished, finished_later, slopes
from polyfuse.codegen.rows.chunks import Chunk, reads, tap_groups, uses
from polyfuse.codegen.rows.folds import MOST, Folds
from polyfuse.codegen.rows.shape import RowShape, Tuning, block_sizes
from polyfuse.codegen.rows.text import LINE


def group_floats(shape: RowShape, tuning: Tuning, floats: int) -> int:
    """The packed weights of one group of output blocks."""
    return tuning.blocks * floats * (shape.in_channels // shape.kind.groups) * shape.kernel[0] * shape.kernel[1]


def accumulators(blocks: int, chunk: Chunk) -> list[str]:
    """The names of the accumulators of a chunk."""
    return [f"a{a}_{p}" for a in range(blocks) for p in range(chunk.pixels)]


def terms_of(shape: RowShape) -> int:
    """The products that an output is the sum of."""
    return shape.in_channels // shape.kind.groups * shape.kernel[0] * shape.kernel[1]


def in_blocks(shape: RowShape, v: int) -> int:
    """Blocks of input channels that an output channel reads."""
    return len(block_sizes(shape.in_channels // shape.kind.groups, v))


def start(shape: RowShape, tuning: Tuning, v: int, chunk: Chunk) -> list[str]:
    """Accumulators, and the packed weights of the group."""
    lines = [f"const float *w = weights + (ptrdiff_t)group * {group_floats(shape, tuning, v)};"]
    for a in range(tuning.blocks):
        value = f"GET{v}(bias, {out_block(tuning, a)} * {v})" if shape.bias else f"SPLAT{v}(0.0f)"
        lines.append(f"const vec{v} b{a} = {value};")
        lines += listed(f"vec{v} ", (f"a{a}_{p} = b{a}" for p in range(chunk.pixels)))
    return lines


def finish(shape: RowShape, tuning: Tuning, v: int, chunk: Chunk) -> list[str]:
    """Residual, activation and stores of a chunk."""
    lines = []
    for a in range(tuning.blocks):
        for row in range(chunk.rows):
            part = pointers(shape, v, out_block(tuning, a), str(row))
            columns = chunk.pixels // chunk.rows
            for c in range(columns):
                part += finished(shape, f"a{a}_{row * columns + c}", v, str(c * shape.apart * v))
            lines += scope([*part, *finished_later(shape, columns, v)])
    return lines


def out_block(tuning: Tuning, a: int) -> str:
    """The number of an output block of the group, as C."""
    return "group" if tuning.blocks == 1 else f"(group * {tuning.blocks} + {a})"


def first_column(chunk: Chunk) -> str:
    """The first column of a chunk's windows that is inside, as C."""
    return f"from + {chunk.left}" if chunk.left else "from"


def pointers(shape: RowShape, v: int, block: str, row: str = "0") -> list[str]:
    """`o` and, where there is a residual, `r`: the first column of a chunk in an output block; slopes, if any."""
    lines = [*slopes(shape, v, block)]
    lines += [f"float *o = out[{row}] + ({block} * (ptrdiff_t){shape.out_pitch} + to) * {v};"]
    if shape.residual != "none":
        lines.append(f"const float *r = residual[{row}] + ({block} * (ptrdiff_t){shape.residual_pitch} + to) * {v};")
    return lines


def prefetch_in(shape: RowShape, tuning: Tuning, v: int, chunk: Chunk, taps: range) -> list[str]:
    """What a step over input channels touches of `ahead`, so that all steps together touch the chunk's columns.

    Of the groups of taps the first one that reads anything prefetches.
    """
    if taps != next(group for group in tap_groups(shape, tuning) if uses(shape, chunk, group)):
        return []
    row = f"kh * {v} + lane" if shape.kernel[0] > 1 else "lane"
    return prefetches(tuning, shape.kernel[0] * v, chunk.pixels * shape.stride, v, row)


def prefetches(tuning: Tuning, steps: int, columns: int, v: int, step: str) -> list[str]:
    """Prefetches that touch `columns` columns of `ahead` evenly over `steps` steps."""
    if not tuning.prefetch_in:
        return []
    each = -(-columns * v // (LINE * steps))
    stride = max(1, -(-columns * v // (each * steps)))
    places = (f"({step}) * {each * stride}" + (f" + {k * stride}" if k else "") for k in range(each))
    return [f"__builtin_prefetch(ahead + {place}, 0);" for place in places]


def input_blocks(
    shape: RowShape,
    tuning: Tuning,
    folds: Folds,
    chunk: Chunk,
    per_lane: int,
    steps: Callable[[range], list[str]],
    prefetched: int = 0,
) -> list[str]:
    """The loops over input blocks and kernel rows around `steps`, the loop over channels for a group of taps.

    Where no window of the chunk reaches a column that is inside, there is nothing to add.

    `x` is the first column of the chunk that is read, `x1`, `x2`, … that of its other rows; `per_lane` weights of an
    input channel belong to a kernel row.
    """
    if not reads(shape, chunk):
        return ["(void)w;"]
    v = folds.floats
    sizes = block_sizes(shape.in_channels // shape.kind.groups, v)
    lanes = f"block + 1 < {len(sizes)} ? {v} : {sizes[-1]}" if sizes[-1] != v and len(sizes) > 1 else str(sizes[0])
    kh, kw = shape.kernel
    by_row = sizes[0] * kh * kw > MOST
    place = f"({_in_block(shape, tuning, v)} * (ptrdiff_t){shape.in_pitch} + {first_column(chunk)}) * {v}"
    inner = [line for taps in tap_groups(shape, tuning) for line in steps(taps)]
    ahead = [f"const float *ahead = next_in + {place};"] if any("ahead" in line for line in inner) else []
    if shape.joins_rows:
        start = [f"const float *x{suffix(row)} = in[{row}] + {place};" for row in range(chunk.rows)]
    else:
        start = [
            f"const float *row = in[{'kh' if kh > 1 else '0'}];",
            *braces("if (!row)", [f"w += lanes * {per_lane};", "continue;"]),
            f"const float *x = row + {place};",
        ]
    body = [*(folds.at("kh", sizes[0] * kw, nested=True) if by_row else []), *start, *ahead, *inner]
    rows = braces(f"for (int kh = 0; kh < {kh}; kh++)", body) if kh > 1 else body
    if prefetched:
        touch = f"for (int k = 0; k < {prefetched}; k += {LINE}) __builtin_prefetch(next_w + k, 0, 2);"
        rows = [touch, f"next_w += {prefetched};", *rows]
    between = [] if by_row else folds.at("block", sizes[0] * kh * kw)
    blocks = [f"const int lanes = {lanes};", *between, *rows]
    return folds.around(braces(f"for (int block = 0; block < {len(sizes)}; block++)", blocks))


def _in_block(shape: RowShape, tuning: Tuning, v: int) -> str:
    """The number of an input block, as C: those of a group of channels follow each other."""
    if shape.kind.groups == 1:
        return "block"
    groups_of_blocks = shape.out_channels // shape.kind.groups // v // tuning.blocks
    return f"(group / {groups_of_blocks} * {shape.in_channels // shape.kind.groups // v} + block)"


def suffix(row: int) -> str:
    """What tells the pointer of a row of a chunk from that of the first."""
    return str(row) if row else ""


def place_of(shape: RowShape, chunk: Chunk, column: int, v: int, lane: int) -> tuple[str, int]:
    """Where a column of a chunk is read: the pointer of its row, and floats from there."""
    if not shape.joins_rows:
        return "xl", (column - chunk.left) * v + lane
    row, at = divmod(column, chunk.pixels // chunk.rows)
    return f"xl{suffix(row)}", at * shape.stride * v + lane


def products(
    blocks: int,
    v: int,
    used: Sequence[tuple[int, Sequence[tuple[int, int]]]],
    taps: range,
    weight: int,
    places: Mapping[int, tuple[str, int]],
    ways: int = 1,
) -> list[str]:
    """Weights into registers, then every used column at its place times them into the accumulators.

    A column that several products use is broadcast once and kept; one that a single product uses may be its operand.
    """
    lines = []
    for t in sorted({t for _, pairs in used for _, t in pairs}):
        for a in range(blocks):
            place = weight + ((t - taps.start) * blocks + a) * v
            lines.append(f"vec{v} w{t}_{a} = GET{v}(w, {place}); KEEP{v}(w{t}_{a});")
    for column, pairs in used:
        pointer, place = places[column]
        value = f"{pointer}[{place}]" if ways == 1 else f"SPREAD{v}_{ways}({pointer} + {place})"
        terms = [(a, p, t) for p, t in pairs for a in range(blocks)]
        if len(terms) == 1:
            a, p, t = terms[0]
            lines.append(f"a{a}_{p} += w{t}_{a} * {value};")
            continue
        vector = f"SPLAT{v}({value})" if ways == 1 else value
        adds = " ".join(f"a{a}_{p} += w{t}_{a} * x{column};" for a, p, t in terms)
        lines.append(f"vec{v} x{column} = {vector}; KEEP{v}(x{column}); {adds}")
    return lines
