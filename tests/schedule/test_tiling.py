"""Tiles and footprints, against windows read one by one in plain Python."""

from itertools import product

import islpy as isl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyfuse.errors import InvalidInput, TooComplex, Unbounded
from polyfuse.network.network import Builder, Network
from polyfuse.network.tensor import Tensor
from polyfuse.schedule.tiling import Tiling, box_hull, footprints
from polyfuse.sets.limits import operation_limit
from tests.schedule.networks import Chain, Element, Window, chains, elements, pair, pairs, same_chain, size_of


def region(tensor: Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> isl.Set:
    """The part of an image of one channel: first and last of its rows and columns."""
    low, high = zip(rows, columns, strict=True)
    bounds = f"{low[0]} <= h <= {high[0]} and {low[1]} <= w <= {high[1]}"
    return isl.Set(f"{{ {tensor.name}[0, 0, h, w] : {bounds} }}")


def test_worked_example_footprints_are_100_and_144() -> None:
    network = pair()
    (y,) = network.outputs
    found = footprints(network, {y: region(y, (8, 15), (0, 7))})
    assert {tensor.name: size_of(needed) for tensor, needed in found.items()} == {
        "conv2_out": 64,
        "conv1_out": 100,
        "x": 144,
    }
    assert found[network.inputs[0]] == region(network.inputs[0], (8, 19), (0, 11))


def test_worked_example_halos_are_2_and_4() -> None:
    network = pair()
    (y,) = network.outputs
    tiles = [footprints(network, {y: region(y, rows, (0, 7))}) for rows in ((0, 7), (8, 15))]
    halo_rows = {
        tensor.name: len({element[2] for element in elements(tiles[0][tensor] & tiles[1][tensor])})
        for tensor in tiles[0]
    }
    assert halo_rows == {"conv2_out": 0, "conv1_out": 2, "x": 4}


@pytest.mark.parametrize(
    ("window", "rows"),
    [
        (Window("conv", (1, 1), (1, 1), (1, 1), (0, 0)), {2, 3}),
        (Window("conv", (3, 1), (1, 1), (1, 1), (0, 0)), {2, 3, 4, 5}),
        (Window("conv", (3, 1), (1, 1), (1, 1), (1, 0)), {1, 2, 3, 4}),
        (Window("conv", (3, 1), (2, 1), (1, 1), (1, 0)), {3, 4, 5, 6, 7}),
        (Window("conv", (1, 1), (2, 1), (1, 1), (0, 0)), {4, 6}),
        (Window("conv", (3, 1), (1, 1), (2, 1), (0, 0)), {2, 3, 4, 5, 6, 7}),
        (Window("conv", (2, 1), (3, 1), (1, 1), (0, 0)), {6, 7, 9, 10}),
        (Window("max", (2, 1), (2, 1), (1, 1), (0, 0)), {4, 5, 6, 7}),
        (Window("average", (3, 1), (2, 1), (2, 1), (2, 0)), {2, 4, 6, 8}),
    ],
)
def test_rows_that_output_rows_2_and_3_read(window: Window, rows: set[int]) -> None:
    network = Chain((window,), (12, 1)).network()
    (y,) = network.outputs
    needed = footprints(network, {y: region(y, (2, 3), (0, 0))})[network.inputs[0]]
    assert {element[2] for element in elements(needed)} == rows


@settings(max_examples=40, deadline=None)
@given(chains(), st.data())
def test_footprints_match_brute_force(chain: Chain, data: st.DataObject) -> None:
    network = chain.network()
    bounds = []
    for size in chain.sizes[-1]:
        first = data.draw(st.integers(0, size - 1))
        bounds.append((first, data.draw(st.integers(first, size - 1))))
    tile = region(network.outputs[0], bounds[0], bounds[1])
    found = footprints(network, {network.outputs[0]: tile})
    hulls = footprints(network, {network.outputs[0]: tile}, exact=False)
    needed: set[Element] = set(product(*(range(low, high + 1) for low, high in bounds)))
    tensors = [*network.inputs, *(layer.output for layer in network.layers)]
    for k in reversed(range(len(chain.windows))):
        needed = {read for point in needed for read in chain.windows[k].reads(point, chain.sizes[k])}
        assert {element[2:] for element in elements(found[tensors[k]])} == needed
        assert found[tensors[k]].is_subset(hulls[tensors[k]])


def test_footprints_of_several_readers_and_outputs_are_united() -> None:
    build = Builder("fork")
    x = build.input("x", (1, 1, 12, 1))
    stem = build.conv("stem", x, 1, kernel=(3, 1), padding=(1, 0))
    left = build.conv("left", stem, 1, kernel=(5, 1), padding=(2, 0))
    right = build.conv("right", stem, 1, kernel=(1, 1))
    joined = build.arithmetic("sum", "add", left, right)
    network = build.network(stem, joined)
    found = footprints(network, {joined: region(joined, (4, 5), (0, 0)), stem: region(stem, (8, 9), (0, 0))})
    rows = {tensor.name: sorted(element[2] for element in elements(needed)) for tensor, needed in found.items()}
    assert rows["stem_out"] == [2, 3, 4, 5, 6, 7, 8, 9]
    assert rows["x"] == list(range(1, 11))
    assert rows["right_out"] == [4, 5]


def test_a_region_outside_of_the_image_is_not_needed() -> None:
    network = same_chain(1, 8, 8)
    (y,) = network.outputs
    assert footprints(network, {y: region(y, (8, 11), (0, 7))})[network.inputs[0]].is_empty()


def symbolic_tile(network: Network) -> isl.Set:
    """`[oy, ox, T, H, W] -> { y[0, 0, h, w] }`: a square tile at any origin, of any size."""
    name = network.outputs[0].name
    return isl.Set(
        f"[oy, ox, T, H, W] -> {{ {name}[0, 0, h, w] : oy <= h < oy + T and ox <= w < ox + T "
        "and 0 <= h < H and 0 <= w < W }"
    )


@pytest.mark.parametrize(
    "values", [(0, 0, 4, 9, 7), (4, 4, 4, 9, 7), (8, 4, 2, 9, 7), (0, 0, 12, 5, 5), (3, 1, 1, 6, 3)]
)
@pytest.mark.parametrize("exact", [True, False])
def test_symbolic_footprints_agree_with_concrete_ones(values: tuple[int, int, int, int, int], exact: bool) -> None:
    oy, ox, size, rows, columns = values
    symbolic, concrete = same_chain(3, "H", "W"), same_chain(3, rows, columns)
    needed = footprints(symbolic, {symbolic.outputs[0]: symbolic_tile(symbolic)}, exact=exact)
    (y,) = concrete.outputs
    tile = region(y, (oy, min(oy + size, rows) - 1), (ox, min(ox + size, columns) - 1))
    expected = {tensor.name: elements(each) for tensor, each in footprints(concrete, {y: tile}).items()}
    fixed = isl.Set(
        f"[oy, ox, T, H, W] -> {{ : oy = {oy} and ox = {ox} and T = {size} and H = {rows} and W = {columns} }}"
    )
    found = {
        tensor.name: elements(each.align_params(fixed.get_space()).intersect_params(fixed).project_out_all_params())
        for tensor, each in needed.items()
    }
    assert found == expected


@pytest.mark.parametrize(
    ("text", "hull"),
    [
        ("{ A[i] : 0 <= i < 9 and i mod 4 = 0 }", "{ A[i] : 0 <= i <= 8 }"),
        ("{ A[i, j] : 0 <= j <= i < 5 }", "{ A[i, j] : 0 <= i, j < 5 }"),
        ("{ A[i, j] : (i = 0 and j = 3) or (i = 7 and j = 1) }", "{ A[i, j] : 0 <= i <= 7 and 1 <= j <= 3 }"),
        ("{ A[i] : false }", "{ A[i] : false }"),
        ("{ A[] }", "{ A[] }"),
        (
            "[o, T] -> { A[i] : o <= i < o + T and i mod 2 = 0 and o mod 2 = 0 and T mod 2 = 0 }",
            "[o, T] -> { A[i] : o <= i <= o + T - 2 and o mod 2 = 0 and T mod 2 = 0 and T > 0 }",
        ),
    ],
)
def test_box_hull(text: str, hull: str) -> None:
    assert box_hull(isl.Set(text)) == isl.Set(hull)


def test_box_hull_of_an_unbounded_region_is_refused() -> None:
    with pytest.raises(Unbounded, match="box hull of A: expected a bounded region"):
        box_hull(isl.Set("{ A[i] : i >= 0 }"))


@settings(max_examples=40, deadline=None)
@given(st.sets(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=6))
def test_box_hull_matches_brute_force(points: set[Element]) -> None:
    region_of_points = isl.Set("{ A[i, j] : " + " or ".join(f"(i = {i} and j = {j})" for i, j in points) + " }")
    sides = [range(min(axis), max(axis) + 1) for axis in zip(*points, strict=True)]
    assert elements(box_hull(region_of_points)) == set(product(*sides))


def test_the_hull_of_a_stride_fills_its_holes_and_no_more() -> None:
    network = Chain(
        (Window("conv", (3, 1), (1, 1), (1, 1), (1, 0)), Window("conv", (1, 1), (2, 1), (1, 1), (0, 0))), (16, 1)
    ).network()
    (y,) = network.outputs
    tile = {y: region(y, (2, 4), (0, 0))}
    rows = [
        [
            sorted(element[2] for element in elements(needed))
            for needed in footprints(network, tile, exact=exact).values()
        ]
        for exact in (True, False)
    ]
    assert rows == [[[2, 3, 4], [4, 6, 8], [3, 4, 5, 6, 7, 8, 9]], [[2, 3, 4], [4, 5, 6, 7, 8], [3, 4, 5, 6, 7, 8, 9]]]


def test_footprints_stop_at_the_operation_limit() -> None:
    network = pair()
    tile = {network.outputs[0]: network.outputs[0].box}
    with pytest.raises(TooComplex, match="footprints of network 'pair': expected at most 5 "), operation_limit(5):
        footprints(network, tile)


def test_tiles_partition_the_image() -> None:
    tensor = Tensor("y", (2, 3, 7, 5))
    relation = Tiling.of((3, 2), rank=4).tiles_of(tensor, tensor).intersect_domain(tensor.box)
    assert relation.is_single_valued()
    expected = {((n, c, h, w), (n, h // 3, w // 2)) for n, c, h, w in product(range(2), range(3), range(7), range(5))}
    assert pairs(relation) == expected


def test_tiles_of_another_order_swap_their_coordinates() -> None:
    tensor = Tensor("y", (1, 1, 4, 4))
    found = pairs(Tiling.of((2, 1), rank=4, order=(1, 0)).tiles_of(tensor, tensor).intersect_domain(tensor.box))
    assert found == {((0, 0, h, w), (0, w, h // 2)) for h, w in product(range(4), range(4))}


def test_an_output_of_half_the_size_is_cut_in_proportion() -> None:
    large, small = Tensor("y", (1, 1, 8, 8)), Tensor("z", (1, 1, 4, 3))
    found = pairs(Tiling.of((4, 4), rank=4).tiles_of(small, large).intersect_domain(small.box))
    assert found == {((0, 0, h, w), (0, h // 2, w // 2)) for h, w in product(range(4), range(3))}


@pytest.mark.parametrize(
    ("sizes", "order", "message"),
    [
        ((0,), None, "tile 0: expected whole sizes of at least 1"),
        ((4, -1), None, "tile 4x-1: expected whole sizes of at least 1"),
        ((2.5,), None, "tile 2.5: expected whole sizes"),
        ((2, 2, 2), None, "tile 2x2x2: expected at most 2 sizes, rows or rows x columns"),
        ((2, 2), (0,), r"tile order \(0,\): expected each of \(0, 1\) once"),
        ((2, 2), (0, 0), r"tile order \(0, 0\)"),
        ((2, 2), (1, 2), r"tile order \(1, 2\)"),
    ],
)
def test_wrong_tiles_are_refused(sizes: tuple[int, ...], order: tuple[int, ...] | None, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Tiling.of(sizes, rank=4, order=order)


def test_outputs_of_different_symbolic_sizes_are_refused() -> None:
    with pytest.raises(InvalidInput, match="expected the same symbolic size along axis 2"):
        Tiling.of((4,), rank=4).tiles_of(Tensor("y", (1, 1, "H", 8)), Tensor("z", (1, 1, "G", 8)))
