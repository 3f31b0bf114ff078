"""Shapes of tiles: legal, executions as enumerated, values as the reference's."""

import random
from collections.abc import Callable, Sequence
from typing import get_args

import pytest

import polyfuse as pf
from polyfuse.network.custom import statement_layer
from polyfuse.network.network import Builder, Network
from polyfuse.network.tensor import Tensor
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
@pytest.mark.parametrize("shape", get_args(Shape))
def test_shapes_are_legal_and_counted(shape: Shape, case: tuple[list[int], bool, bool], tile: tuple[int, ...]) -> None:
    network = built(case)
    group = pf.storage(shaped(network, shape, tile))
    pf.check(group)
    counts = pf.counts(group)
    if shape in ("parallelogram", "split", "hexagonal"):
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


Window = tuple[int, int]
"""The first and the last element that one reads, counted from the one that is made."""


def along_a_line(windows: Sequence[dict[int, Window]], size: int) -> Network:
    """Sums over windows, zero outside: for each layer, the tensors that it reads (0 is the input) and their windows."""
    build = Builder("line")
    tensors = [build.input("x", (size,))]
    for number, read in enumerate(windows, 1):
        reads, terms = {}, []
        for source, (first, last) in read.items():
            at, name = f"i + k + {first}", f"a{source}"
            within = f"0 <= {at} < {size} and k <= {last - first}"
            reads[name] = (tensors[source], f"{{ S[i, k] -> {tensors[source].name}[{at}] : {within} }}")
            terms.append(f"{name} / {2 + source}")
        taps = max(last - first for first, last in read.values()) + 1
        layer = statement_layer(
            f"l{number}",
            domain=f"{{ S[i, k] : 0 <= i < {size} and 0 <= k < {taps} }}",
            output=Tensor(f"t{number}", (size,)),
            reads=reads,
            expression=" + ".join(["acc", *terms]),
            init="0.0",
        )
        tensors.append(build.add(layer))
    return build.network(tensors[-1])


def drawn(rng: random.Random, layers: int, branches: bool) -> list[dict[int, Window]]:
    """For each layer, the one before it, and with `branches` at times one before that, in windows of up to four."""
    found: list[dict[int, Window]] = []
    for number in range(layers):
        sources = {number, rng.randrange(number + 1)} if branches and rng.random() < 0.4 else {number}
        firsts = {source: rng.randint(-2, 1) for source in sorted(sources)}
        found.append({source: (first, first + rng.randint(0, 3)) for source, first in firsts.items()})
    return found


@pytest.mark.parametrize("seed", range(8))
def test_hexagons_of_a_phase_are_independent(seed: int) -> None:
    """Every element once, and read in its own tile or in an earlier phase, of random layers; the C as the reference."""
    rng = random.Random(seed)
    size, band = rng.randint(20, 40), rng.randint(1, 3)
    windows = drawn(rng, rng.randint(band, 5), branches=True)
    network = along_a_line(windows, size)
    tile = rng.randint(1, 3)
    try:
        group = shaped(network, "hexagonal", (tile,), band=band)
    except pf.InvalidInput as refused:
        least = int(str(refused).split("at least ")[1].split(",")[0])
        assert least > tile
        group = shaped(network, "hexagonal", (least + rng.randint(0, 3),), band=band)
    when = []
    for layer in network.layers:
        found = pairs(group.executions(layer))
        when.append({point: time for (point,), time in found})
        assert sorted(point for (point,), _ in found) == list(range(size))
    for number, read in enumerate(windows):
        for i, (phase, tile) in when[number].items():
            assert phase - number // band in (0, 1)
            for source, (first, last) in read.items():
                for j in range(max(0, i + first), min(size, i + last + 1)) if source else ():
                    assert when[source - 1][j] == (phase, tile) or when[source - 1][j][0] < phase
    stored = pf.storage(group)
    pf.check(stored)
    arrays = pf.random_inputs(network, seed)
    (output,) = network.outputs
    kernel = pf.build(pf.generate(network, [stored], kernels="scalar"))
    wanted = pf.reference(network, arrays)[output.name]
    assert pf.max_relative_error(kernel(**arrays)[output.name], wanted) < 1e-5


