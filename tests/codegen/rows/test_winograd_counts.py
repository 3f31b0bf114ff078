"""Transforms, counts, workspace, tiles and refusals of Winograd's convolution."""

import ctypes
import re
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from polyfuse.codegen.build import WARNINGS, Options, compile_shared, load
from polyfuse.codegen.rows.direct import Direct
from polyfuse.codegen.rows.interpolation import TILES, ZERO, Sum, Surd, input_sums, matrices, needed, output_sums
from polyfuse.codegen.rows.kernel import RowKernel, row_kernel
from polyfuse.codegen.rows.pack import packed_weights
from polyfuse.codegen.rows.pricing import price, weight_bytes, winograd_counts
from polyfuse.codegen.rows.regions import regions_of, workspace_bytes
from polyfuse.codegen.rows.shape import RowShape, Tuning
from polyfuse.codegen.rows.text import prelude
from polyfuse.codegen.rows.tune import tiled, winograd_tuning
from polyfuse.codegen.rows.winograd import Winograd
from polyfuse.codegen.target import Target
from polyfuse.errors import InvalidInput
from tests.codegen.rows.images import pointers, workspace

CONV = RowShape("conv", Winograd(), 12, 20, 23, kernel=(3, 3), outside=(1, 1), height=11)
WIDE = Target(16, 32)


def symbolic(rows: tuple[tuple[Surd, ...], ...]) -> sympy.Matrix:
    """A matrix as sympy's."""
    exact = [[sympy.Rational(x.rational) + sympy.Rational(x.surd) * sympy.sqrt(2) for x in row] for row in rows]
    return sympy.Matrix(exact)


@pytest.mark.parametrize("tile", TILES)
def test_the_matrices_are_a_convolution_exactly(tile: int) -> None:
    """y[i] = sum over k of g[k] d[i + k], as an identity of numbers with roots."""
    m, n = matrices(tile), tile + 2
    a, g, b = symbolic(m.a), symbolic(m.g), symbolic(m.b)
    for i in range(tile):
        for k in range(3):
            terms = [sum(a[i, j] * g[j, k] * b[j, place] for j in range(n)) for place in range(n)]
            assert [sympy.simplify(t) for t in terms] == [int(place == i + k) for place in range(n)]


def test_the_matrices_of_two_outputs_by_hand() -> None:
    m = matrices(2)
    assert symbolic(m.b).tolist() == [[-1, 0, 1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, -1, 0, 1]]
    half = sympy.Rational(1, 2)
    assert symbolic(m.g).tolist() == [[-1, 0, 0], [half, half, half], [half, -half, half], [0, 0, 1]]
    assert symbolic(m.a).tolist() == [[1, 1, 1, 0], [0, 1, -1, 1]]


NUMBERS = st.builds(Surd, st.fractions(-9, 9, max_denominator=9), st.fractions(-9, 9, max_denominator=9))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(NUMBERS, NUMBERS)
def test_numbers_with_roots_are_exact(left: Surd, right: Surd) -> None:
    found = [left + right, left - right, left * right, *([left / right] if right != ZERO else []), abs(left)]
    a, b = symbolic(((left, right),))
    want = [a + b, a - b, a * b, *([a / b] if right != ZERO else []), abs(a)]
    assert [sympy.simplify(x - y) for x, y in zip(symbolic((tuple(found),)), want, strict=True)] == [0] * len(want)
    assert [float(x) for x in found] == [float(y.evalf(40)) for y in want]


def evaluated(sums: tuple[Sum, ...], values: dict[str, float]) -> dict[str, float]:
    for s in sums:
        values = values | {s.name: sum(c * values[x] for c, x in s.terms)}
    return values


@pytest.mark.parametrize("tile", TILES)
def test_the_sums_are_the_matrices(tile: int) -> None:
    m, n = matrices(tile), tile + 2
    draw = np.random.default_rng(0).standard_normal(n)
    made = evaluated(input_sums(tile), {f"d{k}": draw[k] for k in range(n)})
    want = np.array(m.b, float) @ draw
    assert np.allclose([made[f"f{k}"] for k in range(n)], want)
    made = evaluated(output_sums(tile), {f"f{k}": draw[k] for k in range(n)})
    want = np.array(m.a, float) @ draw
    assert np.allclose([made[f"y{k}"] for k in range(tile)], want)
    part = evaluated(needed(output_sums(tile), 1), {f"f{k}": draw[k] for k in range(n)})
    assert part["y0"] == made["y0"] and f"y{tile - 1}" not in part


