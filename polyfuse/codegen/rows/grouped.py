"""Convolution in groups that do not fill blocks of channels: a part of an output block for each group that it holds.

    for each part, for each chunk of columns:                             accumulators a0_<pixel> = bias
      for each input block of the group, kernel row, group of taps, input channel of the group:   as in direct.py
        for each input column: broadcast it, and add it to every accumulator that a held tap reaches from there
      the lanes of the group are stored; where a block holds several groups, the others stay as they are

Parts that are whole blocks come first. Lanes of other groups are computed with weights of 0 and dropped, so that NaN of
one group never reaches another.

    weights  [part of an out block][in block][kernel row][taps at once][lane][tap][V], 0 in lanes of other groups
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from polyfuse.codegen.c.text import braces, listed
from polyfuse.codegen.rows.accumulate import accumulators, first_column, pointers, products, terms_of
from polyfuse.codegen.rows.activation import applied, finished, finished_later, runs_on_vectors, scalar
from polyfuse.codegen.rows.chunked import Convolution, OutputBlocks
from polyfuse.codegen.rows.chunks import Chunk, chunks, reads, tap_groups, uses
from polyfuse.codegen.rows.folds import MOST, Folds
from polyfuse.codegen.rows.shape import WIDEST_WINDOW, Floats, Kind, RowShape, Site, Tuning, Vectors, block_sizes
from polyfuse.network.operator import Conv


@dataclass(frozen=True)
class Grouped(Convolution):
    """Convolutions in groups that do not fill blocks of channels."""

    groups: int = 1

    name = "grouped"

    def claim(self, site: Site) -> Kind | None:
        match site.layer.operator:
            case Conv(window=window, groups=groups) if window.kernel[1] <= WIDEST_WINDOW and groups > 1:
                return replace(self, groups=groups)
        return None

    def tuning(self, shape: RowShape, vectors: Vectors) -> Tuning:
        many = vectors.registers >= 32
        taps = min(shape.kernel[1], 7 if many else 2)
        return Tuning(pixels=vectors.registers - 3 - taps if many else 12, taps=taps)

    def parts(self, shape: RowShape, tuning: Tuning, floats: int) -> list[OutputBlocks]:
        every, alone = group_parts(shape, floats)
        cut = chunks(shape, tuning.pixels)
        both = (OutputBlocks(shape.name, self.chunk, 0, alone, cut),
                OutputBlocks(f"{shape.name}__shared", shared_chunk, alone, len(every), cut))  # fmt: skip
        return [part for part in both if part.end > part.first]

    def header(self, shape: RowShape, tuning: Tuning, floats: int) -> list[str]:
        weights = f"weights [part of a block][channel][kernel row][tap][{floats}], 0 in lanes of other groups"
        return [weights, *super().header(shape, tuning, floats)]

    def packed(self, shape: RowShape, tuning: Tuning, floats: int, weights: Floats) -> Floats:
        return np.concatenate([_part(shape, tuning, floats, weights, part) for part in group_parts(shape, floats)[0]])

    def chunk(self, shape: RowShape, tuning: Tuning, floats: int, chunk: Chunk) -> list[str]:
        """A part, number `group`, that is a whole block."""
        lines = [*_sums(shape, tuning, floats, chunk), *pointers(shape, floats, "block")]
        for p in range(chunk.pixels):
            lines += finished(shape, f"a0_{p}", floats, str(p * floats))
        return [*lines, *finished_later(shape, chunk.pixels, floats)]


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

    >>> parts, whole = group_parts(RowShape("g", Grouped(2), 12, 24, 9), 16)
    >>> whole, [(part.block, part.first, part.end, part.low, part.high) for part in parts]
    (1, [(1, 0, 8, 6, 12), (0, 0, 12, 0, 6), (0, 12, 16, 6, 12)])
    """
    made, read = shape.out_channels // shape.kind.groups, shape.in_channels // shape.kind.groups
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


def shared_chunk(shape: RowShape, tuning: Tuning, floats: int, chunk: Chunk) -> list[str]:
    """One chunk of a part, number `group`, that shares its block with others: their lanes stay as they are."""
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
    (kh, kw), channels = shape.kernel, shape.in_channels // shape.kind.groups
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


def _part(shape: RowShape, tuning: Tuning, v: int, weights: Floats, part: GroupPart) -> Floats:
    """The weights of a part: those of its channels in its lanes."""
    first = part.block * v
    lanes = np.zeros((v, *weights.shape[1:]), np.float32)
    lanes[part.first : part.end] = weights[first + part.first : first + part.end]
    cuts = range(part.low // v * v + v, part.high, v)
    pieces = []
    for low, high in pairwise((part.low, *cuts, part.high)):
        for row in range(shape.kernel[0]):
            for taps in tap_groups(shape, tuning):
                piece = lanes[:, low - part.low : high - part.low, row, taps.start : taps.stop]
                pieces.append(piece.transpose(1, 2, 0).reshape(-1))
    return np.concatenate(pieces)
