"""Transforms, counts, workspace, tiles and refusals of Winograd's convolution."""

import ctypes
import re
from dataclasses import replace

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from polyfuse.codegen.build import compile_shared, load
from polyfuse.codegen.rows.interpolation import TILES, Sum, input_sums, matrices, needed, output_sums
from polyfuse.codegen.rows.kernel import RowKernel, row_kernel
from polyfuse.codegen.rows.pack import packed_weights
from polyfuse.codegen.rows.pricing import price, weight_bytes, winograd_counts
from polyfuse.codegen.rows.shape import RowShape, Target, Tuning
from polyfuse.codegen.rows.text import prelude
from polyfuse.codegen.rows.tiling import Tiling, workspace_bytes
from polyfuse.codegen.rows.tune import default_tuning, winograd_tuning
from polyfuse.errors import InvalidInput
from tests.codegen.rows.images import pointers

CONV = RowShape("conv", "winograd", 12, 20, 23, kernel=(3, 3), outside=(1, 1), height=11)
WIDE = Target(16, 32)


@pytest.mark.parametrize("tile", TILES)
def test_the_matrices_are_a_convolution_exactly(tile: int) -> None:
    """y[i] = sum over k of g[k] d[i + k], as an identity of numbers with roots."""
    m, n = matrices(tile), tile + 2
    for i in range(tile):
        for k in range(3):
            terms = [sum(m.a[i, j] * m.g[j, k] * m.b[j, place] for j in range(n)) for place in range(n)]
            assert [sympy.simplify(t) for t in terms] == [int(place == i + k) for place in range(n)]


def test_the_matrices_of_two_outputs_by_hand() -> None:
    m = matrices(2)
    assert m.b.tolist() == [[-1, 0, 1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, -1, 0, 1]]
    half = sympy.Rational(1, 2)
    assert m.g.tolist() == [[-1, 0, 0], [half, half, half], [half, -half, half], [0, 0, 1]]
    assert m.a.tolist() == [[1, 1, 1, 0], [0, 1, -1, 1]]


def evaluated(sums: tuple[Sum, ...], values: dict[str, float]) -> dict[str, float]:
    for s in sums:
        values = values | {s.name: sum(c * values[x] for c, x in s.terms)}
    return values


@pytest.mark.parametrize("tile", TILES)
def test_the_sums_are_the_matrices(tile: int) -> None:
    m, n = matrices(tile), tile + 2
    draw = np.random.default_rng(0).standard_normal(n)
    made = evaluated(input_sums(tile), {f"d{k}": draw[k] for k in range(n)})
    want = np.array(m.b.evalf().tolist(), float) @ draw
    assert np.allclose([made[f"f{k}"] for k in range(n)], want)
    made = evaluated(output_sums(tile), {f"f{k}": draw[k] for k in range(n)})
    want = np.array(m.a.evalf().tolist(), float) @ draw
    assert np.allclose([made[f"y{k}"] for k in range(tile)], want)
    part = evaluated(needed(output_sums(tile), 1), {f"f{k}": draw[k] for k in range(n)})
    assert part["y0"] == made["y0"] and f"y{tile - 1}" not in part


@pytest.mark.parametrize(("tile", "growth"), [(2, 4), (4, 27), (6, 225)])
def test_transformed_inputs_grow_by_no_more_than_stated(tile: int, growth: float) -> None:
    rows = np.abs(np.array(matrices(tile).b.evalf().tolist(), float)).sum(axis=1)
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


