"""Rewriting a network by rules until none applies.

Enters: a `Network`. Leaves: `Rewritten`: the network that computes the same, what was applied, and what nearly was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from polyfuse.errors import InvalidInput, PolyfuseError
from polyfuse.network.dtypes import HALVES
from polyfuse.network.network import Network
from polyfuse.network.tensor import Tensor
from polyfuse.rewrite.counting import operations
from polyfuse.rewrite.graph import RewriteGraph, rewrite_graph
from polyfuse.rewrite.rule import Match, Rule
from polyfuse.rewrite.rules.catalogue import RULES

APPLICATIONS_PER_LAYER = 20
"""More than this many, and rules undo each other."""


@dataclass(frozen=True)
class Applied:
    """One application: the layers that went, those that came, and the arithmetic operations of both.

    `conditions` are the side conditions that were checked and hold.
    """

    rule: str
    law: str
    removed: tuple[str, ...]
    made: tuple[str, ...]
    conditions: tuple[str, ...]
    operations_before: int
    operations_after: int


@dataclass(frozen=True)
class NearMiss:
    """A rule whose pattern fits and whose condition does not hold: why, with numbers where there are any."""

    rule: str
    layers: tuple[str, ...]
    condition: str
    reason: str
    counterexample: str = ""


@dataclass(frozen=True, eq=False)
class Rewritten:
    """A network that computes the same as the original, and how it came about.

    `tensors` says, for every tensor of the original whose value still exists, which tensor of the network has it.
    """

    original: Network
    network: Network
    applied: tuple[Applied, ...]
    tensors: Mapping[str, Tensor]
    graph: RewriteGraph
    rules: tuple[Rule, ...]

    @cached_property
    def near_misses(self) -> tuple[NearMiss, ...]:
        """The matches of rules of which a condition does not hold; counterexamples may have to be run."""
        return _near_misses(self.graph, self.rules)


def rewrite(network: Network, rules: Sequence[Rule] = RULES) -> Rewritten:
    """The network after every rule that applies, in the order of the layers and of the rules, to a fixed point.

    Inputs stay as they are. Outputs stay in their order; a fused layer has the name of its first part, so that an
    output's name may change (`tensors` says to which). Weights are folded in float64 and rounded to float32 once.

    Errors: TooComplex; InvalidInput for a network that is stored in half or in float64.

    >>> from polyfuse.network.network import Builder
    >>> build = Builder("net")
    >>> y = build.activation("act", build.conv("conv", build.input("x", (1, 1, 4, 4)), 1, kernel=3), "relu")
    >>> found = rewrite(build.network(y))
    >>> [(each.rule, each.removed, each.made) for each in found.applied]
    [('activation-into-producer', ('conv', 'act'), ('conv',))]
    """
    if others := network.dtypes & {*HALVES, "float64"}:
        names = ", ".join(sorted(others))
        instead = ", or leave rewriting out: generate its C as it is" if "float64" in others else ""
        raise InvalidInput(f"network {network.name!r}: is stored in {names}; rewrite it before with_storage{instead}")
    graph, applied = rewrite_graph(network), list[Applied]()
    most = APPLICATIONS_PER_LAYER * len(network.layers)
    changed = True
    while changed:
        changed = False
        for name in [layer.name for layer in graph.layers]:
            while (found := _first(graph, name, rules)) is not None:
                graph, step = _applied(graph, *found)
                applied.append(step)
                changed = True
                if len(applied) > most:
                    raise PolyfuseError(
                        f"network {network.name!r}: {most} rewritings and no end; this is a polyfuse bug, please "
                        "report it"
                    )
    return Rewritten(network, graph.network(), tuple(applied), graph.tensors, graph, tuple(rules))


def _first(graph: RewriteGraph, name: str, rules: Sequence[Rule]) -> tuple[Rule, Match] | None:
    """The first rule that applies at a layer, if that is still there."""
    root = graph.by_name.get(name)
    if root is None:
        return None
    for rule in rules:
        for match in rule.matches(graph, root):
            if rule.broken(match) is None:
                return rule, match
    return None


def _applied(graph: RewriteGraph, rule: Rule, match: Match) -> tuple[RewriteGraph, Applied]:
    new = rule.replacement(match)
    step = Applied(
        rule.name,
        rule.law,
        tuple(layer.name for layer in match.matched),
        tuple(layer.name for layer in new.layers),
        tuple(condition.says for condition in rule.conditions),
        sum(map(operations, match.matched)),
        sum(map(operations, new.layers)),
    )
    return graph.replaced(match.matched, match.root, new), step


def _near_misses(graph: RewriteGraph, rules: Sequence[Rule]) -> tuple[NearMiss, ...]:
    """For each match of a rule, the first condition that does not hold."""
    found: dict[tuple[str, tuple[str, ...]], NearMiss] = {}
    for layer in graph.layers:
        for rule in rules:
            for match in rule.matches(graph, layer):
                broken = rule.broken(match)
                key = rule.name, tuple(each.name for each in match.matched)
                if broken is not None and key not in found:
                    refusal = broken.refusal(match)
                    found[key] = NearMiss(*key, broken.says, refusal.reason, refusal.counterexample)
    return tuple(found.values())
