"""A plan for a scratchpad machine on the terminal: its groups, totals, certificate and baselines; a sweep as a table.

Enters: a `ScratchPlan` with its groups in time, or a `Sweep`. Leaves: something rich can print, at 80 columns or more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from polyfuse.deploy.scratchpad import CheckedRun
from polyfuse.machines.accelerator import Accelerator
from polyfuse.plan.graph.operations import Graph
from polyfuse.plan.memory.addresses import aligned_up
from polyfuse.plan.price.objective import Objective
from polyfuse.plan.price.timeline import GroupTime
from polyfuse.plan.proof.prove import Proof
from polyfuse.plan.scratchplan import PlannedGroup, ScratchPlan, Totals, value_of
from polyfuse.plan.sweep import Sweep
from polyfuse.plan.tiles.tables import USUAL
from polyfuse.plan.why import lifetime, place_of
from polyfuse.report.format import byte_unit, short_bytes, short_seconds, short_share, significant
from polyfuse.report.tables import add_row, table_of

WIDE_COLUMNS = 120
MOST_ROWS = 60
"""Groups on the terminal; files have all."""


@dataclass(frozen=True)
class PlanTable:
    """Printed by a rich console; narrower than WIDE_COLUMNS, each group takes two lines."""

    plan: ScratchPlan
    times: tuple[GroupTime, ...]
    proof: Proof | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        plan = self.plan.judged()
        yield Text(heading(plan), style="bold")
        yield Text(f"{aim_text(plan)}{memory_text(plan.machine)}", style="dim")
        yield _groups_table(plan, self.times, options.max_width >= WIDE_COLUMNS)
        if len(plan.groups) > MOST_ROWS:
            yield Text(f"... and {len(plan.groups) - MOST_ROWS} more groups; --json writes all", style="dim")
        yield Text()
        lines = Table.grid(padding=(0, 1, 0, 0))
        proof = [] if self.proof is None else [("proof", str(self.proof))]
        for title, value in (("pinned", pins_text(plan) or "nothing"), *totals_lines(plan), *proof):
            add_row(lines, Text(title, style="bold"), value)
        yield lines
        if plan.baselines:
            yield Text()
            yield _baselines_table(plan)


def print_plan(
    plan: ScratchPlan, times: Sequence[GroupTime], console: Console | None = None, proof: Proof | None = None
) -> None:
    """Print a plan, with what isl says of it; on standard output unless a console is given."""
    (console or Console()).print(PlanTable(plan, tuple(times), proof))


def print_sweep(sweep: Sweep, console: Console | None = None) -> None:
    """Print a sweep; on standard output unless a console is given."""
    console = console or Console()
    request = sweep.request
    named = f"{request.network} in {request.dtype} on {request.machine.name}"
    console.print(Text(f"{named} over its on-chip memory", style="bold"))
    console.print(
        Text(f"least {objective_text(request.objective)}; others by how much more of it they take", style="dim")
    )
    console.print(_sweep_table(sweep))
    refused = [point for point in sweep.points if point.refusal is not None]
    if refused:
        console.print(Text(f"nothing fits {short_bytes(refused[-1].capacity_bytes)}: {refused[-1].refusal}"))
    certified = "" if has_gaps(sweep) else "; all that fit are optimal for this model"
    console.print(Text(f"* on the Pareto curve: no smaller memory does as well{certified}", style="dim"))


def print_places(plan: ScratchPlan, graph: Graph, console: Console | None = None) -> None:
    """Where every tensor of a plan is."""
    console = console or Console()
    table = table_of("tensor", ">bytes", ">from\ngroup", ">to\ngroup", "is", space=2)
    for name, info in graph.tensors.items():
        first, last = lifetime(plan, graph, name)
        place = place_of(plan, name, first, last)
        add_row(table, name, f"{info.bytes:,}", str(first), str(last), place, style="bold" if place == "pinned" else "")
    print_heading(console, plan)
    console.print(table)
    console.print(Text("--tensor NAME says why one is not pinned", style="dim"))


def print_simulated(
    console: Console, plan: ScratchPlan, checked: CheckedRun, sizes: Mapping[str, int], proof: Proof
) -> None:
    """A run on the simulated machine compared with the plan, what isl says of it, and the files with their bytes."""
    taken, totals = checked.simulated, plan.totals
    table, moved = table_of("", ">planned", ">simulated", space=2), totals.offchip_bytes
    add_row(table, "cycles", f"{totals.latency_cycles:,.0f}", f"{taken.cycles:,.0f}")
    for title, planned, simulated in (
        ("off-chip bytes, feature maps", moved.feature_maps, taken.offchip_bytes - taken.weight_bytes),
        ("off-chip bytes, weights", moved.weights, taken.weight_bytes),
        ("on-chip bytes", totals.onchip_peak_bytes, taken.peak_bytes),
    ):
        add_row(table, title, f"{planned:,}", f"{simulated:,}")
    print_heading(console, plan)
    console.print(table)
    apart = f"{100 * checked.cycles_error:+.2f}%"
    console.print(
        f"simulated against planned cycles: {apart}; results within {checked.error:.2g} of the reference",
        soft_wrap=True,
    )
    console.print(f"proof: {proof}", soft_wrap=True, highlight=False)
    for name, size in sizes.items():
        console.print(f"  {name}  {short_bytes(size)}", soft_wrap=True, highlight=False)


def print_heading(console: Console, plan: ScratchPlan) -> None:
    """What was planned, and whether it was edited since."""
    console.print(Text(heading(plan), style="bold"))
    if plan.judged().is_edited:
        console.print(Text(aim_text(plan.judged()), style="dim"))


def heading(plan: ScratchPlan) -> str:
    """The network, the type and the machine."""
    machine = plan.machine
    return f"{plan.network} in {plan.dtype} on {machine.name} with {short_bytes(machine.capacity_bytes)} on chip"


def aim_text(plan: ScratchPlan) -> str:
    """The objective that a plan was found to minimise; an edited plan may not."""
    least = f"least {objective_text(plan.objective)}"
    return f"edited since it was planned for {least}" if plan.is_edited else least


def memory_text(machine: Accelerator) -> str:
    """What the off-chip memory of a machine is for, where that is not everything."""
    in_place = "; weights are read where they are, off chip" if machine.weights_in_place else ""
    alone = "" if machine.offchip_writable else "; nothing between layers is stored off chip"
    return in_place + alone


def objective_text(objective: Objective) -> str:
    """The objective in words."""
    names = {"bytes": "off-chip bytes", "macs": "multiply-accumulates", "peak": "memory on chip"}
    weight = f" + {objective.cycles_per_byte:g} cycles for each off-chip byte" if objective.cycles_per_byte else ""
    return names.get(objective.goal, objective.goal) + weight


def onchip_bytes(plan: ScratchPlan, index: int) -> int:
    """The bytes of all buffers and pins that are on chip while a group runs."""
    unit = plan.machine.alignment_bytes
    return sum(aligned_up(lived.bytes, unit) for lived, _ in plan.buffers if lived.first <= index <= lived.last)


def pinned_bytes(plan: ScratchPlan, index: int) -> int:
    """The bytes of the pins that are on chip while a group runs."""
    unit = plan.machine.alignment_bytes
    return sum(aligned_up(pin.bytes, unit) for pin in plan.pins if pin.first <= index <= pin.last)


def pins_text(plan: ScratchPlan) -> str:
    """The pinned tensors, each with its bytes and the groups that it is there for."""
    pins = sorted(plan.pins, key=lambda pin: (pin.first, pin.last))
    lives = (f"{pin.first}" if pin.first == pin.last else f"{pin.first}-{pin.last}" for pin in pins)
    return ", ".join(f"{pin.tensor} {short_bytes(pin.bytes)} in {life}" for pin, life in zip(pins, lives, strict=True))


def layers_text(group: PlannedGroup) -> str:
    """The first and the last operation, and how many there are."""
    names = group.operations
    if len(names) <= 2:
        return " ".join(names)
    return f"{names[0]} .. {names[-1]} ({len(names)})"


def tile_text(group: PlannedGroup, time: GroupTime) -> str:
    """Rows, rows x columns, or channels of a block; `whole` in one step."""
    if time.steps == 1:
        return "whole"
    tile = group.tile
    rows = f"{tile.rows} row{'s' if tile.rows > 1 else ''}"
    size = f"{tile.rows}x{tile.columns}" if tile.columns else rows
    return f"{size}, {tile.channels} ch" if tile.channels else size


def retention_text(group: PlannedGroup, time: GroupTime) -> str:
    """What becomes of overlaps: `local`, `recompute`, or both where they differ along rows and columns or by tensor."""
    if time.steps == 1:
        return ""
    tile = group.tile
    tensors = {*group.sources, *(name.removeprefix("ring_") for name in group.buffers if name.startswith("ring_"))}
    used = {tuple(tile.retention.get(name, USUAL))[: 2 if tile.columns else 1] for name in tensors}
    if len({place for places in used for place in places}) == 1:
        return next(iter(used))[0]
    if len(used) == 1:
        return "/".join(next(iter(used)))
    return "mixed"


def totals_lines(plan: ScratchPlan) -> list[tuple[str, str]]:
    """What a plan takes in all and on average, and its certificate: titles and values."""
    totals, machine = plan.totals, plan.machine
    moved = totals.offchip_bytes
    seconds = totals.latency_cycles / machine.clock_ghz / 1e9
    cycles = totals.latency_cycles or 1.0
    again = totals.macs_executed - totals.macs
    lines = [
        ("latency", f"{totals.latency_cycles:,.0f} cycles, {short_seconds(seconds)} at {machine.clock_ghz:g} GHz"),
        ("off-chip", f"{moved.all:,} B: {moved.feature_maps:,} of feature maps, {moved.weights:,} of weights"),
        ("on chip", f"{totals.onchip_peak_bytes:,} of {machine.capacity_bytes:,} B"),
        ("MACs", f"{totals.macs_executed:,}, {short_share(again, totals.macs) or '0%'} of them again"),
    ]
    if totals.energy_pj:
        lines.append(("energy", f"{significant(totals.energy_pj / 1e6)} µJ"))
    each = f"{significant(totals.macs_executed / cycles)} MACs and {significant(moved.all / cycles)} B a cycle"
    return [
        *lines,
        ("on average", f"{each}, {significant(totals.macs / max(moved.all, 1))} MACs for each byte"),
        ("certificate", str(plan.certificate)),
    ]


def difference(plan: ScratchPlan, other: Totals) -> str:
    """By how much the objective of a plan is below that of another way of planning; empty where they are equal."""
    mine, theirs = value_of(plan.objective, plan.totals), value_of(plan.objective, other)
    if mine == theirs or not theirs:
        return ""
    return f"{100 * (mine / theirs - 1):+.1f}%"


def weights_text(group: PlannedGroup, time: GroupTime) -> str:
    """How weights come: `resident`, `streamed` in every step, `in blocks` of output channels; nothing without any."""
    if not time.weight_bytes:
        return ""
    return "in blocks" if group.tile.channels else group.tile.weights


def _groups_table(plan: ScratchPlan, times: Sequence[GroupTime], wide: bool) -> Table:
    size, unit = byte_unit(time_bytes(time) for time in times)
    how = ("tile", "overlap", "weights", ">steps", ">pinned\nKiB") if wide else ("tile, overlap\nweights",)
    taken = (">cycles", ">bound by") if wide else (">cycles\nbound by",)
    table = table_of(">", "layers", *how, ">on chip\nKiB", f">off-chip\n{unit}", *taken)
    for index, (group, time) in enumerate(zip(plan.groups[:MOST_ROWS], times, strict=False)):
        tile, overlap, weights = tile_text(group, time), retention_text(group, time), weights_text(group, time)
        cycles = f"{group.cycles:,.0f}"
        onchip = significant(onchip_bytes(plan, index) / 1024, decimals=1)
        moved = significant(time_bytes(time) / size, decimals=1)
        if wide:
            pinned = significant(pinned_bytes(plan, index) / 1024, decimals=1)
            cells = [tile, overlap, weights, str(time.steps), pinned, onchip, moved, cycles, time.bound]
        else:
            cut = ", ".join(filter(None, (tile, overlap))) + (f"\n{weights}" if weights else "")
            cells = [cut, onchip, moved, f"{cycles}\n{time.bound}"]
        add_row(table, str(index), layers_text(group), *cells)
    return table


def time_bytes(time: GroupTime) -> int:
    """All bytes that a group moves."""
    return sum(time.loaded.values()) + sum(time.stored.values()) + time.weight_bytes


def _baselines_table(plan: ScratchPlan) -> Table:
    found = [totals for totals in plan.baselines.values() if totals is not None]
    size, unit = byte_unit(totals.offchip_bytes.all for totals in found)
    bytes_titles = f">feature\nmaps {unit}", f">weights\n{unit}", ">on chip\nKiB"
    table = table_of("way of planning", ">cycles", *bytes_titles, ">MACs\nagain", f">joint, of\n{plan.objective.goal}")
    for name, totals in plan.baselines.items():
        if totals is None:
            add_row(table, name, "does not fit", style="dim")
            continue
        add_row(
            table,
            name,
            f"{totals.latency_cycles:,.0f}",
            significant(totals.offchip_bytes.feature_maps / size, decimals=3),
            significant(totals.offchip_bytes.weights / size, decimals=3),
            significant(totals.onchip_peak_bytes / 1024, decimals=1),
            short_share(totals.macs_executed - totals.macs, totals.macs),
            difference(plan, totals),
            style="bold" if name == "joint" else "",
        )
    return table


def _sweep_table(sweep: Sweep) -> Table:
    """A row for each capacity; the baselines by their share of the objective above the joint plan."""
    objective, best = sweep.request.objective, set(map(id, sweep.best))
    size, unit = byte_unit(point.totals.offchip_bytes.all for point in sweep.points if point.totals is not None)
    many = any(point.totals is not None and point.totals.latency_cycles >= 1e6 for point in sweep.points)
    gaps = has_gaps(sweep)
    wide = max(len(short_bytes(point.capacity_bytes)) for point in sweep.points)
    others = dict.fromkeys(name for point in sweep.points for name in point.baselines if name != "joint")
    table = table_of()
    table.add_column("on chip", no_wrap=True)
    for title in ("million\ncycles" if many else "cycles", f"off-chip\n{unit}", *(["gap"] if gaps else []), *others):
        table.add_column(title.replace("_", "\n"), justify="right")
    for point in sweep.points:
        capacity = f"{short_bytes(point.capacity_bytes):>{wide}}"
        if point.totals is None or point.certificate is None:
            add_row(table, capacity, "-", style="dim")
            continue
        cycles = point.totals.latency_cycles
        add_row(
            table,
            capacity + "*" * (id(point) in best),
            f"{cycles / 1e6:,.3f}" if many else f"{cycles:,.0f}",
            significant(point.totals.offchip_bytes.all / size, decimals=2),
            *([f"{100 * point.certificate.gap:.2g}%"] if gaps else []),
            *(_more(objective, point.totals, point.baselines.get(name)) for name in others),
        )
    return table


def has_gaps(sweep: Sweep) -> bool:
    """Whether some point is not certified optimal."""
    return any(point.certificate is not None and point.certificate.gap > 0 for point in sweep.points)


def _more(objective: Objective, joint: Totals, other: Totals | None) -> str:
    if other is None:
        return "-"
    least = value_of(objective, joint)
    if not least:
        return ""
    more = 100 * (value_of(objective, other) / least - 1)
    return f"{more:+.1f}%" if more < 99.95 else f"{more:+,.0f}%"
