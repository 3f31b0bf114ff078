"""Winograd's convolution against numpy: shapes, widths and compilers, NaN, strips, and how many digits it loses."""

import ctypes
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyfuse.choices import DEFAULT_FLAGS
from polyfuse.codegen.build import WARNINGS, Options, compile_shared, find_compiler, load
from polyfuse.codegen.rows.interpolation import TILES, relative_error
from polyfuse.codegen.rows.kernel import RowKernel, row_kernel
from polyfuse.codegen.rows.pack import packed_bias, packed_weights
from polyfuse.codegen.rows.shape import RowShape, Tuning
from polyfuse.codegen.rows.text import prelude
from polyfuse.codegen.rows.winograd import Winograd
from polyfuse.codegen.target import Target
from tests.codegen.rows.images import Case, blocked, pointers, run, workspace
from tests.codegen.rows.test_row_kernels import COMPILERS, SAME, WIDTHS, arrays_of, expected, flags_for

VALID = (0, 0, 0, 0)


def layer(channels: tuple[int, int], image: tuple[int, int], height: int, **options: object) -> Case:
    """A 3x3 convolution that makes `height` rows at once."""
    return Case("winograd", channels, image, (3, 3), height=height, **({"padding": SAME} | options))


CASES = [
    (layer((16, 16), (12, 13), 12, activation="relu"), {}),
    (layer((32, 32), (6, 56), 6, activation="relu"), {"blocks": 2, "pixels": 12, "batch": 24}),
    (layer((24, 24), (11, 17), 11, residual="before", activation="relu6"), {"batch": 4}),
    (layer((12, 20), (14, 20), 14, residual="after", activation="relu"), {"batch": 5}),
    (layer((5, 7), (9, 8), 3, residual="after", activation="sigmoid"), {"batch": 40, "pixels": 3}),
    (layer((24, 40), (8, 9), 4, residual="after", activation="hard_swish"), {"unroll": 4}),
    (layer((32, 64), (9, 29), 7, padding=VALID, bias=False), {"unroll": 2, "batch": 40}),
    (layer((16, 16), (7, 31), 3, padding=(2, 3, 4, 5), activation=("leaky_relu", 0.1)), {"batch": 11}),
    (layer((8, 8), (2, 3), 9, padding=(5, 9, 4, 8), residual="before"), {"batch": 2, "pixels": 1}),
    (layer((16, 32), (5, 4), 1, activation=("clip", -0.5, 0.75)), {"batch": 1}),
    (layer((3, 3), (1, 1), 1), {"batch": 40}),
    (layer((64, 17), (4, 70), 4, activation="tanh", residual="before"), {"pixels": 12, "batch": 12}),
]


EDGED = ((6, (4, 2)), (6, (2, 4)), (4, (2, 2)))
"""Tiles with smaller ones in the last rows and columns."""


