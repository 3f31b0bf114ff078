"""Less memory where fusing for time takes more than layers one by one would.

    Grouping + Selection + Price ──leaner()──> Grouping

A concat that needs no copies costs no time, but its result is there from the first operand to the last reader: in a
U-Net each level's is, all the way down and up again. Joined to the group that reads it, it is made some rows at a time.
"""

from dataclasses import replace

from polyfuse.codegen.lower.concats import is_placeable, placed_concats
from polyfuse.codegen.lower.program import lowered
from polyfuse.codegen.lower.selection import Selection
from polyfuse.deploy.grouping import Grouping
from polyfuse.deploy.memory import footprint, least_layer_by_layer
from polyfuse.deploy.prices import Price, PricedGroup, Prices
from polyfuse.network.layer import Layer

SLACK = 1.02
"""How many times as much groups that need less memory may cost."""
MOST_TRIED = 4
"""The most concats that are tried; each takes as long as lowering the network."""


def leaner(grouping: Grouping, selection: Selection, price: Price) -> Grouping:
    """Join concats without copies to their readers, the largest first, until layers one by one would need more memory.

    Each must save memory, and all together may cost 2 % of the price at most.
    """
    concats = [layer for layer in grouping.network.layers if is_placeable(grouping.network, layer, selection)]
    most = least_layer_by_layer(grouping.network)
    if not concats or (least := memory(grouping, selection)) <= most:
        return grouping
    limit = SLACK * grouping.price
    prices = Prices(grouping.network, selection, price)
    for concat in sorted(concats, key=lambda layer: -layer.output.elements)[:MOST_TRIED]:
        found = joined(grouping, concat, prices)
        if found is not None and found.price <= limit and (needed := memory(found, selection)) < least:
            grouping, least = found, needed
        if least <= most:
            break
    return grouping


def memory(grouping: Grouping, selection: Selection) -> int:
    """The bytes that the C of a grouping needs apart from weights."""
    placed, groups = placed_concats(grouping.network, grouping.groups(selection), selection)
    return footprint(lowered(grouping.network, groups, kernels=placed)).memory


def joined(grouping: Grouping, concat: Layer, prices: Prices) -> Grouping | None:
    """The groups with a concat in that of its one reader; None where it has several, or that would be no group."""
    readers = {layer.name for layer in grouping.network.readers(concat.output)}
    reading = [part for part in grouping.parts if readers & set(part.layers)]
    alone = next((part for part in grouping.parts if part.layers == (concat.name,)), None)
    if alone is None or len(reading) != 1 or not prices.fusible(reading[0].layers):
        return None
    (part,) = prices.refined([PricedGroup((concat.name, *reading[0].layers), None, 0.0)])
    if part.strategy is None:
        return None
    return replace(
        grouping, parts=tuple(part if each is reading[0] else each for each in grouping.parts if each is not alone)
    )
