"""A machine as tables for the terminal.

Enters: a `Machine`. Leaves: text of at most 80 columns.
"""

from collections.abc import Iterator
from itertools import zip_longest

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from polyfuse.machines.host import Bandwidth, Costs, Machine
from polyfuse.report.format import short_bytes, significant
from polyfuse.report.tables import table_of


def print_machine(machine: Machine, console: Console | None = None) -> None:
    """Print compute rates and levels of memory; on standard output unless a console is given."""
    for part in _parts(machine):
        (console or Console()).print(part)


def _parts(machine: Machine) -> Iterator[RenderableType]:
    yield Text(machine.name, style="bold")
    yield Text(f"{machine.compiler} {' '.join(machine.flags)}", style="dim")
    clock = f"{_cores(machine)} at {significant(machine.clock_ghz)} GHz"
    yield Text(f"{clock}, cache lines of {machine.cache_line_bytes} B, vectors of {machine.vector_bytes} B")
    yield Text()
    yield _peaks(machine)
    yield Text()
    yield _levels(machine)
    if machine.costs is not None:
        yield Text()
        yield _costs(machine.costs)
    yield Text("GB/s: 10^9 bytes per second; a copy counts what it reads and what it writes", style="dim")


def _peaks(machine: Machine) -> Table:
    table = table_of("vectors", ">GFLOP/s\none core", ">multiply-adds\nper cycle", ">")
    for peak in machine.peaks:
        chosen = "used" if peak.vector_bytes == machine.vector_bytes else ""
        rates = (significant(peak.gflop_per_second), significant(peak.fma_per_cycle, digits=3))
        table.add_row(f"{peak.vector_bytes} B", *rates, chosen)
    return table


def _levels(machine: Machine) -> Table:
    rates = [f">{who}\nGB/s\n{kind}" for who in ("1 core", _cores(machine)) for kind in ("read", "write", "copy")]
    table = table_of("level", ">capacity", ">cores\nshare it", *rates)
    for level in machine.levels:
        measured = (*_rates(level.one_core), *_rates(level.all_cores))
        table.add_row(level.name, short_bytes(level.capacity_bytes), str(level.shared_by_cores), *measured)
    return table


def _costs(costs: Costs) -> Table:
    """Every cost in nanoseconds: computing to the left, memory to the right."""
    table = table_of("time model", ">ns", ">", ">ns")
    pairs = zip_longest(costs.compute.items(), costs.memory.items(), fillvalue=("", None))
    for (name, value), (other, cost) in pairs:
        table.add_row(name, _cost(value), other, _cost(cost))
    return table


def _cost(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _rates(bandwidth: Bandwidth) -> tuple[str, str, str]:
    rates = (bandwidth.read_gb_per_second, bandwidth.write_gb_per_second, bandwidth.copy_gb_per_second)
    read, write, copy = (significant(rate, digits=3) for rate in rates)
    return read, write, copy


def _cores(machine: Machine) -> str:
    return "1 core" if machine.cores == 1 else f"{machine.cores} cores"
