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
from polyfuse.codegen.rows.regions import Region, regions_of
from polyfuse.codegen.rows.shape import RowShape, Tuning, balanced, block_sizes
from polyfuse.codegen.rows.text import LINE, NAMES, PARAMETERS

AHEAD_FLOATS = 2048
"""How far ahead weights are prefetched: each is used for few tiles, so that waiting for it would take as long."""


def winograd_functions(shape: RowShape, tuning: Tuning, floats: int) -> list[str]:
    """The functions of a Winograd convolution; the last is the row kernel."""
    regions = regions_of(shape, tuning, floats)
    lines = _storage(regions)
    for region in regions:
        lines += _region(region)
    if regions[0].whole:
        return [*lines, *_entry(regions[0], "void")]
    for region in regions:
        lines += [*_entry(region, "ROW_PART void"), ""]
    calls = [_call(region) for region in regions]
    return [*lines, *function(f"void {shape.name}", PARAMETERS, [*unused(calls, NAMES), *calls])]


def _region(region: Region) -> list[str]:
    """The functions of a region, without its entry."""
    chunks = {count for batch in region.batches for count in balanced(batch, region.tuning.pixels)}
    parts = [
        _in_columns(region),
        _in_rows(region),
        _inputs(region),
        *(_multiply(region, count) for count in sorted(chunks, reverse=True)),
        _out_columns(region),
        *(_out_rows(region, width) for width in sorted(_widths(region), reverse=True)),
        *([_prefetch_in(region)] if region.tuning.prefetch_in else []),
        *([_prefetch_out(region)] if region.tuning.prefetch_out else []),
        *(_batch(region, count) for count in sorted(set(region.batches), reverse=True)),
    ]
    return [line for part in parts for line in (*part, "")]


def _call(region: Region) -> str:
    """The entry of a region, from the rows and columns on that it makes."""
    moved = {"weights": region.weights, "from": region.columns.start, "to": region.columns.start}
    moved |= dict.fromkeys(("in", "out"), region.rows.start)
    if region.shape.residual != "none":
        moved["residual"] = region.rows.start
    arguments = ("NULL" if name == "next_in" else _plus(name, moved.get(name, 0)) for name in NAMES)
    return f"{region.name}({', '.join(arguments)});"


def _storage(regions: tuple[Region, ...]) -> list[str]:
    """The row of zeros of all regions."""
    zeros = max(region.run_columns * region.floats for region in regions)
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


def _in_columns(region: Region) -> list[str]:
    """Columns of n rows from `x`, transformed to `[column][n][V]` in `t`."""
    v, n = region.floats, region.side[0]
    loads = _loads(v, [f"d{k} = GET{v}(x[{k}], i * {v})" for k in range(n)])
    stores = [f"PUT{v}(t, {_plus(f'i * {n * v}', k * v)}, f{k});" for k in range(n)]
    body = [*loads, *statements(input_sums(region.tile[0]), v), *stores]
    parameters = ("const float *const *x", "float *t", "int columns")
    loop = braces("for (int i = 0; i < columns; i++)", body)
    return function(f"ROW_PART void {region.name}__in_columns", parameters, loop)


def _in_rows(region: Region) -> list[str]:
    """The tiles of a run out of `t` into V: row k of the frequencies is the transform of row k of `t`."""
    v, step = region.floats, region.input_floats
    high, wide = region.side
    loads = _loads(v, [f"d{j} = GET{v}(row, {j * high * v})" for j in range(wide)])
    stores = [f"PUT{v}(to, {j * step}, f{j});" for j in range(wide)]
    body = [
        f"const float *row = t + (tile * {region.tile[1] * high} + k) * {v};",
        f"float *to = transformed + k * {wide * step} + tile * {v};",
        *loads,
        *statements(input_sums(region.tile[1]), v),
        *stores,
    ]
    loops = braces("for (int tile = 0; tile < tiles; tile++)", braces(f"for (int k = 0; k < {high}; k++)", body))
    parameters = ("const float *t", "float *transformed", "int tiles")
    return function(f"ROW_PART void {region.name}__in_rows", parameters, loops)