@pytest.mark.parametrize(("tile", "growth"), [(2, 4), (4, 27), (6, 225)])
def test_transformed_inputs_grow_by_no_more_than_stated(tile: int, growth: float) -> None:
    rows = np.abs(np.array(matrices(tile).b, float)).sum(axis=1)
    assert growth - 1 < rows.max() ** 2 <= growth


@pytest.mark.parametrize(("tile", "inputs", "outputs"), [(2, 4, 4), (4, 20, 16), (6, 38, 30)])
def test_even_and_odd_parts_are_shared(tile: int, inputs: int, outputs: int) -> None:
    """Additions and multiplications of a transform in one dimension."""
    for sums, most in ((input_sums(tile), inputs), (output_sums(tile), outputs)):
        assert sum(s.additions + s.multiplications for s in sums) == most


def operators(body: str) -> tuple[int, int]:
    """Additions and multiplications in the sums of vectors of a function."""
    values = re.findall(r"const vec\d+ [a-z]\w* = (-?[^;]*);", body)
    sums = [v.removeprefix("-") for v in values if not v.startswith(("GET", "SPLAT"))]
    return sum(len(re.findall(r" [+-] ", v)) for v in sums), sum(v.count("f * ") for v in sums)


def bodies(kernel: RowKernel) -> dict[str, str]:
    """The functions of a kernel by name."""
    parts = re.findall(rf"^ROW_PART void {kernel.name}__(\w+)\(.*?^}}", kernel.text, re.MULTILINE | re.DOTALL)
    whole = re.findall(rf"^ROW_PART void {kernel.name}__\w+\(.*?^}}", kernel.text, re.MULTILINE | re.DOTALL)
    return dict(zip(parts, whole, strict=True))


def part_of(name: str) -> str:
    """What a function does, without the tile of its region and how many tiles, or how many columns, it is for."""
    return re.sub(r"^\dx\d__|__\d+$", "", name)


def side_of(name: str, tile: int) -> np.ndarray:
    """The input rows and columns of the tiles of a function's region."""
    found = re.match(r"(\d)x(\d)__", name)
    return np.array([int(found[1]), int(found[2])] if found else [tile, tile]) + 2


def instrumented(kernel: RowKernel) -> str:
    """The kernel, counting what it runs: columns and rows of the transforms, and vectors of products."""
    text = kernel.text
    amounts = {"in_columns": "columns", "in_rows": "tiles", "out_columns": "1", "multiply": "1", "out_rows": "rows"}
    counters = {name: amounts[part] for name in bodies(kernel) if (part := part_of(name)) in amounts}
    declared = []
    for name, amount in counters.items():
        declared.append(f"long count_{name}, calls_{name};")
        head = re.compile(rf"(ROW_PART void {kernel.name}__{name}\(.*?\n{{\n)", re.DOTALL)
        text, found = head.subn(rf"\1  count_{name} += {amount}; calls_{name}++;\n", text)
        assert found == 1
    return "\n".join([prelude(kernel.floats), *declared, text])


