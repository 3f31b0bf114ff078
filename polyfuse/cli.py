"""The commands. What users type enters; text, files and an exit status leave.

0 success, 1 an error that the user can mend, 2 bad usage, 130 interrupted; each error is one line on stderr.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import click

import polyfuse
from polyfuse.bench.compare import (
    DEFAULT_MIXED,
    NAMES,
    Candidate,
    Case,
    Choices,
    candidates,
    check_rows,
    compare_cases,
    default_tiles,
    leaves_to_run,
    prepare,
    prepared,
    ready_to_build,
)
from polyfuse.bench.emit import emit
from polyfuse.bench.results import Comparison
from polyfuse.bench.tuned import tuned_row
from polyfuse.cli_bench import bench
from polyfuse.cli_deploy import compile_command, run_command, verify_command
from polyfuse.cli_explain import explain_command
from polyfuse.cli_machine import machine
from polyfuse.cli_model import MODEL_OPTIONS, PARAMETER, model_asked, with_options
from polyfuse.cli_plan import plan_command
from polyfuse.cli_scop import export_scop_command, import_scop_command
from polyfuse.cli_tune import tune_command
from polyfuse.cli_types import FILE, Pair, Picture, Places, Tile
from polyfuse.cli_unused import Checked
from polyfuse.codegen.kernel import Options
from polyfuse.codegen.leaves import LAYOUTS, LEAF_NAMES, Interface, LeafName
from polyfuse.errors import InvalidInput, PolyfuseError
from polyfuse.files import check_writable, make_folder
from polyfuse.network.network import Network
from polyfuse.report.plot import plot
from polyfuse.report.progress import ProgressBar
from polyfuse.report.table import print_comparison
from polyfuse.rewrite.workload import load_workload
from polyfuse.schedule.describe import describe_footprints, describe_network, describe_schedule
from polyfuse.text import section

MOST_ERROR = 1e-5
"""The largest relative error of a row that is taken for rounding."""

INTERRUPTED = 130


class Interrupted(Exception):
    """Somebody pressed Ctrl-C."""


class Commands(click.Group):
    """A group of commands whose errors are one line each."""

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, *, standalone_mode: bool = True, **extra: Any
    ) -> Any:
        """Run a command; with `standalone_mode` the process exits with its status."""
        if not standalone_mode:
            return super().main(args, standalone_mode=False, **extra)
        status, message = self._status(args, **extra)
        if message is not None:
            click.echo(f"polyfuse: {' '.join(message.split())}", err=True)
        sys.exit(status)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; click would print an empty line for an interrupt."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted from None

    def _status(self, args: Sequence[str] | None, **extra: Any) -> tuple[int, str | None]:
        """The exit status of a command and its error."""
        try:
            if any("\0" in word for word in (sys.argv[1:] if args is None else args)):
                raise click.UsageError("expected words without NUL characters")
            result = super().main(args, standalone_mode=False, **extra)
            sys.stdout.flush()
        except click.UsageError as error:
            where = error.ctx.command_path if error.ctx is not None else "polyfuse"
            return error.exit_code, f"{error.format_message()} (see {where} --help)"
        except click.ClickException as error:
            return error.exit_code, error.format_message()
        except (Interrupted, click.Abort, KeyboardInterrupt):
            return INTERRUPTED, "interrupted; files are whole or as they were before"
        except PolyfuseError as error:
            return 1, str(error)
        except BrokenPipeError:
            discard_stdout()
            return 1, None
        except OSError as error:
            discard_stdout()
            return 1, f"{error.filename or 'output'}: {error.strerror or error}; check the path and the space left"
        except UnicodeEncodeError as error:
            return 1, f"expected names that are UTF-8, got {error.object!r}; rename the file"
        except MemoryError:
            return 1, "out of memory; take a smaller part of the network (--from, --to) or smaller parameters (--set)"
        return result if isinstance(result, int) else 0, None


def discard_stdout() -> None:
    """Leave nothing for the interpreter to write when it exits: what reads it is gone, or its disk is full."""
    with suppress(OSError, ValueError):  # a stdout that is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


ORDERS = {"rows,columns": (0, 1), "columns,rows": (1, 0)}

WORKLOAD = (
    click.argument("workload"),
    click.option("--from", "first", metavar="NAME", help="First node of a model, or layer, to take."),
    click.option("--to", "last", metavar="NAME", help="Last node or layer to take; both ends are included."),
    *MODEL_OPTIONS,
)
"""The workload."""
ROWS = (
    click.option(
        "--tile",
        "tiles",
        type=Tile(),
        multiple=True,
        metavar="ROWS[xCOLUMNS]",
        help="Tile of the last output; again for more tiles. Default: a spread of sizes.",
    ),
    click.option(
        "--strategy",
        "names",
        type=click.Choice(NAMES),
        multiple=True,
        help="What happens to what two tiles both need; again for more.",
    ),
    click.option(
        "--mixed",
        type=Places(),
        multiple=True,
        metavar="PLACE[,PLACE]",
        help="A mixed row: a place for rows and one for columns, such as local,recompute; again for more.",
    ),
    click.option(
        "--retain",
        "retention",
        type=Pair(Places(), "TENSOR=PLACE or TENSOR=PLACE,PLACE, such as conv1_out=local,recompute"),
        multiple=True,
        metavar="TENSOR=PLACE[,PLACE]",
        help="Places of one tensor in the mixed rows; the others recompute, or follow --mixed.",
    ),
    click.option(
        "--placement",
        type=click.Choice(("first", "shifted")),
        help="Of first executions. Default: both for local rows, shifted for mixed, first for global ones.",
    ),
    click.option("--order", type=click.Choice(tuple(ORDERS)), help="Loops over tiles, the outermost first."),
    click.option(
        "--weights",
        type=click.Choice(("once", "tile")),
        default="once",
        show_default=True,
        help="Load weights once, or again for every tile.",
    ),
)


SHARED = (*WORKLOAD, *ROWS)


def shared(command: Callable[..., None]) -> Callable[..., None]:
    """The workload and what is asked of its rows, as arguments of a command."""
    return with_options(command, SHARED)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(polyfuse.__version__, prog_name="polyfuse", message="%(prog)s %(version)s")
def main() -> None:
    """Fuse, tile and recompute networks of convolution and pooling layers, exactly.

    A WORKLOAD is a kernel file (kernels/sr4.py, or sr4 for short), an ONNX model, or a SCoP that Polly has exported.
    """


@main.command(cls=Checked)
@shared
@click.option("--repeats", type=click.IntRange(1), default=5, show_default=True, help="Timed rounds.")
@click.option("--threads", type=click.IntRange(1, 1024), default=1, show_default=True, help="Where tiles can share.")
@click.option(
    "--leaf",
    type=click.Choice(LEAF_NAMES),
    default="rows",
    show_default=True,
    help="What is timed: row kernels, fast, or one statement at a time, readable.",
)
@click.option(
    "--layout", type=click.Choice(LAYOUTS), default="nchw", show_default=True, help="Of the inputs and outputs."
)
@click.option("--exact-arithmetic", "exact", is_flag=True, help="No Winograd: sums of products as they are written.")
@click.option("--no-run", is_flag=True, help="Predict only: no compiler, no counts, no times.")
@click.option("--json", "json_file", type=FILE, metavar="FILE", help="Write the rows as JSON.")
@click.option("--plot", "picture", type=Picture(path_type=Path), metavar="FILE.png|.svg", help="Draw time and bytes.")
@click.option("--emit", "folder", type=FILE, metavar="DIR", help="Write the C and the schedules of every row.")
def compare(
    repeats: int,
    threads: int,
    leaf: LeafName,
    layout: str,
    exact: bool,
    no_run: bool,
    json_file: Path | None,
    picture: Path | None,
    folder: Path | None,
    **request: Any,
) -> None:
    """Compare strategies and tiles for a WORKLOAD: predicted, counted and timed.

    What polyfuse tune found for it is one more row, `tuned`.
    """
    for path in filter(None, (json_file, picture)):
        check_writable(path)
    if folder is not None:
        make_folder(folder)
    options = Options() if no_run else ready_to_build(Options())
    network = load(request)
    rows = rows_of(network, request)
    leaves = leaves_to_run(network, leaf, layout, exact, options, not no_run)
    if not no_run and leaf == "rows":
        interface: Interface = "nchw" if layout == "nchw" else "blocked"
        known = tuned_row(network, interface=interface, threads=threads, exact=exact, options=options)
        rows += [known] if known is not None else []
    with ProgressBar() as progress:
        cases = prepared(network, rows, progress, leaves)
        if folder is not None:
            emit(network, cases, folder)
        found = compare_cases(
            network, cases, run=not no_run, threads=threads, repeats=repeats, options=options, progress=progress
        )
    print_comparison(found)
    if not no_run:
        tell_threads(found, threads)
    if json_file is not None:
        found.write_json(json_file)
    if picture is not None:
        plot(found, picture)
    check_results(found, [case.timed.error_bound for case in cases])


@main.command(cls=Checked)
@shared
def show(**request: Any) -> None:
    """Print the sets, schedules, copies, buffers, counts, loops and C of a WORKLOAD.

    Without --tile one tile is chosen; without --strategy everything is recomputed.
    """
    network = load(request)
    if not request["tiles"]:
        request["tiles"] = default_tiles(network)[-1:]
    if not request["names"]:
        request["names"] = ("mixed",) if request["mixed"] or request["retention"] else ("recompute",)
    rows = [row for row in rows_of(network, request) if row.strategy is not None]
    check_rows(network, rows)
    click.echo(describe_network(network))
    for tile in dict.fromkeys(row.tile for row in rows):
        click.echo(describe_footprints(network, tile))
    for row in rows:
        click.echo("\n".join(show_lines(row, prepare(network, row))))


def load(request: Mapping[str, Any], rewritten: bool = True) -> Network:
    """The workload that was asked for; a model as its nodes are unless it is to be rewritten."""
    return load_workload(
        request["workload"],
        first=request["first"],
        last=request["last"],
        rewritten=rewritten,
        **model_asked(request),
    )


def rows_of(network: Network, request: Mapping[str, Any]) -> list[Candidate]:
    """The rows that were asked for; with --mixed or --retain, mixed rows are among them.

    Errors: InvalidInput for an option that fits no tile.
    """
    tiles = tuple(dict.fromkeys(request["tiles"])) or default_tiles(network)
    retention, order = dict(request["retention"]), request["order"]
    mixed = request["mixed"] or ((("recompute",), ("recompute", "recompute")) if retention else DEFAULT_MIXED)
    names = dict.fromkeys(request["names"] or NAMES)
    if request["mixed"] or retention:
        names["mixed"] = None
    ranks = {len(tile) for tile in tiles}
    for places in request["mixed"]:
        if len(places) not in ranks:
            raise InvalidInput(f"--mixed {','.join(places)}: no --tile has {len(places)} sizes; give as many as places")
    for tensor, places in retention.items():
        if len(places) not in ranks | {1}:
            raise InvalidInput(
                f"--retain {tensor}={','.join(places)}: no --tile has {len(places)} sizes; give one place, or as many"
            )
    if request["weights"] == "tile" and not network.weights:
        raise InvalidInput(f"--weights tile: network {network.name!r} has no weights to load; leave it out")
    if order is not None and 2 not in ranks:
        raise InvalidInput(f"--order {order}: no --tile has rows and columns; give one such as 8x8")
    choices = Choices(mixed, retention, request["placement"], ORDERS.get(order), request["weights"])
    return candidates(tiles, tuple(names), choices)


def show_lines(row: Candidate, case: Case) -> Iterator[str]:
    """One row for the reader: schedules, buffers and counts of its group, then loops and C."""
    yield from section(str(row), [])
    for group in case.groups:
        yield describe_schedule(group)
    for part in case.timed.groups:
        yield from section("loops (the form of the C that is timed)", part.nest.root.to_C_str().splitlines())
    yield from section("C", case.timed.source.splitlines())


def tell_threads(found: Comparison, threads: int) -> None:
    """Say which rows did not get the threads that were asked for."""
    alone = [row.label for row in found.rows if row.threads < threads]
    if alone:
        click.echo(
            f"{len(alone)} of {len(found.rows)} rows ran on 1 thread, not {threads}, since they have no tiles that are "
            f"independent ({', '.join(alone)}); tiles along a dimension that everything recomputes along are"
        )


def check_results(found: Comparison, winograd: Sequence[float]) -> None:
    """Refuse a comparison that contradicts itself, once it is printed; `winograd` is what his algorithm adds to a row.

    Errors: PolyfuseError.
    """
    wrong = [row.label for row in found.rows if row.mismatches]
    for row, more in zip(found.rows, winograd, strict=True):
        if row.max_rel_error is not None and not row.max_rel_error <= MOST_ERROR + more:
            wrong.append(row.label)
    if wrong:
        raise PolyfuseError(
            f"{found.workload}: counts differ from their prediction, or values from the reference by more than "
            f"{MOST_ERROR + max(winograd):.1g}, in {', '.join(dict.fromkeys(wrong))}; this is a polyfuse bug, please "
            "report it"
        )


main.add_command(bench)
main.add_command(compile_command)
main.add_command(run_command)
main.add_command(verify_command)
main.add_command(explain_command(WORKLOAD, partial(load, rewritten=False)))
main.add_command(export_scop_command(SHARED, load, rows_of))
main.add_command(import_scop_command((PARAMETER, *ROWS), rows_of))
main.add_command(machine)
main.add_command(plan_command)
main.add_command(tune_command(WORKLOAD, load, ready_to_build))