def _inputs(region: Region) -> list[str]:
    """A run of tiles from `column` of a band, every input block, into V."""
    shape, v, n, name = region.shape, region.floats, region.side[0], region.name
    down, m = region.tile
    left, inside = region.outside[0], len(region.columns) + 2 - region.outside[1]
    exists = "in[row]" if region.last_rows == down else f"row < {len(region.rows) + 2} && in[row]"
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
        f"{name}__in_rows(t, transformed + (ptrdiff_t)block * {region.block_floats}, tiles);",
    ]
    body = [
        f"_Alignas(64) float t[{region.run_columns * n * v}];",
        f"const int first = column * {m}, columns = tiles * {m} + 2;",
        f"const int low = within(columns, {left} - first), high = low + within(columns - low, {inside} - first - low);",
        *braces(f"for (int block = 0; block < {region.in_blocks}; block++)", block),
    ]
    where = ("ptrdiff_t from", "int band", "int column", "int tiles")
    return function(f"ROW_PART void {name}__in", ("const float *const *in", *where, "float *transformed"), body)


def prefetched_floats(region: Region) -> int:
    """The floats of weights that a chunk of tiles prefetches for every input channel: a batch's chunks share them."""
    chunks = len(balanced(region.batches[0], region.tuning.pixels))
    return -(-region.tuning.blocks * region.floats // (LINE * chunks)) * LINE


def _multiply(region: Region, count: int) -> list[str]:
    """`count` tiles of one frequency: the sums over all input channels of `u` times `x`, into `to`."""
    shape, tuning, v = region.shape, region.tuning, region.floats
    sizes = block_sizes(shape.in_channels, v)
    lanes = f"block + 1 < {len(sizes)} ? {v} : {sizes[-1]}" if sizes[-1] != v and len(sizes) > 1 else str(sizes[0])
    used = [(p, [(p, 0)]) for p in range(count)]
    inner: list[str] = []
    for lane in range(tuning.unroll):
        places = {p: ("xl", p * v + lane) for p in range(count)}
        terms = products(tuning.blocks, v, used, range(1), lane * tuning.blocks * v, places)
        inner += scope(terms) if tuning.unroll > 1 else terms
    step = tuning.blocks * tuning.unroll * v
    prefetched = prefetched_floats(region)
    inner += [f"__builtin_prefetch(next_w + {k}, 0, 2);" for k in range(0, prefetched * tuning.unroll, LINE)]
    inner.append(f"w += {step}, next_w += {prefetched * tuning.unroll};")
    head = f"for (int block = 0; block < {region.in_blocks}; block++, x += {region.block_floats})"
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
            f"PUT{v}(to, {a * region.block_floats + p * v}, a{a}_{p});"
            for a in range(tuning.blocks)
            for p in range(count)
        ),
    ]
    parameters = ("const float *w", "const float *next_w", "const float *x", "float *to")
    return function(f"ROW_PART void {region.name}__multiply__{count}", parameters, body)


def _widths(region: Region) -> set[int]:
    """The columns that exist of a tile: m, and of the last one what is left."""
    return {region.last_columns, region.tile[1]} if region.across > 1 else {region.last_columns}


def _out_columns(region: Region) -> list[str]:
    """One tile of one output block out of M: every column of its frequencies to m rows of `t`, `[row][n][V]`."""
    v, m, step = region.floats, region.tile[0], region.product_floats
    high, n = region.side
    loads = (f"const vec{v} f{k} = GET{v}(products, {_plus(f'i * {step}', k * n * step)});" for k in range(high))
    stores = [f"PUT{v}(t, {_plus(f'i * {v}', k * n * v)}, y{k});" for k in range(m)]
    body = [*loads, *statements(output_sums(m), v), *stores]
    head = f"ROW_PART void {region.name}__out_columns"
    return function(head, ("const float *products", "float *t"), braces(f"for (int i = 0; i < {n}; i++)", body))


