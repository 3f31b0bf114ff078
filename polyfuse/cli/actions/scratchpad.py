"""Plans for a scratchpad machine in `polyfuse compile`, `run`, `verify`, `explain`: a plan in, files and text out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console

from polyfuse.cli.actions.request import origin_of, source_asked, workload_of
from polyfuse.deploy.scratchpad import CheckedRun, Compiled, checked_run, compiled, scratch_files
from polyfuse.deploy.source import read_source
from polyfuse.files import make_folder, write_atomically
from polyfuse.network.dtypes import Values
from polyfuse.network.network import Network
from polyfuse.plan.checking import check_plan
from polyfuse.plan.planning import graph_of_plan, ways_of
from polyfuse.plan.scratchplan import ScratchPlan
from polyfuse.plan.why import why
from polyfuse.report.progress import ProgressBar
from polyfuse.report.scratchplan import print_places, print_simulated


def simulated(plan: ScratchPlan, request: Mapping[str, Any], seed: int = 0) -> tuple[Compiled, CheckedRun]:
    """A plan, compiled, and a run of it on the simulated machine, checked."""
    network = source_asked(request).network
    with ProgressBar() as progress:
        progress("compiling", 0, 2)
        made = compiled(plan, network)
        progress("simulating", 1, 2)
        return made, checked_run(made, seed)


def compile_scratch(plan: ScratchPlan, folder: Path, prefix: str | None, request: Mapping[str, Any]) -> None:
    """Run a plan on the simulated machine, write its files into a folder, and print the run with the plan."""
    made, checked = simulated(plan, request)
    files = scratch_files(made, prefix)
    make_folder(folder)
    for name, data in files.items():
        write_atomically(folder / name, data)
    sizes = {str(folder / name): len(data) for name, data in files.items()}
    print_simulated(Console(), made.plan, checked, sizes, made.proof)


def verify_scratch(plan: ScratchPlan, seed: int, request: Mapping[str, Any]) -> None:
    """Run a plan on the simulated machine, and print the run with the plan."""
    made, checked = simulated(plan, request, seed)
    print_simulated(Console(), made.plan, checked, {}, made.proof)


def simulate(plan: ScratchPlan, network: Network, arrays: Mapping[str, np.ndarray]) -> dict[str, Values]:
    """The outputs by name that the simulated machine computes; what that takes is printed."""
    with ProgressBar() as progress:
        progress("compiling", 0, 1)
        made = compiled(plan, network)
    ends = network.ends
    bound = ends.bound(f"network {network.name!r}", (), arrays)
    found, run = made.kernel(**ends.entering(bound, network.inputs))
    click.echo(
        f"simulated {plan.machine.name}: {run.cycles:,.0f} cycles, planned {plan.totals.latency_cycles:,.0f}; "
        f"{run.offchip_bytes:,} B off chip, planned {plan.totals.offchip_bytes.all:,}"
    )
    return ends.leaving(found, network.outputs, bound)


def explain_plan(
    plan: ScratchPlan, path: Path, tensor: str | None, model: str | None, request: Mapping[str, Any]
) -> None:
    """Say of one tensor why it is not pinned, or of all where they are."""
    network = read_source(workload_of(origin_of(plan, path, model, request))).network
    graph = graph_of_plan(plan, network)
    plan = check_plan(plan, graph, plan.machine)
    if tensor is None:
        print_places(plan, graph)
        return
    with ProgressBar() as progress:
        ways = ways_of(graph, plan.machine, objective=plan.objective, progress=progress)
        found = why(plan, ways, tensor)
    click.echo(str(found))
