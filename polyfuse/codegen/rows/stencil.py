"""One channel in planar rows: vectors along the columns, `height` output rows at once.

    for each vector of columns:                      accumulators a<row>
      for each input row: take it at every tap's shift once, and use it for every output row that it is a tap of

Vectors start at multiples of V, the first and the last where the inside begins and ends: these overlap their
neighbours, so there is no remainder. Columns whose windows reach outside are computed one by one. `in` and `out` point
at planar rows; an input row whose pointer is NULL is skipped.

    weights  [kernel row][tap]
"""

from collections import Counter
from dataclasses import dataclass
from math import prod

import numpy as np

from polyfuse.codegen.c.text import braces, function, listed, scope, unused
from polyfuse.codegen.rows.activation import finished, runs_on_vectors, scalar
from polyfuse.codegen.rows.chunks import tap_groups, taps_inside
from polyfuse.codegen.rows.folds import MOST
from polyfuse.codegen.rows.shape import WIDEST_WINDOW, Floats, Kind, RowShape, RowWork, Site, Tuning, Vectors
from polyfuse.codegen.rows.text import NAMES, PARAMETERS
from polyfuse.errors import InvalidInput
from polyfuse.network.operator import Conv
from polyfuse.network.window import Window

ALONE = 12
"""What a multiply-add of a column by itself takes, in operations on vectors: it waits for the one before."""


