"""A network planned for a scratchpad machine: searched, given addresses, compared with the baselines, certified.

    Network + Accelerator ──plan_for()──> ScratchPlan

No plan leaves without addresses. Where those of the cheapest plan are not found, the search runs again below its peak,
and the certificate says how far what is found is from the cheapest plan by capacity alone, which bounds all others.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from polyfuse.choices import LONGEST
from polyfuse.errors import DoesNotFit, InvalidInput
from polyfuse.machines.accelerator import Accelerator
from polyfuse.network.network import Network
from polyfuse.plan.claims import certificate_of, closeness
from polyfuse.plan.graph.group import graph_digest
from polyfuse.plan.graph.operations import Graph, graph_of
from polyfuse.plan.memory.addresses import Allocation, Lived, Packing, aligned_up
from polyfuse.plan.price.costs import Sinks, Sources
from polyfuse.plan.price.early import Moments, best_moments
from polyfuse.plan.price.objective import Objective, asked, figure
from polyfuse.plan.price.options import Option
from polyfuse.plan.price.space import ALL_TILES
from polyfuse.plan.price.timeline import timed
from polyfuse.plan.scratchplan import Certificate, OffchipBytes, Pin, PlannedGroup, ScratchPlan, Totals, value_of
from polyfuse.plan.search.baselines import NAMES, Baseline, Baselines
from polyfuse.plan.search.choices import ChosenGroup, Problem
from polyfuse.plan.search.pins import placed_plan
from polyfuse.plan.search.program import Found
from polyfuse.progress import Progress
from polyfuse.schedule.counts import macs_of

LATENCY = Objective()
MOST_RETRIES = 50
EXACT_EFFORT = 4_000_000
"""Effort for all tiles of one key, as covering.py counts it, before the exact model is asked."""


def plan_for(
    network: Network | Graph,
    machine: Accelerator,
    *,
    objective: Objective = LATENCY,
    dtype: str | None = None,
    longest: int = LONGEST,
    baselines: bool = False,
    early: bool = False,
    external: bool = True,
    ways: "Ways | None" = None,
) -> ScratchPlan:
    """The cheapest plan of a network on a machine; `ways` from an earlier call remembers the options it priced.

    dtype: the type it is priced in, where it is not that of the network. longest: operations of the longest group.
    baselines: whether to search those of `polyfuse.plan.search.baselines` too, for their totals.
    early: whether weights may be prefetched while the group before runs, once groups are chosen.
    external: whether tensors between layers may be stored off chip; on a machine whose off-chip memory cannot be
    written they never are. With `ways` of a machine whose off-chip memory can be written it is not given.

    Errors: DoesNotFit, naming layers and the smallest capacity that would do; InvalidInput for a type without rates,
    and for `external=False` with `ways` of a machine whose off-chip memory can be written.
    """
    if not external:
        machine = machine.memory_alone()
    if ways is not None and ways.machine.offchip_writable != machine.offchip_writable:
        raise InvalidInput(
            f"plan of {ways.graph.network.name!r}: expected ways of a machine whose off-chip memory is used alike, got "
            f"those of {ways.machine.name!r}; make them of machine.memory_alone(), or leave them out"
        )
    if ways is None:
        ways = ways_of(network, machine, objective=objective, dtype=dtype, longest=longest)
    return ways.plan(machine.capacity_bytes, baselines, early=early)


def ways_of(
    network: Network | Graph,
    machine: Accelerator,
    *,
    objective: Objective = LATENCY,
    dtype: str | None = None,
    longest: int = LONGEST,
    progress: Progress | None = None,
) -> "Ways":
    """A network on a machine, for plans at several capacities; `progress` reports the groups that are priced.

    Errors: InvalidInput for a type without rates.
    """
    graph = network if isinstance(network, Graph) else graph_of(network, dtype)
    return Ways(graph, machine, Baselines(graph, machine, objective, longest, progress))


def priced_type(plan: ScratchPlan, network: Network) -> str | None:
    """The type that a network was planned in instead of its own; None where it was planned in its own."""
    own = graph_of(network)
    return None if own.tensors[own.operations[0].output].dtype == plan.dtype else plan.dtype


def graph_of_plan(plan: ScratchPlan, network: Network) -> Graph:
    """The operations of a network in the type that it was planned in."""
    return graph_of(network, priced_type(plan, network))


@dataclass(frozen=True, eq=False)
class Ways:
    """A network on a machine for an objective, at any capacity: plans at several share the options priced."""

    graph: Graph
    machine: Accelerator
    searches: Baselines

    @property
    def problem(self) -> Problem:
        """The network on the machine, as a problem of the search."""
        return self.searches.problem

    def plan(
        self, capacity_bytes: int, baselines: bool = False, way: Baseline = "joint", *, early: bool = False
    ) -> ScratchPlan:
        """The cheapest plan at a capacity, in one way of planning; `early` as in `plan_for`.

        baselines: whether a joint plan is compared with the other ways; what is planned in one of these is not.

        Errors: DoesNotFit.
        """
        machine = self.machine.with_capacity(capacity_bytes)
        found, placed = self._placed(way, capacity_bytes)
        groups, pins = written(self.problem, found.steps, *placed)
        totals = totals_of(self.graph, groups, pins, machine)
        dtype = self.graph.tensors[self.graph.operations[0].output].dtype
        compared: dict[str, Totals | None] = {}
        for name in NAMES if baselines and way == "joint" else ():
            compared[name] = totals if name == way else self._totals(name, capacity_bytes)
        certificate = self._certificate(found, totals)
        if way != "joint":
            certificate = replace(certificate, scope=f"{certificate.scope}; of these, plans as {way} makes them")
        objective = self.searches.objective
        if early and objective.goal == "latency":
            groups, pins = self._with_early(found.steps, groups, pins, machine)
            ahead = totals_of(self.graph, groups, pins, machine)
            saved = totals.latency_cycles - ahead.latency_cycles
            scope = f"{certificate.scope}; weights loaded early then save {saved:,.0f} cycles"
            totals, certificate = ahead, replace(certificate, scope=scope)
        ends = self.graph.network.ends
        return ScratchPlan(
            self.graph.network.name,
            dtype,
            machine,
            objective,
            totals,
            certificate,
            groups,
            pins,
            compared,
            inputs=ends.input_names,
            outputs=ends.output_names,
            graph=graph_digest(self.graph),
        ).sealed()

    def confirmed(self, plan: ScratchPlan, effort: float) -> ScratchPlan:
        """A plan, certified by the exact model, which shares nothing with the search but options.

        The model is asked without addresses first: a plan that has them and costs no more than that is optimal. Only
        where it does, addresses are in the model too.

        effort: the solver's deterministic limit, about seconds.
        Errors: InvalidInput for the goal `peak`, and for weights that are loaded early; TooComplex where the solver
        finds nothing within its limit.
        """
        from polyfuse.plan.search.exact import exact

        objective = plan.objective
        if any(group.early for group in plan.groups):
            raise InvalidInput(
                "exact model: expected a plan whose weights are loaded with their groups, got some that are loaded "
                "early; confirm the plan without --early"
            )
        if objective.goal == "peak":
            raise InvalidInput("exact model: expected a goal that adds up over groups, got 'peak'; name another goal")
        value, certificate = value_of(objective, plan.totals), Certificate(0.0, math.inf, "")
        problem, left = self._every_tile(plan.machine.capacity_bytes)
        for addresses in (False, True):
            found = exact(
                problem,
                plan.machine.capacity_bytes,
                objective,
                self.searches.lattice.groups,
                addresses=addresses,
                effort=effort,
            )
            lower = objective.value(found.lower) if found is not None else 0.0
            what = "groups, order, pins and addresses" if addresses else "groups, order and pins"
            scope = f"{self.searches.joint.scope}; {ALL_TILES}; confirmed by an exact model of {what}"
            if left:
                scope = f"{scope}, of the tiles that were priced"
                lower = min(lower, plan.certificate.lower_bound)
            if found is not None and found.optimal and math.isclose(lower, value, rel_tol=closeness(objective)):
                return replace(plan, certificate=Certificate(value, 0.0, scope)).sealed()
            certificate = certificate_of(objective, value, lower, scope)
        return replace(plan, certificate=certificate).sealed()

    def _every_tile(self, capacity_bytes: int) -> tuple[Problem, list[tuple[str, ...]]]:
        """The problem with all tiles that are not beaten, and the groups some of whose tiles were not priced."""
        tilings, left = self.problem.tilings, list[tuple[str, ...]]()
        assert tilings is not None

        def options_of(names: tuple[str, ...], sources: Sources, sinks: Sinks) -> Sequence[Option]:
            tiled = tilings.covered(names, sources, sinks, capacity_bytes, EXACT_EFFORT)
            if tiled.bounds_left:
                left.append(names)
            return (*self.problem.options(names, sources, sinks), *tiled.options)

        return replace(self.problem, options=options_of), left

    def _placed(self, way: Baseline, capacity_bytes: int) -> tuple[Found, tuple[tuple[Lived, ...], Packing]]:
        """The cheapest plan whose addresses are found; its lower bound is that of the cheapest plan of all."""
        found = best = self.searches.found(way, capacity_bytes)
        for _ in range(MOST_RETRIES):
            placed = placed_plan(self.problem, found.steps, capacity_bytes)
            if placed is not None:
                return replace(found, lower=min(best.lower, found.lower)), placed
            found = self.searches.found(way, found.peak_bytes - self.problem.alignment_bytes)
        raise DoesNotFit(
            f"network {self.graph.network.name!r}: expected addresses within {capacity_bytes:,} B, found none for "
            f"{MOST_RETRIES} plans that fit by size; give the machine more memory on chip"
        )

    def _with_early(
        self, steps: Sequence[ChosenGroup], groups: Sequence[PlannedGroup], pins: Sequence[Pin], machine: Accelerator
    ) -> tuple[tuple[PlannedGroup, ...], tuple[Pin, ...]]:
        """The groups and pins of a plan with prefetched weights, where that saves cycles and memory is free."""
        capacity, held = machine.capacity_bytes, [self.problem.held_bytes(step) for step in steps]

        def fits(moments: Sequence[Moments]) -> bool:
            for index, each in enumerate(moments):
                sizes = [steps[index].option.workspace[f"weights_{name}"] for name in each]
                more = sum(aligned_up(size, machine.alignment_bytes) for size in sizes)
                if sizes and held[index - 1] + more > capacity:
                    return False
            return placed_plan(self.problem, steps, capacity, moments) is not None

        moments = best_moments(groups, self.graph, machine, fits)
        placed = placed_plan(self.problem, steps, capacity, moments)
        if placed is None or not any(moments):
            return tuple(groups), tuple(pins)
        moved, whole = written(self.problem, steps, *placed)
        ahead = [replace(group, early=dict(each)) for group, each in zip(moved, moments, strict=True)]
        times = timed(ahead, self.graph, machine)
        return tuple(replace(g, cycles=figure(time.cycles)) for g, time in zip(ahead, times, strict=True)), whole

    def _totals(self, way: Baseline, capacity_bytes: int) -> Totals | None:
        """The totals of one way of planning; None where it has no plan."""
        try:
            found, placed = self._placed(way, capacity_bytes)
        except DoesNotFit:
            return None
        groups, pins = written(self.problem, found.steps, *placed)
        return totals_of(self.graph, groups, pins, self.machine)

    def _certificate(self, found: Found, totals: Totals) -> Certificate:
        objective = self.searches.objective
        if objective.goal == "peak":
            least = float(found.lower_peak)
            return certificate_of(objective, float(totals.onchip_peak_bytes), least, found.scope)
        value = value_of(objective, totals)
        if asked(found.price) == asked(found.lower):
            return Certificate(value, 0.0, found.scope)
        return certificate_of(objective, value, objective.value(found.lower), found.scope)


def written(
    problem: Problem, steps: Sequence[ChosenGroup], pins: Sequence[Lived], packing: Packing
) -> tuple[tuple[PlannedGroup, ...], tuple[Pin, ...]]:
    """Steps and addresses as they are written down."""
    groups = tuple(_group(problem, index, step, packing.addresses) for index, step in enumerate(steps))
    whole = tuple(
        Pin(pin.name, pin.first, pin.last, packing.addresses[f"pin {pin.name} of {pin.first}"], pin.bytes)
        for pin in pins
    )
    return groups, whole


def _group(problem: Problem, index: int, step: ChosenGroup, addresses: Mapping[str, int]) -> PlannedGroup:
    option, fetches = step.option, [problem.fetches[tensor] for tensor in step.fetched]
    buffers = {name: Allocation(addresses[f"{name} of {index}"], size) for name, size in option.workspace.items()}
    return PlannedGroup(
        option.group,
        option.tile,
        dict(option.sources),
        dict(option.sinks),
        step.fetched,
        buffers,
        option.load_bytes + sum(fetch.bytes for fetch in fetches),
        option.store_bytes,
        option.weight_bytes,
        figure(option.cycles + sum(fetch.cycles for fetch in fetches)),
        option.macs_executed,
        figure(option.energy_pj + sum(fetch.energy_pj for fetch in fetches)),
    )


def totals_of(graph: Graph, groups: Sequence[PlannedGroup], pins: Sequence[Pin], machine: Accelerator) -> Totals:
    """The sums over groups, and the bytes of the arena that are used."""
    tops = [buffer.address + buffer.bytes for group in groups for buffer in group.buffers.values()]
    tops += [pin.address + pin.bytes for pin in pins]
    moved = sum(group.load_bytes + group.store_bytes for group in groups)
    return Totals(
        sum(group.cycles for group in groups),
        OffchipBytes(moved, sum(group.weight_bytes for group in groups)),
        aligned_up(max(tops, default=0), machine.alignment_bytes),
        macs_of(operation.layer for operation in graph.operations),
        sum(group.macs_executed for group in groups),
        sum(group.energy_pj for group in groups),
    )
