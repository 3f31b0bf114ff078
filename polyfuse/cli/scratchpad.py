"""Plans for a scratchpad machine in `polyfuse compile`, `run`, `verify`, `explain`: a plan in, files and text out."""

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console

from polyfuse.cli.options import source_options
from polyfuse.cli.settings import origin_asked
from polyfuse.deploy.plan import Plan
from polyfuse.deploy.scratchpad import Checked, Compiled, checked_run, compiled, scratch_files
from polyfuse.deploy.source import read_source
from polyfuse.errors import InvalidInput
from polyfuse.files import make_folder, write_atomically
from polyfuse.network.dtypes import Values
from polyfuse.network.network import Network
from polyfuse.plan.checking import check_plan
from polyfuse.plan.planfile import Origin
from polyfuse.plan.planning import graph_of_plan, ways_of
from polyfuse.plan.scratchplan import ScratchPlan
from polyfuse.plan.why import why
from polyfuse.report.progress import ProgressBar
from polyfuse.report.scratchplan import print_places, print_simulated


def simulated(plan: ScratchPlan, request: Mapping[str, Any], seed: int = 0) -> tuple[Compiled, Checked]:
    """A plan, compiled, and a run of it on the simulated machine, checked."""
    network = network_of(origin_asked(request))
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
    network = network_of(origin_of(plan, path, model, request))
    graph = graph_of_plan(plan, network)
    plan = check_plan(plan, graph, plan.machine)
    if tensor is None:
        print_places(plan, graph)
        return
    with ProgressBar() as progress:
        ways = ways_of(graph, plan.machine, objective=plan.objective, progress=progress)
        found = why(plan, ways, tensor)
    click.echo(str(found))


def origin_of(plan: Plan | ScratchPlan, path: Path, model: str | None, request: Mapping[str, Any]) -> Origin:
    """Where the network of a plan is read from: as the plan says, but for what the user says.

    Errors: InvalidInput where neither of them names a model.
    """
    said, asked = plan.origin or Origin(model or "", {}, None), source_options(request)
    if not (model or said.path):
        raise InvalidInput(f"plan '{path}': it does not say which workload it was made for; name that with --model")
    given = {name: value for name, value in asked.items() if value not in (None, {})}
    return replace(said, path=model or said.path, **given)


def network_of(origin: Origin) -> Network:
    """The network that a plan was made for."""
    said = {field.name: getattr(origin, field.name) for field in fields(origin) if field.name != "path"}
    return read_source(origin.path, **said).network