def with_tile(case: Case, tile: int, edge: tuple[int, int], changes: dict[str, int], floats: int) -> Case:
    """The case with its tuning; output blocks that do not go by two go by one."""
    blocks = changes.get("blocks", 1) if -(-case.channels[1] // floats) % changes.get("blocks", 1) == 0 else 1
    used: dict[str, int] = {"pixels": 6, "taps": 1, "batch": 9} | changes | {"tile": tile, "blocks": blocks}
    return replace(case, tuning=Tuning(**used, edge=edge))


def built(kernels: Sequence[RowKernel], floats: int, compiler: str = COMPILERS[0]) -> ctypes.CDLL:
    """All kernels as one file."""
    source = "\n".join([prelude(floats), *(kernel.text for kernel in kernels)])
    found = find_compiler(compiler)
    return load(compile_shared(source, Options(compiler=found, flags=flags_for(floats)).with_flags(*WARNINGS)))


def error(made: np.ndarray, case: Case, arrays: dict[str, np.ndarray]) -> float:
    """The largest error, relative to the largest value before the activation."""
    want = expected(case, arrays)[:, : made.shape[1]]
    scale = np.abs(expected(replace(case, activation=None), arrays)).max()
    assert made.shape == want.shape and np.isfinite(made).all()
    return float(np.abs(made - want).max() / scale)


FORMS = [
    *(
        (tile, (0, 0), *c)
        for tile, *c in product(TILES, WIDTHS, COMPILERS)
        if c[1] == "gcc" or (tile == 6 and c[0] > 4)
    ),
    *((*each, 8, "gcc") for each in EDGED),
    *((*EDGED[0], 16, compiler) for compiler in COMPILERS),
]


@pytest.mark.parametrize(("tile", "edge", "floats", "compiler"), FORMS)
def test_rows_agree_with_numpy(tile: int, edge: tuple[int, int], floats: int, compiler: str) -> None:
    cases = [with_tile(case, tile, edge, changes, floats) for case, changes in CASES]
    kernels = [case.row_kernel(f"row{k}", floats) for k, case in enumerate(cases)]
    library = built(kernels, floats, compiler)
    for seed, (case, kernel) in enumerate(zip(cases, kernels, strict=True)):
        arrays = arrays_of(case, seed)
        made = run(getattr(library, kernel.name), kernel, case, arrays)
        assert error(made, case, arrays) < relative_error(tile, case.channels[0]), case


@pytest.mark.parametrize("floats", WIDTHS)
def test_default_tunings_agree_with_numpy(floats: int) -> None:
    cases = [case for case, _ in CASES]
    kernels = [case.row_kernel(f"row{k}", floats) for k, case in enumerate(cases)]
    library = built(kernels, floats)
    for seed, (case, kernel) in enumerate(zip(cases, kernels, strict=True)):
        arrays = arrays_of(case, seed)
        made = run(getattr(library, kernel.name), kernel, case, arrays)
        assert error(made, case, arrays) < relative_error(kernel.tuning.tile, case.channels[0]), case


def tiles_with_edges() -> st.SearchStrategy[tuple[int, tuple[int, int]]]:
    """A tile, and smaller ones or none for its edges."""
    edges = {tile: st.sampled_from((0, *(m for m in TILES if m < tile))) for tile in TILES}
    return st.sampled_from(TILES).flatmap(lambda tile: st.tuples(st.just(tile), st.tuples(edges[tile], edges[tile])))


@settings(max_examples=12, deadline=None)
@given(
    tiles_with_edges(), st.integers(1, 9), st.integers(1, 9), st.integers(1, 15), st.integers(1, 15),
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)), st.integers(1, 7),
    st.integers(1, 5), st.integers(0, 100),
)  # fmt: skip
def test_any_size_agrees_with_numpy(
    tiles: tuple[int, tuple[int, int]], cin: int, cout: int, rows: int, columns: int,
    padding: tuple[int, int, int, int], batch: int, pixels: int, seed: int,
) -> None:  # fmt: skip
    tile, edge = tiles
    high = max(1, rows + padding[0] + padding[2] - 2)
    case = layer(
        (cin, cout), (max(rows, 3), max(columns, 3)), high, padding=padding,
        tuning=Tuning(tile=tile, batch=batch, pixels=pixels, edge=edge),
    )  # fmt: skip
    kernel = case.row_kernel("row", 4)
    arrays = arrays_of(case, seed)
    flags = ("-std=c11", "-O1", *DEFAULT_FLAGS[2:])
    library = load(compile_shared(kernel.source, Options(flags=flags).with_flags(*WARNINGS)))
    assert error(run(library.row, kernel, case, arrays), case, arrays) < relative_error(tile, cin)


INPUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "normal": lambda x: x,
    "rectified": lambda x: np.maximum(x, 0),
    "positive": np.abs,
    "ramp": lambda x: 0.1 * x + np.linspace(0, 3, x.shape[-1], dtype=np.float32),
}


@pytest.mark.parametrize(("tile", "edge", "size"), [*((tile, (0, 0), 24) for tile in TILES), (6, (4, 2), 26)])
@pytest.mark.parametrize("channels", [1, 16, 64, 256])
def test_errors_stay_below_what_is_stated(tile: int, edge: tuple[int, int], size: int, channels: int) -> None:
    """And the statement is not idle: with normal inputs, a tenth of it is passed."""
    tuning = Tuning(tile=tile, batch=16, pixels=12, edge=edge)
    case = layer((channels, 16), (size, size), size, bias=False, tuning=tuning)
    kernel = case.row_kernel("row", 8)
    library = built([kernel], 8)
    found = {}
    for name, change in INPUTS.items():
        arrays = arrays_of(case, channels)
        arrays["x"] = change(arrays["x"]).astype(np.float32)
        found[name] = error(run(library.row, kernel, case, arrays), case, arrays)
    assert max(found.values()) < relative_error(tile, channels), found
    assert found["normal"] > relative_error(tile, channels) / 10, found


def reached(tile: int, position: int) -> range:
    """The output rows of a tile that input row `position` of it reaches: the ends reach one."""
    return {0: range(1), tile + 1: range(tile - 1, tile)}.get(position, range(tile))


