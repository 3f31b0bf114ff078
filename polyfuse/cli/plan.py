"""Options of `polyfuse plan`."""

from typing import get_args

import click

from polyfuse.choices import DTYPE_BYTES, Goal, accelerators
from polyfuse.cli.options import HOW, LONGEST_GROUP, WORKLOAD, choice, json_file, plan_file, with_options
from polyfuse.cli.unused import HOST, StrictCommand
from polyfuse.cli.values import FILE, size, sizes

DEFAULT_MACHINE = "npu"


@click.command("plan", cls=StrictCommand)
@with_options(*WORKLOAD)
@click.option(
    "--machine",
    metavar="NAME|FILE",
    default=DEFAULT_MACHINE,
    show_default=True,
    help=f"Plan for this machine: {', '.join(accelerators())}, an accelerator file, or {HOST}, as polyfuse "
    "compile does.",
)
@click.option(
    "--onchip",
    "onchip_bytes",
    type=size,
    metavar="SIZE",
    show_default="the machine's",
    help="Plan for this much on-chip memory, such as 512KiB.",
)
@choice("--objective", "goal", of=get_args(Goal), text="Objective to minimise.")
@click.option(
    "--lambda",
    "cycles_per_byte",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    metavar="CYCLES",
    help="Add this many cycles to the latency for every off-chip byte.",
)
@click.option(
    "--dtype",
    type=click.Choice(tuple(DTYPE_BYTES)),
    show_default="the workload's",
    help="Plan as if elements were of this type.",
)
@with_options(LONGEST_GROUP, *HOW)
@click.option(
    "--baselines/--no-baselines",
    default=True,
    show_default=True,
    help="Compare the plan with those of weaker ways of planning.",
)
@click.option("--early", is_flag=True, help="Load weights while the group before computes, where there is room.")
@click.option("--no-external", is_flag=True, help="Keep every tensor between layers on chip, so that none is spilled.")
@click.option("--certify", is_flag=True, help="Confirm the plan by an exact model of it, for small networks.")
@plan_file("Check and show the plan in this file")
@click.option(
    "--sweep", "capacities", type=sizes, metavar="FIRST:LAST[:COUNT]", help="Also plan at many on-chip sizes."
)
@click.option(
    "--sweep-file", type=FILE, metavar="FILE", help="Keep finished sizes of a sweep in this file, and resume from it."
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 1024),
    metavar="N",
    show_default="one for each core",
    help="Run a sweep in N processes.",
)
@json_file("the plan")
@click.option("--report", "report_file", type=FILE, metavar="FILE.html", help="Write a page with pictures of the plan.")
@click.option(
    "--png", "folder", type=FILE, metavar="DIR", help="Write each picture of the report to this folder, as PNG."
)
def command() -> None:
    """Plan a WORKLOAD: what to fuse, how to tile it and what to keep on chip.

    For a machine with a managed on-chip memory, groups, tiles, tensors that stay on chip and all addresses are chosen
    together, and weaker ways of planning are printed for comparison. For the host, make the plan that `polyfuse
    compile` makes.
    """
