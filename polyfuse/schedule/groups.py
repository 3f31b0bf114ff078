"""From a network to groups that are scheduled, stored and proved legal."""

from collections.abc import Callable

from polyfuse.network.layer import Layer
from polyfuse.network.network import Network
from polyfuse.schedule.legality import check
from polyfuse.schedule.schedule import scheduled
from polyfuse.schedule.storage import Storage, storage
from polyfuse.schedule.strategy import Strategy
from polyfuse.whole import whole


def fused(network: Network, strategy: Strategy) -> tuple[Storage, ...]:
    """The whole network as one group.

    Errors: InvalidInput for a strategy that does not fit; IllegalSchedule with a witness.
    """
    group = storage(scheduled(network, strategy))
    check(group)
    return (group,)


def layer_by_layer(network: Network, rows: Callable[[Layer], int] | None = None) -> tuple[Storage, ...]:
    """Every layer a group of its own, row by row: its input rows are loaded once and kept while they are needed.

    This is what a fused group is compared with: no recomputation, every tensor written and read once. `rows` may ask
    for tiles of several rows, as many at most as the output of a layer has.
    """
    groups: list[Storage] = []
    for layer in network.layers:
        alone = network.select([layer.name])
        shape = layer.output.concrete_shape
        asked = whole(rows(layer), f"layer by layer: rows of a tile of {layer.name!r}", 1) if rows else 1
        tile = min(asked, shape[2] if len(shape) == 4 else shape[0])
        groups.extend(fused(alone, Strategy.named("local", (tile,), "shifted")))
    return tuple(groups)
