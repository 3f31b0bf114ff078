"""The row kernel of a shape: C text with one entry, the same signature for every kind.

    void NAME(const float *const *in, const float *weights, const float *bias, const float *const *residual,
              float *const *out, ptrdiff_t from, ptrdiff_t to, const float *next_in, float *next_out,
              float *workspace)

- `in`: the rows that are read. Blocked, one for each kernel row, top to bottom; `add` and `mul`: their two operands;
  `few_channels` and `to_blocked`: planar, `in[channel * kernel rows + kernel row]`; `stencil`: planar, top to bottom.
  of a second operand with `RowShape.spread`, the column itself.
  NULL is a row outside the image: it is not read. A row of zeros gives the same but for infinite weights and maxima.
- `weights`, `bias`: as packed by pack.py, the bias filled up with zeros to whole blocks; not read where there is none.
  Behind it are the slopes of `prelu`, filled up alike.
- `out`, `residual`: the row (`stencil`: the `height` rows; `to_planar`: one for each channel).
- `winograd`: `in` are height + 2 rows, `out` and `residual` height rows.
- `workspace`: `RowKernel.workspace_bytes` at a cache line, for this call alone; may be NULL where that is 0.
- `from`: the column of `in` that the first column of the first window falls on: negative where that is outside.
  `to`: the column of `out` and of `residual` that is computed first.
- `next_in`: rows of the same form that are needed soon, with `Tuning.asks_in`; else it may be NULL. `stencil`,
  `few_channels`, `winograd`: the row that will be the first one next time, the others as far below theirs, or NULL.
- `next_out`: the same of rows that `stencil` writes, with `asks_out`. `winograd` then asks for rows of `out`; no other
  kind asks for what it writes.

Row pointers need the alignment of a float, those of a streamed row that of a vector; blocked rows aligned to a vector
are faster. `out` overlaps nothing that is read, except that `residual` may be `out` itself (at one pitch) where the
activation runs on vectors.
Lanes that fill up the last block of output channels are of no meaning; no kernel lets them reach a channel.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from polyfuse.codegen.c.text import braces, comment, function, unused
from polyfuse.codegen.rows.convert import convert_functions
from polyfuse.codegen.rows.depthwise import window_chunk
from polyfuse.codegen.rows.direct import direct_chunk
from polyfuse.codegen.rows.elementwise import elementwise_chunk
from polyfuse.codegen.rows.fewchannel import few_channels_chunk
from polyfuse.codegen.rows.gather import gather_functions
from polyfuse.codegen.rows.grouped import group_parts, grouped_chunk, shared_chunk
from polyfuse.codegen.rows.lrn import lrn_chunk
from polyfuse.codegen.rows.narrow import narrow_chunk
from polyfuse.codegen.rows.shape import WEIGHTED, Chunk, RowShape, Target, Tuning, block_sizes, chunks, runs
from polyfuse.codegen.rows.stencil import stencil_functions
from polyfuse.codegen.rows.text import NAMES, PARAMETERS, prelude
from polyfuse.codegen.rows.tiling import Tiling, tilings, transforms, workspace_bytes
from polyfuse.codegen.rows.tune import check_tuning, default_tuning
from polyfuse.codegen.rows.winograd import winograd_functions

ChunkBody = Callable[[RowShape, Tuning, int, Chunk], list[str]]
BODIES: dict[str, ChunkBody] = {
    "direct": direct_chunk,
    "grouped": grouped_chunk,
    "few_channels": few_channels_chunk,
    "depthwise": window_chunk,
    "max_pool": window_chunk,
    "average_pool": window_chunk,
    "add": elementwise_chunk,
    "mul": elementwise_chunk,
    "apply": elementwise_chunk,
    "lrn": lrn_chunk,
}


@dataclass(frozen=True)
class RowKernel:
    """C of a row kernel; `text` needs `prelude(floats)` before it, once a file, and `source` has it."""

    shape: RowShape
    tuning: Tuning
    floats: int
    text: str

    @property
    def name(self) -> str:
        """The entry."""
        return self.shape.name

    @property
    def workspace_bytes(self) -> int:
        """What a call needs besides rows and weights: each thread provides its own."""
        return workspace_bytes(self.shape, self.tuning, self.floats)

    @property
    def source(self) -> str:
        """A C file of its own."""
        return f"{prelude(self.floats)}\n{self.text}"


def row_kernel(shape: RowShape, target: Target, tuning: Tuning | None = None) -> RowKernel:
    """The kernel of a shape for the vectors of a machine; the default tuning unless one is given.

    Raises InvalidInput where the tuning does not suit the shape.

    >>> kernel = row_kernel(RowShape("conv1", "direct", 16, 16, 4, kernel=(3, 3), outside=(1, 1)), Target(4, 16))
    >>> print(kernel.text.splitlines()[0])
    /* conv1: direct 3x3, 16 -> 16 channels, 4 columns, outside 1 and 1
    """
    shape = with_pitches(shape)
    used = default_tuning(shape, target) if tuning is None else tuning
    check_tuning(shape, target.floats, used)
    v = target.floats
    if shape.kind == "stencil":
        lines = stencil_functions(shape, used, v)
    elif shape.kind == "winograd":
        lines = winograd_functions(shape, used, v)
    elif shape.kind == "gather":
        lines = gather_functions(shape, v)
    elif shape.kind in ("to_blocked", "to_planar"):
        lines = convert_functions(shape, v)
    else:
        lines = _chunked(shape, used, v)
    return RowKernel(shape, used, v, "\n".join([*comment(_header(shape, used, v)), *lines, ""]))


def with_pitches(shape: RowShape) -> RowShape:
    """The shape with blocks side by side where no pitch was given."""
    in_pitch = shape.in_pitch or shape.in_columns
    beside = in_pitch if shape.kind in ("add", "mul", "gather") else 0
    return replace(
        shape,
        in_pitch=in_pitch,
        out_pitch=shape.out_pitch or shape.out_span,
        residual_pitch=shape.residual_pitch or shape.out_span,
        second_pitch=shape.second_pitch or (1 if shape.spread else beside),
    )


@dataclass(frozen=True)
class _Part:
    """Output blocks that the same functions compute: groups of blocks from `first` to `end`."""

    name: str
    body: ChunkBody
    first: int
    end: int
    cut: tuple[Chunk, ...]


def _parts(shape: RowShape, tuning: Tuning, v: int) -> list[_Part]:
    """All output blocks alike, or the last one by itself where its lanes are shared out; of groups, their parts."""
    if shape.kind == "grouped":
        every, alone = group_parts(shape, v)
        cut = chunks(shape, tuning.pixels)
        both = (_Part(shape.name, grouped_chunk, 0, alone, cut),
                _Part(f"{shape.name}__shared", shared_chunk, alone, len(every), cut))  # fmt: skip
        return [part for part in both if part.end > part.first]
    blocks = len(block_sizes(shape.out_channels, v))
    full = blocks if tuning.ways == 1 else blocks - 1
    body = BODIES[shape.kind]
    parts = [_Part(shape.name, body, 0, full // tuning.blocks, chunks(shape, tuning.pixels))] if full else []
    if tuning.ways > 1:
        cut = chunks(shape, min(20, tuning.pixels * tuning.blocks))
        parts.append(_Part(f"{shape.name}__last", narrow_chunk, full, blocks, cut))
    return parts


def part_chunks(shape: RowShape, tuning: Tuning, v: int) -> list[tuple[int, int, int, tuple[Chunk, ...]]]:
    """The chunks of a convolution: (output blocks at once, groups of them, input channels at once, chunks)."""
    return [
        (tuning.blocks, part.end - part.first, 1, part.cut)
        if part.body is not narrow_chunk
        else (1, part.end - part.first, tuning.ways, part.cut)
        for part in _parts(shape, tuning, v)
    ]


def _chunked(shape: RowShape, tuning: Tuning, v: int) -> list[str]:
    """The functions of every part, and the entry that calls them."""
    lines: list[str] = []
    body: list[str] = []
    for part in _parts(shape, tuning, v):
        lines += _part_functions(shape, tuning, v, part)
        cut = runs(part.cut) if tuning.order == "blocks" else [[chunk] for chunk in part.cut]
        loop = f"for (int group = {part.first}; group < {part.end}; group++)"
        calls = [_call(shape, part, run) for run in cut]
        body += braces(loop, calls) if tuning.order == "blocks" else [x for c in calls for x in braces(loop, [c])]
    return [*lines, *function(f"void {shape.name}", PARAMETERS, [*unused(body, NAMES), *body])]


def _part_functions(shape: RowShape, tuning: Tuning, v: int, part: _Part) -> list[str]:
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


def _onward(shape: RowShape, chunk: Chunk) -> str:
    """From one chunk to the next, as C."""
    if not shape.joins_rows:
        return f"from += {chunk.pixels * shape.stride}, to += {chunk.pixels * shape.apart}"
    return ", ".join(f"{rows} += {chunk.rows}" for rows in _row_pointers(shape))


def _row_pointers(shape: RowShape) -> tuple[str, ...]:
    """The parameters that point at rows like the output's."""
    return ("in", "out") if shape.residual == "none" else ("in", "out", "residual")


def _call(shape: RowShape, part: _Part, run: list[Chunk]) -> str:
    """The call that computes neighbouring chunks."""
    first = run[0].first
    moved = {"from": f"from + {first * shape.stride}", "to": f"to + {first * shape.apart}"} if first else {}
    if first and shape.joins_rows:
        moved = {rows: f"{rows} + {first}" for rows in _row_pointers(shape)}
    return f"{_name(part, run[0])}({', '.join(moved.get(name, name) for name in NAMES)}, group, {len(run)});"


def _name(part: _Part, chunk: Chunk) -> str:
    edges = [f"{side}{n}" for side, n in (("left", chunk.left), ("right", chunk.right)) if n]
    return "__".join([part.name, str(chunk.pixels), *edges])


def _header(shape: RowShape, tuning: Tuning, v: int) -> list[str]:
    kernel = f" {shape.kernel[0]}x{shape.kernel[1]}"
    steps = [f"{n} {getattr(shape, n)}" for n in ("stride", "dilation", "groups", "height") if getattr(shape, n) != 1]
    channels = f"{shape.in_channels} -> {shape.out_channels} channels"
    outside = [f"outside {shape.outside[0]} and {shape.outside[1]}"] if any(shape.outside) else []
    lines = [
        f"{shape.name}: " + ", ".join([shape.kind + kernel, *steps, channels, f"{shape.columns} columns", *outside]),
        f"layout [block][column][{v}], blocks {shape.in_pitch} columns apart in, {shape.out_pitch} out"
        + (f", {shape.residual_pitch} residual" if shape.residual != "none" else ""),
        f"bias {'yes' if shape.bias else 'no'}, activation {shape.activation or 'none'}, residual {shape.residual}",
    ]
    if shape.kind == "winograd":
        return [*lines, *_tiles_header(shape, tuning, v)]
    if shape.kind in ("direct", "few_channels"):
        lines.append(f"weights [group][block or channel][kernel row][lane][tap][{tuning.blocks} blocks][{v}]")
        if tuning.ways > 1:
            lines.append(f"last output block: {tuning.ways} input channels at once, weights [..][step][tap][{v}]")
    elif shape.kind == "grouped":
        lines.append(f"weights [part of a block][channel][kernel row][tap][{v}], 0 in lanes of other groups")
    elif shape.kind in WEIGHTED:
        lines.append("weights [kernel row][tap]" if shape.kind == "stencil" else f"weights [block][row][tap][{v}]")
    if shape.kind in BODIES:
        lines.append(f"accumulators {tuning.blocks} x {', '.join(str(c.pixels) for c in chunks(shape, tuning.pixels))}")
    return lines


def _tiles_header(shape: RowShape, tuning: Tuning, v: int) -> list[str]:
    sizes = ", ".join(f"{high}x{wide}" for high, wide in transforms(tuning))
    return [
        *map(_region_header, tilings(shape, tuning, v)),
        f"weights [group][frequency][in channel][{tuning.blocks} blocks][{v}], transformed for {sizes}",
        f"workspace {workspace_bytes(shape, tuning, v)} bytes: inputs [frequency][block][tile][{v}], "
        f"then products alike",
    ]


def _region_header(plan: Tiling) -> str:
    batches = ", ".join(map(str, plan.batches)) if len(set(plan.batches)) > 1 else str(plan.batches[0])
    accumulators = f"{plan.tuning.blocks} x {min(plan.tuning.pixels, plan.batches[0])}"
    return (
        f"F({plan.tile[0]}x{plan.tile[1]}, 3x3): {plan.bands} x {plan.across} tiles, batches of {batches}, "
        f"accumulators {accumulators}"
    )