def counted(kernel: RowKernel) -> dict[str, int]:
    """What one call of the instrumented kernel counted, of any values."""
    shape, v = kernel.shape, kernel.floats
    library = load(compile_shared(instrumented(kernel), Options().with_flags(*WARNINGS)))
    blocks_in, blocks_out = -(-shape.in_channels // v), -(-shape.out_channels // v)
    rows = list(np.zeros((shape.height + 2, blocks_in, shape.in_pitch, v), np.float32))
    outs = list(np.zeros((shape.height, blocks_out, shape.out_pitch, v), np.float32))
    weights = packed_weights(kernel, np.zeros((shape.out_channels, shape.in_channels, 3, 3)))
    bias = np.zeros(blocks_out * v, np.float32)
    values = [ctypes.c_void_p(a.ctypes.data) for a in (weights, bias)]
    places = [ctypes.c_ssize_t(-shape.outside[0]), ctypes.c_ssize_t(0), None, None]
    pairs = re.findall(r"^long (\w+), (\w+);", instrumented(kernel), re.MULTILINE)
    found = {name: ctypes.c_long.in_dll(library, name) for pair in pairs for name in pair}
    for counter in found.values():
        counter.value = 0
    getattr(library, kernel.name)(pointers(rows), *values, None, pointers(outs), *places, workspace(kernel))
    return {name: counter.value for name, counter in found.items()}


@pytest.mark.parametrize(
    ("tile", "edge"), [*((tile, (0, 0)) for tile in TILES), (6, (4, 2)), (6, (0, 4)), (6, (2, 2)), (4, (2, 0))]
)
@pytest.mark.parametrize(
    ("shape", "tuning"),
    [
        (CONV, Tuning(batch=7, pixels=4)),
        (replace(CONV, columns=24, height=12, outside=(0, 0)), Tuning(batch=24, pixels=6, blocks=5)),
        (replace(CONV, columns=20, height=14), Tuning(batch=7, pixels=4)),
        (replace(CONV, columns=9, height=1, outside=(4, 3), in_channels=3, out_channels=4), Tuning(batch=1, pixels=1)),
    ],
)
def test_counts_are_what_the_kernel_runs(tile: int, edge: tuple[int, int], shape: RowShape, tuning: Tuning) -> None:
    """Operators in the text of each function, times how often it ran."""
    kernel = row_kernel(shape, Target(4, 16), replace(tuning, tile=tile, edge=edge))
    shape, ran, texts = kernel.shape, counted(kernel), bodies(kernel)
    ins, outs, products = np.zeros(2, int), np.zeros(2, int), 0
    for name, text in texts.items():
        part, (high, wide) = part_of(name), side_of(name, tile)
        times = ran.get(f"count_{name}", 0) * {"in_rows": high, "out_columns": wide}.get(part, 1)
        if part in ("in_columns", "in_rows"):
            ins += np.array(operators(text)) * times
        elif part in ("out_columns", "out_rows"):
            outs += np.array(operators(text)) * times
            assert part == "out_columns" or text.count(" + b;") == int(name.rsplit("__", 1)[1])
        elif part == "multiply":
            products += times * text.count(" += w0_") * shape.in_channels
    found = winograd_counts(shape, kernel.tuning, 4, "vectors")
    assert (found.input_additions, found.input_multiplications) == tuple(ins)
    assert (found.output_additions, found.output_multiplications) == tuple(outs)
    assert found.products == products


def test_counts_of_numbers_by_hand() -> None:
    """Two tiles of 2 x 2, three channels to five, nothing outside: 6 columns and 8 rows of four additions each."""
    shape = RowShape("conv", Winograd(), 3, 5, 4, kernel=(3, 3), height=2)
    found = winograd_counts(shape, Tuning(tile=2, batch=2, pixels=2), 4)
    assert found.products == 2 * 16 * 3 * 5
    assert (found.input_additions, found.input_multiplications) == (3 * (6 + 8) * 4, 0)
    assert (found.output_additions, found.output_multiplications) == (5 * 2 * (4 + 2) * 4, 0)


EDGES = st.sampled_from([(0, 0), (2, 0), (0, 4), (4, 2), (2, 2)])


def drawn_tilings(tile: int, edge: tuple[int, int], sizes: tuple[int, int], batch: int, floats: int):
    """The regions of a kernel of so many rows and columns; the edges that are smaller than its tile."""
    tuning = Tuning(tile=tile, batch=batch, pixels=4, edge=tuple(m if m < tile else 0 for m in edge))
    return regions_of(replace(CONV, height=sizes[0], columns=sizes[1], outside=(0, 0)), tuning, floats)


SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))


