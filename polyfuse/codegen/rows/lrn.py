"""Local response normalisation of a blocked row: x / (bias + alpha/size * s)^beta, s a sum of squares of neighbours.

    for each channel block, for each column:      squares of the block, and of those before and after it
      for each neighbour: shifted by its distance across the borders of the blocks, and added

Powers of 1, 3/4 and 1/2 are square roots; others call the C library lane by lane. Channels that do not exist count 0.
"""

from dataclasses import dataclass, replace

from polyfuse.codegen.c.text import braces
from polyfuse.codegen.rows.accumulate import pointers
from polyfuse.codegen.rows.activation import finished, finished_later
from polyfuse.codegen.rows.chunked import Chunked
from polyfuse.codegen.rows.chunks import Chunk
from polyfuse.codegen.rows.shape import Kind, RowShape, RowWork, Site, Tuning, block_sizes
from polyfuse.network.operator import LocalResponse

ROOTS = {
    1.0: [],
    0.75: ["vec{v} root = t;", "SQRT{v}(root);", "t = root;", "SQRT{v}(t);", "t *= root;"],
    0.5: ["SQRT{v}(t);"],
}
"""t = t^beta as square roots, by beta."""
ROOT_VECTORS = 20
"""What square roots and the division take, in operations on vectors."""


@dataclass(frozen=True)
class Normalised(Chunked):
    """Local response normalisation over `size` channels."""

    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    bias: float = 1.0

    name = "lrn"
    lanewise = True
    has_window = False

    def claim(self, site: Site) -> Kind | None:
        match site.layer.operator:
            case LocalResponse(size=size, alpha=alpha, beta=beta, bias=bias):
                fits = size // 2 <= site.vectors.floats and site.is_wide
                return Normalised(size, alpha, beta, bias) if fits else None
        return None

    def work(self, shape: RowShape, tuning: Tuning, floats: int) -> RowWork:
        work = super().work(shape, tuning, floats)
        return replace(work, vectors=(ROOT_VECTORS + self.size) * work.vectors)

    def chunk(self, shape: RowShape, tuning: Tuning, floats: int, chunk: Chunk) -> list[str]:
        v, step, blocks = floats, shape.in_pitch * floats, len(block_sizes(shape.in_channels, floats))
        power = [f"for (int k = 0; k < {v}; k++) t[k] = powf(t[k], {self.beta!r}f);"]
        body = [
            f"const vec{v} value = GET{v}(x, i);",
            *_squares("here", "1", "value", shape, v, 0),
            *_squares("before", "group > 0", f"GET{v}(x, i - {step})", shape, v, -1),
            *_squares("after", f"group + 1 < {blocks}", f"GET{v}(x, i + {step})", shape, v, 1),
            f"vec{v} t = {self.bias!r}f + {self.alpha / self.size!r}f * ({_sum(self.size, v)});",
            *(line.format(v=v) for line in ROOTS.get(self.beta, [])),
            *([] if self.beta in ROOTS else power),
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

    def shifted(distance: int) -> str:
        if distance == 0:
            return "here"
        pair, first = ("before, here", v + distance) if distance < 0 else ("here, after", distance)
        return f"SHUFFLE{v}({pair}, {', '.join(str(first + lane) for lane in range(v))})"

    low = (size - 1) // 2
    return " + ".join(map(shifted, range(-low, size - low)))
