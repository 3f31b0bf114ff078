"""What `polyfuse tune` measured, in plans: each group of a plan takes the strategy that was found fastest for it.

    Plan + Network + what is kept ──with_tuned()──> Plan

A group was tuned as a network of its own, with inputs and outputs in blocks of channels, as they lie inside a network.
A whole network that was tuned, with its own layout, is one group.
"""

from dataclasses import replace

from polyfuse.codegen.lower.selection import Interface
from polyfuse.deploy.plan import HostGroup, Plan
from polyfuse.deploy.settings import Settings
from polyfuse.deploy.tuned import MeasuredChoice, key_of, read_tuned
from polyfuse.network.network import Network
from polyfuse.schedule.written import written

INSIDE: Interface = "blocked"
"""How the tensors between groups lie."""


def with_tuned(plan: Plan, network: Network, settings: Settings) -> Plan:
    """The plan with every group that was tuned here as it was found fastest; the plan where none was.

    A whole network of more layers than a group may have is not one.

    Errors: BuildError without a compiler; InvalidInput for a tuned file that cannot be read.
    """
    known = {entry.key: entry.best for entry in read_tuned()}
    if not known:
        return plan

    def best(part: Network, interface: Interface) -> MeasuredChoice | None:
        return known.get(key_of(part, replace(settings, interface=interface, exact=plan.arithmetic == "exact")))

    layers = tuple(name for group in plan.groups for name in group.layers)
    whole = best(network, plan.interface) if len(layers) <= settings.longest else None
    if whole is not None:
        return replace(plan, groups=(as_tuned(layers, whole),), algorithms=dict(whole.algorithms)).sealed()
    groups, algorithms = [], dict(plan.algorithms)
    for group in plan.groups:
        found = best(network.select(group.layers), INSIDE)
        groups.append(group if found is None else as_tuned(group.layers, found))
        algorithms |= found.algorithms if found is not None else {}
    return replace(plan, groups=tuple(groups), algorithms=algorithms).sealed()


def as_tuned(layers: tuple[str, ...], found: MeasuredChoice) -> HostGroup:
    """The group of some layers as it was found fastest; its price is what was measured."""
    return HostGroup(layers=layers, **written(found.choice.strategy), price=found.seconds, tuned=True)