@given(st.sampled_from(TILES), EDGES, SIZES, st.integers(1, 30), st.sampled_from([4, 8, 16]))
def test_runs_are_every_tile_once_within_batches_and_bands(
    tile: int, edge: tuple[int, int], sizes: tuple[int, int], batch: int, floats: int
) -> None:
    for region in drawn_tilings(tile, edge, sizes, batch, floats):
        tiles = [first + k for first, count in region.runs() for k in range(count)]
        high, wide = region.tile
        assert tiles == list(range(-(-len(region.columns) // wide) * -(-len(region.rows) // high)))
        ends = list(np.cumsum(region.batches))
        for first, count in region.runs():
            assert first // region.across == (first + count - 1) // region.across
            assert not any(first < end < first + count for end in ends)


@given(st.sampled_from(TILES), EDGES, SIZES)
def test_regions_are_every_output_once_with_the_fewest_products(
    tile: int, edge: tuple[int, int], sizes: tuple[int, int]
) -> None:
    """Along each dimension by itself, against every number of larger tiles."""
    made = np.zeros(sizes, int)
    sides = [set(), set()]
    for region in drawn_tilings(tile, edge, sizes, 12, 8):
        made[region.rows.start : region.rows.stop, region.columns.start : region.columns.stop] += 1
        for axis, part in enumerate((region.rows, region.columns)):
            sides[axis].add((region.tile[axis], -(-len(part) // region.tile[axis])))
    assert (made == 1).all()
    for axis, size in enumerate(sizes):
        small = edge[axis] if edge[axis] < tile else 0
        numbers = product(range(size + 1), range(size + 1 if small else 1))
        ways = (n * (tile + 2) + k * (small + 2) for n, k in numbers if n * tile + k * small >= size)
        assert sum((m + 2) * count for m, count in sides[axis]) == min(ways)


@given(st.sampled_from(TILES), EDGES, SIZES, st.integers(1, 30), st.sampled_from([4, 8, 16]))
def test_frequencies_are_an_odd_number_of_cache_lines_apart(
    tile: int, edge: tuple[int, int], sizes: tuple[int, int], batch: int, floats: int
) -> None:
    for region in drawn_tilings(tile, edge, sizes, batch, floats):
        assert region.input_floats * 4 % 128 == region.product_floats * 4 % 128 == 64
        assert region.input_floats >= region.in_blocks * max(region.batches) * floats
        assert region.product_floats >= max(region.batches) * floats


def test_the_header_says_the_workspace() -> None:
    kernel = row_kernel(CONV, WIDE)
    assert kernel.workspace_bytes == workspace_bytes(CONV, kernel.tuning, 16) > 0
    assert f"workspace {kernel.workspace_bytes} bytes" in kernel.text.split("*/")[0].replace("\n *  ", "")
    direct = row_kernel(replace(CONV, kind=Direct(), height=1), WIDE)
    assert direct.workspace_bytes == 0


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("edge", [(0, 0), (0, 2), (2, 0), (2, 2)])
def test_weights_are_transformed_and_their_bytes_known(tile: int, edge: tuple[int, int]) -> None:
    """For each pair of sizes, those of the larger tiles first, columns changing fastest."""
    edge = tuple(m if m < tile else 0 for m in edge)
    shape = RowShape("conv", Winograd(), 5, 9, 12, kernel=(3, 3), height=6)
    kernel = row_kernel(shape, Target(4, 16), Tuning(tile=tile, batch=4, pixels=4, blocks=3, edge=edge))
    w = np.random.default_rng(0).standard_normal((9, 5, 3, 3)).astype(np.float32)
    packed = packed_weights(kernel, w)
    assert packed.nbytes == weight_bytes(shape, kernel.tuning, 4)
    pairs = [(high, wide) for high in (tile, edge[0]) if high for wide in (tile, edge[1]) if wide]
    start = 0
    for pair in pairs:
        down, across = (np.array(matrices(m).g, float) for m in pair)
        end = start + len(down) * len(across) * 5 * 12
        u = packed[start:end].reshape(len(down), len(across), 5, 12)
        assert np.allclose(u[..., 9:], 0)
        for out in range(9):
            for channel in range(5):
                assert np.allclose(u[:, :, channel, out], down @ w[out, channel] @ across.T, rtol=1e-6, atol=1e-6)
        start = end
    assert start == packed.size


def sized(channels: int, columns: int, height: int) -> RowShape:
    return replace(CONV, in_channels=channels, out_channels=channels, columns=columns, height=height)


@pytest.mark.parametrize(
    ("shape", "tile", "edge"),
    [
        (sized(64, 224, 12), 6, (0, 4)),
        (sized(64, 56, 6), 6, (0, 0)),
        (sized(64, 56, 8), 6, (4, 4)),
        (sized(64, 56, 28), 6, (4, 2)),
        (sized(16, 960, 12), 6, (0, 0)),
        (sized(128, 28, 24), 6, (0, 4)),
        (sized(64, 224, 4), 6, (4, 0)),
        (sized(64, 224, 2), 6, (2, 0)),
        (sized(256, 14, 14), 4, (0, 0)),
        (sized(128, 7, 7), 4, (0, 0)),
        (sized(512, 7, 7), 2, (0, 0)),
    ],
)
def test_tiles_are_chosen_by_shape(shape: RowShape, tile: int, edge: tuple[int, int]) -> None:
    """Large ones, but for small maps, and weights that leave the cache; smaller ones where large ones do not fit."""
    found = shape.kind.tuning(shape, WIDE)
    assert (found.tile, found.edge) == (tile, edge)
    edges = {t: product((0, *(m for m in TILES if m < t)), repeat=2) for t in TILES}
    prices = [price(shape, tiled(shape, WIDE, t, edge), 16) for t in TILES for edge in edges[t]]
    assert price(shape, found, 16) <= min(prices) / 0.9


def test_all_calls_of_a_layer_choose_together() -> None:
    """56 rows as 24, 24 and 8: the last ones want smaller tiles, for which the others have no use."""
    tall, low = sized(64, 56, 24), sized(64, 56, 8)
    alone, both = winograd_tuning([(tall, 2)], WIDE), winograd_tuning([(tall, 2), (low, 1)], WIDE)
    assert (alone.edge, both.edge) == ((0, 2), (4, 2))
    assert winograd_tuning([(tall, 2), (low, 1)], WIDE, (4,)).tile == 4


def test_the_header_says_tiles_weights_and_workspace() -> None:
    head = row_kernel(CONV, Target(8, 16), Tuning(tile=4, batch=10, pixels=6)).text.split("*/")[0]
    edged = row_kernel(replace(CONV, height=10), Target(8, 16), Tuning(tile=6, batch=10, pixels=6, edge=(4, 0)))
    assert "F(6x6, 3x3): 1 x 4 tiles" in edged.text and "F(4x6, 3x3): 1 x 4 tiles" in edged.text
    for said in ("conv: winograd 3x3, height 11, 12 -> 20 channels", "F(4x4, 3x3): 3 x 6 tiles, batches of 9,",
                 "accumulators 1 x 6", "[group][frequency][in channel][1 blocks][8]"):  # fmt: skip
        assert said in head, said


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"kernel": (5, 5)}, "winograd expects kernel"),
        ({"stride": 2}, "winograd expects kernel"),
        ({"dilation": 2}, "winograd expects kernel"),
        ({"out_pitch": 22}, "pitch"),
    ],
)
def test_shapes_that_are_none_are_refused(changes: dict[str, object], match: str) -> None:
    with pytest.raises(InvalidInput, match=match):
        replace(CONV, **changes)


@pytest.mark.parametrize(
    ("tuning", "match"),
    [
        (Tuning(), "expected a tile of"),
        (Tuning(tile=3, batch=4), "expected a tile of"),
        (Tuning(tile=4), "batch of at least 1"),
        (Tuning(tile=4, batch=4, blocks=2), "divides 3 blocks"),
        (Tuning(tile=4, batch=4, unroll=8), "do not divide"),
        (Tuning(tile=4, batch=4, ways=2), "ways do not fit"),
        (Tuning(tile=4, batch=4, edge=(0, 4)), r"expected tiles of \(0, 2\) at the edges"),
    ],
)
def test_tunings_that_do_not_suit_are_refused(tuning: Tuning, match: str) -> None:
    with pytest.raises(InvalidInput, match=match):
        row_kernel(CONV, Target(8, 16), tuning)


def test_other_kinds_have_no_tiles() -> None:
    with pytest.raises(InvalidInput, match="has no tiles"):
        row_kernel(replace(CONV, kind=Direct(), height=1), WIDE, Tuning(tile=4, batch=4))