@dataclass(frozen=True)
class Stencil(Kind):
    """Convolutions of one channel to one, with stride 1 and a window that needs no blocks of terms."""

    name = "stencil"
    weighted = True
    planar_in = planar_out = True
    takes_slopes = False
    tall = 8
    given_next_out = True
    relative_cost = 0.9

    def claim(self, site: Site) -> Kind | None:
        match site.layer.operator:
            case Conv(window=Window(stride=(1, 1), kernel=kernel, dilation=(down, across))) if down == across:
                alone = site.layer.inputs[0].shape[1] == site.layer.output.shape[1] == 1
                return self if alone and kernel[1] <= WIDEST_WINDOW and prod(kernel) <= MOST else None
        return None

    def check(self, shape: RowShape) -> None:
        if shape.stride != 1 or not shape.in_channels == shape.out_channels == 1:
            raise InvalidInput(
                f"row kernel {shape.name!r}: a stencil expects one channel and stride 1; use few_channels instead"
            )
        super().check(shape)

    def row_uses(self, shape: RowShape) -> tuple[int, ...]:
        """
        >>> Stencil().row_uses(RowShape("s", Stencil(), 1, 1, 64, kernel=(3, 3), height=2))
        (1, 2, 2, 1)
        """
        return sliding_uses(shape)

    def prefetches_in(self, shape: RowShape, is_large: bool) -> bool:
        """The hardware follows few streams, and none from one row to the next."""
        return True

    def prefetches_out(self, shape: RowShape, is_large: bool) -> bool:
        return True

    def floats(self, shape: RowShape, vectors: Vectors) -> int:
        """Narrower vectors where fewer columns are inside than a vector holds."""
        inside = shape.columns - sum(shape.outside)
        if inside >= vectors.floats:
            return vectors.floats
        return 8 if inside >= 8 and vectors.floats > 8 else 4

    def tuning(self, shape: RowShape, vectors: Vectors) -> Tuning:
        fits = shape.height + shape.kernel[0] * shape.kernel[1] + 2 <= vectors.registers
        return Tuning(pixels=vectors.floats, taps=shape.kernel[1] if fits else 1)

    def header(self, shape: RowShape, tuning: Tuning, floats: int) -> list[str]:
        return ["weights [kernel row][tap]"]

    def packed(self, shape: RowShape, tuning: Tuning, floats: int, weights: Floats) -> Floats:
        return np.ascontiguousarray(weights[0, 0]).reshape(-1)

    def work(self, shape: RowShape, tuning: Tuning, floats: int) -> RowWork:
        """Columns whose windows reach outside, and fewer than a vector, are computed one by one.

        Loads count as much as multiply-adds, since most are not aligned: a row at a time takes half as long again as
        eight.
        """
        inside = max(0, shape.columns - sum(shape.outside))
        vectors = -(-inside // floats) if inside >= floats else 0
        alone = shape.columns - (inside if vectors else 0)
        kh, kw = shape.kernel
        loads = vectors * shape.rows_read * kw
        products = (vectors + ALONE * alone) * shape.height * kh * kw
        return RowWork(taps_inside(shape) * kh * shape.height, products + loads, loads,
                       (vectors + alone) * shape.height, 1)  # fmt: skip

    def functions(self, shape: RowShape, tuning: Tuning, floats: int) -> list[str]:
        low, high = min(shape.columns, shape.outside[0]), max(0, shape.columns - shape.outside[1])
        if high - low < floats or not runs_on_vectors(shape):
            low = high = 0
        lines: list[str] = []
        body: list[str] = []
        if high > low:
            rows = " && ".join(f"in[{row}]" for row in range(shape.rows_read))
            for part, checked in (("inside", False), ("inside_border", True)):
                loop = _inside(shape, tuning, floats, (low, high), checked)
                lines += [
                    *function(f"ROW_PART void {shape.name}__{part}", PARAMETERS, [*unused(loop, NAMES), *loop]),
                    "",
                ]
            call = f"({', '.join(NAMES)});"
            body += [f"if ({rows})", f"  {shape.name}__inside{call}", "else", f"  {shape.name}__inside_border{call}"]
        edges = [(first, end) for first, end in ((0, low), (high, shape.columns)) if end > first]
        for first, end in edges:
            call = f"{shape.name}__column({', '.join(NAMES)}, column);"
            body += braces(f"for (int column = {first}; column < {end}; column++)", [call])
        lines += [*_column(shape, f"{shape.name}__column"), ""] if edges else []
        return [*lines, *function(f"void {shape.name}", PARAMETERS, [*unused(body, NAMES), *body])]


def sliding_uses(shape: RowShape) -> tuple[int, ...]:
    """For each row that is read, how many output rows times kernel rows it serves, of kinds that make several."""
    found = Counter(r + shape.dilation * k for r in range(shape.height) for k in range(shape.kernel[0]))
    return tuple(found[row] for row in range(shape.rows_read))


def _inside(shape: RowShape, tuning: Tuning, v: int, columns: tuple[int, int], checked: bool) -> list[str]:
    """The loop over vectors of columns, all of whose taps are inside; `checked` rows may be NULL."""
    kh, kw = shape.kernel
    low, high = columns
    base = low - low % v
    count = -(-(high - base) // v)
    aligned = f"{base} + i * {v}"
    names = (f"w{k}_{t} = SPLAT{v}(weights[{k * kw + t}])" for k in range(kh) for t in range(kw))
    start = f"i == 0 ? {low} : i == {count - 1} ? {high - v} : {aligned}" if count > 1 else str(low)
    ahead = _prefetched(shape) if (tuning.prefetch_in or tuning.prefetch_out) and not checked else []
    body = [f"const ptrdiff_t column = {start};", *ahead, *_vector(shape, tuning, v, checked)]
    return [
        *(
            ["const ptrdiff_t below = next_in ? next_in - in[0] : 0, under = next_out ? next_out - out[0] : 0;"]
            if ahead
            else []
        ),
        *listed(f"const vec{v} ", names),
        f"const vec{v} b0 = SPLAT{v}({'bias[0]' if shape.bias else '0.0f'});",
        *braces(f"for (int i = 0; i < {count}; i++)", body),
    ]


def _prefetched(shape: RowShape) -> list[str]:
    """Prefetch what the next execution reads and this one does not, and for what it writes, a whole execution early.

    What is read goes into the second cache.
    """
    new = range(shape.rows_read - shape.height, shape.rows_read)
    read = [f"__builtin_prefetch(in[{row}] + below + from + column, 0, 2);" for row in new]
    written = [f"__builtin_prefetch(out[{row}] + under + to + column, 1, 2);" for row in range(shape.height)]
    return [*braces("if (below)", read), *braces("if (under)", written)]


def _vector(shape: RowShape, tuning: Tuning, v: int, checked: bool) -> list[str]:
    """One vector of every output row; few taps at a time where not all weights fit into registers."""
    lines = listed(f"vec{v} ", (f"a{r} = b0" for r in range(shape.height)))
    for taps in tap_groups(shape, tuning):
        for row in range(shape.rows_read):
            part = _input_row(shape, v, row, taps)
            lines += braces(f"if (in[{row}])", part) if checked and part else part
    for r in range(shape.height):
        lines += scope([*_pointers(shape, str(r)), *finished(shape, f"a{r}", v, "0")])
    return lines


def _input_row(shape: RowShape, v: int, row: int, taps: range) -> list[str]:
    """One input row, at the shifts of some taps, into every output row that it is a kernel row of."""
    kernel_rows = range(shape.kernel[0])
    users = [(r, k) for r in range(shape.height) for k in kernel_rows if r + shape.dilation * k == row]
    if not users:
        return []
    joined = _joined(shape, v, taps)
    loaded = [t for t in taps if t not in joined]
    keep = len(users) > 1 or bool(joined)
    lines = [f"vec{v} x{row}_{t} = GET{v}(in[{row}], from + column + {t * shape.dilation});" for t in loaded]
    lines = [f"{line} KEEP{v}(x{row}_{t});" if keep else line for line, t in zip(lines, loaded, strict=True)]
    lines += [
        f"vec{v} x{row}_{t} = SHUFFLE{v}(x{row}_{taps[0]}, x{row}_{taps[-1]}, {lanes});" for t, lanes in joined.items()
    ]
    lines += [" ".join(f"a{r} += w{k}_{t} * x{row}_{t};" for r, k in users) for t in taps]
    return lines


def _joined(shape: RowShape, v: int, taps: range) -> dict[int, str]:
    """The taps between the first and the last whose columns are joined from theirs, and from which lanes of both.

    A load that straddles two cache lines takes as long as two; one instruction joins two vectors of 16 instead.
    """
    span = shape.dilation * (taps[-1] - taps[0])
    if v != 16 or span > v:
        return {}
    return {t: _lanes(shape.dilation * (t - taps[0]), span, v) for t in taps[1:-1]}


def _lanes(shift: int, span: int, v: int) -> str:
    """The lanes of two vectors, the second `span` columns further, that make the vector `shift` columns further."""
    return ", ".join(str(lane if lane < v else lane + v - span) for lane in range(shift, shift + v))


def _pointers(shape: RowShape, row: str) -> list[str]:
    residual = [f"const float *r = residual[{row}] + to + column;"] if shape.residual != "none" else []
    return [f"float *o = out[{row}] + to + column;", *residual]


def _column(shape: RowShape, name: str) -> list[str]:
    """One column of every output row, taps outside left out."""
    kh, kw = shape.kernel
    d = shape.dilation
    inside = f"c >= {shape.outside[0]} && c < {shape.span - shape.outside[1]}"
    body = [
        f"float sum = {'bias[0]' if shape.bias else '0.0f'};",
        *braces(
            f"for (int k = 0; k < {kh}; k++)",
            braces(
                f"for (int t = 0; t < {kw}; t++)",
                [
                    f"const float *x = in[row + {d} * k];",
                    f"const ptrdiff_t c = column + {d} * t;",
                    f"if (x && {inside}) sum += weights[k * {kw} + t] * x[from + c];",
                ],
            ),
        ),
        *_pointers(shape, "row"),
        *(["sum += *r;"] if shape.residual == "before" else []),
        f"*o = {scalar(shape, 'sum')}{' + *r' if shape.residual == 'after' else ''};",
    ]
    loop = braces(f"for (int row = 0; row < {shape.height}; row++)", body)
    return function(f"ROW_PART void {name}", (*PARAMETERS, "int column"), [*unused(loop, NAMES), *loop])
