"""`polyfuse import-scop`: a JSCoP file of Polly in; text and a rescheduled JSCoP file out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from polyfuse.cli.actions.request import only_group
from polyfuse.codegen.scop.export import rescheduled
from polyfuse.errors import PolyfuseError
from polyfuse.files import check_writable
from polyfuse.network.scop.jscop import write_jscop
from polyfuse.network.scop.load import load_scop, read_with
from polyfuse.network.scop.order import check_changed, moved_arrays
from polyfuse.network.scop.scop import Scop
from polyfuse.schedule.counts import counts
from polyfuse.schedule.describe import describe_footprints, describe_network


def act(file: Path, changed: Path | None, path: Path | None, **request: Any) -> None:
    """Read a SCoP that Polly has exported as a network of layers, and schedule it."""
    if path is not None:
        check_writable(path)
    if changed is not None:
        judge(file, changed, dict(request["parameters"]))
    try:
        made = load_scop(file, dict(request["parameters"]))
    except PolyfuseError as error:
        if changed is None or request["tiles"]:
            raise
        click.echo(f"not taken as layers: {error}")
        return
    click.echo(describe_network(made.network))
    if not request["tiles"]:
        return
    group = only_group(made.network, request)
    click.echo(describe_footprints(made.network, group.schedule.strategy.tile, group.schedule.strategy.axes))
    click.echo(f"{group.schedule}\n{group}\n{counts(group)}")
    if path is not None:
        scop = rescheduled(made, group)
        write_jscop(scop, path)
        click.echo(f"written: {path}")
        tell_moved(made.scop, scop)


def judge(file: Path, changed: Path, parameters: Mapping[str, str]) -> None:
    """Prove that a changed file computes the same, whether or not it is layers."""
    scop, other = (read_with(each, parameters)[0] for each in (file, changed))
    check_changed(scop, other)
    click.echo(f"legal: {changed} computes what {file} does")
    tell_moved(scop, other)


def tell_moved(scop: Scop, changed: Scop) -> None:
    """Say which arrays no longer hold what the program writes to them."""
    arrays = moved_arrays(scop, changed)
    if arrays:
        click.echo(f"kept in local arrays, and no longer written: {', '.join(arrays)}")
