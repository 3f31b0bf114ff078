"""Kinds that compute a row in chunks of columns, one group of output blocks after the other.

RowShape + Tuning ──Chunked.parts()──> OutputBlocks, with the body of a chunk ──Chunked.functions()──> C
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from polyfuse.codegen.c.text import braces, function, unused
from polyfuse.codegen.rows.chunks import Chunk, chunks, runs, tap_groups, taps_inside, uses
from polyfuse.codegen.rows.shape import Floats, Kind, RowShape, RowWork, Tuning, block_sizes, filled
from polyfuse.codegen.rows.text import NAMES, PARAMETERS

ChunkBody = Callable[[RowShape, Tuning, int, Chunk], list[str]]


@dataclass(frozen=True)
class OutputBlocks:
    """Output blocks that the same functions compute: groups of `blocks` blocks, from number `first` to `end`.

    `ways` input channels are taken at once.
    """

    name: str
    body: ChunkBody
    first: int
    end: int
    cut: tuple[Chunk, ...]
    blocks: int = 1
    ways: int = 1


class Chunked(Kind):
    """A kind whose rows are computed chunk by chunk."""

    @abstractmethod
    def chunk(self, shape: RowShape, tuning: Tuning, floats: int, chunk: Chunk) -> list[str]:
        """The body of the function that computes one chunk of one group of output blocks, `group`."""

    def parts(self, shape: RowShape, tuning: Tuning, floats: int) -> list[OutputBlocks]:
        """All output blocks alike, unless the kind says otherwise."""
        groups = len(block_sizes(shape.out_channels, floats)) // tuning.blocks
        cut = chunks(shape, tuning.pixels)
        return [OutputBlocks(shape.name, self.chunk, 0, groups, cut, tuning.blocks)] if groups else []

    def header(self, shape: RowShape, tuning: Tuning, floats: int) -> list[str]:
        return [f"accumulators {tuning.blocks} x {', '.join(str(c.pixels) for c in chunks(shape, tuning.pixels))}"]

    def functions(self, shape: RowShape, tuning: Tuning, floats: int) -> list[str]:
        """The functions of every part, and the entry that calls them."""
        lines: list[str] = []
        body: list[str] = []
        for part in self.parts(shape, tuning, floats):
            lines += part_functions(shape, tuning, floats, part)
            cut = runs(part.cut) if tuning.order == "blocks" else [[chunk] for chunk in part.cut]
            loop = f"for (int group = {part.first}; group < {part.end}; group++)"
            calls = [call_of(shape, part, run) for run in cut]
            body += braces(loop, calls) if tuning.order == "blocks" else [x for c in calls for x in braces(loop, [c])]
        return [*lines, *function(f"void {shape.name}", PARAMETERS, [*unused(body, NAMES), *body])]


class Convolution(Chunked):
    """Convolutions whose accumulators are vectors of output channels."""

    weighted = True

    def work(self, shape: RowShape, tuning: Tuning, floats: int) -> RowWork:
        steps = shape.in_channels // self.groups * shape.kernel[0]
        vectors = loads = 0.0
        stores = begun = 0
        for part in self.parts(shape, tuning, floats):
            groups = part.end - part.first
            for chunk in part.cut:
                for taps in tap_groups(shape, tuning):
                    used = uses(shape, chunk, taps)
                    vectors += groups * part.blocks * steps * sum(len(pairs) for _, pairs in used) / part.ways
                    loads += groups * steps * len(used) / part.ways
                stores += groups * part.blocks * chunk.pixels
                begun += groups
        return RowWork(taps_inside(shape) * steps * shape.out_channels, vectors, loads, stores, begun)


def part_functions(shape: RowShape, tuning: Tuning, v: int, part: OutputBlocks) -> list[str]:
    """One function for each variant of a chunk; it computes `count` of them side by side."""
    lines = []
    for chunk in {c.variant: c for c in reversed(part.cut)}.values():
        body = part.body(shape, tuning, v, chunk)
        step = f"chunk++, {_onward(shape, chunk)}"
        body = braces(f"for (int chunk = 0; chunk < count; {step})", body)
        head = f"ROW_PART void {_name(part, chunk)}"
        parameters = (*PARAMETERS, "int group", "int count")
        lines += [*function(head, parameters, [*unused(body, (*NAMES, "group")), *body]), ""]
    return lines


def call_of(shape: RowShape, part: OutputBlocks, run: list[Chunk]) -> str:
    """The call that computes neighbouring chunks."""
    first = run[0].first
    moved = {"from": f"from + {first * shape.stride}", "to": f"to + {first * shape.apart}"} if first else {}
    if first and shape.joins_rows:
        moved = {rows: f"{rows} + {first}" for rows in _row_pointers(shape)}
    return f"{_name(part, run[0])}({', '.join(moved.get(name, name) for name in NAMES)}, group, {len(run)});"


def _onward(shape: RowShape, chunk: Chunk) -> str:
    """From one chunk to the next, as C."""
    if not shape.joins_rows:
        return f"from += {chunk.pixels * shape.stride}, to += {chunk.pixels * shape.apart}"
    return ", ".join(f"{rows} += {chunk.rows}" for rows in _row_pointers(shape))


def _row_pointers(shape: RowShape) -> tuple[str, ...]:
    """The parameters that point at rows like the output's."""
    return ("in", "out") if shape.residual == "none" else ("in", "out", "residual")


def _name(part: OutputBlocks, chunk: Chunk) -> str:
    edges = [f"{side}{n}" for side, n in (("left", chunk.left), ("right", chunk.right)) if n]
    return "__".join([part.name, str(chunk.pixels), *edges])


def blocks_of_weights(weights: Floats, floats: int) -> Floats:
    """`[out channel, …]` as `[block, V, …]`, filled up with zeros."""
    return filled(weights, floats).reshape(-1, floats, *weights.shape[1:])


def packed_groups(shape: RowShape, tuning: Tuning, blocks: Floats, sizes: tuple[int, ...]) -> list[Floats]:
    """`[block, V, in channel, kernel row, tap]`, group by group, in the order of the loops.

    `sizes` are the input channels that a loop goes over before it takes the next kernel row.
    """
    groups = blocks.reshape(-1, tuning.blocks, *blocks.shape[1:])
    return [_packed_group(shape, tuning, group, sizes) for group in groups]


def _packed_group(shape: RowShape, tuning: Tuning, group: Floats, sizes: tuple[int, ...]) -> Floats:
    """`[A, V, in channel, kernel row, tap]`, flat, in the order of the loops."""
    parts, first = [], 0
    for lanes in sizes:
        for row in range(shape.kernel[0]):
            for taps in tap_groups(shape, tuning):
                part = group[:, :, first : first + lanes, row, taps.start : taps.stop]
                parts.append(part.transpose(2, 3, 0, 1).reshape(-1))
        first += lanes
    return np.concatenate(parts)
