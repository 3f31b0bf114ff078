"""Buffers where the axes of tensors do not line up with those that tiles cut, and at clamped borders.

The oracle enumerates what each tile needs, in plain Python, and takes the box of it.
"""

import random
from collections.abc import Callable, Iterable
from itertools import product

import numpy as np
import pytest

import polyfuse as pf
from polyfuse.network.layers.copies import transpose
from polyfuse.schedule.interpreter import interpret

Element = tuple[int, ...]


def alone(text: str, size: tuple[int, ...], taken: tuple[int, ...], rank: int) -> pf.Network:
    """`y[i..] = x[text]`, with a window of columns `k` where the text has one."""
    names = [f"i{d}" for d in range(rank)]
    build = pf.Builder("alone")
    x = build.input("x", taken)
    bounds = " and ".join(f"0 <= {name} < {n}" for name, n in zip(names, size, strict=True))
    layer = pf.statement_layer(
        "y",
        domain=f"{{ y[{', '.join(names)}] : {bounds} }}",
        output=pf.Tensor("y_out", size),
        reads={"x": (x, f"{{ y[{', '.join(names)}] -> x[{text}] }}")},
        expression="x",
    )
    return build.network(build.add(layer))


def stencils(rows: int, clamped: bool) -> pf.Network:
    """Three sums of three rows, which are clamped to the image or padded with zeros."""
    build = pf.Builder("stencils")
    tensor = build.input("x", (rows, 4))
    for name in "abc":
        read, where = ("r, j", f"r = max(0, min({rows - 1}, i + k - 1))") if clamped else ("i + k - 1, j", "")
        inside = where or f"0 <= i + k - 1 < {rows}"
        layer = pf.statement_layer(
            name,
            domain=f"{{ {name}[i, j, k] : 0 <= i < {rows} and 0 <= j < 4 and 0 <= k < 3 }}",
            output=pf.Tensor(f"{name}_out", (rows, 4)),
            reads={"x": (tensor, f"{{ {name}[i, j, k] -> {tensor.name}[{read}] : {inside} }}")},
            expression="acc + x",
            init="0.0",
        )
        tensor = build.add(layer)
    return build.network(tensor)


def partial_sums() -> pf.Network:
    """A product of matrices whose sums are split in four, and the sums of the parts."""
    build = pf.Builder("split")
    x, w = build.input("x", (8, 16)), build.input("w", (16, 8))
    part = pf.statement_layer(
        "part",
        domain="{ part[s, i, j, k] : 0 <= s < 4 and 0 <= i, j < 8 and 4s <= k < 4s + 4 }",
        output=pf.Tensor("p", (4, 8, 8)),
        reads={"a": (x, "{ part[s, i, j, k] -> x[i, k] }"), "b": (w, "{ part[s, i, j, k] -> w[k, j] }")},
        expression="acc + a * b",
        init="0.0",
    )
    p = build.add(part)
    total = pf.statement_layer(
        "total",
        domain="{ total[i, j, s] : 0 <= i, j < 8 and 0 <= s < 4 }",
        output=pf.Tensor("y", (8, 8)),
        reads={"p": (p, "{ total[i, j, s] -> p[s, i, j] }")},
        expression="acc + p",
        init="0.0",
    )
    return build.network(build.add(total))


def assert_legal_and_right(group: pf.Storage) -> None:
    pf.check(group)
    network = group.schedule.network
    inputs = pf.random_inputs(network, seed=3)
    expected = pf.reference(network, inputs)
    found = interpret(group, inputs, forced=True).outputs
    for tensor in network.outputs:
        assert pf.max_relative_error(found[tensor.name], expected[tensor.name]) < 1e-9


def boxes(footprints: Iterable[set[Element]]) -> tuple[int, ...]:
    """The largest extent along each axis of what a tile needs."""
    spans = [[1 + max(axis) - min(axis) for axis in zip(*each, strict=True)] for each in footprints]
    return tuple(max(axis) for axis in zip(*spans, strict=True))


