"""Winograd's convolution F(m x m', 3x3) of blocked rows, `height` output rows at once.

Region by region, where tiles are of several sizes:

    for each batch of tiles:
      for each run of tiles in a band, each input block:       V = B d B^T: columns into `t`, then rows out of it
      for each group of output blocks:
        for each frequency, each chunk of tiles:               accumulators a<block>_<tile> = sum of U V, into M
        for each output block, each tile:                      A M A^T: columns into `t`, then rows; finished and stored

What the next batch reads, and what this one writes, may be prefetched frequency by frequency, a share with each.

A run shares the columns that its tiles overlap in. Columns outside of the image are zeros in `t`; a row whose pointer
is NULL, and rows below the last that the last band does not need, are read from one row of zeros. Tiles that are not
whole are computed whole; of them, what exists is stored.
"""

from collections.abc import Iterable

from polyfuse.codegen.c.text import braces, function, listed, scope, unused
from polyfuse.codegen.rows.accumulate import products
from polyfuse.codegen.rows.activation import finished, finished_later, slopes
from polyfuse.codegen.rows.folds import Folds
from polyfuse.codegen.rows.interpolation import Sum, input_sums, needed, output_sums
from polyfuse.codegen.rows.shape import RowShape, Tuning, balanced, block_sizes
from polyfuse.codegen.rows.text import LINE, NAMES, PARAMETERS
from polyfuse.codegen.rows.tiling import Tiling, tilings

AHEAD_FLOATS = 2048
"""How far ahead weights are prefetched: each is used for few tiles, so that waiting for it would take as long."""


def winograd_functions(shape: RowShape, tuning: Tuning, floats: int) -> list[str]:
    """The functions of a Winograd convolution; the last is the row kernel."""
    regions = tilings(shape, tuning, floats)
    lines = _storage(regions)
    for plan in regions:
        lines += _region(plan)
    if regions[0].whole:
        return [*lines, *_entry(regions[0], "void")]
    for plan in regions:
        lines += [*_entry(plan, "ROW_PART void"), ""]
    calls = [_call(plan) for plan in regions]
    return [*lines, *function(f"void {shape.name}", PARAMETERS, [*unused(calls, NAMES), *calls])]


def _region(plan: Tiling) -> list[str]:
    """The functions of a region, without its entry."""
    chunks = {count for batch in plan.batches for count in balanced(batch, plan.tuning.pixels)}
    parts = [
        _in_columns(plan),
        _in_rows(plan),
        _inputs(plan),
        *(_multiply(plan, count) for count in sorted(chunks, reverse=True)),
        _out_columns(plan),
        *(_out_rows(plan, width) for width in sorted(_widths(plan), reverse=True)),
        *([_prefetch_in(plan)] if plan.tuning.prefetch_in else []),
        *([_prefetch_out(plan)] if plan.tuning.prefetch_out else []),
        *(_batch(plan, count) for count in sorted(set(plan.batches), reverse=True)),
    ]
    return [line for part in parts for line in (*part, "")]


def _call(plan: Tiling) -> str:
    """The entry of a region, from the rows and columns on that it makes."""
    moved = {"weights": plan.weights, "from": plan.columns.start, "to": plan.columns.start}
    moved |= dict.fromkeys(("in", "out"), plan.rows.start)
    if plan.shape.residual != "none":
        moved["residual"] = plan.rows.start
    arguments = ("NULL" if name == "next_in" else _plus(name, moved.get(name, 0)) for name in NAMES)
    return f"{plan.name}({', '.join(arguments)});"


def _storage(regions: tuple[Tiling, ...]) -> list[str]:
    """The row of zeros of all regions."""
    zeros = max(plan.run_columns * plan.floats for plan in regions)
    return [f"static const _Alignas(64) float {regions[0].shape.name}__zeros[{zeros}];", ""]


def statements(sums: Iterable[Sum], floats: int) -> list[str]:
    """Sums as C, one named vector each.

    >>> statements([Sum("e", ((1.0, "d4"), (-2.5, "d2")))], 4)
    ['const vec4 e = d4 - 2.5f * d2;']
    """
    return [f"const vec{floats} {s.name} = {_sum(s)};" for s in sums]


