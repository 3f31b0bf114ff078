"""Direct convolution of a blocked row: broadcast input, weights of a few taps in registers, used for many columns.

    for each group of output blocks, for each chunk of columns:          accumulators a<block>_<pixel> = bias
      for each input block, kernel row, group of taps, input channel:    weights w<tap>_<block>
        for each input column: broadcast it, and add it to every accumulator that a held tap reaches from there

A column that lies outside the image has no code; a kernel row whose pointer is NULL is skipped.

    weights  [group of A out blocks][in block][kernel row][taps at once][lane][tap][A][V]
      of the last block, if Tuning.ways > 1: see narrow.py
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from polyfuse.codegen.c.elements import FLOAT
from polyfuse.codegen.c.text import braces, scope
from polyfuse.codegen.rows.accumulate import (
    accumulators,
    finish,
    group_floats,
    in_blocks,
    input_blocks,
    place_of,
    prefetch_in,
    products,
    start,
    suffix,
    terms_of,
)
from polyfuse.codegen.rows.chunked import Convolution, OutputBlocks, blocks_of_weights, packed_groups
from polyfuse.codegen.rows.chunks import Chunk, chunks, runs, uses
from polyfuse.codegen.rows.folds import Folds
from polyfuse.codegen.rows.narrow import best_ways, narrow_chunk, packed_narrow
from polyfuse.codegen.rows.shape import WIDEST_WINDOW, Floats, Kind, RowShape, Site, Tuning, Vectors, block_sizes
from polyfuse.codegen.rows.text import LINE
from polyfuse.errors import InvalidInput
from polyfuse.network.layer import Layer
from polyfuse.network.operator import Conv, ConvTranspose
from polyfuse.network.window import Window

MANY_BYTES = 1 << 16
"""Weights of so many bytes are gone from the innermost cache when a group of output blocks begins."""
ENOUGH = 10
"""Accumulators that keep two units of four cycles busy, and some; a short row takes several output blocks at once."""
JOINED_WIDTH, JOINED_COLUMNS = 14, 112
"""The widest rows that are joined, and how many columns joined rows have at most."""


@dataclass(frozen=True)
class Direct(Convolution):
    """Convolutions of blocked rows; of groups, those that fill their blocks of channels."""

    groups: int = 1

    name = "direct"
    several_blocks = True
    unrolls = True
    joins_rows = True
    spaces_outputs = True
    prefetches_nearest = True

    def claim(self, site: Site) -> Kind | None:
        layer, v = site.layer, site.vectors.floats
        match layer.operator:
            case Conv(window=window, groups=groups) if window.kernel[1] <= WIDEST_WINDOW:
                channels, made = layer.inputs[0].concrete_shape[1], layer.output.concrete_shape[1]
                fits = groups == 1 or channels % (groups * v) == made % (groups * v) == 0
                return replace(self, groups=groups) if fits else None
            case ConvTranspose() as conv if has_phases(conv):
                return self
        return None

    def tallest(self, layer: Layer, vectors: Vectors) -> int:
        """How many rows of a pointwise layer are computed as one, so that its weights are read once for all of them.

        Narrow maps only, on vectors with enough registers, and outputs that fill their blocks.
        """
        _, channels, rows, columns = layer.output.concrete_shape
        match layer.operator:
            case Conv(window=Window(kernel=(1, 1), padding=(0, 0, 0, 0)), groups=1):
                wide = vectors.registers < 32 or channels % vectors.floats or columns > JOINED_WIDTH
                return 1 if wide else min(rows, JOINED_COLUMNS // columns)
        return 1

    def rows_read(self, shape: RowShape) -> int:
        return shape.height if shape.joins_rows else shape.kernel[0]

    def prefetches_in(self, shape: RowShape, is_large: bool) -> bool:
        return is_large and not shape.joins_rows

    def tuning(self, shape: RowShape, vectors: Vectors) -> Tuning:
        """With few registers 2x6, one tap at a time; with many, all taps of a kernel row for as many columns as fit.

        With a stride few taps read a column, so that two output blocks share it. Where rows are joined, two output
        blocks share the columns of as many rows as fit.

        >>> from polyfuse.codegen.target import Target
        >>> shape = RowShape("conv", Direct(), 64, 64, 56, kernel=(3, 3), outside=(1, 1))
        >>> Direct().tuning(shape, Target(16, 32)).pixels
        26
        """
        if shape.joins_rows:
            room = 12 if vectors.registers < 32 else 28
            wide = 2 if len(block_sizes(shape.out_channels, vectors.floats)) % 2 == 0 else 1
            return Tuning(blocks=wide, pixels=room // wide, taps=1)
        ways = self.most_ways(shape, vectors.floats)
        blocks = len(block_sizes(shape.out_channels // self.groups, vectors.floats)) - (ways > 1)
        if vectors.registers < 32:
            wide = 2 if blocks % 2 == 0 and blocks else 1
            taps = 1 if wide == 2 else min(shape.kernel[1], 2)
            return Tuning(blocks=wide, pixels=12 // wide, taps=taps, ways=ways)
        return replace(roomy_tuning(shape, vectors, blocks), ways=ways)

    def most_ways(self, shape: RowShape, floats: int) -> int:
        return 1 if self.groups > 1 or shape.joins_rows else best_ways(shape, floats)

    def check_unroll(self, where: str, shape: RowShape, tuning: Tuning, floats: int) -> None:
        super().check_unroll(where, shape, tuning, floats)
        channels = (shape.in_channels, shape.out_channels)
        if self.groups > 1 and any(c % (self.groups * floats) for c in channels):
            raise InvalidInput(
                f"{where}: {self.groups} groups of {channels[0]} and {channels[1]} channels expect a multiple of "
                f"{floats} channels in each; use narrower vectors, or weights with zeros and groups=1"
            )

    def parts(self, shape: RowShape, tuning: Tuning, floats: int) -> list[OutputBlocks]:
        """All output blocks alike, or the last one by itself where its lanes are shared out."""
        if tuning.ways == 1:
            return super().parts(shape, tuning, floats)
        blocks = len(block_sizes(shape.out_channels, floats))
        groups = (blocks - 1) // tuning.blocks
        most = chunks(shape, tuning.pixels)
        parts = [OutputBlocks(shape.name, self.chunk, 0, groups, most, tuning.blocks)] if groups else []
        cut = chunks(shape, min(20, tuning.pixels * tuning.blocks))
        return [*parts, OutputBlocks(f"{shape.name}__last", narrow_chunk, blocks - 1, blocks, cut, 1, tuning.ways)]

    def header(self, shape: RowShape, tuning: Tuning, floats: int) -> list[str]:
        lines = [weights_header(tuning, floats)]
        if tuning.ways > 1:
            lines.append(f"last output block: {tuning.ways} input channels at once, weights [..][step][tap][{floats}]")
        return [*lines, *super().header(shape, tuning, floats)]

    def packed(self, shape: RowShape, tuning: Tuning, floats: int, weights: Floats) -> Floats:
        blocks = blocks_of_weights(weights, floats)
        full = len(blocks) if tuning.ways == 1 else len(blocks) - 1
        groups = packed_groups(shape, tuning, blocks[:full], block_sizes(weights.shape[1], floats))
        last = [packed_narrow(shape, tuning, floats, blocks[-1])] if full < len(blocks) else []
        return np.concatenate([*groups, *last])

    def chunk(self, shape: RowShape, tuning: Tuning, floats: int, chunk: Chunk) -> list[str]:
        v, per_lane = floats, tuning.blocks * shape.kernel[1] * floats
        folds = Folds(accumulators(tuning.blocks, chunk), v, terms_of(shape))
        steps, prefetched = partial(lane_loop, shape, tuning, v, chunk), prefetched_weights(shape, tuning, v, chunk)
        lines = start(shape, tuning, v, chunk)
        if prefetched:
            ahead = f"{group_floats(shape, tuning, v)} + chunk * {prefetched * in_blocks(shape, v)}"
            lines.append(f"const float *next_w = w + {ahead};")
        lines += input_blocks(shape, tuning, folds, chunk, per_lane, steps, prefetched)
        return [*lines, *finish(shape, tuning, v, chunk)]


def has_phases(conv: ConvTranspose) -> bool:
    """Whether a transposed convolution is one of ordinary windows for each phase of its outputs."""
    window = conv.window
    every = window.dilation == (1, 1) and all(k >= s for k, s in zip(window.kernel, window.stride, strict=True))
    return every and window.kernel[1] <= WIDEST_WINDOW * window.stride[1] and conv.groups == 1


def roomy_tuning(shape: RowShape, vectors: Vectors, blocks: int) -> Tuning:
    """The tuning of a convolution of so many output blocks with 32 registers."""
    if shape.kernel[1] == 1:
        wide = next(a for a in (4, 3, 2, 1) if blocks % a == 0) if blocks else 1
        return Tuning(blocks=wide, pixels=24 // wide, taps=1)
    taps = min(shape.kernel[1], 7)
    together = (2, 1, 3) if shape.stride > 1 else (1, 2, 3)
    held = {a: (vectors.registers - 3) // a - taps for a in together if blocks % a == 0}
    wide = next((a for a, pixels in held.items() if blocks and a * min(pixels, shape.columns) >= ENOUGH), 1)
    return Tuning(blocks=wide, pixels=held.get(wide, vectors.registers - taps - 3), taps=taps)


def weights_header(tuning: Tuning, floats: int) -> str:
    """The order of packed weights, for the comment above a kernel."""
    return f"weights [group][block or channel][kernel row][lane][tap][{tuning.blocks} blocks][{floats}]"


def prefetched_weights(shape: RowShape, tuning: Tuning, v: int, chunk: Chunk) -> int:
    """The floats of the next group's weights that the chunk prefetches with every input block.

    The first chunk of a group would wait for weights that the others then find in a cache: where a layer has many, the
    chunks of the longest run each prefetch their share of the next group's. What lies behind the last group is
    prefetched and not used.
    """
    size = group_floats(shape, tuning, v)
    weights = shape.in_channels // shape.kind.groups * shape.out_channels
    if not shape.is_pointwise or shape.columns * shape.height == 1 or FLOAT.bytes * weights < MANY_BYTES:
        return 0
    run = max(runs(chunks(shape, tuning.pixels)), key=len)
    if run[0].variant != chunk.variant:
        return 0
    return -(-size // (len(run) * in_blocks(shape, v) * LINE)) * LINE


def lane_loop(shape: RowShape, tuning: Tuning, v: int, chunk: Chunk, taps: range) -> list[str]:
    used = uses(shape, chunk, taps)
    step = len(taps) * tuning.blocks * v
    if not used:
        return [f"w += lanes * {step};"]
    body: list[str] = []
    for lane in range(tuning.unroll):
        places = {column: place_of(shape, chunk, column, v, lane) for column, _ in used}
        terms = products(tuning.blocks, v, used, taps, lane * step, places)
        body += scope(terms) if tuning.unroll > 1 else terms
    body += prefetch_in(shape, tuning, v, chunk, taps)
    body.append(f"w += {step * tuning.unroll};")
    head = f"for (int lane = 0; lane < lanes; lane += {tuning.unroll})"
    pointers = [f"const float *xl{suffix(row)} = x{suffix(row)} + lane;" for row in range(chunk.rows)]
    return braces(head, [*pointers, *body])
