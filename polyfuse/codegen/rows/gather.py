"""Channels of one or two blocked rows in another order, as shuffles and concatenations take them.

for each output block, for each column:     the blocks that its channels come from, shuffled one after the other
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from polyfuse.codegen.c.text import braces, function, unused
from polyfuse.codegen.rows.accumulate import pointers
from polyfuse.codegen.rows.activation import finished, finished_later
from polyfuse.codegen.rows.channels import channel_sources
from polyfuse.codegen.rows.shape import Kind, RowShape, RowWork, Site, Tuning, block_sizes, check_pitch
from polyfuse.codegen.rows.text import NAMES, PARAMETERS
from polyfuse.errors import InvalidInput
from polyfuse.network.layer import Layer
from polyfuse.network.tensor import Tensor


@dataclass(frozen=True)
class GatherRows(Kind):
    """Moved channels, where what is read and made is in blocks for the sake of others.

    `sources` are, for each output channel, the operand and the channel that it copies; blocks of the second operand
    are `second_pitch` columns apart, 0 for as many as in the first.
    """

    sources: tuple[tuple[int, int], ...] = ()
    second_pitch: int = 0

    name = "gather"
    has_window = False
    follows = True

    def claim(self, site: Site) -> Kind | None:
        sources = channel_sources(site.layer) if len(site.layer.output.shape) == 4 else None
        return GatherRows(sources) if sources is not None else None

    def joins(self, layer: Layer, blocked: frozenset[str], made: frozenset[str]) -> bool:
        every = all(tensor.name in blocked for tensor in layer.inputs)
        return every and len(layer.output.shape) == 4 and channel_sources(layer) is not None

    def operands(self, layer: Layer) -> tuple[Tensor, ...]:
        return layer.inputs

    def in_channels(self, layer: Layer) -> int:
        return sum(tensor.concrete_shape[1] for tensor in layer.inputs)

    def placed(self, padding: tuple[int, int], outside: tuple[int, int], pitches: Sequence[int]) -> Kind:
        return replace(self, second_pitch=pitches[1]) if len(pitches) > 1 else self

    def check(self, shape: RowShape) -> None:
        super().check(shape)
        where = f"row kernel {shape.name!r}"
        if len(self.sources) != shape.out_channels:
            raise InvalidInput(f"{where}: gather has a source for each channel, got {len(self.sources)}")
        check_pitch(where, "of the second operand", self.second_pitch, shape.columns)

    def rows_read(self, shape: RowShape) -> int:
        return 1 + max(operand for operand, _ in self.sources)

    def row_uses(self, shape: RowShape) -> tuple[int, ...]:
        return (1,)

    def work(self, shape: RowShape, tuning: Tuning, floats: int) -> RowWork:
        """A load or a shuffle for each block that an output block takes channels from."""
        blocks = len(block_sizes(shape.out_channels, floats))
        loads = shape.columns * sum(len(source_blocks(self, floats, block)) for block in range(blocks))
        return RowWork(0, loads, loads, shape.columns * blocks, blocks)

    def functions(self, shape: RowShape, tuning: Tuning, floats: int) -> list[str]:
        """The functions of a kernel, one for each output block; the last is the row kernel."""
        lines, calls = [], []
        for block in range(len(block_sizes(shape.out_channels, floats))):
            name = f"{shape.name}__{block}"
            body = _block(self, shape, floats, block)
            lines += [*function(f"ROW_PART void {name}", PARAMETERS, [*unused(body, NAMES), *body]), ""]
            calls.append(f"{name}({', '.join(NAMES)});")
        return [*lines, *function(f"void {shape.name}", PARAMETERS, calls)]


def source_blocks(kind: GatherRows, floats: int, block: int) -> list[tuple[int, int]]:
    """The (operand, block) pairs that an output block takes channels from, in the order in which they first occur.

    >>> source_blocks(GatherRows(tuple((0, c) for c in (1, 3, 5, 7, 0, 2, 4, 6))), 4, 0)
    [(0, 0), (0, 1)]
    """
    taken = kind.sources[block * floats : (block + 1) * floats]
    return list(dict.fromkeys((operand, channel // floats) for operand, channel in taken))


def _block(kind: GatherRows, shape: RowShape, v: int, block: int) -> list[str]:
    """Every column of an output block: as many loads as it has source blocks, and a shuffle less."""
    taken = kind.sources[block * v : (block + 1) * v]
    pitches = (shape.in_pitch, kind.second_pitch or shape.in_pitch)
    starts, body = [], []
    for k, (operand, number) in enumerate(source_blocks(kind, v, block)):
        starts.append(f"const float *x{k} = in[{operand}] + ({number * pitches[operand]} + from) * {v};")
        lanes = {lane: c % v for lane, (o, c) in enumerate(taken) if (o, c // v) == (operand, number)}
        load, in_order = f"GET{v}(x{k}, i)", all(lane == source for lane, source in lanes.items())
        order = (lanes.get(lane, 0) if k == 0 else v + lanes[lane] if lane in lanes else lane for lane in range(v))
        shuffled = f"t = SHUFFLE{v}(t, {'t' if k == 0 else load}, {', '.join(map(str, order))});"
        opened = f"vec{v} t = {load};" if k == 0 else ""
        body.append(opened if k == 0 and in_order else f"{opened} {shuffled}".lstrip())
    body += finished(shape, "t", v, "i")
    loop = braces(f"for (int i = 0; i < {shape.columns * v}; i += {v})", body)
    return [*starts, *pointers(shape, v, str(block)), *loop, *finished_later(shape, shape.columns, v)]