def _out_rows(region: Region, width: int) -> list[str]:
    """`rows` rows and `width` columns of the tile, finished and stored."""
    shape, v, n = region.shape, region.floats, region.side[1]
    sums = needed(output_sums(region.tile[1]), width)
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
    head = f"ROW_PART void {region.name}__out_rows__{width}"
    return function(head, parameters, [*bias, *braces("for (int i = 0; i < rows; i++)", body)])


def _prefetch_in(region: Region) -> list[str]:
    """Prefetch share `f` of what tiles read, of the next execution's where they lie `below` the last band."""
    shape, rows = region.shape, len(region.rows) + 2
    height = region.bands * region.tile[0]
    here = f"row < {rows} ? in[row] : NULL"
    there = f"below && row < {height + rows} && in[row - {height}] ? in[row - {height}] + below : NULL"
    address = [f"const float *x = band < {region.bands} ? {here} : {there};", *braces("if (!x)", ["continue;"])]
    place = f"x + (block * (ptrdiff_t){shape.in_pitch} + from) * {region.floats} + i, 0, 2"
    parameters = ("const float *const *in", "ptrdiff_t below", "ptrdiff_t from", "int first", "int count", "int f")
    return function(
        f"ROW_PART void {region.name}__prefetch_in", parameters, _prefetches(region, address, place, region.in_blocks)
    )


def _prefetch_out(region: Region) -> list[str]:
    """Prefetch share `f` of what tiles write in a group of output blocks."""
    shape, blocks = region.shape, region.tuning.blocks
    place = f"out[row] + ((group * {blocks} + block) * (ptrdiff_t){shape.out_pitch} + to) * {region.floats} + i, 1"
    parameters = ("float *const *out", "ptrdiff_t to", "int first", "int count", "int group", "int f")
    exists = braces(f"if (f >= {region.tile[0] * region.side[1]} || row >= {len(region.rows)})", ["continue;"])
    return function(
        f"ROW_PART void {region.name}__prefetch_out", parameters, _prefetches(region, exists, place, blocks)
    )


def _prefetches(region: Region, row: list[str], place: str, blocks: int) -> list[str]:
    """Of each run of tiles in a band a part of one row: there are as many shares as frequencies."""
    wide, v = region.side[1], region.floats
    low, high = (
        f"(column * {wide} + {part} * run) * {region.tile[1]} / {wide}" for part in (f"f % {wide}", f"(f % {wide} + 1)")
    )
    columns = f"for (ptrdiff_t i = low * {v}; i < high * {v}; i += {LINE})"
    return braces(
        "for (int tile = first, run = 0; tile < first + count; tile += run)",
        [
            f"const int band = tile / {region.across}, column = tile % {region.across};",
            f"const int row = band * {region.tile[0]} + f / {wide};",
            f"run = smaller_of(first + count - tile, {region.across} - column);",
            *row,
            f"const ptrdiff_t low = {low}, high = {high};",
            *braces(
                f"for (int block = 0; block < {blocks}; block++)", braces(columns, [f"__builtin_prefetch({place});"])
            ),
        ],
    )


def _plus(base: str, number: int) -> str:
    return f"{base} + {number}" if number else base


