"""`polyfuse import-scop`: a JSCoP file of Polly in; text and a rescheduled JSCoP file out."""

from pathlib import Path
from typing import Any

import click

from polyfuse.cli.options import PARAMETERS, output, with_options
from polyfuse.cli.rows import ROWS, only_group
from polyfuse.cli.unused import Checked
from polyfuse.cli.values import FILE
from polyfuse.codegen.scop.export import rescheduled
from polyfuse.files import check_writable
from polyfuse.network.scop.jscop import read_jscop, write_jscop
from polyfuse.network.scop.load import load_scop
from polyfuse.network.scop.order import check_changed, moved_arrays
from polyfuse.network.scop.scop import Scop
from polyfuse.schedule.counts import counts
from polyfuse.schedule.describe import describe_footprints, describe_network


@click.command("import-scop", cls=Checked)
@click.argument("file", type=FILE, metavar="FILE.jscop")
@with_options(PARAMETERS, *ROWS)
@click.option(
    "--check",
    "changed",
    type=FILE,
    metavar="CHANGED.jscop",
    help="Prove that this other file of the same program computes the same.",
)
@output("path", "OUT.jscop", "Write the SCoP to this file, with the schedule of --tile and --strategy.")
def command(file: Path, changed: Path | None, path: Path | None, **request: Any) -> None:
    """Read a SCoP that Polly has exported as a network of layers, and schedule it.

    --set gives a parameter of the C a value (n=64), or says what a statement computes (Stmt_body='acc + w * x'), which
    JSCoP files do not say and only running needs. Every other command takes FILE.jscop as a WORKLOAD, too.

    With --tile and --strategy, the layers are fused and tiled; -o writes the schedule for Polly to import into the same
    C, as FILE.jscop.polyfuse.
    """
    if path is not None:
        check_writable(path)
    made = load_scop(file, dict(request["parameters"]))
    click.echo(describe_network(made.network))
    if changed is not None:
        other = read_jscop(changed)
        check_changed(made.scop, other)
        click.echo(f"legal: {changed} computes what {file} does")
        tell_moved(made.scop, other)
    if not request["tiles"]:
        return
    group = only_group(made.network, request)
    click.echo(describe_footprints(made.network, group.schedule.strategy.tile))
    click.echo(f"{group.schedule}\n{group}\n{counts(group)}")
    if path is not None:
        scop = rescheduled(made, group)
        write_jscop(scop, path)
        click.echo(f"written: {path}")
        tell_moved(made.scop, scop)


def tell_moved(scop: Scop, changed: Scop) -> None:
    """Say which arrays no longer hold what the program writes to them."""
    arrays = moved_arrays(scop, changed)
    if arrays:
        click.echo(f"kept in local arrays, and no longer written: {', '.join(arrays)}")
