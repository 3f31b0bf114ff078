"""Options of `polyfuse export-scop`."""

import click

from polyfuse.cli.options import ROWS, WORKLOAD, output, with_options
from polyfuse.cli.unused import StrictCommand


@click.command("export-scop", cls=StrictCommand)
@with_options(*WORKLOAD, *ROWS)
@output("folder", "DIR", "Write the C, the JSCoP file and a build script to this folder.", required=True)
@click.option("--expand", "expanded", is_flag=True, help="Write loops over tiles even where nothing is executed twice.")
def command() -> None:
    """Write a WORKLOAD as C that Polly accepts, and one --tile and --strategy as a JSCoP file for Polly to import.

    `sh DIR/build.sh` compiles both with Debian's clang-16 and llvm-16: NAME.o as polyfuse schedules the workload, and
    NAME_plain.o as the C is written.
    """