def _sum(total: Sum) -> str:
    text = ""
    for coefficient, operand in sorted(total.terms, key=lambda term: (abs(term[0]) != 1, term[0] < 0)):
        sign = (" - " if text else "-") if coefficient < 0 else (" + " if text else "")
        size = abs(coefficient)
        text += sign + (operand if size == 1 else f"{size:.9g}{'' if size % 1 else '.0'}f * {operand}")
    return text


def _loads(v: int, values: Iterable[str]) -> list[str]:
    """Vectors that are used several times, and loaded once."""
    return [f"vec{v} {value}; KEEP{v}({value.split()[0]});" for value in values]


def _in_columns(plan: Tiling) -> list[str]:
    """Columns of n rows from `x`, transformed to `[column][n][V]` in `t`."""
    v, n = plan.floats, plan.side[0]
    loads = _loads(v, [f"d{k} = GET{v}(x[{k}], i * {v})" for k in range(n)])
    stores = [f"PUT{v}(t, {_plus(f'i * {n * v}', k * v)}, f{k});" for k in range(n)]
    body = [*loads, *statements(input_sums(plan.tile[0]), v), *stores]
    parameters = ("const float *const *x", "float *t", "int columns")
    loop = braces("for (int i = 0; i < columns; i++)", body)
    return function(f"ROW_PART void {plan.name}__in_columns", parameters, loop)


def _in_rows(plan: Tiling) -> list[str]:
    """The tiles of a run out of `t` into V: row k of the frequencies is the transform of row k of `t`."""
    v, step = plan.floats, plan.input_floats
    high, wide = plan.side
    loads = _loads(v, [f"d{j} = GET{v}(row, {j * high * v})" for j in range(wide)])
    stores = [f"PUT{v}(to, {j * step}, f{j});" for j in range(wide)]
    body = [
        f"const float *row = t + (tile * {plan.tile[1] * high} + k) * {v};",
        f"float *to = transformed + k * {wide * step} + tile * {v};",
        *loads,
        *statements(input_sums(plan.tile[1]), v),
        *stores,
    ]
    loops = braces("for (int tile = 0; tile < tiles; tile++)", braces(f"for (int k = 0; k < {high}; k++)", body))
    parameters = ("const float *t", "float *transformed", "int tiles")
    return function(f"ROW_PART void {plan.name}__in_rows", parameters, loops)


def _inputs(plan: Tiling) -> list[str]:
    """A run of tiles from `column` of a band, every input block, into V."""
    shape, v, n, name = plan.shape, plan.floats, plan.side[0], plan.name
    down, m = plan.tile
    left, inside = plan.outside[0], len(plan.columns) + 2 - plan.outside[1]
    exists = "in[row]" if plan.last_rows == down else f"row < {len(plan.rows) + 2} && in[row]"
    place = f"(block * (ptrdiff_t){shape.in_pitch} + from + first + low) * {v}"
    zero = "t[i] = 0.0f;"
    block = [
        f"const float *x[{n}];",
        *braces(
            f"for (int k = 0; k < {n}; k++)",
            [f"const int row = band * {down} + k;", f"x[k] = {exists} ? in[row] + {place} : {shape.name}__zeros;"],
        ),
        f"for (int i = 0; i < low * {n * v}; i++) {zero}",
        f"{name}__in_columns(x, t + low * {n * v}, high - low);",
        f"for (int i = high * {n * v}; i < columns * {n * v}; i++) {zero}",
        f"{name}__in_rows(t, transformed + (ptrdiff_t)block * {plan.block_floats}, tiles);",
    ]
    body = [
        f"_Alignas(64) float t[{plan.run_columns * n * v}];",
        f"const int first = column * {m}, columns = tiles * {m} + 2;",
        f"const int low = within(columns, {left} - first), high = low + within(columns - low, {inside} - first - low);",
        *braces(f"for (int block = 0; block < {plan.in_blocks}; block++)", block),
    ]
    where = ("ptrdiff_t from", "int band", "int column", "int tiles")
    return function(f"ROW_PART void {name}__in", ("const float *const *in", *where, "float *transformed"), body)


