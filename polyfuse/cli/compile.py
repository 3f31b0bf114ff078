"""Options of `polyfuse compile`."""

from pathlib import Path

import click

from polyfuse.choices import DEFAULT_FLAGS
from polyfuse.cli.options import NETWORK, output, with_options
from polyfuse.cli.unused import StrictCommand


@click.command("compile", cls=StrictCommand)
@with_options(*NETWORK)
@output("folder", "DIR", "Write all files to this folder.", default=Path("build"), show_default=True)
@click.option(
    "--prefix",
    metavar="NAME",
    show_default="the name of the workload",
    help="Begin the names of files, functions and types with NAME.",
)
@click.option("--embed", is_flag=True, help="Write the weights as C too, for targets without files.")
@click.option(
    "--cc", metavar="COMPILER", show_default="$CC", help="Write the C for this gcc or clang, and compile it with that."
)
@click.option(
    "--cflags",
    metavar="FLAGS",
    show_default=" ".join(DEFAULT_FLAGS),
    help="Compile with these flags, such as '-O2 -march=x86-64-v3'.",
)
def command() -> None:
    """Compile a WORKLOAD to a C library: .c, .h, .weights, plan.json and a shared library.

    With a --plan made by `polyfuse plan`, write C for its scratchpad machine, and run it once on a simulator.
    """
