"""`polyfuse show`: a workload and its tiles in; sets, schedules, buffers, counts, loops and C out."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from polyfuse.bench.compare import Candidate, Case, check_rows, default_tiles, prepare
from polyfuse.cli.actions.request import network_asked, rows_of
from polyfuse.files import check_writable
from polyfuse.network.network import Network
from polyfuse.schedule.describe import describe_footprints, describe_network, describe_schedule, size_parameters
from polyfuse.schedule.schedule import scheduled
from polyfuse.text import section

DRAWN_TILES = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
DRAWN_SIZES = (64, 256, 1024)


def act(picture: Path | None, **request: Any) -> None:
    """Print the sets, schedules, copies, buffers, counts, loops and C of a WORKLOAD."""
    network = network_asked(request)
    names = size_parameters(network)
    if names and not request["tiles"]:
        raise click.UsageError(f"sizes depend on {', '.join(names)}: expected a --tile, such as --tile 8x8")
    if picture is not None:
        check_writable(picture)
        if not names:
            raise click.UsageError("--plot: expected sizes that are names, such as --set size=H; name one")
    if not request["tiles"]:
        request["tiles"] = default_tiles(network)[-1:]
    if not request["names"]:
        request["names"] = ("mixed",) if request["mixed"] or request["retention"] else ("recompute",)
    rows = [row for row in rows_of(network, request) if row.strategy is not None]
    check_rows(network, rows)
    click.echo(describe_network(network))
    if names:
        show_formulas(network, rows)
        if picture is not None:
            draw_recomputation(network, max(len(row.tile) for row in rows), picture)
        return
    for cut in dict.fromkeys((row.tile, row.axes) for row in rows):
        click.echo(describe_footprints(network, *cut))
    for row in rows:
        click.echo("\n".join(show_lines(row, prepare(network, row))))


def show_formulas(network: Network, rows: Sequence[Candidate]) -> None:
    """Rows of a network whose sizes are parameters: nothing of them is stored, generated or counted one by one."""
    from polyfuse.schedule.formulas import describe_formulas

    for row in rows:
        if row.strategy is not None:
            click.echo("\n".join(section(str(row), [])))
            click.echo(describe_formulas(scheduled(network, row.strategy)))


def draw_recomputation(network: Network, rank: int, picture: Path) -> None:
    """Recomputation over the size of tiles of `rank` sides, for some sizes of the network."""
    from polyfuse.report.recomputation import plot_recomputation
    from polyfuse.schedule.tilesizes import over_tiles

    plot_recomputation([over_tiles(network, rank, size, DRAWN_TILES) for size in DRAWN_SIZES], picture)


def show_lines(row: Candidate, case: Case) -> Iterator[str]:
    """One row for the reader: schedules, buffers and counts of its group, then loops and C."""
    yield from section(str(row), [])
    for group in case.groups:
        yield describe_schedule(group)
    for part in case.timed.parts:
        yield from section("loops (the form of the C that is timed)", part.nest.root.to_C_str().splitlines())
    yield from section("C", case.timed.source.splitlines())
