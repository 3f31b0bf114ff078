"""Options of `polyfuse compile`, `run` and `verify`: how a whole network is planned. Settings and plans leave."""

from collections.abc import Mapping
from typing import Any, get_args

import click

from polyfuse.cli.options import EXACT_ARITHMETIC, LAYOUT, WORKLOAD, Option, longest, plan_file, source_options, threads
from polyfuse.codegen.build import Options
from polyfuse.codegen.lower.selection import Interface
from polyfuse.codegen.program import Program
from polyfuse.deploy.grouping import LONGEST
from polyfuse.deploy.model import Settings
from polyfuse.deploy.plan import Groups, Plan
from polyfuse.deploy.planfile import read_plan
from polyfuse.deploy.source import Source, read_source
from polyfuse.plan.planfile import Origin
from polyfuse.plan.scratchplan import ScratchPlan

HOW: tuple[Option, ...] = (
    click.option(
        "--groups",
        type=click.Choice(get_args(Groups)),
        default="planned",
        show_default=True,
        help="Fuse the groups of the planner, those of DNNFusion's published plan, or no layers at all (single).",
    ),
    threads(),
    EXACT_ARITHMETIC,
    LAYOUT,
    click.option("--untuned", is_flag=True, help="Leave aside what polyfuse tune found."),
)
"""How a network is planned for the host."""
NETWORK: tuple[Option, ...] = (
    *WORKLOAD,
    plan_file("Use the plan in this file"),
    longest(LONGEST),
    *HOW,
)
"""A whole network, and how it is planned."""


def settings_of(request: Mapping[str, Any]) -> Settings:
    """Settings of a request, with the compiler found."""
    interface: Interface = request["layout"]
    return Settings(
        groups=request["groups"],
        longest=request["longest"],
        exact=request["exact"],
        interface=interface,
        threads=request["threads"],
        untuned=request["untuned"],
        options=Options(),
    ).ready


def source_asked(request: Mapping[str, Any]) -> Source:
    """The network of a request, or its part, rewritten."""
    return read_source(request["workload"], **source_options(request))


def origin_asked(request: Mapping[str, Any]) -> Origin:
    """Where the network that was asked for is read from, as plans say it."""
    return Origin(request["workload"], **source_options(request))


def given_plan(request: Mapping[str, Any]) -> Plan | ScratchPlan | None:
    """The plan in the file that was named."""
    return read_plan(request["plan_file"]) if request["plan_file"] is not None else None


def tell_threads(code: Program, settings: Settings) -> None:
    """Say so where several threads were asked for and the code has no independent tiles."""
    if settings.threads > 1 and not code.is_parallel:
        click.echo(f"runs on 1 thread, not {settings.threads}: no group has tiles that are independent of each other")
