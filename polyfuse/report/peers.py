"""A comparison with peers as a table for the terminal.

Enters: a `PeerComparison`. Leaves: text of at most 80 columns, or more where the terminal has them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from polyfuse.bench.peers.contender import PEERS, how_to_install
from polyfuse.bench.peers.results import PeerComparison, PeerRow
from polyfuse.report.format import short_bytes, short_seconds, significant
from polyfuse.report.tables import table_of

WIDE_COLUMNS = 112
_BAD = "bold red"
_INTERFACES = {"preferred": "each at the layout it prefers", "nchw": "all take and give NCHW"}


@dataclass(frozen=True)
class PeerTable:
    """Printed by a rich console; narrower than WIDE_COLUMNS it leaves out wall time, layout and version."""

    comparison: PeerComparison

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from _heading(self.comparison, options.ascii_only)
        yield _table(self.comparison, options.max_width >= WIDE_COLUMNS)
        yield from _notes(self.comparison)


def print_peers(comparisons: Iterable[PeerComparison], console: Console | None = None) -> None:
    """Print a table for each workload; on standard output unless a console is given."""
    for index, comparison in enumerate(comparisons):
        if index:
            (console or Console()).print()
        (console or Console()).print(PeerTable(comparison))


def _heading(comparison: PeerComparison, ascii_only: bool) -> Iterator[Text]:
    threads = "1 thread" if comparison.threads == 1 else f"{comparison.threads} threads"
    yield Text(comparison.workload, style="bold")
    yield Text(f"{threads}, {comparison.clock}, medians; {_INTERFACES[comparison.interface]}", style="dim")
    bound = short_seconds(comparison.bound_seconds)
    work = f"{significant(comparison.flops / 1e9)} GFLOP at {significant(comparison.peak_gflop_per_second)} GFLOP/s"
    rate = f"{significant(comparison.bandwidth_gb_per_second, 3)} GB/s ({comparison.level})"
    size = f"{short_bytes(comparison.compulsory_bytes)} at {rate}"
    yield Text(f"bound {bound.replace('µ', 'u') if ascii_only else bound}: {work}, {size}", style="dim")


def _table(comparison: PeerComparison, wide: bool) -> Table:
    table = table_of(space=2 if wide else 1)
    table.add_column("contender", no_wrap=True)
    numbers = ["ms", "GFLOP/s", "of peak", "to best", "to bound", "max error"]
    for title in (*numbers, *(["wall ms"] if wide else [])):
        table.add_column(title, justify="right", no_wrap=True)
    for title in ("layout", "version") if wide else ():
        table.add_column(title, no_wrap=True, overflow="ellipsis")
    others = [row for row in comparison.rows if row.state in ("wrong", "failed")]
    for row in (*comparison.timed, *others):
        table.add_row(*_cells(comparison, row, wide))
    return table


def _cells(comparison: PeerComparison, row: PeerRow, wide: bool) -> list[Text]:
    seconds, rate = comparison.seconds(row), comparison.gflop_per_second(row)
    best, bound = comparison.ratio_to_best(row), comparison.ratio_to_bound(row)
    error = "" if row.max_rel_error is None else f"{row.max_rel_error:.1e}"
    cells = [
        Text(row.contender),
        Text(row.state, style=_BAD) if seconds is None else Text(milliseconds(seconds)),
        Text("" if rate is None else significant(rate, 3)),
        Text("" if rate is None else f"{100 * rate / comparison.peak_gflop_per_second:.0f}%"),
        Text("" if best is None else f"{best:.2f}x"),
        Text("" if bound is None else f"{bound:.2f}x"),
        Text(error, style=_BAD if row.state == "wrong" else ""),
    ]
    if wide:
        wall = "" if row.wall_seconds is None else milliseconds(row.wall_seconds)
        cells += [Text(wall), Text(row.layout), Text(row.version)]
    return cells


def milliseconds(seconds: float) -> str:
    """Milliseconds to three digits.

    >>> milliseconds(0.0123456), milliseconds(2.5e-6)
    ('12.3', '0.0025')
    """
    return significant(seconds * 1e3, 3)


def _notes(comparison: PeerComparison) -> Iterator[Text]:
    yield from _ratios(comparison)
    for row in comparison.timed:
        if row.detail and row.is_peer:
            yield Text(f"{row.contender}: {row.detail}", style="dim")
    for row in comparison.rows:
        if row.state in ("wrong", "failed"):
            yield Text(f"{row.contender} {row.state}: {row.message}", style=_BAD)
    missing = [row.contender for row in comparison.rows if row.state == "missing"]
    if missing:
        command = how_to_install(peer for peer in PEERS if peer.name in missing)
        yield Text(f"not installed: {', '.join(missing)}; {command}", style="dim")


def _ratios(comparison: PeerComparison) -> Iterator[Text]:
    """How many times longer the best peer takes, of which peers it is the best, and which it says nothing of."""
    own, peer = comparison.best_own, comparison.best_peer
    ratio = comparison.ratio(peer, own)
    if own is not None and peer is not None:
        yield Text(f"best peer / polyfuse: {ratio:.2f} ({peer.contender} / {own.contender})")
    ran, others = comparison.peers_that_ran, comparison.peers_that_did_not
    if ran or others:
        words = f"peers that ran: {', '.join(row.contender for row in ran) or 'none'}"
        unknown = f"; not compared: {', '.join(row.in_words for row in others)}" if others else ""
        yield Text(words + unknown)