def test_hexagons_that_are_too_narrow_are_refused() -> None:
    """Two layers in a band reach over two elements, and the layer on them over two more."""
    network = along_a_line([{number: (-1, 1)} for number in range(6)], 40)
    shaped(network, "hexagonal", (4,), band=2)
    with pytest.raises(pf.InvalidInput, match="'line' with 2 layers in a band: expected tiles of at least 4, got 3"):
        shaped(network, "hexagonal", (3,), band=2)


def test_hexagons_of_jacobi() -> None:
    """Rows of 3, 5, 5 and 3 elements, half a tile further in each phase: inverted in one band, upright in the next."""
    network = along_a_line([{number: (-1, 1)} for number in range(6)], 40)
    group = shaped(network, "hexagonal", (8,), band=2)
    for number, layer in enumerate(network.layers):
        wanted = {
            ((i,), (phase, tile))
            for i in range(40)
            for tile in range(-2, 6)
            for phase, half in ((number // 2, 2 - number % 2), (number // 2 + 1, 1 + number % 2))
            if abs(i - (8 * tile + 4 * phase + 2)) <= half
        }
        assert pairs(group.executions(layer)) == wanted


@pytest.mark.parametrize("seed", range(6))
def test_right_rectangles(seed: int) -> None:
    """Skewed until reads point back, the lower face of a parallelogram moved out: overlapped and uniform tiles."""
    rng = random.Random(seed)
    layers, tile = rng.randint(2, 4), rng.randint(3, 6)
    size = tile * rng.randint(2, 5)
    windows = [(first, first + rng.randint(0, 3)) for first in (rng.randint(-2, 0) for _ in range(layers))]
    network = along_a_line([{number: window} for number, window in enumerate(windows)], size)
    steepest = (min(0, *(first for first, _ in windows)), max(0, *(last for _, last in windows)))
    counted = []
    for shape, slopes in (("overlapped", windows), ("uniform", [steepest] * layers)):
        group = shaped(network, shape, (tile,))
        executions = 0
        for number, layer in enumerate(network.layers):
            behind = slopes[number + 1 :]
            skew, extended = sum(last for _, last in behind), sum(last - first for first, last in behind)
            wanted = {
                ((i,), (t,))
                for i in range(size)
                for t in range(size // tile)
                if tile * t - extended <= i - skew < tile * (t + 1)
            }
            assert pairs(group.executions(layer)) == wanted
            executions += len(wanted)
        counted.append(executions)
    assert counted[0] <= counted[1]
    assert (counted[0] < counted[1]) == any(window != steepest for window in windows[1:])


@pytest.mark.parametrize(
    ("make", "tile", "message"),
    [
        (
            lambda: chain(19, 3, [3, 3, 3], False, True),
            (3,),
            "tiles of at least 4, which is how far .* 'c2' reach, got 3",
        ),
        (lambda: strided(), (2,), "layer 'b': expected a window of fixed size of 'a_out' along axis 2, got one that"),
        (lambda: ring(), (6,), "layer 'l1': expected a window of fixed size of 'x' along axis 0, got one that"),
    ],
)
def test_what_has_no_split_tiles_is_refused(make: Callable[[], Network], tile: tuple[int, ...], message: str) -> None:
    with pytest.raises(pf.InvalidInput, match=message):
        shaped(make(), "split", tile)


def strided() -> Network:
    build = Builder("strided")
    x = build.conv("a", build.input("x", (1, 1, 19, 3)), 1, kernel=(3, 1))
    return build.network(build.conv("b", x, 1, kernel=(3, 1), stride=2))


def ring() -> Network:
    """A periodic border: the first element reads the last one."""
    build = Builder("ring")
    x, y = build.input("x", (20,)), Tensor("y", (20,))
    around = "{ S[i, k] -> x[j] : j = (i + k - 1) mod 20 }"
    domain = "{ S[i, k] : 0 <= i < 20 and 0 <= k < 3 }"
    layer = statement_layer("l1", domain=domain, output=y, reads={"a": (x, around)}, expression="acc + a", init="0.0")
    return build.network(build.add(layer))


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(pf.InvalidInput, match="shape 'diamond': expected one of overlapped, uniform, parallelogram"):
        shaped(stencils(), "diamond", (6,))  # type: ignore[arg-type]


@pytest.mark.parametrize(("shape", "band"), [("split", 1), ("hexagonal", 0)])
def test_bands_are_those_of_hexagons(shape: Shape, band: int) -> None:
    with pytest.raises(pf.InvalidInput, match=f"band {band} for {shape} tiles: expected one layer or more, for"):
        shaped(stencils(), shape, (6,), band=band)