def touched(tiles: Sequence[int], size: int, place: int, before: int) -> set[int]:
    """The outputs, of `size` in tiles side by side, that input `place` of an image padded by `before` reaches."""
    found, first = set(), 0
    for tile in tiles:
        position = place + before - first
        if 0 <= position < tile + 2:
            found |= {first + k for k in reached(tile, position) if first + k < size}
        first += tile
    return found


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("tile", "edge", "down", "across"),
    [*((tile, (0, 0), [tile] * 9, [tile] * 10) for tile in TILES), (6, (4, 2), [6, 6, 4], [6, 6, 6, 2])],
)
def test_nan_and_infinity_spread_over_the_tiles_that_read_them(
    tile: int, edge: tuple[int, int], down: list[int], across: list[int], value: float
) -> None:
    """Nothing finite comes out where the reference has none, and nothing else is spoilt outside of those tiles."""
    case = layer((8, 16), (16, 20), 16, tuning=Tuning(tile=tile, batch=8, pixels=6, edge=edge))
    kernel = case.row_kernel("row", 8)
    library = built([kernel], 8)
    arrays = arrays_of(case, 1)
    clean = run(library.row, kernel, case, arrays)
    for row, column in ((0, 0), (15, 19), (8, 9), (tile, tile), (tile - 1, 2 * tile + 1)):
        x = arrays["x"].copy()
        x[3, row, column] = value
        spoilt = run(library.row, kernel, case, arrays | {"x": x})
        rows, columns = touched(down, 16, row, 1), touched(across, 20, column, 1)
        place = np.zeros((16, 20), bool)
        place[np.ix_(sorted(rows), sorted(columns))] = True
        assert np.array_equal(~np.isfinite(spoilt), np.broadcast_to(place, spoilt.shape))
        assert np.array_equal(spoilt[:, ~place], clean[:, ~place])
        want = expected(case, arrays | {"x": x})
        assert not np.isfinite(spoilt[~np.isfinite(want)]).any()


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("scale", [1e36, 1e-30])
def test_huge_and_tiny_inputs_lose_no_more_digits(tile: int, scale: float) -> None:
    case = layer((8, 8), (13, 13), 13, bias=False, tuning=Tuning(tile=tile, batch=8, pixels=6))
    kernel = case.row_kernel("row", 8)
    arrays = arrays_of(case, 1)
    arrays["x"] = (np.sign(arrays["x"]) * scale).astype(np.float32)
    arrays["w"] = arrays["w"] * np.float32(1e-3)
    assert error(run(built([kernel], 8).row, kernel, case, arrays), case, arrays) < relative_error(tile, 8)


@pytest.mark.parametrize("tile", TILES)
def test_a_weight_that_is_not_finite_spoils_its_output_channel(tile: int) -> None:
    """The border, too: padding is zeros. Other channels are not touched."""
    case = layer((4, 8), (7, 9), 7, tuning=Tuning(tile=tile, batch=8, pixels=6))
    kernel = case.row_kernel("row", 4)
    arrays = arrays_of(case, 1)
    arrays["w"][2, 1, 1, 1] = np.inf
    made = run(built([kernel], 4).row, kernel, case, arrays)
    assert not np.isfinite(made[2]).any() and np.isfinite(np.delete(made, 2, axis=0)).all()


def test_a_nan_stays_through_the_activation() -> None:
    case = layer((4, 4), (4, 4), 4, activation="relu6", tuning=Tuning(tile=4, batch=1, pixels=1))
    kernel = case.row_kernel("row", 4)
    arrays = arrays_of(case, 1)
    arrays["x"][0, 1, 1] = np.nan
    assert np.isnan(run(built([kernel], 4).row, kernel, case, arrays)).all()


WHOLE = RowShape("whole", Winograd(), 12, 12, 29, kernel=(3, 3), outside=(1, 1), height=13, in_pitch=31, out_pitch=30)


def drawn_rows(count: int) -> list[np.ndarray]:
    """Rows of WHOLE; between their blocks are columns of NaN, which are none of it."""
    image = np.full((12, count, 31), np.nan, np.float32)
    image[:, :, :29] = np.random.default_rng(1).standard_normal((12, count, 29))
    return list(blocked(image, 8))


