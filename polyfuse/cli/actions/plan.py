"""`polyfuse plan`: a network and a machine in; tables, plan files, reports and pictures out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import click
from rich.console import Console

from polyfuse.cli.actions.request import given_plan, origin_asked, settings_of, source_asked, workload_of
from polyfuse.cli.unused import HOST
from polyfuse.deploy.model import plan_of
from polyfuse.deploy.plan import Plan
from polyfuse.deploy.source import read_source
from polyfuse.files import check_writable, make_folder, write_atomically
from polyfuse.machines.accelerator import Accelerator, accelerator
from polyfuse.network.network import Network
from polyfuse.plan.checking import check_plan
from polyfuse.plan.graph.operations import Graph
from polyfuse.plan.planfile import Origin
from polyfuse.plan.planning import Ways, graph_of_plan, priced_type, ways_of
from polyfuse.plan.price.objective import Objective
from polyfuse.plan.price.timeline import GroupTime, timeline
from polyfuse.plan.proof.prove import prove_plan
from polyfuse.plan.scratchplan import ScratchPlan
from polyfuse.plan.sweep import Sweep, sweep
from polyfuse.report.deploy import print_groups
from polyfuse.report.planfigures import figures_of, png_files
from polyfuse.report.planpage import page
from polyfuse.report.progress import ProgressBar
from polyfuse.report.scratchplan import print_plan, print_sweep
from polyfuse.tasks import processes

SOLVER_EFFORT = 200.0
"""The deterministic limit of the exact model, about seconds."""


def act(**request: Any) -> None:
    """Plan a WORKLOAD: what to fuse, how to tile it and what to keep on chip."""
    check_request(request)
    given = given_plan(request)
    if isinstance(given, Plan) or (given is None and request["machine"] == HOST):
        plan_host(given, request)
        return
    origin = origin_asked(request)
    machine = given.machine if given is not None else machine_of(request)
    network = read_source(workload_of(origin)).network
    with ProgressBar() as progress:
        plan = given or planned(network, machine, origin, request, progress)
        graph = graph_of_plan(plan, network)
        plan = check_plan(plan, graph, plan.machine)
        if given is not None and request["certify"]:
            ways = ways_of(graph, plan.machine, objective=plan.objective, longest=request["longest"])
            plan = confirmed(ways, plan, progress)
        swept = sweep_of(network, plan, request, progress) if request["capacities"] is not None else None
    times = timeline(plan, graph)
    print_plan(plan, times, proof=prove_plan(plan, graph))
    if swept is not None:
        click.echo()
        print_sweep(swept)
    if request["json_file"] is not None:
        write_atomically(request["json_file"], plan.to_json().encode())
    if request["report_file"] is not None or request["folder"] is not None:
        write_pictures(request, plan, graph, times, swept)


def plan_host(given: Plan | None, request: Mapping[str, Any]) -> None:
    """Make, or read, a plan for the host; print its groups, and write it to a file."""
    network = source_asked(request).network
    with ProgressBar() as progress:
        if given is None:
            given = replace(plan_of(network, settings_of(request), progress), origin=origin_asked(request))
        else:
            given.grouping(network)
    print_groups(Console(), given)
    if request["json_file"] is not None:
        write_atomically(request["json_file"], given.to_json().encode())


def check_request(request: Mapping[str, Any]) -> None:
    """Refuse files that cannot be written, before the work.

    Errors: InvalidInput.
    """
    for key in ("json_file", "report_file", "sweep_file"):
        if request[key] is not None:
            check_writable(request[key])
    if request["folder"] is not None:
        make_folder(request["folder"])


def machine_of(request: Mapping[str, Any]) -> Accelerator:
    """The machine that was asked for."""
    found = accelerator(request["machine"])
    found = found.memory_alone() if request["no_external"] else found
    return found.with_capacity(request["onchip_bytes"]) if request["onchip_bytes"] is not None else found


def planned(
    network: Network, machine: Accelerator, origin: Origin, request: Mapping[str, Any], progress: ProgressBar
) -> ScratchPlan:
    """A new plan, confirmed by the exact model if that was asked."""
    objective = Objective(request["goal"], request["cycles_per_byte"])
    ways = ways_of(
        network, machine, objective=objective, dtype=request["dtype"], longest=request["longest"], progress=progress
    )
    plan = ways.plan(machine.capacity_bytes, request["baselines"], early=request["early"])
    plan = replace(plan, origin=origin)
    return confirmed(ways, plan, progress) if request["certify"] else plan


def confirmed(ways: Ways, plan: ScratchPlan, progress: ProgressBar) -> ScratchPlan:
    """A plan, new or edited, certified by the exact model. Errors: as `Ways.confirmed`."""
    progress("solving", 0, 1)
    return ways.confirmed(plan, SOLVER_EFFORT)


def sweep_of(network: Network, plan: ScratchPlan, request: Mapping[str, Any], progress: ProgressBar) -> Sweep:
    """The same at the sizes that were asked for, in processes of this host."""
    with processes(request["jobs"]) as workers:
        return sweep(
            network,
            plan.machine,
            request["capacities"],
            objective=plan.objective,
            dtype=priced_type(plan, network),
            longest=request["longest"],
            executor=workers,
            file=request["sweep_file"],
            progress=progress,
        )


def write_pictures(
    request: Mapping[str, Any], plan: ScratchPlan, graph: Graph, times: Sequence[GroupTime], swept: Sweep | None
) -> None:
    """The page and the pictures that were asked for."""
    figures = figures_of(plan, graph, times, swept)
    if request["report_file"] is not None:
        write_atomically(request["report_file"], page(plan, times, figures).encode())
    for name, data in png_files(figures).items() if request["folder"] is not None else ():
        write_atomically(request["folder"] / name, data)
