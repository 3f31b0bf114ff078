"""Sums and products of two blocked rows, and one row by itself; the activation and a last row as everywhere."""

from polyfuse.codegen.c.text import braces
from polyfuse.codegen.rows.activation import finished, finished_later
from polyfuse.codegen.rows.direct import pointers
from polyfuse.codegen.rows.shape import Chunk, RowShape, Tuning

VALUES = {"add": "GET{v}(a, i) + {b}", "mul": "GET{v}(a, i) * {b}", "apply": "GET{v}(a, i)"}


def elementwise_chunk(shape: RowShape, tuning: Tuning, floats: int, chunk: Chunk) -> list[str]:
    """The body of the function that computes one chunk of one channel block, `group`."""
    v = floats
    place = f"(group * (ptrdiff_t){shape.in_pitch} + from) * {v}"
    b = "b" if shape.spread else f"GET{v}(b, i)"
    body = [f"vec{v} t = {VALUES[shape.kind].format(v=v, b=b)};", *finished(shape, "t", v, "i")]
    if tuning.asks_in:
        body.append("__builtin_prefetch(ahead + i, 0);")
    ahead = [f"const float *ahead = next_in + {place};"] if tuning.asks_in else []
    second = [f"const float *b = in[1] + (group * (ptrdiff_t){shape.second_pitch} + from) * {v};"]
    if shape.spread:
        second = [f"const vec{v} b = GET{v}(in[1], group * (ptrdiff_t){shape.second_pitch * v});"]
    return [
        f"const float *a = in[0] + {place};",
        *(second if shape.rows_read == 2 else []),
        *ahead,
        *pointers(shape, v, "group"),
        *braces(f"for (int i = 0; i < {chunk.pixels * v}; i += {v})", body),
        *finished_later(shape, chunk.pixels, v),
    ]
