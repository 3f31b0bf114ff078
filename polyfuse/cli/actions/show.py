"""`polyfuse show`: a workload and its tiles in; sets, schedules, buffers, counts, loops and C out."""

from collections.abc import Iterator, Sequence
from typing import Any

import click

from polyfuse.bench.compare import Candidate, Case, check_rows, default_tiles, prepare
from polyfuse.cli.actions.request import network_asked, rows_of
from polyfuse.network.network import Network
from polyfuse.schedule.describe import describe_footprints, describe_network, describe_schedule, size_parameters
from polyfuse.schedule.schedule import scheduled
from polyfuse.text import section


def act(**request: Any) -> None:
    """Print the sets, schedules, copies, buffers, counts, loops and C of a WORKLOAD."""
    network = network_asked(request)
    names = size_parameters(network)
    if names and not request["tiles"]:
        raise click.UsageError(f"sizes depend on {', '.join(names)}: expected a --tile, such as --tile 8x8")
    if not request["tiles"]:
        request["tiles"] = default_tiles(network)[-1:]
    if not request["names"]:
        request["names"] = ("mixed",) if request["mixed"] or request["retention"] else ("recompute",)
    rows = [row for row in rows_of(network, request) if row.strategy is not None]
    check_rows(network, rows)
    click.echo(describe_network(network))
    if names:
        show_formulas(network, rows)
        return
    for tile in dict.fromkeys(row.tile for row in rows):
        click.echo(describe_footprints(network, tile))
    for row in rows:
        click.echo("\n".join(show_lines(row, prepare(network, row))))


def show_formulas(network: Network, rows: Sequence[Candidate]) -> None:
    """Rows of a network whose sizes are parameters: nothing of them is stored, generated or counted one by one."""
    from polyfuse.schedule.formulas import describe_formulas

    for row in rows:
        if row.strategy is not None:
            click.echo("\n".join(section(str(row), [])))
            click.echo(describe_formulas(scheduled(network, row.strategy)))


def show_lines(row: Candidate, case: Case) -> Iterator[str]:
    """One row for the reader: schedules, buffers and counts of its group, then loops and C."""
    yield from section(str(row), [])
    for group in case.groups:
        yield describe_schedule(group)
    for part in case.timed.parts:
        yield from section("loops (the form of the C that is timed)", part.nest.root.to_C_str().splitlines())
    yield from section("C", case.timed.source.splitlines())