def _batch(region: Region, count: int) -> list[str]:
    """`count` tiles from `first`: transformed, multiplied, transformed back."""
    shape, tuning, v, name = region.shape, region.tuning, region.floats, region.name
    where = [f"const int band = (first + tile) / {region.across}, column = (first + tile) % {region.across};"]
    runs = [
        *where,
        f"run = smaller_of({region.run}, smaller_of({count} - tile, {region.across} - column));",
        f"{name}__in(in, from, band, column, run, v + tile * {v});",
    ]
    multiply, at = [], 0
    group_floats = shape.in_channels * tuning.blocks * v
    cut = balanced(count, tuning.pixels)
    for k, chunk in enumerate(cut):
        ahead = group_floats + k * shape.in_channels * prefetched_floats(region) if len(cut) > 1 else AHEAD_FLOATS
        multiply.append(
            f"{name}__multiply__{chunk}(u, u + {ahead}, {_plus(f'v + f * {region.input_floats}', at * v)}, "
            f"{_plus(f'm + f * {region.product_floats}', at * v)});"
        )
        at += chunk
    weights = f"const float *u = weights + (group * (ptrdiff_t){region.frequencies} + f) * {group_floats};"
    prefetches = (
        [f"if (group == 0) {name}__prefetch_in(in, below, from, first + {count}, {count}, f);"]
        if tuning.prefetch_in
        else []
    )
    prefetches += [f"{name}__prefetch_out(out, to, first, {count}, group, f);"] if tuning.prefetch_out else []
    groups = [
        *braces(f"for (int f = 0; f < {region.frequencies}; f++)", [weights, *prefetches, *multiply]),
        *braces(f"for (int tile = 0; tile < {count}; tile++)", [*where, *_finish(region)]),
    ]
    body = [
        f"_Alignas(64) float t[{region.tile[0] * region.side[1] * v}];",
        f"float *v = workspace, *m = v + {region.frequencies * region.input_floats};",
        *(["const ptrdiff_t below = next_in ? next_in - in[0] : 0;"] if tuning.prefetch_in else []),
        *braces(f"for (int tile = 0, run = 0; tile < {count}; tile += run)", runs),
        *braces(f"for (int group = 0; group < {region.out_blocks // tuning.blocks}; group++)", groups),
    ]
    head = f"ROW_PART void {name}__tiles__{count}"
    return function(head, (*PARAMETERS, "int first"), [*unused(body, NAMES), *body])


def _finish(region: Region) -> list[str]:
    """One tile of every output block of the group."""
    shape, v, name = region.shape, region.floats, region.name
    m, wide = region.tile

    def place(pitch: int) -> str:
        return f"(number * (ptrdiff_t){pitch} + to + column * {wide}) * {v}"

    residual = shape.residual != "none"
    arguments = ["t", *([f"bias + number * {v}"] if shape.reads_bias else []), f"out + band * {m}", "place", "rows"]
    arguments += [f"residual + band * {m}", "residual_place"] if residual else []
    widths = sorted(_widths(region), reverse=True)
    calls = [f"{name}__out_rows__{width}({', '.join(arguments)});" for width in widths]
    if len(calls) == 2:
        calls = [f"if (column + 1 < {region.across})", f"  {calls[0]}", "else", f"  {calls[1]}"]
    ragged = region.last_rows < m and region.bands > 1
    block = [
        f"const int number = group * {region.tuning.blocks} + a;",
        f"const ptrdiff_t place = {place(shape.out_pitch)};",
        *([f"const ptrdiff_t residual_place = {place(shape.residual_pitch)};"] if residual else []),
        f"{name}__out_columns(m + a * {region.block_floats} + tile * {v}, t);",
        *calls,
    ]
    return [
        f"const int rows = {f'band + 1 < {region.bands} ? {m} : {region.last_rows}' if ragged else region.last_rows};",
        *braces(f"for (int a = 0; a < {region.tuning.blocks}; a++)", block),
    ]


def _entry(region: Region, kind: str) -> list[str]:
    """The batches, those of the same size in a loop."""
    name, lines, first = region.name, [], 0
    for count in sorted(set(region.batches), reverse=True):
        end = first + count * region.batches.count(count)
        call = f"{name}__tiles__{count}({', '.join(NAMES)}, first);"
        lines += braces(f"for (int first = {first}; first < {end}; first += {count})", [call])
        first = end
    return function(f"{kind} {name}", PARAMETERS, lines)
