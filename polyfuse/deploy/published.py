"""DNNFusion's plan, built literally: the blocks of its table as the groups of a network.

    Network + Selection + Price ──published()──> Grouping

Blocks, found by `polyfuse.rewrite.fusion`, run in an order in which each comes after those that it reads. A block runs
in the cheapest tiles of rows; one that no tiles can run is a group whose layers run one by one.
"""

from collections.abc import Sequence
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter

from polyfuse.codegen.lower.selection import Selection
from polyfuse.deploy.grouping import Grouping
from polyfuse.deploy.prices import Price, PricedGroup, Prices
from polyfuse.errors import InvalidInput
from polyfuse.network.network import Network
from polyfuse.rewrite.fusion import Block, Profitable, by_traffic, fusion_plan, operators_of


def published(network: Network, selection: Selection, price: Price, profitable: Profitable = by_traffic) -> Grouping:
    """The groups of the published plan; `profitable` decides where its table only says "if it pays".

    Errors: InvalidInput where blocks wait for each other, so that no order runs them; TooComplex.
    """
    blocks = fusion_plan(operators_of(network), profitable)
    order = in_order(network, blocks)
    layers = {layer.name: layer for layer in network.layers}
    ordered = replace(network, layers=tuple(layers[name] for block in order for name in block.names))
    prices = Prices(ordered, selection, price)
    return Grouping(ordered, prices.refined([part_of(prices, block.names) for block in order]))


def part_of(prices: Prices, names: tuple[str, ...]) -> PricedGroup:
    """A block as a part: in tiles of rows, or layer by layer where it has none."""
    part = prices.part(names)
    if part is not None:
        return part
    apart = [prices.part((name,)) for name in names]
    return PricedGroup(names, None, sum(each.price for each in apart if each is not None))


def in_order(network: Network, blocks: Sequence[Block]) -> list[Block]:
    """The blocks, each after those whose results it reads; else in the order of the network.

    Errors: InvalidInput where two of them read each other's.
    """
    home = {name: k for k, block in enumerate(blocks) for name in block.names}
    before: dict[int, set[int]] = {k: set() for k in range(len(blocks))}
    for layer in network.layers:
        makers = (network.makers[tensor].name for tensor in layer.inputs if tensor in network.makers)
        before[home[layer.name]] |= {home[maker] for maker in makers} - {home[layer.name]}
    try:
        return [blocks[k] for k in TopologicalSorter(before).static_order()]
    except CycleError as error:
        first, second = (blocks[k].names[0] for k in error.args[1][:2])
        raise InvalidInput(
            f"network {network.name!r}: the published plan has blocks that wait for each other, those of {first!r} and "
            f"of {second!r}; take the groups of the planner"
        ) from None
