"""Shapes of tiles for chains of stencil-like layers, by name.

    Network + shape + tile ──shaped()──> Schedule ──storage()──> legality.check()

    overlapped      trapezoids that overlap: each tile computes what it needs, and what two need is computed twice
    uniform         the same, each layer as much wider than the next as the widest window of all layers asks for
    parallelogram   each layer's tiles are shifted so that a tile makes only what is new; tiles run one after another
    split           upright trapezoids, then inverted ones in the gaps: nothing is computed twice, and all tiles of one
                    of the two phases (four in two dimensions) are independent
    hexagonal       bands of layers, each of them split along the first axis, where an inverted trapezoid and the
                    upright one of the next band above it are one tile: a phase of independent tiles more than there
                    are bands, parallelograms along the second axis

A layer is stencil-like where it reads its input in a window of fixed size around each element, without a stride.
A uniform slope is what multi-stage compilers take for overlapped tiles (Mullapudi et al., "PolyMage", ASPLOS 2015);
exact footprints compute less twice and leave as many independent tiles.

Right rectangles (Zhao and Cohen, "Flextended Tiles", TACO 2019) have no name of their own: in coordinates that are
skewed until all reads point one way, a parallelogram keeps its upper face and its lower face moves out by the
difference of the steepest two reads, step by step. Back in the coordinates of the layers, these are the executions of
*overlapped* where each layer has its own reads for slopes, and of *uniform* where all have the same two.

In one band, *hexagonal* is *split* with both phases equally wide: an upright tile ends as wide as an inverted one
begins. It differs for chains that are longer than one band: tiles need not be as wide as what all layers together reach
over, and n bands take n + 1 phases instead of 2n.
Sources: overlapped and split tiling, Krishnamoorthy et al., "Effective Automatic Parallelization of Stencil
Computations", PLDI 2007; split tiling in several dimensions, Grosser et al., "Split Tiling for GPUs", GPGPU-6, 2013;
hexagons, Grosser et al., "Hybrid Hexagonal/Classical Tiling for GPUs", CGO 2014.
"""

from collections.abc import Sequence
from itertools import count, product
from typing import Literal, get_args

import islpy as isl

from polyfuse.choices import Place
from polyfuse.errors import InvalidInput
from polyfuse.network.layer import Layer
from polyfuse.network.network import Network
from polyfuse.network.tensor import Tensor
from polyfuse.schedule.given import schedule_from
from polyfuse.schedule.schedule import Schedule, check_strategy, scheduled
from polyfuse.schedule.strategy import Strategy
from polyfuse.schedule.tiling import cut_axes
from polyfuse.sets.spaces import only_axis, relation_space, unnamed

Shape = Literal["overlapped", "uniform", "parallelogram", "split", "hexagonal"]
IN, OUT = isl.dim_type.in_, isl.dim_type.out
Edges = dict[str, list[tuple[int, int]]]
"""For each tensor and tiled axis: how far the first and the last element of tile 0 are from those of its rectangle."""


def shaped(
    network: Network, shape: Shape, tile: tuple[int, ...], place: Place = "local", *, band: int | None = None
) -> Schedule:
    """A schedule in tiles of a shape: rows of the last output, or rows x columns.

    place      where parallelograms, split tiles and hexagons keep what later tiles read
    band       how many layers the lower and the upper half of a hexagon have; None takes as many as fit into its width

    >>> from polyfuse.network.network import Builder
    >>> build = Builder("chain")
    >>> x = build.input("x", (1, 1, 34, 4))
    >>> for k in (1, 2):
    ...     x = build.conv(f"c{k}", x, 1, kernel=(3, 1))
    >>> chain = build.network(x)
    >>> executions = [shaped(chain, shape, (8,)).flows["c1_out"].executions.wrap() for shape in get_args(Shape)]
    >>> [int(str(each.count_val())) for each in executions]
    [152, 152, 128, 128, 128]

    Errors: InvalidInput for an unknown shape, layers that are not stencil-like, split tiles smaller than what the
    layers together reach over, hexagons narrower than what their layers reach over, and `band` for other shapes.
    """
    if shape not in get_args(Shape):
        raise InvalidInput(f"shape {shape!r}: expected one of {', '.join(get_args(Shape))}")
    if band is not None and (shape != "hexagonal" or band < 1):
        raise InvalidInput(f"band {band} for {shape} tiles: expected one layer or more, for hexagonal tiles only")
    check_strategy(network, Strategy(tile))
    if shape == "overlapped":
        return scheduled(network, Strategy.named("recompute", tile))
    axes = cut_axes(tile, len(network.outputs[-1].shape), ())
    if shape == "parallelogram":
        edges_of(network.layers, axes)
        return scheduled(network, Strategy.named(place, tile, "shifted"))
    if shape == "uniform":
        return uniform_tiles(network, axes, tile)
    if shape == "hexagonal":
        return hexagonal_tiles(network, axes, tile, place, band)
    return split_tiles(network, axes, tile, place)