def instrumented(kernel: RowKernel) -> str:
    """The kernel, counting what it runs: columns and rows of the transforms, and vectors of products."""
    text = kernel.text
    counters = {"in_columns": "columns", "in_rows": f"tiles * {kernel.tuning.tile + 2}", "out_columns": "1"}
    counters |= {name: "1" for name in bodies(kernel) if name.startswith("multiply")}
    counters |= {name: "rows" for name in bodies(kernel) if name.startswith("out_rows")}
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
    library = load(compile_shared(instrumented(kernel), warnings_as_errors=True))
    blocks_in, blocks_out = -(-shape.in_channels // v), -(-shape.out_channels // v)
    rows = list(np.zeros((shape.height + 2, blocks_in, shape.in_pitch, v), np.float32))
    outs = list(np.zeros((shape.height, blocks_out, shape.out_pitch, v), np.float32))
    weights = packed_weights(kernel, np.zeros((shape.out_channels, shape.in_channels, 3, 3)))
    bias = np.zeros(blocks_out * v, np.float32)
    values = [ctypes.c_void_p(a.ctypes.data) for a in (weights, bias)]
    places = [ctypes.c_ssize_t(-shape.outside[0]), ctypes.c_ssize_t(0), None, None]
    getattr(library, kernel.name)(pointers(rows), *values, None, pointers(outs), *places)
    names = re.findall(r"^long (\w+), (\w+);", instrumented(kernel), re.MULTILINE)
    return {name: ctypes.c_long.in_dll(library, name).value for pair in names for name in pair}


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize(
    ("shape", "tuning"),
    [
        (CONV, Tuning(batch=7, pixels=4)),
        (replace(CONV, columns=24, height=12, outside=(0, 0)), Tuning(batch=24, pixels=6, blocks=5)),
        (replace(CONV, columns=9, height=1, outside=(4, 3), in_channels=3, out_channels=4), Tuning(batch=1, pixels=1)),
    ],
)
def test_counts_are_what_the_kernel_runs(tile: int, shape: RowShape, tuning: Tuning) -> None:
    """Operators in the text of each function, times how often it ran."""
    kernel = row_kernel(shape, Target(4, 16), replace(tuning, tile=tile))
    shape, ran, texts = kernel.shape, counted(kernel), bodies(kernel)
    side = tile + 2
    ins = sum(np.array(operators(texts[name])) * ran[f"count_{name}"] for name in ("in_columns", "in_rows"))
    outs = np.array(operators(texts["out_columns"])) * side * ran["count_out_columns"]
    for name in (n for n in texts if n.startswith("out_rows")):
        assert texts[name].count(" + b;") == int(name.removeprefix("out_rows__"))
        outs += np.array(operators(texts[name])) * ran[f"count_{name}"]
    multiplied = [name for name in texts if name.startswith("multiply__")]
    products = sum(ran[f"calls_{n}"] * texts[n].count(" += w0_") * shape.in_channels for n in multiplied)
    found = winograd_counts(shape, kernel.tuning, 4, "vectors")
    assert (found.input_additions, found.input_multiplications) == tuple(ins)
    assert (found.output_additions, found.output_multiplications) == tuple(outs)
    assert found.products == products


def test_counts_of_numbers_by_hand() -> None:
    """Two tiles of 2 x 2, three channels to five, nothing outside: 6 columns and 8 rows of four additions each."""
    shape = RowShape("conv", "winograd", 3, 5, 4, kernel=(3, 3), height=2)
    found = winograd_counts(shape, Tuning(tile=2, batch=2, pixels=2), 4)
    assert found.products == 2 * 16 * 3 * 5
    assert (found.input_additions, found.input_multiplications) == (3 * (6 + 8) * 4, 0)
    assert (found.output_additions, found.output_multiplications) == (5 * 2 * (4 + 2) * 4, 0)


@given(st.sampled_from(TILES), st.integers(1, 40), st.integers(1, 20), st.integers(1, 30), st.sampled_from([4, 8, 16]))
def test_runs_are_every_tile_once_within_batches_and_bands(
    tile: int, columns: int, height: int, batch: int, floats: int
) -> None:
    shape = replace(CONV, columns=columns, height=height, outside=(0, 0))
    plan = Tiling(shape, Tuning(tile=tile, batch=batch, pixels=4), floats)
    tiles = [first + k for first, count in plan.runs() for k in range(count)]
    assert tiles == list(range(-(-columns // tile) * -(-height // tile)))
    ends = list(np.cumsum(plan.batches))
    for first, count in plan.runs():
        assert first // plan.across == (first + count - 1) // plan.across
        assert not any(first < end < first + count for end in ends)


@given(st.sampled_from(TILES), st.integers(1, 40), st.integers(1, 40), st.integers(1, 30), st.sampled_from([4, 8, 16]))
def test_frequencies_are_an_odd_number_of_cache_lines_apart(
    tile: int, columns: int, height: int, batch: int, floats: int
) -> None:
    tuning = Tuning(tile=tile, batch=batch, pixels=4)
    plan = Tiling(replace(CONV, columns=columns, height=height), tuning, floats)
    assert plan.input_floats * 4 % 128 == plan.product_floats * 4 % 128 == 64
    assert plan.input_floats >= plan.in_blocks * max(plan.batches) * floats
    assert plan.product_floats >= max(plan.batches) * floats


def test_the_workspace_is_what_the_text_declares() -> None:
    kernel = row_kernel(CONV, WIDE)
    floats = re.search(r"conv__workspace\[(\d+)\]", kernel.text)
    assert floats and 4 * int(floats[1]) == kernel.workspace_bytes == workspace_bytes(CONV, kernel.tuning, 16)
    assert f"workspace {kernel.workspace_bytes} bytes" in kernel.text.split("*/")[0].replace("\n *  ", "")
    direct = row_kernel(replace(CONV, kind="direct", height=1), WIDE)
    assert direct.workspace_bytes == 0


@pytest.mark.parametrize("tile", TILES)
def test_weights_are_transformed_and_their_bytes_known(tile: int) -> None:
    shape = RowShape("conv", "winograd", 5, 9, 12, kernel=(3, 3), height=6)
    kernel = row_kernel(shape, Target(4, 16), Tuning(tile=tile, batch=4, pixels=4, blocks=3))
    w = np.random.default_rng(0).standard_normal((9, 5, 3, 3)).astype(np.float32)
    packed = packed_weights(kernel, w)
    assert packed.nbytes == weight_bytes(shape, kernel.tuning, 4)
    g = np.array(matrices(tile).g.evalf().tolist(), float)
    side = tile + 2
    u = packed.reshape(side, side, 5, 12)
    assert np.allclose(u[..., 9:], 0)
    for out in range(9):
        for channel in range(5):
            assert np.allclose(u[:, :, channel, out], g @ w[out, channel] @ g.T, rtol=1e-6, atol=1e-6)


def sized(channels: int, columns: int, height: int) -> RowShape:
    return replace(CONV, in_channels=channels, out_channels=channels, columns=columns, height=height)


@pytest.mark.parametrize(
    ("shape", "tile"),
    [
        (sized(64, 224, 12), 6),
        (sized(64, 56, 6), 6),
        (sized(16, 960, 12), 6),
        (sized(128, 28, 24), 6),
        (sized(64, 224, 4), 4),
        (sized(256, 14, 14), 4),
        (sized(128, 7, 7), 4),
        (sized(64, 224, 2), 2),
        (sized(512, 7, 7), 2),
    ],
)
def test_tiles_are_chosen_by_shape(shape: RowShape, tile: int) -> None:
    """Large ones, but for small maps, few rows, and weights that leave the cache."""
    assert default_tuning(shape, WIDE).tile == tile
    prices = [price(shape, winograd_tuning(shape, WIDE, t), 16) for t in TILES]
    assert price(shape, default_tuning(shape, WIDE), 16) <= min(prices) / 0.9


def test_the_header_says_tiles_weights_and_workspace() -> None:
    head = row_kernel(CONV, Target(8, 16), Tuning(tile=4, batch=10, pixels=6)).text.split("*/")[0]
    for said in ("conv: winograd 3x3, height 11, 12 -> 20 channels", "F(4x4, 3x3): 3 x 6 tiles, batches of 9,",
                 "accumulators 1 x 6", "[group][frequency][in channel][1 blocks][8]"):  # fmt: skip
        assert said in head, said


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"kernel": (5, 5)}, "winograd expects kernel"),
        ({"stride": 2}, "winograd expects kernel"),
        ({"dilation": 2}, "winograd expects kernel"),
        ({"groups": 2}, "only direct convolution has groups"),
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
        (Tuning(tile=4, batch=4, prefetch=True), "does not prefetch"),
        (Tuning(tile=4, batch=4, blocks=2), "divides 3 blocks"),
        (Tuning(tile=4, batch=4, unroll=8), "do not divide"),
        (Tuning(tile=4, batch=4, ways=2), "ways do not fit"),
    ],
)
def test_tunings_that_do_not_suit_are_refused(tuning: Tuning, match: str) -> None:
    with pytest.raises(InvalidInput, match=match):
        row_kernel(CONV, Target(8, 16), tuning)


def test_other_kinds_have_no_tiles() -> None:
    with pytest.raises(InvalidInput, match="has no tiles"):
        row_kernel(replace(CONV, kind="direct", height=1), WIDE, Tuning(tile=4, batch=4))
