"""Compiled and verified networks on the terminal."""

import math
from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from polyfuse.deploy.memory import Footprint
from polyfuse.deploy.plan import HostGroup, Plan
from polyfuse.deploy.verify import Verified
from polyfuse.network.signature import shown
from polyfuse.report.format import short_bytes, short_seconds
from polyfuse.report.tables import table_of

MOST_ROWS = 40
"""Rows of a table on the terminal; files have all."""


def print_compiled(
    console: Console, plan: Plan, fused: Footprint, unfused: Footprint, least: int, sizes: Mapping[str, int]
) -> None:
    """The groups, what they move and need compared with layers run one by one, and the files with their bytes."""
    print_groups(console, plan)
    console.print("the groups compared with layers one by one:")
    console.print(memory_table(fused, unfused))
    console.print(f"activations that are alive at once, layer by layer: at least {short_bytes(least)}")
    for name, size in sizes.items():
        console.print(f"  {name}  {short_bytes(size)}", soft_wrap=True, highlight=False)


def print_groups(console: Console, plan: Plan) -> None:
    """The groups of a plan for the host: tiles, retention, what they were predicted to take."""
    table = table_of(">group", ">tile", ">predicted", "layers")
    for index, group in enumerate(plan.groups[:MOST_ROWS]):
        price = "-" if math.isnan(group.price) else short_seconds(group.price)
        table.add_row(str(index), tile_text(group), price, " ".join(group.layers))
    console.print(table)
    if measured := sum(group.tuned for group in plan.groups):
        console.print(
            f"{measured} of {len(plan.groups)} groups are as polyfuse tune measured them; --untuned plans anew"
        )
    if any(math.isnan(group.price) for group in plan.groups):
        console.print("the plan was edited since its groups were priced: nothing is predicted of it", soft_wrap=True)
    if len(plan.groups) > MOST_ROWS:
        console.print(f"... and {len(plan.groups) - MOST_ROWS} more groups, in plan.json")
    layers = sum(len(group.layers) for group in plan.groups)
    console.print(f"{layers} layers in {len(plan.groups)} groups")


def memory_table(fused: Footprint, unfused: Footprint) -> Table:
    """What groups move and need, and what layers do."""
    table = table_of("bytes", ">groups", ">layers")
    for title, one, other in (
        ("off-chip, weights included", fused.offchip, unfused.offchip),
        ("on chip", fused.onchip, unfused.onchip),
        ("tensors between groups", fused.arena, unfused.arena),
        ("memory but for weights", fused.memory, unfused.memory),
    ):
        table.add_row(title, short_bytes(one), short_bytes(other))
    return table


def tile_text(group: HostGroup) -> str:
    """The rows, or rows x columns, of a tile."""
    return "x".join(map(str, group.tile)) if group.tile else "rows"


def print_verified(console: Console, verified: Verified) -> None:
    """The largest errors and the worst of all; of tensors that differ, who is off."""
    table = table_of(">group", "tensor", ">max rel error")
    for each in sorted(verified.checked, key=lambda each: -each.error)[:MOST_ROWS]:
        style = "bold" if each is verified.worst else ""
        table.add_row(str(each.group), escape(shown(each.tensor)), f"{each.error:.1e}", style=style)
    console.print(table)
    for each in (*verified.checked, *verified.called):
        if not each.error <= verified.most_error:
            console.print(verified.why(each), markup=False, highlight=False, soft_wrap=True)
    worst = verified.worst
    console.print(
        f"{len(verified.checked)} tensors checked; worst {shown(worst.tensor)}: {worst.error:.2g}", markup=False
    )
    ways = ", ".join(dict.fromkeys(each.way for each in verified.called))
    console.print(f"outputs compared for calls of the whole: {ways}", markup=False)
