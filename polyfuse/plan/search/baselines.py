"""The ways of planning that a joint plan is compared with: the same search with less to choose from.

    layers                  every operation by itself, nothing on chip between them
    fuse_weak               groups of one output, weights resident, halos recomputed; nothing on chip between them
    fuse_strong             any groups and tiles; nothing on chip between them
    pin                     every operation by itself, tensors kept on chip between them
    fuse_then_pin           the groups and tiles of fuse_strong, then tensors kept on chip between them
    fuse_then_pin_retiled   the groups of fuse_strong, then tiles and tensors kept on chip
    joint                   everything at once

An operation by itself may be tiled in any way everywhere, as it may in `layers`; so each is no worse than `layers`, and
`joint` is no worse than any.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

from polyfuse.choices import LONGEST
from polyfuse.machines.accelerator import Accelerator
from polyfuse.plan.graph.group import group_of
from polyfuse.plan.graph.operations import Graph
from polyfuse.plan.price.candidates import KINDS, USUAL_KINDS
from polyfuse.plan.price.costs import Sinks, Sources
from polyfuse.plan.price.objective import Objective
from polyfuse.plan.price.options import Option, option_of, options
from polyfuse.plan.search.choices import Problem
from polyfuse.plan.search.ideals import lattice
from polyfuse.plan.search.problem import problem_of
from polyfuse.plan.search.program import Found, Searcher
from polyfuse.plan.search.walk import Rules
from polyfuse.plan.tiles.tables import Tile
from polyfuse.progress import Progress

Names = tuple[str, ...]
Baseline = Literal["layers", "fuse_weak", "fuse_strong", "pin", "fuse_then_pin", "fuse_then_pin_retiled", "joint"]

NAMES: tuple[Baseline, ...] = get_args(Baseline)


class Baselines:
    """The restricted searches of one network on one machine, which share what is priced.

    For the goals `peak` and `macs` tiles of least memory are tried, too.
    """

    def __init__(
        self,
        graph: Graph,
        machine: Accelerator,
        objective: Objective,
        longest: int = LONGEST,
        progress: Progress | None = None,
    ) -> None:
        self.graph, self.machine, self.objective = graph, machine, objective
        kinds = KINDS if objective.goal in ("macs", "peak") else USUAL_KINDS
        self.problem = problem_of(graph, machine, kinds, objective)
        self.lattice = lattice(self.problem.dag, longest)
        if progress is not None:
            self.problem = reporting(self.problem, len(self.lattice.groups), progress)
        self.joint = Searcher(self.problem, objective, self.lattice)
        self._weak = Searcher(replace(self.problem, options=self._weak_options, tilings=None), objective, self.lattice)

    def found(self, name: Baseline, capacity_bytes: int) -> Found:
        """The cheapest plan in one way of planning. Errors: DoesNotFit."""
        alone = Rules(allowed=lambda group: len(group) == 1)
        match name:
            case "layers":
                return self.joint.found(capacity_bytes, replace(alone, pins=False), close=False)
            case "fuse_weak":
                return self._weak.found(capacity_bytes, Rules(pins=False))
            case "fuse_strong":
                return self.joint.found(capacity_bytes, Rules(pins=False), close=False)
            case "pin":
                return self.joint.found(capacity_bytes, alone, close=False)
            case "fuse_then_pin" | "fuse_then_pin_retiled":
                return self._afterwards(capacity_bytes, keep_tiles=name == "fuse_then_pin")
            case "joint":
                return self.joint.found(capacity_bytes)

    def _afterwards(self, capacity_bytes: int, keep_tiles: bool) -> Found:
        """Pins for groups that were chosen without pins."""
        tiles = {step.option.group: step.option.tile for step in self.found("fuse_strong", capacity_bytes).steps}
        rules = Rules(allowed=tiles.__contains__)
        if not keep_tiles:
            return self.joint.found(capacity_bytes, rules, close=False)

        def kept(group: Names, sources: Sources, sinks: Sinks) -> Sequence[Option]:
            return [option_of(self.graph, group, tiles[group], sources, sinks, self.machine)]

        return Searcher(replace(self.problem, options=kept, tilings=None), self.objective, self.lattice).found(
            capacity_bytes, rules
        )

    def _weak_options(self, group: Names, sources: Sources, sinks: Sinks) -> Sequence[Option]:
        """All options of single operations; of several with one output, those of one step or with recomputed halos."""
        if len(group) == 1:
            return self.problem.options(group, sources, sinks)
        if len(sinks) > 1:
            return ()
        reference = group_of(self.graph, group).reference
        whole = Tile(self.graph.tensors[reference].shape[2])
        return (
            option_of(self.graph, group, whole, sources, sinks, self.machine),
            *options(self.graph, group, sources, sinks, self.machine, kinds=("recompute",)),
        )


def reporting(problem: Problem, groups: int, progress: Progress) -> Problem:
    """A problem that reports how many of its groups are priced."""
    seen: set[Names] = set()

    def options_of(group: Names, sources: Sources, sinks: Sinks) -> Sequence[Option]:
        if group not in seen:
            seen.add(group)
            progress("planning", len(seen), groups)
        return problem.options(group, sources, sinks)

    return replace(problem, options=options_of)
