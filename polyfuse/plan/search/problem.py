"""A network on an accelerator as a problem of the search.

Graph ──dag_of()──> Dag        Graph + Accelerator ──problem_of()──> Problem
"""

from collections.abc import Sequence

from polyfuse.machines.accelerator import Accelerator
from polyfuse.plan.graph.operations import Graph
from polyfuse.plan.memory.addresses import aligned_up
from polyfuse.plan.price.candidates import USUAL_KINDS, TileKind
from polyfuse.plan.price.costs import Sinks, Sources
from polyfuse.plan.price.objective import Objective
from polyfuse.plan.price.options import Option, options
from polyfuse.plan.price.space import TRIED_TILES
from polyfuse.plan.search.choices import Fetch, Problem
from polyfuse.plan.search.ideals import Dag
from polyfuse.plan.search.tiling import Tilings


def dag_of(graph: Graph) -> Dag:
    """The operations of a graph, and the tensors between them. Tensors that nothing reads count as outputs."""
    unread = {operation.output for operation in graph.operations if not graph.readers(operation.output)}
    return Dag(
        tuple(operation.name for operation in graph.operations),
        tuple(operation.reads for operation in graph.operations),
        tuple(operation.output for operation in graph.operations),
        frozenset(graph.outputs) | unread,
    )


def fetch_of(machine: Accelerator, size: int) -> Fetch:
    """The cost of loading so many bytes in one transfer."""
    energy = size * (machine.offchip.pj_per_byte + machine.onchip.pj_per_byte)
    return Fetch(size, machine.transfer_cycles(size), energy)


def problem_of(
    graph: Graph, machine: Accelerator, kinds: Sequence[TileKind] = USUAL_KINDS, objective: Objective | None = None
) -> Problem:
    """Whole tensors and options of a graph on a machine, at any capacity, with some kinds of tiles.

    objective: for which all other tiles are priced or bounded where needed; without one they are not.
    """
    dag = dag_of(graph)
    sizes = {name: graph.tensors[name].bytes for name in dag.tensors}

    def found(group: tuple[str, ...], sources: Sources, sinks: Sinks) -> Sequence[Option]:
        return options(graph, group, sources, sinks, machine, kinds)

    return Problem(
        dag,
        {name: aligned_up(size, machine.alignment_bytes) for name, size in sizes.items()},
        {name: fetch_of(machine, size) for name, size in sizes.items()},
        found,
        machine.alignment_bytes,
        machine.offchip_writable,
        Tilings(graph, machine, objective, tuple(kinds)) if objective is not None else None,
        TRIED_TILES,
    )
