"""Ways to run a group on a machine: tiles with their costs, and of these the ones that no other beats in everything.

`Graph` + names + sources + sinks + `Accelerator` ──options()──> `Option`s
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import cast

import numpy as np
from numpy.typing import NDArray

from polyfuse.errors import InvalidInput
from polyfuse.machines.accelerator import Accelerator
from polyfuse.plan.graph.access import Integers
from polyfuse.plan.graph.group import OperationGroup, group_of
from polyfuse.plan.graph.operations import Graph
from polyfuse.plan.price.candidates import CANDIDATES, USUAL_KINDS, TileKind
from polyfuse.plan.price.costs import Cost, CostTable, Sinks, Sources, tiled_group
from polyfuse.plan.price.objective import Objective
from polyfuse.plan.tiles.tables import Tile, check_tile


@dataclass(frozen=True)
class Option:
    """A way to run a group: its tile, where its inputs are and its outputs go, and its cost.

    workspace      bytes on chip while it runs, without tensors that are on chip as a whole: `ring_<tensor>`,
                   `weights_<operation>`, `scratch`
    load_bytes     feature maps loaded; store_bytes: stored; weight_bytes: weights loaded
    cycles         from the first transfer to the last
    macs_executed  multiply-accumulates, those that are repeated included
    """

    group: tuple[str, ...]
    tile: Tile
    sources: Sources
    sinks: Sinks
    workspace: Mapping[str, int]
    workspace_bytes: int
    load_bytes: int
    store_bytes: int
    weight_bytes: int
    cycles: float
    macs_executed: int
    energy_pj: float

    @property
    def offchip_bytes(self) -> int:
        """All bytes moved between the memories."""
        return self.load_bytes + self.store_bytes + self.weight_bytes

    def price(self, objective: Objective) -> int:
        """Its price for an objective."""
        return objective.price(self.cycles, self.offchip_bytes, self.energy_pj, self.macs_executed)


def options(
    graph: Graph,
    group: Sequence[str],
    sources: Sources,
    sinks: Sinks,
    machine: Accelerator,
    kinds: Sequence[TileKind] = USUAL_KINDS,
) -> tuple[Option, ...]:
    """The options of a group that no other beats in workspace, bytes, cycles, multiply-accumulates and energy.

    sources: each tensor that the group reads and does not make, `on` chip as a whole or `off`; sinks: each that others
    read or want, left `on` chip, `off`, or `both`; kinds: of the tiles that are tried, as in candidates.py. None
    depends on the machine's capacity; few may fit in it.
    Errors: InvalidInput for sources and sinks that are not those of the group, and types the machine does not know.

    >>> from polyfuse.network.network import Builder
    >>> from polyfuse.machines.accelerator import accelerator
    >>> from polyfuse.plan.graph.operations import graph_of
    >>> build = Builder("two")
    >>> x = build.input("x", (1, 16, 32, 32))
    >>> y = build.conv("b", build.conv("a", x, 16, kernel=3, bias=False), 16, kernel=3, bias=False)
    >>> graph = graph_of(build.network(y), "int8")
    >>> found = options(graph, ("a", "b"), {"x": "off"}, {"b_out": "off"}, accelerator("npu"))
    >>> {option.offchip_bytes for option in found if option.tile.weights == "resident" and not option.tile.columns}
    {33536}
    """
    pricer = pricer_of(graph, machine.with_capacity(1))
    return pricer.options(tuple(group), sources, sinks, tuple(kinds))


def option_of(
    graph: Graph, group: Sequence[str], tile: Tile, sources: Sources, sinks: Sinks, machine: Accelerator
) -> Option:
    """The option of one tile, whether others beat it or not.

    Errors: InvalidInput as `options` and `tables`, for sums that the machine has no room for, and for outputs that are
    made again while they are stored from their pins.
    """
    wanted = group_of(graph, group)
    check_tile(wanted, tile)
    check_ends(wanted, sources, sinks)
    table = CostTable.of([tiled_group(wanted, tile, [tile.rows], machine)])
    sums = int(table.scratch_bytes[0])
    if 0 < machine.accumulator_bytes < sums:
        raise InvalidInput(
            f"group {', '.join(group)}: expected sums of at most {machine.accumulator_bytes:,} B, the accumulators of "
            f"machine {machine.name!r}, got {sums:,} B; make the tile smaller"
        )
    if not table.can_run(sinks)[0]:
        names = ", ".join(table.made_again(sinks))
        raise InvalidInput(
            f"group {', '.join(group)}: expected each element of {names} to be made once, since it is left on chip and "
            "stored while steps compute, got some made again; keep it, or leave it off chip alone"
        )
    return priced(tuple(group), table, sources, sinks, table.cost(sources, sinks), 0)


def check_ends(group: OperationGroup, sources: Sources, sinks: Sinks) -> None:
    """Refuse sources and sinks that are not those of a group.

    Errors: InvalidInput.
    """
    where = f"group {', '.join(operation.name for operation in group.operations)}"
    given: tuple[tuple[str, tuple[str, ...], Mapping[str, str], tuple[str, ...]], ...] = (
        ("sources", group.inputs, sources, ("on", "off")),
        ("sinks", group.outputs, sinks, ("on", "off", "both")),
    )
    for what, tensors, places, known in given:
        if set(places) != set(tensors) or not set(places.values()) <= set(known):
            raise InvalidInput(
                f"{where}: expected {what} of {', '.join(tensors)}, each {' or '.join(known)}, got {dict(places)}; "
                "correct them"
            )


def priced(names: tuple[str, ...], table: CostTable, sources: Sources, sinks: Sinks, cost: Cost, k: int) -> Option:
    """The option of the k-th tile of a table."""
    return Option(
        names,
        table.tile(k),
        sources,
        sinks,
        table.buffers(k, sources, sinks),
        int(cost.workspace_bytes[k]),
        int(cost.load_bytes[k]),
        int(cost.store_bytes[k]),
        int(cost.weight_bytes[k]),
        float(cost.cycles[k]),
        int(cost.macs[k]),
        float(cost.energy_pj[k]),
    )


@lru_cache(maxsize=16)
def pricer_of(graph: Graph, machine: Accelerator) -> "Pricer":
    """The pricer of a graph on a machine, made once."""
    return Pricer(graph, machine)


@dataclass(frozen=True, eq=False)
class Pricer:
    """Options of the groups of a graph; groups that are equal but for names are priced once."""

    graph: Graph
    machine: Accelerator
    groups: dict[tuple[str, ...], OperationGroup] = field(default_factory=dict)
    models: dict[tuple[object, ...], OperationGroup] = field(default_factory=dict)
    tables: dict[tuple[OperationGroup, tuple[TileKind, ...]], CostTable] = field(default_factory=dict)
    found: dict[tuple[object, ...], tuple[Option, ...]] = field(default_factory=dict)

    def options(
        self, names: tuple[str, ...], sources: Sources, sinks: Sinks, kinds: tuple[TileKind, ...]
    ) -> tuple[Option, ...]:
        """The options of a group; see `options`."""
        if names not in self.groups:
            self.groups[names] = group_of(self.graph, names)
        group = self.groups[names]
        check_ends(group, sources, sinks)
        sources, sinks = dict(sources), dict(sinks)
        model = self.models.setdefault(signature(group), group)
        places = tuple(sources.get(name, "") for name in group.inputs), tuple(sinks[name] for name in group.outputs)
        key = (model, places, kinds)
        if key not in self.found:
            modelled_sources = dict(zip(model.inputs, places[0], strict=True))
            modelled_sinks = dict(zip(model.outputs, places[1], strict=True))
            self.found[key] = self.best(model, cast(Sources, modelled_sources), modelled_sinks, kinds)
        return tuple(renamed(option, model, group, sources, sinks) for option in self.found[key])

    def best(
        self, group: OperationGroup, sources: Sources, sinks: Sinks, kinds: tuple[TileKind, ...]
    ) -> tuple[Option, ...]:
        """The options that no other beats."""
        names = tuple(operation.name for operation in group.operations)
        if (group, kinds) not in self.tables:
            tiled = [tiled for kind in kinds for tiled in CANDIDATES[kind](group, self.machine)]
            if not tiled:
                return ()
            self.tables[group, kinds] = CostTable.of(tiled)
        table = self.tables[group, kinds]
        cost, fits = table.cost(sources, sinks), table.can_run(sinks)
        table.forget_steps()
        terms = np.stack([cost.workspace_bytes, cost.offchip_bytes, cost.cycles, cost.macs, cost.energy_pj], axis=1)
        fitting = np.flatnonzero(fits)
        best = fitting[unbeaten(terms[fitting])]
        return tuple(priced(names, table, sources, sinks, cost, int(index)) for index in best)


def signature(group: OperationGroup) -> tuple[object, ...]:
    """All that the costs of a group depend on, without names."""
    number = {name: k for k, name in enumerate(group.links)}
    tensors = tuple((info.shape, info.dtype) for info in map(group.graph.tensors.__getitem__, group.links))
    operations = tuple(
        (
            group.analysis.tables[operation.name].key,
            tuple(
                (number[part.tensor], part.channels, part.offset) for operand in operation.operands for part in operand
            ),
            tuple(len(operand) for operand in operation.operands),
            number[operation.output],
            operation.weight_bytes,
        )
        for operation in group.operations
    )
    return tensors, operations, tuple(number[name] for name in group.outputs)


def renamed(option: Option, model: OperationGroup, group: OperationGroup, sources: Sources, sinks: Sinks) -> Option:
    """The option of a group that is equal to its model but for names."""
    if model is group:
        return option
    tensors = dict(zip(model.links, group.links, strict=True))
    buffers = {"scratch": "scratch"} | {f"ring_{old}": f"ring_{new}" for old, new in tensors.items()}
    for old, new in zip(model.operations, group.operations, strict=True):
        buffers[f"weights_{old.name}"] = f"weights_{new.name}"
    retention = {tensors[name]: places for name, places in option.tile.retention.items()}
    return replace(
        option,
        group=tuple(operation.name for operation in group.operations),
        tile=replace(option.tile, retention=retention) if retention else option.tile,
        sources=sources,
        sinks=sinks,
        workspace={buffers[name]: size for name, size in option.workspace.items()},
    )


def unbeaten(terms: NDArray[np.float64]) -> Integers:
    """The rows of which no other is as small in every column, from the smallest in the first one; of equal ones one."""
    terms = terms[(order := np.lexsort(terms.T[::-1]))]
    smaller = np.logical_and.reduce([column[:, None] <= column[None, :] for column in terms.T])
    beaten = np.triu(smaller, 1).any(axis=0)
    return np.asarray(order[~beaten])
