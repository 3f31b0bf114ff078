"""Planar rows to a blocked row and back: the NCHW interface, as a pointwise row kernel.

`to_blocked`: `in[channel]` are planar rows, `out[0]` is blocked; channels that fill up the last block become 0.
`to_planar`: `in[0]` is blocked, `out[channel]` are planar rows.
Squares of V x V are transposed in registers; the last one overlaps the one before it, so there is no remainder. A
row narrower than V is copied element by element.
"""

from dataclasses import dataclass

from polyfuse.codegen.c.text import braces, function, listed, unused
from polyfuse.codegen.rows.shape import Kind, RowShape, Tuning, block_sizes
from polyfuse.codegen.rows.text import NAMES, PARAMETERS


class Conversion(Kind):
    """One layout to another. No layer is computed by it: loads and stores are."""

    lanewise = True
    has_window = False
    takes_slopes = False

    def functions(self, shape: RowShape, tuning: Tuning, floats: int) -> list[str]:
        blocks = block_sizes(shape.in_channels, floats)
        lines, calls = [], []
        for channels in sorted(set(blocks), reverse=True):
            name = f"{shape.name}__{channels}"
            lines += [*_block(shape, floats, channels, name), ""]
            first, end = blocks.index(channels), len(blocks) - blocks[::-1].index(channels)
            call = f"{name}({', '.join(NAMES)}, block);"
            calls += braces(f"for (int block = {first}; block < {end}; block++)", [call])
        return [*lines, *function(f"void {shape.name}", PARAMETERS, [*unused(calls, NAMES), *calls])]


@dataclass(frozen=True)
class ToBlocked(Conversion):
    """Planar rows to a blocked one."""

    name = "to_blocked"
    planar_in = True


@dataclass(frozen=True)
class ToPlanar(Conversion):
    """A blocked row to planar ones."""

    name = "to_planar"
    planar_out = True


def _block(shape: RowShape, v: int, channels: int, name: str) -> list[str]:
    """The function that converts one block of `channels` channels."""
    if shape.kind.planar_in:
        body = [f"float *blocked = out[0] + (block * (ptrdiff_t){shape.out_pitch} + to) * {v};"]
    else:
        body = [f"const float *blocked = in[0] + (block * (ptrdiff_t){shape.in_pitch} + from) * {v};"]
    if shape.columns < v:
        body += _by_element(shape, v, channels)
    else:
        squares = -(-shape.columns // v)
        place = f"i < {squares - 1} ? i * {v} : {shape.columns - v}"
        square = [f"const int column = {place};", *_square(shape, v, channels)]
        body += braces(f"for (int i = 0; i < {squares}; i++)", square)
    return function(f"ROW_PART void {name}", (*PARAMETERS, "int block"), [*unused(body, NAMES), *body])


def _by_element(shape: RowShape, v: int, channels: int) -> list[str]:
    if shape.kind.planar_in:
        value = f"in[block * {v} + c][from + i]"
        value = value if channels == v else f"c < {channels} ? {value} : 0.0f"
        inner = braces(f"for (int c = 0; c < {v}; c++)", [f"blocked[i * {v} + c] = {value};"])
    else:
        copy = f"out[block * {v} + c][to + i] = blocked[i * {v} + c];"
        inner = braces(f"for (int c = 0; c < {channels}; c++)", [copy])
    return braces(f"for (int i = 0; i < {shape.columns}; i++)", inner)


def _square(shape: RowShape, v: int, channels: int) -> list[str]:
    """Load V vectors, transpose, store V vectors; of planar rows only those that exist."""
    planar = f"block * {v} + {{}}"
    if shape.kind.planar_in:
        loads = [
            f"GET{v}(in[{planar.format(c)}], from + column)" if c < channels else f"SPLAT{v}(0.0f)" for c in range(v)
        ]
        stores = [f"PUT{v}(blocked, (column + {c}) * {v}, {{}});" for c in range(v)]
    else:
        loads = [f"GET{v}(blocked, (column + {c}) * {v})" for c in range(v)]
        stores = [f"PUT{v}(out[{planar.format(c)}], to + column, {{}});" for c in range(channels)]
    lines = listed(f"vec{v} ", (f"t{v}_{k} = {load}" for k, load in enumerate(loads)))
    lines += transpose(v, len(stores))
    return [*lines, *(store.format(f"t1_{k}") for k, store in enumerate(stores))]


def transpose(v: int, wanted: int) -> list[str]:
    """V vectors t<V>_<row> to the first `wanted` of V vectors t1_<column>.

    Blocks of size V/2, V/4, … 1 are exchanged across the diagonal; what nothing wanted depends on is left out.

    >>> len(transpose(4, 4)), len(transpose(4, 1))
    (8, 3)
    """
    lines: list[str] = []
    needed, half = set(range(wanted)), 1
    while half < v:
        lines = [_exchange(v, half, k) for k in sorted(needed)] + lines
        needed = {k for n in needed for k in (n & ~half, n | half)}
        half *= 2
    return lines


def _exchange(v: int, half: int, k: int) -> str:
    """t<half>_<k> out of the two vectors of the step before that hold its lanes."""
    shift = half if k & half else 0
    lanes = ((lane + shift if lane & half == 0 else v + lane - half + shift) for lane in range(v))
    pair = f"t{2 * half}_{k & ~half}, t{2 * half}_{k | half}"
    return f"const vec{v} t{half}_{k} = SHUFFLE{v}({pair}, {', '.join(map(str, lanes))});"
