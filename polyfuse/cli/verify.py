"""Options of `polyfuse verify`."""

import click

from polyfuse.cli.options import NETWORK, with_options
from polyfuse.cli.unused import StrictCommand


@click.command("verify", cls=StrictCommand)
@with_options(*NETWORK)
@click.option(
    "--seed", type=int, default=0, show_default=True, metavar="SEED", help="Draw the random inputs from this seed."
)
def command() -> None:
    """Compare the output of every group of a compiled WORKLOAD with onnxruntime, on random inputs.

    With a --plan for a scratchpad machine, compare what a simulator of that machine computes and moves with the
    reference and with the plan.
    """
