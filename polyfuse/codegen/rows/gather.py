"""Channels of one or two blocked rows in another order, as shuffles and concatenations take them.

for each output block, for each column:     the blocks that its channels come from, shuffled one after the other
"""

from polyfuse.codegen.c.text import braces, function, unused
from polyfuse.codegen.rows.activation import finished, finished_later
from polyfuse.codegen.rows.direct import pointers
from polyfuse.codegen.rows.shape import RowShape, block_sizes
from polyfuse.codegen.rows.text import NAMES, PARAMETERS


def gather_functions(shape: RowShape, floats: int) -> list[str]:
    """The functions of a kernel, one for each output block; the last is the row kernel."""
    lines, calls = [], []
    for block in range(len(block_sizes(shape.out_channels, floats))):
        name = f"{shape.name}__{block}"
        body = _block(shape, floats, block)
        lines += [*function(f"ROW_PART void {name}", PARAMETERS, [*unused(body, NAMES), *body]), ""]
        calls.append(f"{name}({', '.join(NAMES)});")
    return [*lines, *function(f"void {shape.name}", PARAMETERS, calls)]


def source_blocks(shape: RowShape, floats: int, block: int) -> list[tuple[int, int]]:
    """The (operand, block) pairs that an output block takes channels from, in the order in which they first occur.

    >>> shape = RowShape("odd", "gather", 8, 8, 9, sources=tuple((0, c) for c in (1, 3, 5, 7, 0, 2, 4, 6)))
    >>> source_blocks(shape, 4, 0)
    [(0, 0), (0, 1)]
    """
    taken = shape.sources[block * floats : (block + 1) * floats]
    return list(dict.fromkeys((operand, channel // floats) for operand, channel in taken))


def _block(shape: RowShape, v: int, block: int) -> list[str]:
    """Every column of an output block: as many loads as it has source blocks, and a shuffle less."""
    taken = shape.sources[block * v : (block + 1) * v]
    pitches = (shape.in_pitch, shape.second_pitch)
    starts, body = [], []
    for k, (operand, number) in enumerate(source_blocks(shape, v, block)):
        starts.append(f"const float *x{k} = in[{operand}] + ({number * pitches[operand]} + from) * {v};")
        lanes = {lane: c % v for lane, (o, c) in enumerate(taken) if (o, c // v) == (operand, number)}
        load = f"GET{v}(x{k}, i)"
        if k == 0 and all(lane == source for lane, source in lanes.items()):
            body.append(f"vec{v} t = {load};")
        elif k == 0:
            order = ", ".join(str(lanes.get(lane, 0)) for lane in range(v))
            body.append(f"vec{v} t = {load}; t = SHUFFLE{v}(t, t, {order});")
        else:
            order = ", ".join(str(v + lanes[lane] if lane in lanes else lane) for lane in range(v))
            body.append(f"t = SHUFFLE{v}(t, {load}, {order});")
    body += finished(shape, "t", v, "i")
    loop = braces(f"for (int i = 0; i < {shape.columns * v}; i += {v})", body)
    return [*starts, *pointers(shape, v, str(block)), *loop, *finished_later(shape, shape.columns, v)]
