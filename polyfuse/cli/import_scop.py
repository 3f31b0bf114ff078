"""Options of `polyfuse import-scop`."""

import click

from polyfuse.cli.options import PARAMETERS, ROWS, output, with_options
from polyfuse.cli.unused import StrictCommand
from polyfuse.cli.values import FILE


@click.command("import-scop", cls=StrictCommand)
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
def command() -> None:
    """Read a SCoP that Polly has exported as a network of layers, and schedule it.

    --set gives a parameter of the C a value (n=64), or says what a statement computes (Stmt_body='acc + w * x'); JSCoP
    files do not hold that, and only running needs it. Every other command takes FILE.jscop as a WORKLOAD, too.

    With --tile and --strategy, the layers are fused and tiled; -o writes the schedule for Polly to import into the same
    C, as FILE.jscop.polyfuse.
    """