def prefetched_floats(plan: Tiling) -> int:
    """The floats of weights that a chunk of tiles prefetches for every input channel: a batch's chunks share them."""
    chunks = len(balanced(plan.batches[0], plan.tuning.pixels))
    return -(-plan.tuning.blocks * plan.floats // (LINE * chunks)) * LINE


def _multiply(plan: Tiling, count: int) -> list[str]:
    """`count` tiles of one frequency: the sums over all input channels of `u` times `x`, into `to`."""
    shape, tuning, v = plan.shape, plan.tuning, plan.floats
    sizes = block_sizes(shape.in_channels, v)
    lanes = f"block + 1 < {len(sizes)} ? {v} : {sizes[-1]}" if sizes[-1] != v and len(sizes) > 1 else str(sizes[0])
    used = [(p, [(p, 0)]) for p in range(count)]
    inner: list[str] = []
    for lane in range(tuning.unroll):
        places = {p: ("xl", p * v + lane) for p in range(count)}
        terms = products(tuning.blocks, v, used, range(1), lane * tuning.blocks * v, places)
        inner += scope(terms) if tuning.unroll > 1 else terms
    step = tuning.blocks * tuning.unroll * v
    prefetched = prefetched_floats(plan)
    inner += [f"__builtin_prefetch(next_w + {k}, 0, 2);" for k in range(0, prefetched * tuning.unroll, LINE)]
    inner.append(f"w += {step}, next_w += {prefetched * tuning.unroll};")
    head = f"for (int block = 0; block < {plan.in_blocks}; block++, x += {plan.block_floats})"
    folds = Folds([f"a{a}_{p}" for a in range(tuning.blocks) for p in range(count)], v, shape.in_channels)
    loop = [
        f"const int lanes = {lanes};",
        *folds.at("block", v),
        *braces(f"for (int lane = 0; lane < lanes; lane += {tuning.unroll})", ["const float *xl = x + lane;", *inner]),
    ]
    body = [
        f"const vec{v} zero = SPLAT{v}(0.0f);",
        *listed(f"vec{v} ", (f"a{a}_{p} = zero" for a in range(tuning.blocks) for p in range(count))),
        *folds.around(braces(head, loop)),
        *(
            f"PUT{v}(to, {a * plan.block_floats + p * v}, a{a}_{p});"
            for a in range(tuning.blocks)
            for p in range(count)
        ),
    ]
    parameters = ("const float *w", "const float *next_w", "const float *x", "float *to")
    return function(f"ROW_PART void {plan.name}__multiply__{count}", parameters, body)


def _widths(plan: Tiling) -> set[int]:
    """The columns that exist of a tile: m, and of the last one what is left."""
    return {plan.last_columns, plan.tile[1]} if plan.across > 1 else {plan.last_columns}


def _out_columns(plan: Tiling) -> list[str]:
    """One tile of one output block out of M: every column of its frequencies to m rows of `t`, `[row][n][V]`."""
    v, m, step = plan.floats, plan.tile[0], plan.product_floats
    high, n = plan.side
    loads = (f"const vec{v} f{k} = GET{v}(products, {_plus(f'i * {step}', k * n * step)});" for k in range(high))
    stores = [f"PUT{v}(t, {_plus(f'i * {v}', k * n * v)}, y{k});" for k in range(m)]
    body = [*loads, *statements(output_sums(m), v), *stores]
    head = f"ROW_PART void {plan.name}__out_columns"
    return function(head, ("const float *products", "float *t"), braces(f"for (int i = 0; i < {n}; i++)", body))


def _out_rows(plan: Tiling, width: int) -> list[str]:
    """`rows` rows and `width` columns of the tile, finished and stored."""
    shape, v, n = plan.shape, plan.floats, plan.side[1]
    sums = needed(output_sums(plan.tile[1]), width)
    operands = {operand for s in sums for _, operand in s.terms}
    loads = (f"const vec{v} f{j} = GET{v}(t, {_plus(f'i * {n * v}', j * v)});" for j in range(n) if f"f{j}" in operands)
    body = [*loads, *statements(sums, v), "float *o = out[i] + place;"]
    if shape.residual != "none":
        body.append("const float *r = residual[i] + residual_place;")
    for j in range(width):
        body += [f"vec{v} z{j} = y{j} + b;" if shape.bias else f"vec{v} z{j} = y{j};"]
        body += finished(shape, f"z{j}", v, str(j * v))
    body += finished_later(shape, width, v)
    bias = [*([f"const vec{v} b = GET{v}(bias, 0);"] if shape.bias else []), *slopes(shape, v, "0")]
    parameters = ["const float *t", "const float *bias", "float *const *out", "ptrdiff_t place", "int rows"]
    parameters = parameters if shape.reads_bias else [x for x in parameters if not x.endswith("bias")]
    parameters += ["const float *const *residual", "ptrdiff_t residual_place"] if shape.residual != "none" else []
    head = f"ROW_PART void {plan.name}__out_rows__{width}"
    return function(head, parameters, [*bias, *braces("for (int i = 0; i < rows; i++)", body)])


def _prefetch_in(plan: Tiling) -> list[str]:
    """Prefetch share `f` of what tiles read, of the next execution's where they lie `below` the last band."""
    shape, rows = plan.shape, len(plan.rows) + 2
    height = plan.bands * plan.tile[0]
    here = f"row < {rows} ? in[row] : NULL"
    there = f"below && row < {height + rows} && in[row - {height}] ? in[row - {height}] + below : NULL"
    address = [f"const float *x = band < {plan.bands} ? {here} : {there};", *braces("if (!x)", ["continue;"])]
    place = f"x + (block * (ptrdiff_t){shape.in_pitch} + from) * {plan.floats} + i, 0, 2"
    parameters = ("const float *const *in", "ptrdiff_t below", "ptrdiff_t from", "int first", "int count", "int f")
    return function(
        f"ROW_PART void {plan.name}__prefetch_in", parameters, _prefetches(plan, address, place, plan.in_blocks)
    )


def _prefetch_out(plan: Tiling) -> list[str]:
    """Prefetch share `f` of what tiles write in a group of output blocks."""
    shape, blocks = plan.shape, plan.tuning.blocks
    place = f"out[row] + ((group * {blocks} + block) * (ptrdiff_t){shape.out_pitch} + to) * {plan.floats} + i, 1"
    parameters = ("float *const *out", "ptrdiff_t to", "int first", "int count", "int group", "int f")
    exists = braces(f"if (f >= {plan.tile[0] * plan.side[1]} || row >= {len(plan.rows)})", ["continue;"])
    return function(f"ROW_PART void {plan.name}__prefetch_out", parameters, _prefetches(plan, exists, place, blocks))


def _prefetches(plan: Tiling, row: list[str], place: str, blocks: int) -> list[str]:
    """Of each run of tiles in a band a part of one row: there are as many shares as frequencies."""
    wide, v = plan.side[1], plan.floats
    low, high = (
        f"(column * {wide} + {part} * run) * {plan.tile[1]} / {wide}" for part in (f"f % {wide}", f"(f % {wide} + 1)")
    )
    columns = f"for (ptrdiff_t i = low * {v}; i < high * {v}; i += {LINE})"
    return braces(
        "for (int tile = first, run = 0; tile < first + count; tile += run)",
        [
            f"const int band = tile / {plan.across}, column = tile % {plan.across};",
            f"const int row = band * {plan.tile[0]} + f / {wide};",
            f"run = smaller_of(first + count - tile, {plan.across} - column);",
            *row,
            f"const ptrdiff_t low = {low}, high = {high};",
            *braces(
                f"for (int block = 0; block < {blocks}; block++)", braces(columns, [f"__builtin_prefetch({place});"])
            ),
        ],
    )


def _plus(base: str, number: int) -> str:
    return f"{base} + {number}" if number else base


def _batch(plan: Tiling, count: int) -> list[str]:
    """`count` tiles from `first`: transformed, multiplied, transformed back."""
    shape, tuning, v, name = plan.shape, plan.tuning, plan.floats, plan.name
    where = [f"const int band = (first + tile) / {plan.across}, column = (first + tile) % {plan.across};"]
    runs = [
        *where,
        f"run = smaller_of({plan.run}, smaller_of({count} - tile, {plan.across} - column));",
        f"{name}__in(in, from, band, column, run, v + tile * {v});",
    ]
    multiply, at = [], 0
    group_floats = shape.in_channels * tuning.blocks * v
    cut = balanced(count, tuning.pixels)
    for k, chunk in enumerate(cut):
        ahead = group_floats + k * shape.in_channels * prefetched_floats(plan) if len(cut) > 1 else AHEAD_FLOATS
        multiply.append(
            f"{name}__multiply__{chunk}(u, u + {ahead}, {_plus(f'v + f * {plan.input_floats}', at * v)}, "
            f"{_plus(f'm + f * {plan.product_floats}', at * v)});"
        )
        at += chunk
    weights = f"const float *u = weights + (group * (ptrdiff_t){plan.frequencies} + f) * {group_floats};"
    prefetches = (
        [f"if (group == 0) {name}__prefetch_in(in, below, from, first + {count}, {count}, f);"]
        if tuning.prefetch_in
        else []
    )
    prefetches += [f"{name}__prefetch_out(out, to, first, {count}, group, f);"] if tuning.prefetch_out else []
    groups = [
        *braces(f"for (int f = 0; f < {plan.frequencies}; f++)", [weights, *prefetches, *multiply]),
        *braces(f"for (int tile = 0; tile < {count}; tile++)", [*where, *_finish(plan)]),
    ]
    body = [
        f"_Alignas(64) float t[{plan.tile[0] * plan.side[1] * v}];",
        f"float *v = workspace, *m = v + {plan.frequencies * plan.input_floats};",
        *(["const ptrdiff_t below = next_in ? next_in - in[0] : 0;"] if tuning.prefetch_in else []),
        *braces(f"for (int tile = 0, run = 0; tile < {count}; tile += run)", runs),
        *braces(f"for (int group = 0; group < {plan.out_blocks // tuning.blocks}; group++)", groups),
    ]
    head = f"ROW_PART void {name}__tiles__{count}"
    return function(head, (*PARAMETERS, "int first"), [*unused(body, NAMES), *body])


def _finish(plan: Tiling) -> list[str]:
    """One tile of every output block of the group."""
    shape, v, name = plan.shape, plan.floats, plan.name
    m, wide = plan.tile

    def place(pitch: int) -> str:
        return f"(number * (ptrdiff_t){pitch} + to + column * {wide}) * {v}"

    residual = shape.residual != "none"
    arguments = ["t", *([f"bias + number * {v}"] if shape.reads_bias else []), f"out + band * {m}", "place", "rows"]
    arguments += [f"residual + band * {m}", "residual_place"] if residual else []
    widths = sorted(_widths(plan), reverse=True)
    calls = [f"{name}__out_rows__{width}({', '.join(arguments)});" for width in widths]
    if len(calls) == 2:
        calls = [f"if (column + 1 < {plan.across})", f"  {calls[0]}", "else", f"  {calls[1]}"]
    ragged = plan.last_rows < m and plan.bands > 1
    block = [
        f"const int number = group * {plan.tuning.blocks} + a;",
        f"const ptrdiff_t place = {place(shape.out_pitch)};",
        *([f"const ptrdiff_t residual_place = {place(shape.residual_pitch)};"] if residual else []),
        f"{name}__out_columns(m + a * {plan.block_floats} + tile * {v}, t);",
        *calls,
    ]
    return [
        f"const int rows = {f'band + 1 < {plan.bands} ? {m} : {plan.last_rows}' if ragged else plan.last_rows};",
        *braces(f"for (int a = 0; a < {plan.tuning.blocks}; a++)", block),
    ]


def _entry(plan: Tiling, kind: str) -> list[str]:
    """The batches, those of the same size in a loop."""
    name, lines, first = plan.name, [], 0
    for count in sorted(set(plan.batches), reverse=True):
        end = first + count * plan.batches.count(count)
        call = f"{name}__tiles__{count}({', '.join(NAMES)}, first);"
        lines += braces(f"for (int first = {first}; first < {end}; first += {count})", [call])
        first = end
    return function(f"{kind} {name}", PARAMETERS, lines)
