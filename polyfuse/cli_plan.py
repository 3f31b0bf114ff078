"""`polyfuse plan`: a network and a machine in; tables, plan files, reports and pictures out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

import click

from polyfuse.cli_model import model_asked, model_options
from polyfuse.cli_types import FILE, Size, Sizes
from polyfuse.cli_unused import Checked
from polyfuse.deploy.source import read_source
from polyfuse.files import check_writable, make_folder, write_atomically
from polyfuse.network.network import Network
from polyfuse.plan.accelerator import DTYPE_BYTES, Accelerator, accelerator, names
from polyfuse.plan.checking import check_plan
from polyfuse.plan.ideals import LONGEST
from polyfuse.plan.objective import Goal, Objective
from polyfuse.plan.operations import Graph
from polyfuse.plan.planning import Ways, graph_of_plan, priced_type, ways_of
from polyfuse.plan.proof import prove_plan
from polyfuse.plan.scratchplan import Origin, ScratchPlan, read_scratch_plan
from polyfuse.plan.sweep import Sweep, processes, sweep
from polyfuse.plan.timeline import GroupTime, timeline
from polyfuse.report.planfigures import figures_of, png_files
from polyfuse.report.planpage import page
from polyfuse.report.progress import ProgressBar
from polyfuse.report.scratchplan import print_plan, print_sweep

DEFAULT_MACHINE = "npu"
SOLVER_EFFORT = 200.0
"""The deterministic limit of the exact model, about seconds."""


@click.command(name="plan", cls=Checked)
@click.argument("model")
@model_options
@click.option(
    "--machine",
    metavar="NAME|FILE",
    help=f"One of {', '.join(names())}, or an accelerator file. Default: {DEFAULT_MACHINE}.",
)
@click.option("--onchip", type=Size(), metavar="SIZE", help="On-chip memory, such as 512KiB. Default: the machine's.")
@click.option(
    "--objective",
    "goal",
    type=click.Choice(get_args(Goal)),
    default="latency",
    show_default=True,
    help="What to have least of.",
)
@click.option(
    "--lambda",
    "cycles_per_byte",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    metavar="CYCLES",
    help="With latency: what an off-chip byte weighs, in cycles.",
)
@click.option(
    "--dtype",
    type=click.Choice(tuple(DTYPE_BYTES)),
    help="Plan as if elements were of this type. Default: the model's.",
)
@click.option(
    "--longest", type=click.IntRange(1, 64), default=LONGEST, show_default=True, help="The most operations of a group."
)
@click.option("--baselines/--no-baselines", default=True, show_default=True, help="Plan in weaker ways too.")
@click.option("--early", is_flag=True, help="Load weights while the group before runs, where there is room.")
@click.option("--no-external", is_flag=True, help="Store nothing between layers off chip: memory alone.")
@click.option("--exact", is_flag=True, help="Have it confirmed by an exact model: small networks.")
@click.option("--plan", "plan_file", type=FILE, metavar="FILE", help="Check and show this plan instead of making one.")
@click.option("--sweep", "capacities", type=Sizes(), metavar="FIRST:LAST[:COUNT]", help="Plan at many on-chip sizes.")
@click.option(
    "--sweep-file", type=FILE, metavar="FILE", help="Keep finished sizes of a sweep here, and resume from it."
)
@click.option("--jobs", type=click.IntRange(1, 1024), help="Processes of a sweep. Default: one for each core.")
@click.option("--json", "json_file", type=FILE, metavar="FILE", help="Write the plan, to read, edit, explain, compile.")
@click.option("--report", "report_file", type=FILE, metavar="FILE.html", help="Write a page with pictures.")
@click.option("--png", "folder", type=FILE, metavar="DIR", help="Write each picture of the report as PNG.")
def plan_command(model: str, **request: Any) -> None:
    """Plan a MODEL, an .onnx or kernel file, for a machine with a managed on-chip memory: what to fuse and what to pin.

    Groups, tiles, tensors that stay on chip and all addresses are chosen together, and beside the plan stands what
    weaker ways of planning take.
    """
    check_request(request)
    asked = model_asked(request)
    origin = Origin(model, **asked)
    given = read_scratch_plan(request["plan_file"]) if request["plan_file"] is not None else None
    machine = given.machine if given is not None else machine_of(request)
    network = read_source(model, **asked).network
    with ProgressBar() as progress:
        plan = given or planned(network, machine, origin, request, progress)
        graph = graph_of_plan(plan, network)
        plan = check_plan(plan, graph, plan.machine)
        if given is not None and request["exact"]:
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
    found = accelerator(DEFAULT_MACHINE if request["machine"] is None else request["machine"])
    found = found.memory_alone() if request["no_external"] else found
    return found.with_capacity(request["onchip"]) if request["onchip"] is not None else found


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
    return confirmed(ways, plan, progress) if request["exact"] else plan


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
