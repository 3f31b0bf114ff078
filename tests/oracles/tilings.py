"""Every tile of a group, each priced by itself: an oracle for what is proved about tiles without pricing them.

It knows no bounds, no profiles and no list of tiles: it tries all numbers and words that a tile of a plan file may
hold, and leaves out what a plan with them would be refused for. Along an axis that is not cut one way of keeping stands
for all; `test_certificates.py` checks that it may.
"""

from collections.abc import Iterator, Mapping
from itertools import product

import numpy as np

from polyfuse.errors import InvalidInput
from polyfuse.machines.accelerator import Accelerator
from polyfuse.plan.graph.group import OperationGroup
from polyfuse.plan.price.costs import CostTable, Sink, Source, tiled_group
from polyfuse.plan.price.objective import Objective
from polyfuse.plan.tiles.tables import Tile, check_tile, tables

PLACES = ("local", "recompute")


def every_tile(group: OperationGroup) -> Iterator[Tile]:
    """All legal tiles of a group, by the words of a plan file."""
    rows, columns = group.graph.tensors[group.reference].shape[2:]
    channels = group.graph.tensors[group.operations[0].output].shape[1]
    names = list(group.links)
    for height, width, block in product(range(1, rows + 1), range(columns), range(channels + 1)):
        down = list(product(PLACES if height < rows else PLACES[1:], repeat=len(names)))
        across = list(product(PLACES if width else PLACES[1:], repeat=len(names)))
        for first, second, weights in product(down, across, ("resident", "streamed")):
            retention = dict(zip(names, zip(first, second, strict=True), strict=True))
            tile = Tile(height, width, block, retention, weights)  # type: ignore[arg-type]
            try:
                check_tile(group, tile)
            except InvalidInput:
                continue
            yield tile


def priced_tiles(
    group: OperationGroup,
    machine: Accelerator,
    objective: Objective,
    places: list[tuple[Mapping[str, Source], Mapping[str, Sink]]],
) -> list[list[tuple[int, int]]]:
    """Workspace and price of every tile, for each way to find and leave tensors."""
    alike: dict[tuple[object, ...], list[Tile]] = {}
    whole = group.graph.tensors[group.reference].shape[2]
    for tile in every_tile(group):
        retention = tuple(sorted(tile.retention.items()))
        key = (tile.rows == whole, tile.columns, tile.channels, retention, tile.weights)
        alike.setdefault(key, []).append(tile)
    found: list[list[tuple[int, int]]] = [[] for _ in places]
    for tiles in alike.values():
        try:
            sheet = CostTable.of([tiled_group(group, tiles[0], [tile.rows for tile in tiles], machine)])
        except InvalidInput:
            continue
        for prices, (sources, sinks) in zip(found, places, strict=True):
            cost = sheet.cost(sources, sinks)
            for k in range(len(tiles)):
                if machine.accumulator_bytes and sheet.scratch_bytes[k] > machine.accumulator_bytes:
                    continue
                if machine.double_buffer and any(made_again(group, tiles[k], n) for n in sinks if sinks[n] == "both"):
                    continue
                moved, macs = int(cost.offchip_bytes[k]), int(cost.macs[k])
                price = objective.price(float(cost.cycles[k]), moved, float(cost.energy_pj[k]), macs)
                prices.append((int(cost.workspace_bytes[k]), price))
    return found


def made_again(group: OperationGroup, tile: Tile, tensor: str) -> bool:
    """Whether some step makes what was made before."""
    table = tables(group.graph, group, tile).of[tensor]
    return area(table.new) > area(table.fresh)


def area(boxes: np.ndarray) -> int:
    """How many rows x columns the boxes hold together."""
    return int(((boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2])).sum())
