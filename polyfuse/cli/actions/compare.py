"""`polyfuse compare`: a workload and strategies in; a table, files and an exit status out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from polyfuse.bench.compare import compare_cases, compiled_selection, prepared, ready_to_build, tuned_row
from polyfuse.bench.emit import emit
from polyfuse.bench.results import Comparison
from polyfuse.choices import KernelsName
from polyfuse.cli.actions.request import network_asked, rows_of
from polyfuse.codegen.build import Options
from polyfuse.codegen.lower.selection import SCALAR, Interface
from polyfuse.deploy.settings import Settings
from polyfuse.errors import PolyfuseError
from polyfuse.files import check_writable, make_folder
from polyfuse.report.plot import plot
from polyfuse.report.progress import ProgressBar
from polyfuse.report.table import print_comparison

MOST_ERROR = {"float32": 1e-5, "float64": 1e-12}
"""The largest relative error of a row that is taken for rounding, by the type of elements."""


def act(
    repeats: int,
    threads: int,
    kernels: KernelsName,
    layout: str,
    exact: bool,
    no_run: bool,
    json_file: Path | None,
    picture: Path | None,
    folder: Path | None,
    **request: Any,
) -> None:
    """Compare tiles and strategies for a WORKLOAD: predicted, counted, checked and timed."""
    for path in filter(None, (json_file, picture)):
        check_writable(path)
    if folder is not None:
        make_folder(folder)
    options = Options() if no_run else ready_to_build(Options())
    network = network_asked(request)
    rows = rows_of(network, request)
    selection = SCALAR if no_run else compiled_selection(network, options, kernels, layout, exact)
    if not no_run and kernels == "rows":
        interface: Interface = "nchw" if layout == "nchw" else "blocked"
        known = tuned_row(network, Settings(interface=interface, threads=threads, exact=exact, options=options))
        rows += [known] if known is not None else []
    with ProgressBar() as progress:
        too_complex: list[str] = []
        cases = prepared(network, rows, progress, selection, lambda row, why: too_complex.append(f"{row}: {why}"))
        if folder is not None:
            emit(network, cases, folder)
        found = compare_cases(
            network, cases, run=not no_run, threads=threads, repeats=repeats, options=options, progress=progress
        )
    print_comparison(found)
    for line in too_complex:
        click.echo(f"left out: {line}")
    if not no_run:
        tell_threads(found, threads)
    if json_file is not None:
        found.write_json(json_file)
    if picture is not None:
        plot(found, picture)
    most = MOST_ERROR[network.outputs[0].dtype]
    check_results(found, [most + case.timed.error_bound for case in cases])


def tell_threads(found: Comparison, threads: int) -> None:
    """Say which rows did not get the threads that were asked for."""
    for used in sorted({row.threads for row in found.rows if row.threads < threads}):
        labels = [row.label for row in found.rows if row.threads == used]
        ran = f"{len(labels)} of {len(found.rows)} rows ran on {used} thread{'s'[: used > 1]}, not {threads}"
        tiles = f"{used} tiles" if used > 1 else "no tiles"
        click.echo(
            f"{ran}, since they have {tiles} that are independent ({', '.join(labels)}); tiles along a "
            "dimension that everything recomputes along are"
        )


def check_results(found: Comparison, most: Sequence[float]) -> None:
    """Refuse a comparison that contradicts itself, once it is printed; `most` has the largest error of each row.

    Errors: PolyfuseError.
    """
    wrong = [row.label for row in found.rows if row.mismatches]
    for row, bound in zip(found.rows, most, strict=True):
        if row.max_rel_error is not None and not row.max_rel_error <= bound:
            wrong.append(row.label)
    if wrong:
        raise PolyfuseError(
            f"{found.workload}: counts differ from their prediction, or values from the reference by more than "
            f"{max(most):.1g}, in {', '.join(dict.fromkeys(wrong))}; this is a polyfuse bug, please "
            "report it"
        )