def call(library: ctypes.CDLL, kernel: RowKernel, rows: list[np.ndarray], out: np.ndarray, where: tuple[int, int]):
    """Rows from `where` (row, column) of `out` on; the image has one row and column of padding."""
    random = np.random.default_rng(0)
    weights = packed_weights(kernel, random.standard_normal((12, 12, 3, 3)))
    bias = packed_bias(kernel, random.standard_normal(12))
    height, (row, column) = kernel.shape.height, where
    values = [ctypes.c_void_p(a.ctypes.data) for a in (weights, bias)]
    places = [ctypes.c_ssize_t(column - 1), ctypes.c_ssize_t(column), None, None]
    ins, outs = [None, *rows, None][row : row + height + 2], list(out[row : row + height])
    getattr(library, kernel.name)(pointers(ins), *values, None, pointers(outs), *places, workspace(kernel))


@pytest.mark.parametrize("tile", TILES)
def test_strips_and_bands_of_whole_tiles_make_what_a_whole_image_makes(tile: int) -> None:
    """Bit for bit, in any batches: a tile's sums do not depend on its neighbours."""
    tuning = Tuning(tile=tile, batch=7, pixels=4)
    cut = 2 * tile
    left = replace(WHOLE, name="left", columns=cut, outside=(1, 0), height=tile)
    right = replace(WHOLE, name="right", columns=29 - cut, outside=(0, 1), height=tile)
    low = [replace(s, name=f"low_{s.name}", height=13 - 2 * tile) for s in (left, right)] if 2 * tile < 13 else []
    other = replace(tuning, batch=3, pixels=2)
    kernels = [row_kernel(s, Target(8, 16), tuning if s is WHOLE else other) for s in (WHOLE, left, right, *low)]
    library = built(kernels, 8)
    rows = drawn_rows(13)
    whole, parts = (np.full((13, 2, 30, 8), np.nan, np.float32) for _ in range(2))
    call(library, kernels[0], rows, whole, (0, 0))
    for kernel in kernels[1:]:
        column = cut if kernel.shape.outside[1] else 0
        for row in (2 * tile,) if kernel.name.startswith("low") else (0, tile):
            call(library, kernel, rows, parts, (row, column))
    assert np.array_equal(whole, parts, equal_nan=True)
    assert not np.isnan(whole[:, :, :29]).any() and np.isnan(whole[:, :, 29]).all()


def test_a_row_of_zeros_is_as_good_as_no_row() -> None:
    kernel = row_kernel(replace(WHOLE, height=1), Target(8, 16))
    library = built([kernel], 8)
    rows = drawn_rows(13)
    made = [np.zeros((13, 2, 30, 8), np.float32) for _ in range(2)]
    call(library, kernel, rows, made[0], (0, 0))
    call(library, kernel, [np.zeros_like(rows[0]), *rows], made[1], (1, 0))
    assert np.array_equal(made[0][0], made[1][1])


@pytest.mark.parametrize("residual", ["before", "after"])
def test_a_residual_may_be_the_output_itself(residual: str) -> None:
    shape = replace(WHOLE, name="conv", activation="relu", residual=residual, residual_pitch=30)
    kernel = row_kernel(shape, Target(8, 16))
    library = built([kernel], 8)
    random = np.random.default_rng(4)
    rows = drawn_rows(15)
    weights, bias = packed_weights(kernel, random.standard_normal((12, 12, 3, 3))), packed_bias(kernel, None)
    added = random.standard_normal((13, 2, 30, 8)).astype(np.float32)
    apart, place = np.empty_like(added), added.copy()
    for out, add in ((apart, added), (place, place)):
        values = [ctypes.c_void_p(a.ctypes.data) for a in (weights, bias)]
        places = [ctypes.c_ssize_t(-1), ctypes.c_ssize_t(0), None, None]
        library.conv(pointers(rows), *values, pointers(list(add)), pointers(list(out)), *places, workspace(kernel))
    assert np.array_equal(apart[:, :, :29], place[:, :, :29]) and np.array_equal(place[:, :, 29], added[:, :, 29])


def test_threads_do_not_disturb_each_other() -> None:
    kernel = row_kernel(replace(WHOLE, out_pitch=29), Target(8, 16))
    library = built([kernel], 8)
    images = [[row * scale for row in drawn_rows(13)] for scale in np.float32([1, 2, 4])]

    def repeated(rows: list[np.ndarray]) -> list[np.ndarray]:
        made = [np.zeros((13, 2, 29, 8), np.float32) for _ in range(40)]
        for out in made:
            call(library, kernel, rows, out, (0, 0))
        return made

    alone = [repeated(rows)[0] for rows in images]
    with ThreadPoolExecutor(3) as pool:
        for want, made in zip(alone, pool.map(repeated, images), strict=True):
            assert all(np.array_equal(want, out) for out in made)
