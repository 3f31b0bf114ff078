"""Recomputation as a function of the tile size: one formula for tiles of every size at every place.

    Network ──tile_formulas()──> { tensor: elements that a tile needs } ──over_tiles()──> executions for each tile size

A symbolic tile size is affine once the tile's origin is a parameter too; what all tiles make is the sum over origins.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import islpy as isl
import numpy as np

from polyfuse.errors import InvalidInput
from polyfuse.network.network import Network
from polyfuse.schedule.tiling import cut_axes, footprints
from polyfuse.sets.spaces import PARAM
from polyfuse.sets.symbolic import FactoredSum, factored

TILE_SIZES, ORIGINS = ("Ty", "Tx"), ("y0", "x0")
SET = isl.dim_type.set


@dataclass(frozen=True)
class Recomputation:
    """Executions of all points of a network in tiles of several sizes, where every parameter of a size is `size`.

    instances   what has to be computed for the output
    executions  what tiles compute that recompute everything, one number for each of `tiles`
    """

    network: str
    rank: int
    size: int
    instances: int
    tiles: tuple[int, ...]
    executions: tuple[int, ...]


def tile_formulas(network: Network, rank: int) -> dict[str, FactoredSum]:
    """The elements that a tile needs of each tensor: functions of its size `Ty` (x `Tx`), origin `y0` (, `x0`), sizes.

    >>> from polyfuse.network.network import Builder
    >>> build = Builder("pair")
    >>> x = build.input("x", (1, 1, "H", 20))
    >>> network = build.network(build.conv("conv2", build.conv("conv1", x, 1, kernel=3), 1, kernel=3))
    >>> tile_formulas(network, 1)["conv1_out"].at(H=100, y0=8, Ty=8)
    180

    Errors: InvalidInput for networks of several outputs, whose tiles differ.
    """
    if len(network.outputs) != 1:
        raise InvalidInput(
            f"tiles of any size of {network.name!r}: expected one output, got {len(network.outputs)}; choose a part"
        )
    output = network.outputs[0]
    region = output.box
    for axis, size, origin in zip(cut_axes((1,) * rank, len(output.shape), ()), TILE_SIZES, ORIGINS, strict=False):
        region = between(region, axis, origin, size)
    return {tensor.name: factored(points) for tensor, points in footprints(network, {output: region}).items()}


def between(region: isl.Set, axis: int, origin: str, size: str) -> isl.Set:
    """The elements at `origin <= a < origin + size` along an axis, `0 <= origin` and `1 <= size` parameters."""
    first = region.dim(PARAM)
    region = region.add_dims(PARAM, 2).set_dim_name(PARAM, first, origin).set_dim_name(PARAM, first + 1, size)
    region = region.lower_bound_val(PARAM, first, isl.Val(0)).lower_bound_val(PARAM, first + 1, isl.Val(1))
    local = isl.LocalSpace.from_space(region.get_space())
    for own, constant, of_size in ((1, 0, 0), (-1, -1, 1)):
        bound = isl.Constraint.alloc_inequality(local).set_coefficient_val(SET, axis, isl.Val(own))
        bound = bound.set_coefficient_val(PARAM, first, isl.Val(-own))
        bound = bound.set_coefficient_val(PARAM, first + 1, isl.Val(of_size))
        region = region.add_constraint(bound.set_constant_val(isl.Val(constant)))
    return region


def over_tiles(network: Network, rank: int, size: int, tiles: Sequence[int]) -> Recomputation:
    """Executions in tiles of several sizes, each the same along `rank` axes, from the formulas; exact.

    Errors: as `tile_formulas`.
    """
    formulas = tile_formulas(network, rank)
    made = [formulas[layer.output.name] for layer in network.layers if layer.output.name in formulas]
    output = network.outputs[0]
    box = output.box
    for position in range(box.dim(PARAM)):
        box = box.fix_val(PARAM, position, isl.Val(size))
    axes = cut_axes((1,) * rank, len(output.shape), ())
    extents = [box.dim_max_val(axis).to_python() + 1 for axis in axes]

    def executed(tile: int) -> int:
        origins = np.meshgrid(*(np.arange(0, extent, tile) for extent in extents), indexing="ij")
        values = dict(zip(ORIGINS, origins, strict=False)) | dict.fromkeys(TILE_SIZES[:rank], tile)
        return sum(
            int(form.to_numpy()(**{name: values.get(name, size) for name in form.symbols}).sum()) for form in made
        )

    instances = executed(max(extents))
    return Recomputation(network.name, rank, size, instances, tuple(tiles), tuple(map(executed, tiles)))
