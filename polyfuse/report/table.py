"""A comparison as a table for the terminal.

Enters: a `Comparison`. Leaves: something rich can print, at 80 columns or more, with colour or without.

Each row takes two lines, the prediction above and what an instrumented run counted below:

    tile   strategy   executions   on chip KiB
    8x8    local             324          3.52
           shifted         = 324        = 3.52
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from polyfuse.bench.results import STRATEGIES, Comparison, Row
from polyfuse.report.format import byte_unit, short_count, short_seconds, short_share, significant
from polyfuse.report.tables import table_of
from polyfuse.text import tile_label

WIDE_COLUMNS = 120
_BAD = "bold red"
_BYTE_TITLES = {
    "onchip_bytes": "on chip",
    "offchip_read_bytes": "off-chip\nread",
    "offchip_write_bytes": "off-chip\nwritten",
}


@dataclass(frozen=True)
class ComparisonTable:
    """Printed by a rich console: narrower than WIDE_COLUMNS it leaves out the instances, the MACs, the loops,
    and what the generated C keeps on chip, the most of which is a note then."""

    comparison: Comparison

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from _heading(self.comparison)
        if not self.comparison.rows:
            yield Text("no rows")
            return
        wide = options.max_width >= WIDE_COLUMNS
        yield _table(self.comparison.rows, wide, options.ascii_only)
        yield Text()
        if not wide:
            yield Text(_memory_note(self.comparison.rows), style="dim")
        yield from _notes(self.comparison.rows, _unequal(options.ascii_only))


Column = tuple[str, Callable[[Row], Text]]
"""A title, and the cell of a row."""


def print_comparison(comparison: Comparison, console: Console | None = None) -> None:
    """Print the table; on standard output unless a console is given."""
    (console or Console()).print(ComparisonTable(comparison))


def _heading(comparison: Comparison) -> Iterator[Text]:
    cpu = comparison.machine.get("cpu")
    yield Text(comparison.workload + (f" on {cpu}" if cpu else ""), style="bold")
    threads = sorted({row.threads for row in comparison.rows})
    used = f"; {threads[0]} thread{'s' if threads[0] > 1 else ''}" if len(threads) == 1 else ""
    yield Text(f"{comparison.compiler} {' '.join(comparison.flags)}{used}", style="dim")


def _table(rows: tuple[Row, ...], wide: bool, ascii_only: bool) -> Table:
    columns = _columns(rows, wide, ascii_only)
    table = table_of(space=1 if wide else 0)
    table.add_column("tile", no_wrap=True)
    table.add_column("strategy", min_width=max(map(len, STRATEGIES)))
    for title, _ in columns:
        table.add_column(title, justify="right", overflow="fold")
    same_threads = len({row.threads for row in rows}) == 1
    for cut, group in groupby(rows, key=lambda row: (row.tile, row.axes)):
        label = tile_label(*cut)
        for row in group:
            table.add_row(label, _strategy_cell(row, same_threads), *(cell(row) for _, cell in columns))
            label = ""
        table.add_section()
    return table


def _columns(rows: tuple[Row, ...], wide: bool, ascii_only: bool) -> list[Column]:
    def checked(key: str, show: Callable[[int], str]) -> Callable[[Row], Text]:
        return lambda row: _checked_cell(row, key, show, _unequal(ascii_only))

    columns: list[Column] = [
        ("executions", checked("executions", short_count)),
        ("recom-\nputed", lambda row: Text(short_share(row.recomputed, row.executions - row.recomputed))),
    ]
    if wide:
        columns.insert(0, ("instances", lambda row: Text(short_count(row.instances))))
        columns.append(("MACs\nexecuted", checked("macs_executed", short_count)))
    for key, title in _BYTE_TITLES.items():
        size, unit = byte_unit(getattr(row, key) for row in rows)
        columns.append((f"{title}\n{unit}", checked(key, partial(_amount, size))))
    if wide:
        columns.insert(-2, _memory_column(rows))
        columns.append(("for\nif", lambda row: Text(f"{row.loops}\n{row.branches}")))
    if any(row.seconds_median is not None for row in rows):
        columns.append(("time\nratio", lambda row: _time_cell(row, ascii_only)))
    if any(row.max_rel_error is not None for row in rows):
        columns.append(("max rel\nerror", _error_cell))
    return columns


def _amount(unit: int, amount: int) -> str:
    return significant(amount / unit, decimals=2)


def _memory_column(rows: tuple[Row, ...]) -> Column:
    """Buffers and, on the second line, workspace of the generated C that is timed."""
    size, unit = byte_unit(row.buffer_bytes + row.workspace_bytes for row in rows)

    def show(row: Row) -> Text:
        workspace = f"\n+ {_amount(size, row.workspace_bytes)}" if row.workspace_bytes else ""
        return Text(_amount(size, row.buffer_bytes) + workspace)

    return f"in C\n+ work\n{unit}", show


def _checked_cell(row: Row, key: str, show: Callable[[int], str], unequal: str) -> Text:
    """The prediction and, on the second line, the count: `= 324`, or `≠ 325` in red."""
    cell = Text(show(getattr(row, key)))
    if row.counted is not None and key in row.counted:
        differs = key in row.mismatches
        cell.append(f"\n{unequal if differs else '='} {show(row.counted[key])}", style=_BAD if differs else "dim")
    return cell


def _strategy_cell(row: Row, same_threads: bool) -> Text:
    lines = [row.name]
    if row.placement is not None:
        lines.append(row.placement)
    if not same_threads:
        lines.append(f"{row.threads} thr.")
    return Text("\n".join(lines))


def _time_cell(row: Row, ascii_only: bool) -> Text:
    if row.seconds_median is None:
        return Text("")
    shown = short_seconds(row.seconds_median)
    ratio = "" if row.ratio_to_unfused is None else f"\n{row.ratio_to_unfused:.2f}x"
    return Text((shown.replace("µ", "u") if ascii_only else shown) + ratio)


def _error_cell(row: Row) -> Text:
    if row.max_rel_error is None:
        return Text("")
    return Text(f"{row.max_rel_error:.1e}", style="" if math.isfinite(row.max_rel_error) else _BAD)


def _unequal(ascii_only: bool) -> str:
    return "!=" if ascii_only else "≠"


def _notes(rows: tuple[Row, ...], unequal: str) -> Iterator[Text]:
    if any(row.counted for row in rows):
        yield Text(f"second lines: counted by an instrumented run, = or {unequal} the prediction", style="dim")
    if any(row.strategy == "mixed" for row in rows):
        yield Text("mixed: for each tensor, along each tile dimension, R recompute, L local, G global", style="dim")
    for note in dict.fromkeys(_halo_note(row) for row in rows if row.tile and row.halo):
        yield Text(note, style="dim")
    for row in rows:
        for key in row.mismatches:
            counted = (row.counted or {})[key]
            yield Text(f"{row.label}: {key} predicted {getattr(row, key):,}, counted {counted:,}", style=_BAD)


def _memory_note(rows: tuple[Row, ...]) -> str:
    """The most that the C which is timed keeps on chip, what fills up rows and blocks with it."""
    size, unit = byte_unit(row.buffer_bytes + row.workspace_bytes for row in rows)
    largest = (max(getattr(row, key) for row in rows) for key in ("buffer_bytes", "workspace_bytes"))
    buffers, workspace = (_amount(size, amount) for amount in largest)
    return f"generated C: up to {buffers} {unit} of buffers and {workspace} {unit} of workspace in each thread"


def _halo_note(row: Row) -> str:
    shared = (f"{tensor} {tile_label(widths)}" for tensor, widths in row.halo.items() if any(widths))
    return f"halo that neighbouring tiles of {tile_label(row.tile, row.axes)} share: {', '.join(shared) or 'nothing'}"
