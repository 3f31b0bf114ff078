"""Shapes of tiles: legal, executions as enumerated, values as the reference's."""

from collections.abc import Callable

import pytest

import polyfuse as pf
from polyfuse.network.network import Builder, Network
from polyfuse.schedule.shapes import Shape, shaped
from tests.schedule.networks import pairs, stencils


def chain(rows: int, columns: int, kernels: list[int], padding: bool, flat: bool) -> Network:
    """Convolutions of one channel, along rows only if `flat`."""
    build = Builder("chain")
    x = build.input("x", (1, 1, rows, columns))
    for k, size in enumerate(kernels):
        pad = size // 2 if padding else 0
        x = build.conv(f"c{k}", x, 1, kernel=(size, 1 if flat else size), padding=(pad, 0 if flat else pad))
    return build.network(x)


CASES = [
    pytest.param(([3, 3], False, True), (8,), id="rows"),
    pytest.param(([3, 1, 5], True, True), (9,), id="padded-rows"),
    pytest.param(([3, 3], True, False), (5, 6), id="planes"),
]


def built(case: tuple[list[int], bool, bool]) -> Network:
    kernels, padding, flat = case
    return chain(19, 3 if flat else 14, kernels, padding, flat)


def overlapped_count(network: Network, kernels: list[int], padding: bool, tile: tuple[int, ...], uniform: bool) -> int:
    """Executions along each tiled axis, tile by tile: the reach of the layers behind, clipped to the image."""
    total = 0
    widest = max(kernels)
    for index, layer in enumerate(network.layers):
        along = 1
        shape, last = layer.output.concrete_shape[2:], network.outputs[0].concrete_shape[2:]
        for axis, size in enumerate(tile):
            behind = kernels[index + 1 :]
            reach = [widest] * len(behind) if uniform else behind
            low = sum(-(k // 2) if padding else 0 for k in reach)
            high = sum(k // 2 if padding else k - 1 for k in reach)
            for_tiles = 0
            for first in range(0, last[axis], size):
                end = first + size if uniform else min(first + size, last[axis])
                for_tiles += max(0, min(end + high, shape[axis]) - max(first + low, 0))
            along *= for_tiles
        total += along * (shape[1] if len(tile) == 1 else 1)
    return total


@pytest.mark.parametrize(("case", "tile"), CASES)
@pytest.mark.parametrize("shape", ["overlapped", "uniform", "parallelogram", "split"])
def test_shapes_are_legal_and_counted(shape: Shape, case: tuple[list[int], bool, bool], tile: tuple[int, ...]) -> None:
    network = built(case)
    group = pf.storage(shaped(network, shape, tile))
    pf.check(group)
    counts = pf.counts(group)
    if shape in ("parallelogram", "split"):
        assert (counts.executions, counts.recomputed) == (counts.instances, 0)
    else:
        assert counts.executions == overlapped_count(network, case[0], case[1], tile, shape == "uniform")
    arrays = pf.random_inputs(network, seed=1)
    (output,) = network.outputs
    wanted = pf.reference(network, arrays)[output.name]
    kernel = pf.build(pf.generate(network, [group], kernels="scalar"))
    assert pf.max_relative_error(kernel(**arrays)[output.name], wanted) < 1e-5


def upright(network: Network, size: int, tile: int) -> dict[str, set[int]]:
    """The rows of every layer that one tile computes from nothing but its own rows, by trying each point."""
    rows: dict[str, set[int]] = {}
    for layer in network.layers:
        (source,) = layer.inputs
        (extent,) = layer.output.concrete_shape
        if source.name not in rows:
            rows[layer.output.name] = {i for i in range(extent) if size * tile <= i < size * tile + size}
        else:
            mine = rows[source.name]
            rows[layer.output.name] = {i for i in range(extent) if all(i + k in mine for k in range(3))}
    return rows


def test_upright_tiles_are_what_a_tile_computes_alone() -> None:
    """Three-point stencils over one axis: phase 0 are these rows, phase 1 all others, once."""
    network = stencils()
    group = shaped(network, "split", (6,))
    for layer in network.layers:
        found = pairs(group.executions(layer))
        for tile in range(4):
            assert {point for point, time in found if time == (0, tile)} == {
                (i,) for i in upright(network, 6, tile)[layer.output.name]
            }
        assert sorted(point for point, _ in found) == [(i,) for i in range(layer.output.concrete_shape[0])]


@pytest.mark.parametrize(
    ("make", "tile", "message"),
    [
        (
            lambda: chain(19, 3, [3, 3, 3], False, True),
            (3,),
            "tiles of at least 4, which is how far .* 'c2' reach, got 3",
        ),
        (lambda: strided(), (2,), "layer 'b': expected a window of fixed size of 'a_out' along axis 2, got one that"),
    ],
)
def test_what_has_no_split_tiles_is_refused(make: Callable[[], Network], tile: tuple[int, ...], message: str) -> None:
    with pytest.raises(pf.InvalidInput, match=message):
        shaped(make(), "split", tile)


def strided() -> Network:
    build = Builder("strided")
    x = build.conv("a", build.input("x", (1, 1, 19, 3)), 1, kernel=(3, 1))
    return build.network(build.conv("b", x, 1, kernel=(3, 1), stride=2))


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(pf.InvalidInput, match="shape 'hexagon': expected one of overlapped, uniform, parallelogram"):
        shaped(stencils(), "hexagon", (6,))  # type: ignore[arg-type]
