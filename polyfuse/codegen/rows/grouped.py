"""Convolution in groups that do not fill blocks of channels: a part of an output block for each group that it holds.

    for each part, for each chunk of columns:                             accumulators a0_<pixel> = bias
      for each input block of the group, kernel row, group of taps, input channel of the group:   as in direct.py
        for each input column: broadcast it, and add it to every accumulator that a held tap reaches from there
      the lanes of the group are stored; where a block holds several groups, the others stay as they are

Parts that are whole blocks come first. Lanes of other groups are computed with weights of 0 and dropped, so that NaN of
one group never reaches another.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from polyfuse.codegen.c.text import braces, listed
from polyfuse.codegen.rows.activation import applied, finished, finished_later, runs_on_vectors, scalar
from polyfuse.codegen.rows.direct import accumulators, first_column, pointers, products, terms_of
from polyfuse.codegen.rows.folds import MOST, Folds
from polyfuse.codegen.rows.shape import Chunk, RowShape, Tuning, block_sizes, reads, tap_groups, uses


@dataclass(frozen=True)
class GroupPart:
    """The lanes `first` to `end` of an output block, which read the input channels `low` to `high`."""

    block: int
    first: int
    end: int
    low: int
    high: int


def group_parts(shape: RowShape, floats: int) -> tuple[tuple[GroupPart, ...], int]:
    """The parts of a shape, and how many of them, which come first, are all that their block holds.

    >>> parts, whole = group_parts(RowShape("g", "grouped", 12, 24, 9, groups=2), 16)
    >>> whole, [(part.block, part.first, part.end, part.low, part.high) for part in parts]
    (1, [(1, 0, 8, 6, 12), (0, 0, 12, 0, 6), (0, 12, 16, 6, 12)])
    """
    made, read = shape.out_channels // shape.groups, shape.in_channels // shape.groups
    alone: list[GroupPart] = []
    shared: list[GroupPart] = []
    for block, lanes in enumerate(block_sizes(shape.out_channels, floats)):
        low, end = block * floats, block * floats + lanes
        held = range(low // made, (end - 1) // made + 1)
        for g in held:
            first, last = max(low, g * made) - low, min(end, (g + 1) * made) - low
            part = GroupPart(block, first, last, g * read, (g + 1) * read)
            (alone if len(held) == 1 else shared).append(part)
    return (*alone, *shared), len(alone)


def grouped_chunk(shape: RowShape, tuning: Tuning, floats: int, chunk: Chunk) -> list[str]:
    """The body of the function that computes one chunk of a part, number `group`, that is a whole block."""
    lines = [*_sums(shape, tuning, floats, chunk), *pointers(shape, floats, "block")]
    for p in range(chunk.pixels):
        lines += finished(shape, f"a0_{p}", floats, str(p * floats))
    return [*lines, *finished_later(shape, chunk.pixels, floats)]


def shared_chunk(shape: RowShape, tuning: Tuning, floats: int, chunk: Chunk) -> list[str]:
    """The same for a part that shares its block with others: their lanes stay as they are."""
    v = floats
    parts, _ = group_parts(shape, v)
    numbers = ", ".join(map(str, range(v)))
    lines = [
        *_sums(shape, tuning, v, chunk),
        *pointers(shape, v, "block"),
        _table("first_of", (part.first for part in parts)),
        _table("end_of", (part.end for part in parts)),
        f"const mask{v} lane = {{{numbers}}}, mine = (lane >= first_of[group]) & (lane < end_of[group]);",
    ]
    for p in range(chunk.pixels):
        value, at = f"a0_{p}", str(p * v)
        lines += applied(shape, value, v, at)
        if not runs_on_vectors(shape):
            one = f"{value}[k] = {scalar(shape, f'{value}[k]')};"
            lines += braces("for (int k = first_of[group]; k < end_of[group]; k++)", [one])
            lines += [f"{value} += GET{v}(r, {at});"] if shape.residual == "after" else []
        lines.append(f"PUT{v}(o, {at}, SELECT{v}(mine, {value}, GET{v}(o, {at})));")
    return lines


def _table(name: str, values: Iterable[int]) -> str:
    return f"static const int {name}[] = {{{', '.join(map(str, values))}}};"


def _sums(shape: RowShape, tuning: Tuning, v: int, chunk: Chunk) -> list[str]:
    """Accumulators, and the loops over the channels of the group."""
    parts, _ = group_parts(shape, v)
    (kh, kw), channels = shape.kernel, shape.in_channels // shape.groups
    lines = [
        _table("block_of", (part.block for part in parts)),
        "const int block = block_of[group];",
        f"const vec{v} b0 = {f'GET{v}(bias, block * {v})' if shape.bias else f'SPLAT{v}(0.0f)'};",
        *listed(f"vec{v} ", (f"a0_{p} = b0" for p in range(chunk.pixels))),
    ]
    if not reads(shape, chunk):
        return lines
    folds, block_terms = Folds(accumulators(1, chunk), v, terms_of(shape)), min(v, channels) * kh * kw
    by_row = block_terms > MOST
    row = [
        *(folds.at("kh", min(v, channels) * kw, nested=True) if by_row else []),
        *braces("if (!in[kh])", [f"w += (end - begin) * {kw * v};", "continue;"]),
        f"const float *x = in[kh] + (from_block * (ptrdiff_t){shape.in_pitch} + {first_column(chunk)}) * {v};",
    ]
    for taps in tap_groups(shape, tuning):
        row += _lanes(shape, v, chunk, taps)
    channel_block = [
        *([] if by_row else folds.at(f"(from_block - low / {v})", block_terms)),
        f"const int begin = low > from_block * {v} ? low - from_block * {v} : 0;",
        f"const int end = smaller_of({v}, low + {channels} - from_block * {v});",
        *braces(f"for (int kh = 0; kh < {kh}; kh++)", row),
    ]
    head = f"for (int from_block = low / {v}; from_block * {v} < low + {channels}; from_block++)"
    return [
        *lines,
        _table("low_of", (part.low for part in parts)),
        "const int low = low_of[group];",
        f"const float *w = weights + (ptrdiff_t)group * {channels * kh * kw * v};",
        *folds.around(braces(head, channel_block)),
    ]


def _lanes(shape: RowShape, v: int, chunk: Chunk, taps: range) -> list[str]:
    """The loop over the input channels of a block that belong to the group."""
    used = uses(shape, chunk, taps)
    if not used:
        return [f"w += (end - begin) * {len(taps) * v};"]
    places = {column: ("xl", (column - chunk.left) * v) for column, _ in used}
    body = ["const float *xl = x + lane;", *products(1, v, used, taps, 0, places), f"w += {len(taps) * v};"]
    return braces("for (int lane = begin; lane < end; lane++)", body)