def footprints(size: Element, tile: Element, read: Callable[..., Element]) -> list[set[Element]]:
    """What each tile of the first axes reads."""
    found: dict[Element, set[Element]] = {}
    for point in product(*map(range, size)):
        at = tuple(p // t for p, t in zip(point, tile, strict=False))
        found.setdefault(at, set()).add(read(*point))
    return list(found.values())


CASES: dict[str, tuple[str, Element, Element, Callable[..., Element]]] = {
    "transpose": ("i1, i0", (12, 10), (10, 12), lambda i, j: (j, i)),
    "rotation": ("i2, i0, i1", (6, 5, 4), (4, 6, 5), lambda i, j, k: (k, i, j)),
    "flipped transpose": ("i1, 11 - i0", (12, 10), (10, 12), lambda i, j: (j, 11 - i)),
    "flattened": ("6i0 + i1", (8, 6), (48,), lambda i, j: (6 * i + j,)),
    "unflattened": ("floor(i0 / 6), i0 mod 6", (48,), (8, 6), lambda i: (i // 6, i % 6)),
    "halved": ("i1, floor(i0 / 2)", (12, 6), (6, 6), lambda i, j: (j, i // 2)),
    "every third": ("i1, 3i0 + 1", (4, 5), (5, 12), lambda i, j: (j, 3 * i + 1)),
    "clamped": ("i1, max(0, i0 - 3)", (12, 5), (5, 12), lambda i, j: (j, max(0, i - 3))),
}


@pytest.mark.parametrize("place", ["recompute", "local"])
@pytest.mark.parametrize("case", CASES)
def test_a_buffer_is_the_box_of_what_a_tile_needs(case: str, place: str) -> None:
    text, size, taken, read = CASES[case]
    network = alone(text, size, taken, len(size))
    for tile in ((1,), (3,), (4,), (5,)) if size[0] >= 5 else ((1,), (2,)):
        group = pf.storage(pf.scheduled(network, pf.Strategy.named(place, tile)))
        assert_legal_and_right(group)
        needed = footprints(size, tile, read)
        box = int(np.prod(boxes(needed)))
        assert group.buffers["x"].bytes <= 4 * box, f"{tile} {group}"
        assert group.buffers["x"].bytes >= 4 * max(map(len, needed)), f"{tile} {group}"


def test_the_transpose_of_the_issue() -> None:
    network = alone("i1, i0", (64, 64), (64, 64), 2)
    group = pf.storage(pf.scheduled(network, pf.Strategy((4,))))
    assert group.buffers["x"].bytes == 1024
    pf.check(group)


@pytest.mark.parametrize(("tile", "shape"), [((4,), (4, 4, 8)), ((2, 4), (4, 2, 4))])
def test_partial_sums_of_a_tile_are_those_of_its_elements(tile: Element, shape: Element) -> None:
    group = pf.storage(pf.scheduled(partial_sums(), pf.Strategy(tile)))
    assert group.buffers["p"].shape == shape
    assert_legal_and_right(group)


@pytest.mark.parametrize("tile", [(3,), (6,), (5,), (3, 2)])
def test_clamped_borders_take_no_more_than_padded_ones(tile: Element) -> None:
    found = [pf.storage(pf.scheduled(stencils(18, clamped), pf.Strategy(tile))) for clamped in (True, False)]
    assert found[0].onchip_bytes == found[1].onchip_bytes
    assert_legal_and_right(found[0])


def test_a_diagonal_window_is_a_ring_of_sums() -> None:
    """Tiles of one column of `y[t, i] = x[i + t]`-like diagonals: what is alive lies along a diagonal of `a`."""
    build = pf.Builder("diagonal")
    x = build.input("x", (12, 12))
    copy = pf.statement_layer(
        "a",
        domain="{ a[i, j] : 0 <= i, j < 12 }",
        output=pf.Tensor("a_out", (12, 12)),
        reads={"x": (x, "{ a[i, j] -> x[i, j] }")},
        expression="x",
    )
    read = pf.statement_layer(
        "b",
        domain="{ b[t, i] : 0 <= t < 7 and 0 <= i < 6 }",
        output=pf.Tensor("b_out", (7, 6)),
        reads={"x": (build.add(copy), "{ b[t, i] -> a_out[i + t, 6 - t] }")},
        expression="x",
    )
    network = build.network(build.add(read))
    group = pf.storage(pf.scheduled(network, pf.Strategy((2,))))
    # Two times: rows t..t+6 of column 6 - t and rows t+1..t+7 of column 5 - t; sums of both are 6..11.
    assert group.buffers["a_out"].bytes == 4 * 2 * 6
    assert_legal_and_right(group)


def test_random_accesses_have_legal_buffers_no_larger_than_their_boxes() -> None:
    """Affine reads with random factors, in random tiles, recomputed and kept."""
    rng = random.Random(5)
    for _ in range(25):
        size = (rng.randint(3, 7), rng.randint(3, 7))
        factors = [[rng.choice((-1, 0, 0, 1, 1, 2)) for _ in range(2)] for _ in range(2)]
        constants = [-sum(min(0, f * (n - 1)) for f, n in zip(row, size, strict=True)) for row in factors]
        taken = tuple(
            1 + c + sum(max(0, f * (n - 1)) for f, n in zip(row, size, strict=True))
            for row, c in zip(factors, constants, strict=True)
        )

        def read(i: int, j: int, factors: list[list[int]] = factors, constants: list[int] = constants) -> Element:
            return tuple(row[0] * i + row[1] * j + c for row, c in zip(factors, constants, strict=True))

        text = ", ".join(f"{row[0]} * i0 + {row[1]} * i1 + {c}" for row, c in zip(factors, constants, strict=True))
        network = alone(text, size, taken, 2)
        tile = (rng.randint(1, size[0]),) if rng.random() < 0.5 else (rng.randint(1, size[0]), rng.randint(1, size[1]))
        for place in ("recompute", "local"):
            group = pf.storage(pf.scheduled(network, pf.Strategy.named(place, tile)))
            assert_legal_and_right(group)
            if place == "recompute":
                needed = footprints(size, tile, read)
                assert group.buffers["x"].bytes <= 4 * int(np.prod(boxes(needed))), f"{text} {tile} {group}"


@pytest.mark.parametrize("strategy", [pf.Strategy((4,)), pf.Strategy((4, 5), ("local", "recompute"))])
def test_row_kernels_have_whole_rows_of_what_is_transposed(strategy: pf.Strategy) -> None:
    """Columns of `a_out` move with the rows of the tile: scalar code holds the box, row kernels whole rows."""
    build = pf.Builder("transposed")
    y = build.conv("a", build.input("x", (1, 8, 12, 14)), 8, kernel=3, padding=1)
    y = build.add(transpose("t", y, (0, 1, 3, 2)))
    network = build.network(build.conv("c", y, 8, kernel=3))
    (group,) = pf.fused(network, strategy)
    assert group.buffers["a_out"].shape[3] < 14
    inputs = {name: value.astype(np.float32) for name, value in pf.random_inputs(network, 1).items()}
    expected = pf.reference(network, inputs)["c_out"]
    for options in ({"kernels": "rows"}, {"instrumented": True}):
        kernel = pf.build(pf.generate(network, [group], **options))  # type: ignore[arg-type]
        assert pf.max_relative_error(kernel(**inputs)["c_out"], expected) < 1e-5
    assert kernel.onchip_bytes == group.onchip_bytes
