"""Groups beyond the fusion table: blocks joined by overlapped tiling where a price says that it pays.

Enters: the blocks of a fusion plan and a price of running layers as one group. Leaves: fewer, larger blocks.

The table never fuses Many-to-Many with Many-to-Many, since one element would be computed again for every element that
needs it. Tiles that overlap, or that keep what the next tile needs, compute it once or nearly once.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

from polyfuse.rewrite.fusion import Block, Operator, OperatorGraph
from polyfuse.rewrite.mapping import MappingType

Price = Callable[[frozenset[str]], float]
"""What running the layers of these names as one group costs, in any one unit: seconds, bytes; infinite if it cannot."""


def groups_beyond(operators: Sequence[Operator], blocks: Sequence[Block], price: Price) -> tuple[Block, ...]:
    """The blocks, joined two by two for as long as a pair costs less together than apart, the best pair first.

    Pairs are neighbours, and together they are convex. Of pairs that save the same, the earlier one in the graph goes
    first. There are never more groups than blocks.
    """
    graph = OperatorGraph(tuple(operators))
    priced = lru_cache(maxsize=None)(price)
    groups = [frozenset(block.names) for block in blocks]
    while True:
        pairs = [(a, b) for a, b in _neighbours(graph, groups) if graph.is_convex({*a, *b})]
        savings = [(priced(a) + priced(b) - priced(a | b), a, b) for a, b in pairs]
        best = max(savings, key=lambda saving: saving[0], default=None)
        if best is None or not best[0] > 0:
            return _blocks(graph, groups)
        _, a, b = best
        groups = [a | b if group is a else group for group in groups if group is not b]


def _neighbours(graph: OperatorGraph, groups: Sequence[frozenset[str]]) -> list[tuple[frozenset[str], frozenset[str]]]:
    """The pairs of groups of which one reads what the other makes, in the order of the graph."""
    home = {name: group for group in groups for name in group}
    found: dict[tuple[frozenset[str], frozenset[str]], None] = {}
    for operator in graph.operators:
        for maker in graph.predecessors(operator):
            pair = home[maker.name], home[operator.name]
            if pair[0] is not pair[1]:
                found[pair] = None
    return list(found)


def _blocks(graph: OperatorGraph, groups: Sequence[frozenset[str]]) -> tuple[Block, ...]:
    members = [tuple(operator for operator in graph.operators if operator.name in group) for group in groups]
    blocks = [Block(each, _worst(each)) for each in members]
    return tuple(sorted(blocks, key=lambda block: graph.position[block.operators[0].name]))


def _worst(operators: Sequence[Operator]) -> MappingType:
    return max((operator.mapping for operator in operators), key=lambda mapping: mapping.complexity)