def split_tiles(network: Network, axes: Sequence[int], tile: tuple[int, ...], place: Place) -> Schedule:
    """Phases first: upright along every axis, inverted along the last, …, inverted along all; then tiles."""
    edges = edges_of(network.layers, axes)
    for layer in network.layers:
        for size, (low, high) in zip(tile, edges[layer.output.name], strict=True):
            if size < low - high:
                raise InvalidInput(
                    f"split tiles of {network.name!r}: expected tiles of at least {low - high}, which is how far the "
                    f"layers up to {layer.name!r} reach, got {size}"
                )
    times = []
    for layer in network.layers:
        for phase in product((0, 1), repeat=len(axes)):
            bounds = []
            for size, (low, high), inverted in zip(tile, edges[layer.output.name], phase, strict=True):
                bounds.append((size + high, size + low) if inverted else (low, size + high))
            times.append(timed(layer, axes, tile, bounds, phase))
    return schedule_from(network, unioned(times), tile=2 * len(axes), others=(place,) * (2 * len(axes)))


def hexagonal_tiles(
    network: Network, axes: Sequence[int], tile: tuple[int, ...], place: Place, band: int | None
) -> Schedule:
    """Phases, then hexagons along the first axis, then parallelograms along the second one."""
    bands = range(len(network.layers), 0, -1) if band is None else (band,)
    fitting = ((layers, hexagons(network, axes[0], tile[0], layers)) for layers in bands)
    band, edges = next(((layers, found) for layers, found in fitting if found is not None), (bands[-1], None))
    if edges is None:
        least = next(size for size in count(tile[0] + 1) if hexagons(network, axes[0], size, band) is not None)
        raise InvalidInput(
            f"hexagonal tiles of {network.name!r} with {band} layers in a band: expected tiles of at least {least}, "
            f"got {tile[0]}"
        )
    shifts = [shifts_of(network, axis) for axis in axes[1:]]
    times = []
    for number, layer in enumerate(network.layers):
        first, end = edges[layer.output.name]
        others = [(each[layer.name], size + each[layer.name]) for each, size in zip(shifts, tile[1:], strict=True)]
        for later, along in enumerate(((first, end), (end, tile[0] + first))):
            times.append(timed(layer, axes, tile, [along, *others], (number // band + later,)))
    return schedule_from(network, unioned(times), tile=1 + len(axes), others=(place,) * (1 + len(axes)))


def hexagons(network: Network, axis: int, size: int, band: int) -> dict[str, tuple[int, int]] | None:
    """For each tensor, where the upright part of tile 0 begins and ends; what is between two of them is inverted.

    The upright parts of a band stand above the inverted ones of the band before, far enough from the two beside, in the
    middle of where they may be. None where `size` is too small for that.
    """
    found: dict[str, tuple[int, int]] = {}
    before: dict[str, tuple[int, int]] = {}
    for start in range(0, len(network.layers), band):
        layers = network.layers[start : start + band]
        edges = {name: along for name, (along,) in edges_of(layers, (axis,)).items()}
        reached = max(low - high for low, high in edges.values())
        width = (size + reached + 1) // 2
        least, most = [], []
        for layer in layers:
            low, high = edges[layer.output.name]
            for tensor in layer.inputs:
                if tensor.name in before:
                    first, last = reach(layer, tensor, axis)
                    least.append(before[tensor.name][0] - first - low)
                    most.append(size + before[tensor.name][1] - last - width - high)
        if size < reached or max(least, default=0) > min(most, default=0):
            return None
        offset = (max(least, default=0) + min(most, default=0)) // 2
        before = {name: (offset + low, offset + width + high) for name, (low, high) in edges.items()}
        found |= before
    return found


def shifts_of(network: Network, axis: int) -> dict[str, int]:
    """How far each layer's part of a tile is shifted along an axis, so that it is made before what reads it."""
    found: dict[str, int] = {}
    for layer in reversed(network.layers):
        readers = network.readers(layer.output)
        found[layer.name] = max((found[each.name] + reach(each, layer.output, axis)[1] for each in readers), default=0)
    return found


def uniform_tiles(network: Network, axes: Sequence[int], tile: tuple[int, ...]) -> Schedule:
    """Every layer as much wider than the next as the widest window of all layers asks for."""
    windows = [[reach(layer, tensor, axis) for layer in network.layers for tensor in layer.inputs] for axis in axes]
    steps = [(min(0, *(low for low, _ in each)), max(0, *(high for _, high in each))) for each in windows]
    behind: dict[str, int] = {}
    for layer in reversed(network.layers):
        readers = network.readers(layer.output)
        behind[layer.name] = max((behind[reader.name] + 1 for reader in readers), default=0)
    times = []
    for layer in network.layers:
        layers = behind[layer.name]
        bounds = [(layers * low, size + layers * high) for size, (low, high) in zip(tile, steps, strict=True)]
        relation = timed(layer, axes, tile, bounds, ())
        for k, (axis, size) in enumerate(zip(axes, tile, strict=True)):
            last = (network.outputs[-1].concrete_shape[axis] - 1) // size
            relation = relation.lower_bound_val(OUT, k, isl.Val(0)).upper_bound_val(OUT, k, isl.Val(last))
        times.append(relation)
    return schedule_from(network, unioned(times), tile=len(axes), others=("recompute",) * len(axes))


def timed(
    layer: Layer, axes: Sequence[int], tile: Sequence[int], bounds: Sequence[tuple[int, int]], phase: Sequence[int]
) -> isl.Map:
    """`{ L[p] -> [phase, t] : tile*t + first <= p_axis < tile*t + end }` with `bounds` for each axis."""
    width = len(phase) + len(axes)
    space = relation_space(layer.points.get_space(), isl.Space.set_alloc(isl.DEFAULT_CONTEXT, 0, width))
    relation = isl.Map.universe(space)
    for position, value in enumerate(phase):
        relation = relation.fix_val(OUT, position, isl.Val(value))
    local = isl.LocalSpace.from_space(space)
    for k, (axis, size, (first, end)) in enumerate(zip(axes, tile, bounds, strict=True)):
        for sign, constant in ((1, -first), (-1, end - 1)):
            bound = isl.Constraint.alloc_inequality(local).set_coefficient_val(IN, axis, isl.Val(sign))
            bound = bound.set_coefficient_val(OUT, len(phase) + k, isl.Val(-sign * size))
            relation = relation.add_constraint(bound.set_constant_val(isl.Val(constant)))
    return relation


def unioned(times: Sequence[isl.Map]) -> isl.UnionMap:
    """Relations of several layers as one."""
    found = isl.UnionMap.from_map(times[0])
    for each in times[1:]:
        found = found.union(isl.UnionMap.from_map(each))
    return found


def edges_of(layers: Sequence[Layer], axes: Sequence[int]) -> Edges:
    """How each tensor's part of an upright tile shrinks along each axis: what its layer reads is in the tile too.

    Errors: InvalidInput for layers that are not stencil-like.
    """
    edges: Edges = {}
    for layer in layers:
        read = [tensor for tensor in layer.inputs if tensor.name in edges]
        windows = {tensor: [reach(layer, tensor, axis) for axis in axes] for tensor in layer.inputs}
        mine = []
        for d in range(len(axes)):
            lows = [edges[tensor.name][d][0] - windows[tensor][d][0] for tensor in read]
            highs = [edges[tensor.name][d][1] - windows[tensor][d][1] for tensor in read]
            mine.append((max(lows, default=0), min(highs, default=0)))
        edges[layer.output.name] = mine
    return edges


def reach(layer: Layer, tensor: Tensor, axis: int) -> tuple[int, int]:
    """The first and the last element that a layer reads along an axis, counted from the one it makes.

    Where reads end at the border, the window goes on outside. Where they are bent back, as those of clamped borders,
    the window is what an element further inside reads.
    Errors: InvalidInput where there is no such window of fixed size.
    """
    where = f"layer {layer.name!r}: expected a window of fixed size of {tensor.name!r} along axis {axis}"
    if len(tensor.shape) != len(layer.output.shape):
        raise InvalidInput(f"{where}, got a tensor of another rank; choose a part of the network without it")
    for reads in (layer.extended_reads(tensor), layer.reads(tensor)):
        along = unnamed(only_axis(only_axis(reads, IN, axis), OUT, axis))
        distances = along.domain_map().reverse().apply_range(along.deltas_map())
        first, last = distances.range().dim_min_val(0), distances.range().dim_max_val(0)
        if first.is_int() and last.is_int():
            with_first, with_last = (distances.fix_val(OUT, 0, end).domain() for end in (first, last))
            if not with_first.is_disjoint(with_last):
                return first.to_python(), last.to_python()
    raise InvalidInput(f"{where}, got one that moves by another step or takes all; choose a part without it")
