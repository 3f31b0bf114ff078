"""What rewriting and fusing make of a network, as one value to print or to write as JSON.

    Network ──explain()──> Explanation: rules, near misses, the groups that are compiled, and those that were published

The groups are those of the plan that `polyfuse compile` makes; DNNFusion's plan, found for the same layers, stands next
to it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from polyfuse.codegen.lower.selection import Selection
from polyfuse.deploy.model import plan_of
from polyfuse.deploy.plan import Plan
from polyfuse.deploy.prices import PricedGroup
from polyfuse.deploy.settings import Settings
from polyfuse.deploy.space import scheduled_part
from polyfuse.doors import public
from polyfuse.errors import PolyfuseError
from polyfuse.network.network import Network
from polyfuse.progress import Progress
from polyfuse.rewrite.counting import operations
from polyfuse.rewrite.fusion import (
    Block,
    FusionOperator,
    Profitable,
    always,
    by_traffic,
    fusion_plan,
    never,
    operators_of,
)
from polyfuse.rewrite.mapping import MappingType
from polyfuse.rewrite.rewriting import Applied, NearMiss, rewrite
from polyfuse.schedule.counts import counts, total

FORMAT = "polyfuse-explanation"
VERSION = 2


@dataclass(frozen=True)
class NetworkSizes:
    """A network in numbers: its layers, their arithmetic operations, and the groups of the published plan.

    refused_groups, accepted_groups: with every Y of the table refused and with every Y accepted.
    """

    layers: int
    operations: int
    refused_groups: int
    accepted_groups: int


@dataclass(frozen=True)
class Published:
    """A block of the published plan: the layers, and the mapping type of the whole."""

    layers: tuple[str, ...]
    mapping: str


@dataclass(frozen=True)
class ExplainedGroup:
    """A group that is compiled: layers with their kinds and mapping types; its strategy as in a plan file.

    tile: null where layers run one by one. seconds: what the group is predicted to take; looked_at: what each other
    strategy that was tried was predicted to take, by its label, infinite where it could not be scheduled. bytes_apart,
    bytes_together: exact bytes moved off-chip by the layers one by one, and by the group. blocks: those of the
    published plan that it has layers of, by their places there.
    """

    layers: tuple[str, ...]
    kinds: tuple[str, ...]
    types: tuple[str, ...]
    mapping: str
    tile: tuple[int, ...] | None
    others: tuple[str, ...]
    retention: dict[str, tuple[str, ...]]
    seconds: float
    looked_at: dict[str, float]
    bytes_apart: int
    bytes_together: int
    blocks: tuple[int, ...]


@public
@dataclass(frozen=True)
class Explanation:
    """What was applied, what nearly was, the groups that are compiled, and the blocks of the published plan.

    unplanned: why nothing can be compiled for this host, where there are no groups; else empty.
    """

    workload: str
    before: NetworkSizes
    after: NetworkSizes
    applied: tuple[Applied, ...]
    near_misses: tuple[NearMiss, ...]
    groups: tuple[ExplainedGroup, ...]
    published: tuple[Published, ...]
    unplanned: str


Decide = Callable[[Network], Profitable]
"""Who decides a Y of the table, for the layers of a network."""


def by_model(network: Network) -> Profitable:
    """The model of traffic, which measures nothing."""
    return by_traffic


def explain(
    network: Network,
    *,
    decide: Decide = by_model,
    conv_to_pool: bool = False,
    settings: Settings | None = None,
    plan: Plan | None = None,
    progress: Progress | None = None,
) -> Explanation:
    """Rewrite a network and plan it for this host; find DNNFusion's plan of the same layers.

    `plan` is explained instead of a new one. `decide` and `conv_to_pool` are for the published plan alone: who decides
    where its table only says "if it pays", and whether pooling may join the convolution before it.

    Errors: TooComplex, InvalidInput for symbolic sizes and for a plan of another network; those of `decide`.
    """
    found = rewrite(network)
    operators = operators_of(found.network)
    published = fusion_plan(operators, decide(found.network), conv_to_pool)
    groups, reason = explained(found.network, operators, published, settings or Settings(), plan, progress)
    return Explanation(
        network.name,
        _sizes(network, operators_of(network)),
        _sizes(found.network, operators),
        found.applied,
        found.near_misses,
        groups,
        tuple(Published(block.names, block.mapping.value) for block in published),
        reason,
    )


def explained(
    network: Network,
    operators: Sequence[FusionOperator],
    published: Sequence[Block],
    settings: Settings,
    plan: Plan | None,
    progress: Progress | None,
) -> tuple[tuple[ExplainedGroup, ...], str]:
    """The groups of a plan, and nothing more; or none, and why this host has no plan of the network."""
    if plan is not None:
        plan.grouping(network)
    try:
        ready = settings.ready
        made = plan or plan_of(network, ready, progress)
        selection = made.selection(network, ready.target)
    except PolyfuseError as error:
        if plan is not None:
            raise
        return (), str(error)
    known = {operator.name: operator for operator in operators}
    place = {name: k for k, block in enumerate(published) for name in block.names}
    groups = []
    for group in made.groups:
        members = [known[name] for name in group.layers]
        apart, together = moved(network, group.part, selection)
        groups.append(
            ExplainedGroup(
                group.layers,
                tuple(operator.kind for operator in members),
                tuple(operator.mapping.value for operator in members),
                worst(members).value,
                group.tile,
                group.others,
                group.retention,
                group.price,
                group.looked_at,
                apart,
                together,
                tuple(sorted({place[name] for name in group.layers})),
            )
        )
    return tuple(groups), ""


def moved(network: Network, part: PricedGroup, selection: Selection) -> tuple[int, int]:
    """The off-chip bytes of some layers one by one, and as the group."""
    alone = network.select(part.layers)
    apart = total(counts(each) for each in scheduled_part(alone, None, selection)).offchip_bytes
    if part.strategy is None:
        return apart, apart
    return apart, total(counts(each) for each in scheduled_part(alone, part.strategy, selection)).offchip_bytes


def worst(operators: Sequence[FusionOperator]) -> MappingType:
    """The mapping type of operators together: that of the most complex one."""
    return max((operator.mapping for operator in operators), key=lambda mapping: mapping.complexity)


def _sizes(network: Network, operators: Sequence[FusionOperator]) -> NetworkSizes:
    refused, accepted = (len(fusion_plan(operators, decide)) for decide in (never, always))
    return NetworkSizes(len(network.layers), sum(map(operations, network.layers)), refused, accepted)
