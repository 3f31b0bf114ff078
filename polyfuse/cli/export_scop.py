"""`polyfuse export-scop`: a workload and one schedule in; C, a JSCoP file and a script for Polly out."""

from pathlib import Path
from typing import Any

import click

from polyfuse.cli.options import WORKLOAD, network_asked, output, with_options
from polyfuse.cli.rows import ROWS, only_group
from polyfuse.cli.unused import Checked
from polyfuse.codegen.scop.export import exported, write_exported
from polyfuse.files import make_folder
from polyfuse.schedule.counts import counts


@click.command("export-scop", cls=Checked)
@with_options(*WORKLOAD, *ROWS)
@output("folder", "DIR", "Write the C, the JSCoP file and a build script to this folder.", required=True)
@click.option("--expand", "expanded", is_flag=True, help="Write loops over tiles even where nothing is executed twice.")
def command(folder: Path, expanded: bool, **request: Any) -> None:
    """Write a WORKLOAD as C that Polly accepts, and one --tile and --strategy as a JSCoP file for Polly to import.

    `sh DIR/build.sh` compiles both with Debian's clang-16 and llvm-16: NAME.o as polyfuse schedules the workload, and
    NAME_plain.o as the C is written.
    """
    make_folder(folder)
    group = only_group(network_asked(request), request)
    scop = exported(group, expanded=expanded)
    paths = write_exported(scop, folder)
    click.echo(f"{group.schedule}\n{counts(group)}")
    click.echo(f"{scop.function}: {'copies expanded' if scop.expanded else 'plain loops'}")
    click.echo(f"written: {' '.join(map(str, paths))}")
