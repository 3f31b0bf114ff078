"""The tiles of the groups of a graph for one objective: those that are tried, bounds of the others, or all of them.

`Graph` + `Accelerator` + `Objective` ──Tilings──> options, and bounds of the tiles that are not priced
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np

from polyfuse.machines.accelerator import Accelerator
from polyfuse.plan.graph.group import OperationGroup
from polyfuse.plan.graph.operations import Graph
from polyfuse.plan.price.bounds import GroupBounds
from polyfuse.plan.price.candidates import TileKind
from polyfuse.plan.price.compulsory import BoundPoint, compulsory
from polyfuse.plan.price.costs import Sinks, Sources
from polyfuse.plan.price.objective import Objective, asked
from polyfuse.plan.price.options import Option, Pricer, priced, pricer_of, renamed, signature
from polyfuse.plan.search.covering import Covered, Front, TileSpace, cover


@dataclass(frozen=True, eq=False)
class Tiled:
    """Options, bounds of the tiles that are not priced, and the effort that was spent, as covering.py counts it.

    model: equal where groups are equal but for names.
    """

    options: tuple[Option, ...]
    bounds_left: tuple[BoundPoint, ...]
    effort: int
    model: tuple[object, ...]


@dataclass(frozen=True, eq=False)
class Tilings:
    """Tiles of a graph's groups; groups that are equal but for names are looked at once."""

    graph: Graph
    machine: Accelerator
    objective: Objective
    kinds: tuple[TileKind, ...]
    models: dict[OperationGroup, TileSpace] = field(default_factory=dict)
    known: dict[tuple[object, ...], Tiled] = field(default_factory=dict)
    points: dict[tuple[object, ...], tuple[BoundPoint, ...]] = field(default_factory=dict)

    @property
    def pricer(self) -> Pricer:
        """The prices of the graph's groups."""
        return pricer_of(self.graph, self.machine.with_capacity(1))

    def compulsory(self, names: tuple[str, ...], sources: Sources, sinks: Sinks) -> tuple[BoundPoint, ...]:
        """Bounds of any tile of a group."""
        _, _, key, bounds, model = self._modelled(names, sources, sinks, self.objective)
        if key not in self.points:
            self.points[key] = compulsory(bounds, model.loads)
        return self.points[key]

    def covered(
        self, names: tuple[str, ...], sources: Sources, sinks: Sinks, room: int, most_effort: int, peak: bool = False
    ) -> Tiled:
        """More options of a group, so that no tile with a workspace of at most `room` bytes is better than all known.

        Where that takes more than `most_effort`, bounds of the tiles left. peak: where workspace alone counts.
        """
        objective = Objective("peak") if peak else self.objective
        group, modelled, place, bounds, model = self._modelled(names, sources, sinks, objective)
        key = (*place, objective, room, most_effort)
        if key not in self.known:
            self.known[key] = self._cover(modelled, bounds, model, room, most_effort, key)
        found = self.known[key]
        options = tuple(renamed(option, modelled, group, dict(sources), dict(sinks)) for option in found.options)
        return replace(found, options=options)

    def _modelled(
        self, names: tuple[str, ...], sources: Sources, sinks: Sinks, objective: Objective
    ) -> tuple[OperationGroup, OperationGroup, tuple[object, ...], GroupBounds, TileSpace]:
        pricer = self.pricer
        pricer.options(names, sources, sinks, self.kinds)
        group = pricer.groups[names]
        modelled = pricer.models[signature(group)]
        on = tuple(sources[name] for name in group.inputs), tuple(sinks[name] for name in group.outputs)
        model = self.models.setdefault(modelled, TileSpace(modelled, pricer.machine))
        bounds = GroupBounds(
            modelled,
            pricer.machine,
            objective,
            cast(Sources, dict(zip(modelled.inputs, on[0], strict=True))),
            cast(Sinks, dict(zip(modelled.outputs, on[1], strict=True))),
        )
        return group, modelled, (modelled, *on), bounds, model

    def _cover(
        self,
        group: OperationGroup,
        bounds: GroupBounds,
        model: TileSpace,
        room: int,
        most_effort: int,
        key: tuple[object, ...],
    ) -> Tiled:
        names = tuple(operation.name for operation in group.operations)
        tried = self.pricer.options(names, bounds.sources, bounds.sinks, self.kinds)
        found = cover(model, bounds, front_of(tried, bounds.objective), room, most_effort)
        bounds_left = found.bounds_left if found.whole else compulsory(bounds, model.loads)
        return Tiled(best_of(names, bounds, found), bounds_left, found.effort, key)


def front_of(options: Sequence[Option], objective: Objective) -> Front:
    """The front of some options; for the goal `peak` workspace alone counts."""
    peak = objective.goal == "peak"
    sizes = np.array([option.workspace_bytes for option in options], np.int64)
    return Front.of(sizes, np.array([0 if peak else asked(option.price(objective)) for option in options], np.int64))


def best_of(names: tuple[str, ...], bounds: GroupBounds, found: Covered) -> tuple[Option, ...]:
    """The options among priced tiles that no other beats."""
    best: list[Option] = []
    for table, cost in found.tables:
        can_run = table.can_run(bounds.sinks)
        wanted = bounds.asked(cost.cycles, cost.offchip_bytes, cost.energy_pj, cost.macs)
        order = np.lexsort((wanted, cost.workspace_bytes))
        least: int | None = None
        for index in order.tolist():
            if not can_run[index] or (least is not None and wanted[index] >= least):
                continue
            least = int(wanted[index])
            best.append(priced(names, table, bounds.sources, bounds.sinks, cost, index))
    return tuple(best)
