"""One channel in planar rows: vectors along the columns, `height` output rows at once.

    for each vector of columns:                      accumulators a<row>
      for each input row: load it at every tap's shift once, and use it for every output row that it is a tap of

The last vector of a row overlaps the one before it where the width is no multiple of V. Columns whose windows reach
outside are computed one by one. `in` and `out` point at planar rows; an input row whose pointer is NULL is skipped.
"""

from polyfuse.codegen.rows.activation import finished, runs_on_vectors, scalar
from polyfuse.codegen.rows.shape import RowShape, Tuning
from polyfuse.codegen.rows.text import NAMES, PARAMETERS, braces, function, listed, scope, unused


def stencil_functions(shape: RowShape, tuning: Tuning, floats: int) -> list[str]:
    """The functions of a stencil; the last is the row kernel."""
    low, high = _interior(shape)
    edge = f"{shape.name}_column"
    lines = []
    if high - low < floats or not runs_on_vectors(shape):
        low = high = 0
    if high - low < shape.columns:
        lines += [*_column(shape, edge), ""]
    call = f"{edge}({', '.join(NAMES)}, column);"
    body = []
    if high > low:
        count = -(-(high - low) // floats)
        body += _weights(shape, floats)
        start = f"i < {count - 1} ? {low} + i * {floats} : {high - floats}"
        body += braces(
            f"for (int i = 0; i < {count}; i++)", [f"const int column = {start};", *_vector(shape, tuning, floats)]
        )
    for first, end in ((0, low), (high, shape.columns)):
        if end > first:
            body += braces(f"for (int column = {first}; column < {end}; column++)", [call])
    return [*lines, *function(f"void {shape.name}", PARAMETERS, [*unused(body, NAMES), *body])]


def _interior(shape: RowShape) -> tuple[int, int]:
    """The columns whose windows are all inside."""
    return min(shape.columns, shape.outside[0]), max(0, shape.columns - shape.outside[1])


def _weights(shape: RowShape, v: int) -> list[str]:
    kh, kw = shape.kernel
    names = (f"w{k}_{t} = SPLAT{v}(weights[{k * kw + t}])" for k in range(kh) for t in range(kw))
    return [*listed(f"vec{v} ", names), f"const vec{v} b0 = SPLAT{v}({'bias[0]' if shape.bias else '0.0f'});"]


def _vector(shape: RowShape, tuning: Tuning, v: int) -> list[str]:
    kh, kw = shape.kernel
    lines = listed(f"vec{v} ", (f"a{r} = b0" for r in range(shape.height)))
    for row in range(shape.rows_read):
        users = [(r, k) for r in range(shape.height) for k in range(kh) if r + shape.dilation * k == row]
        if not users:
            continue
        part = [f"const float *x = in[{row}] + from + column;"]
        for t in range(kw):
            adds = " ".join(f"a{r} += w{k}_{t} * x{t};" for r, k in users)
            keep = f" KEEP(x{t});" if len(users) > 1 else ""
            part.append(f"vec{v} x{t} = GET{v}(x, {t * shape.dilation});{keep} {adds}")
        lines += braces(f"if (in[{row}])", part)
    if tuning.prefetch:
        lines += ["__builtin_prefetch(next_in + from + column, 0);", "__builtin_prefetch(next_out + to + column, 1);"]
    for r in range(shape.height):
        lines += scope([*_pointers(shape, str(r)), *finished(shape, f"a{r}", v, "0")])
    return lines


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
