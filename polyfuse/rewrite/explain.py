"""What rewriting and fusing make of a network, as one value to print or to write as JSON.

Enters: a `Network`, who decides where the table only says "if it pays", and a size of on-chip memory. Leaves: an
`Explanation`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from polyfuse.doors import public
from polyfuse.network.network import Network
from polyfuse.rewrite.beyond import groups_beyond
from polyfuse.rewrite.counting import operations
from polyfuse.rewrite.fusion import Block, Operator, Profitable, always, by_traffic, fusion_plan, never, operators_of
from polyfuse.rewrite.price import offchip_price
from polyfuse.rewrite.rewriting import Applied, NearMiss, rewrite

FORMAT = "polyfuse-explanation"
VERSION = 1


@dataclass(frozen=True)
class Sizes:
    """A network in numbers: its layers, their arithmetic operations, and the groups of the published plan.

    refused_groups, accepted_groups: with every Y of the table refused and with every Y accepted.
    """

    layers: int
    operations: int
    refused_groups: int
    accepted_groups: int


@dataclass(frozen=True)
class Group:
    """Layers that run as one: their names, kinds and mapping types; `blocks` of the plan that were joined into it.

    bytes_apart, bytes_together: moved off-chip by the layers one by one, and by the group row by row.
    """

    layers: tuple[str, ...]
    kinds: tuple[str, ...]
    types: tuple[str, ...]
    mapping: str
    blocks: int
    bytes_apart: int
    bytes_together: int


@public
@dataclass(frozen=True)
class Explanation:
    """What was applied, what nearly was, and the groups; `planned_groups` is how many the plan itself makes."""

    workload: str
    onchip_bytes: int
    before: Sizes
    after: Sizes
    applied: tuple[Applied, ...]
    near_misses: tuple[NearMiss, ...]
    planned_groups: int
    groups: tuple[Group, ...]


Decide = Callable[[Network], Profitable]
"""Who decides a Y of the table, for the layers of a network."""


def by_model(network: Network) -> Profitable:
    """The model of traffic, which measures nothing."""
    return by_traffic


def explain(
    network: Network, *, decide: Decide = by_model, conv_to_pool: bool = False, onchip_bytes: int = 1 << 20
) -> Explanation:
    """Rewrite a network, plan its groups as published, and join them as far as that saves off-chip bytes.

    Errors: TooComplex, InvalidInput for symbolic sizes; those of `decide`.
    """
    found = rewrite(network)
    operators = operators_of(found.network)
    planned = fusion_plan(operators, decide(found.network), conv_to_pool)
    price = offchip_price(found.network, onchip_bytes)
    joined = groups_beyond(operators, planned, price)
    groups = []
    for block in joined:
        apart = sum(price(frozenset([name])) for name in block.names)
        together = price(frozenset(block.names))
        groups.append(_group(block, planned, int(apart), int(together)))
    return Explanation(
        network.name,
        onchip_bytes,
        _sizes(network, operators_of(network)),
        _sizes(found.network, operators),
        found.applied,
        found.near_misses,
        len(planned),
        tuple(groups),
    )


def _sizes(network: Network, operators: Sequence[Operator]) -> Sizes:
    refused, accepted = (len(fusion_plan(operators, decide)) for decide in (never, always))
    return Sizes(len(network.layers), sum(map(operations, network.layers)), refused, accepted)


def _group(block: Block, planned: Sequence[Block], apart: int, together: int) -> Group:
    return Group(
        block.names,
        tuple(operator.kind for operator in block.operators),
        tuple(operator.mapping.value for operator in block.operators),
        block.mapping.value,
        sum(set(each.names) <= set(block.names) for each in planned),
        apart,
        together,
    )
