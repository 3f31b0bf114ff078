"""Local response normalisation of a blocked row: x / (bias + alpha/size * s)^beta, s a sum of squares of neighbours.

    for each channel block, for each column:      squares of the block, and of those before and after it
      for each neighbour: shifted by its distance across the borders of the blocks, and added

Powers of 1, 3/4 and 1/2 are square roots; others call the C library lane by lane. Channels that do not exist count 0.
"""

from polyfuse.codegen.c.text import braces
from polyfuse.codegen.rows.activation import finished, finished_later
from polyfuse.codegen.rows.direct import pointers
from polyfuse.codegen.rows.shape import Chunk, RowShape, Tuning, block_sizes

ROOTS = {
    1.0: [],
    0.75: ["vec{v} root = t;", "SQRT{v}(root);", "t = root;", "SQRT{v}(t);", "t *= root;"],
    0.5: ["SQRT{v}(t);"],
}
"""t = t^beta as square roots, by beta."""


def lrn_chunk(shape: RowShape, tuning: Tuning, floats: int, chunk: Chunk) -> list[str]:
    """The body of the function that computes one chunk of one channel block, `group`."""
    size, alpha, beta, bias = shape.numbers
    v, step, blocks = floats, shape.in_pitch * floats, len(block_sizes(shape.in_channels, floats))
    power = [f"for (int k = 0; k < {v}; k++) t[k] = powf(t[k], {beta!r}f);"]
    body = [
        f"const vec{v} value = GET{v}(x, i);",
        *_squares("here", "1", "value", shape, v, 0),
        *_squares("before", "group > 0", f"GET{v}(x, i - {step})", shape, v, -1),
        *_squares("after", f"group + 1 < {blocks}", f"GET{v}(x, i + {step})", shape, v, 1),
        f"vec{v} t = {bias!r}f + {alpha / size!r}f * ({_sum(int(size), v)});",
        *(line.format(v=v) for line in ROOTS.get(beta, [])),
        *([] if beta in ROOTS else power),
        "t = value / t;",
        *finished(shape, "t", v, "i"),
    ]
    return [
        f"const float *x = in[0] + (group * (ptrdiff_t){shape.in_pitch} + from) * {v};",
        *pointers(shape, v, "group"),
        *braces(f"for (int i = 0; i < {chunk.pixels * v}; i += {v})", body),
        *finished_later(shape, chunk.pixels, v),
    ]


def _squares(name: str, exists: str, value: str, shape: RowShape, v: int, distance: int) -> list[str]:
    """The squares of the block at a distance from `group`; 0 where there is none, and in lanes without a channel."""
    sizes = block_sizes(shape.in_channels, v)
    loaded = value if exists == "1" else f"{exists} ? (vec{v}){value} : SPLAT{v}(0.0f)"
    lines = [f"vec{v} {name} = {loaded};"]
    if sizes[-1] < v:
        lanes = ", ".join("-1" if lane < sizes[-1] else "0" for lane in range(v))
        kept = f"SELECT{v}(((mask{v}){{{lanes}}}), {name}, SPLAT{v}(0.0f))"
        lines.append(f"if (group == {len(sizes) - 1 - distance}) {name} = {kept};")
    return [*lines, f"{name} *= {name};"]


def _sum(size: int, v: int) -> str:
    """The squares of `size` channels around each lane, from the lowest one up."""
    low = (size - 1) // 2
    return " + ".join(_shifted(d, v) for d in range(-low, size - low))


def _shifted(distance: int, v: int) -> str:
    """The squares so many channels further on."""
    if distance == 0:
        return "here"
    pair, first = ("before, here", v + distance) if distance < 0 else ("here, after", distance)
    return f"SHUFFLE{v}({pair}, {', '.join(str(first + lane) for lane in range(v))})"
