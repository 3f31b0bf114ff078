"""`polyfuse import-scop`, `polyfuse export-scop`: JSCoP files of Polly and workloads in, text, JSCoP and C out."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from polyfuse.bench.compare import Candidate
from polyfuse.cli_model import with_options
from polyfuse.cli_types import FILE
from polyfuse.cli_unused import Checked
from polyfuse.codegen.scop.export import exported, rescheduled, write_exported
from polyfuse.errors import InvalidInput
from polyfuse.files import check_writable, make_folder
from polyfuse.network.network import Network
from polyfuse.network.scop.jscop import read_jscop, write_jscop
from polyfuse.network.scop.order import check_changed, moved_arrays
from polyfuse.network.scop.scop import Scop
from polyfuse.network.scop.workload import load_scop
from polyfuse.schedule.counts import counts
from polyfuse.schedule.describe import describe_footprints, describe_network
from polyfuse.schedule.groups import fused
from polyfuse.schedule.storage import Storage

Rows = Callable[[Network, Mapping[str, Any]], list[Candidate]]
Options = Sequence[Callable[..., Any]]


def import_scop_command(options: Options, rows_of: Rows) -> click.Command:
    """The command, with the options that say what is asked of a row, and what makes rows of them."""

    @click.command(name="import-scop", cls=Checked)
    @click.argument("file", type=FILE, metavar="FILE.jscop")
    @click.option(
        "--check",
        "changed",
        type=FILE,
        metavar="CHANGED.jscop",
        help="Prove that this other file of the same program computes the same.",
    )
    @click.option("-o", "output", type=FILE, metavar="OUT.jscop", help="Write the scop with the schedule asked for.")
    def command(file: Path, changed: Path | None, output: Path | None, **request: Any) -> None:
        """Read a SCoP that Polly has exported, as a network of layers, and schedule it.

        --set gives a parameter of the C a value (n=64), or says what a statement computes (Stmt_body='acc + w * x'):
        files do not tell, and only running needs it. Any other command takes FILE.jscop as a WORKLOAD, too.

        With --tile and --strategy, it is fused and tiled; -o writes that for Polly to import into the same C, as
        FILE.jscop.polyfuse.
        """
        if output is not None:
            check_writable(output)
        made = load_scop(file, dict(request["parameters"]))
        click.echo(describe_network(made.network))
        if changed is not None:
            other = read_jscop(changed)
            check_changed(made.scop, other)
            click.echo(f"legal: {changed} computes what {file} does")
            tell_moved(made.scop, other)
        if not request["tiles"]:
            return
        group = only_group(made.network, request, rows_of)
        click.echo(describe_footprints(made.network, group.schedule.strategy.tile))
        click.echo(f"{group.schedule}\n{group}\n{counts(group)}")
        if output is not None:
            scop = rescheduled(made, group)
            write_jscop(scop, output)
            click.echo(f"written: {output}")
            tell_moved(made.scop, scop)

    return with_options(command, options)


def export_scop_command(options: Options, load: Callable[[Mapping[str, Any]], Network], rows_of: Rows) -> click.Command:
    """The command, with the arguments that say what the workload and its row are."""

    @click.command(name="export-scop", cls=Checked)
    @click.option("-o", "folder", type=FILE, metavar="DIR", required=True, help="Write C, JSCoP and a script there.")
    @click.option("--expand", "expanded", is_flag=True, help="Loops over tiles even where nothing is executed twice.")
    def command(folder: Path, expanded: bool, **request: Any) -> None:
        """Write a WORKLOAD as C that Polly accepts, with one --tile and --strategy as a JSCoP file for Polly to import.

        sh DIR/build.sh compiles both, with Debian's clang-16 and llvm-16: NAME.o as polyfuse schedules it, and
        NAME_plain.o as the C is written.
        """
        make_folder(folder)
        group = only_group(load(request), request, rows_of)
        scop = exported(group, expanded=expanded)
        paths = write_exported(scop, folder)
        click.echo(f"{group.schedule}\n{counts(group)}")
        click.echo(f"{scop.function}: {'copies expanded' if scop.expanded else 'plain loops'}")
        click.echo(f"written: {' '.join(map(str, paths))}")

    return with_options(command, options)


def only_group(network: Network, request: dict[str, Any], rows_of: Rows) -> Storage:
    """The one group that was asked for, proved legal. `local` rows are shifted where nothing else is said.

    Errors: click.UsageError where more than one is asked for, or none.
    """
    if request["placement"] is None and tuple(request["names"]) == ("local",):
        request["placement"] = "shifted"
    rows = [row for row in rows_of(network, request) if row.strategy is not None]
    if not request["tiles"] or len(rows) != 1:
        raise click.UsageError(
            "expected one schedule: one --tile and one --strategy, or one --mixed with --strategy mixed; got "
            f"{len(rows) if request['tiles'] else 0}"
        )
    (strategy,) = (row.strategy for row in rows)
    if strategy is None:
        raise InvalidInput("the unfused row has no schedule of its own; give a --strategy")
    (group,) = fused(network, strategy)
    return group


def tell_moved(scop: Scop, changed: Scop) -> None:
    """Say which arrays no longer hold what the program writes to them."""
    arrays = moved_arrays(scop, changed)
    if arrays:
        click.echo(f"kept in local arrays, and no longer written: {', '.join(arrays)}")
