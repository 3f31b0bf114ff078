"""Options of `polyfuse run`."""

import click

from polyfuse.cli.options import NETWORK, output, with_options
from polyfuse.cli.unused import StrictCommand


@click.command("run", cls=StrictCommand)
@with_options(*NETWORK)
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="[NAME=]FILE.npy",
    help="Read an input from this file; repeat for more, in the order of the inputs or by name.",
)
@output("path", "FILE", "Write one output as .npy, or all as .npz.")
def command() -> None:
    """Run a WORKLOAD on arrays in .npy files, and print the range of each output.

    Without --input, inputs are random, from a fixed seed. With a --plan for a scratchpad machine, a simulator of that
    machine runs it.
    """
