"""What rewriting and fusing make of a network, as tables for the terminal.

Enters: an `Explanation`. Leaves: text.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.console import Console
from rich.table import Table
from rich.text import Text

from polyfuse.deploy.explain import ExplainedGroup, Explanation, NetworkSizes
from polyfuse.deploy.space import label_of
from polyfuse.report.format import byte_unit, short_count, short_seconds, significant
from polyfuse.report.tables import table_of
from polyfuse.rewrite.rewriting import Applied, NearMiss
from polyfuse.schedule.strategy import Strategy

NOTE = (
    "blocks: those of DNNFusion's published plan with layers in the group, and types as it names them; strategy: tile "
    "and retention, then by how much the nearest and the farthest of the others lose; apart, together: bytes moved "
    "off-chip by the layers one by one, and by the group"
)


def print_explanation(found: Explanation, console: Console | None = None) -> None:
    """Print all of it; on standard output unless a console is given."""
    out = console or Console()
    out.print(Text(found.workload, style="bold"))
    out.print(_sizes(found))
    out.print()
    out.print(_applied(found.applied) if found.applied else Text("no rule applied"))
    out.print()
    if found.near_misses:
        out.print(_near_misses(found.near_misses))
        out.print()
    if found.unplanned:
        out.print(Text(f"no groups for this host: {found.unplanned}"))
        out.print(_published(found))
        return
    out.print(_groups(found))
    out.print(Text("the groups that polyfuse compile makes. " + NOTE, style="dim"))


def _sizes(found: Explanation) -> Table:
    published = (">published,\nY refused", ">published,\nY accepted", ">published,\nas decided")
    table = table_of("network", ">layers", ">operations", *published, ">compiled")
    table.add_row("as it is", *_cells(found.before), "", "")
    groups = str(len(found.groups)) if not found.unplanned else "-"
    table.add_row("rewritten", *_cells(found.after), str(len(found.published)), groups)
    return table


def _cells(sizes: NetworkSizes) -> tuple[str, ...]:
    groups = (str(sizes.refused_groups), str(sizes.accepted_groups))
    return str(sizes.layers), short_count(sizes.operations), *groups


def _applied(applied: Sequence[Applied]) -> Table:
    """One row for each rule: how often, what it saved, the first place."""
    table = table_of("rule", ">times", ">operations\nsaved", "law; first applied to")
    rules: dict[str, list[Applied]] = defaultdict(list)
    for step in applied:
        rules[step.rule].append(step)
    for rule, steps in rules.items():
        saved = sum(step.operations_before - step.operations_after for step in steps)
        where = f"{steps[0].law}\n{', '.join(steps[0].removed)} -> {', '.join(steps[0].made) or 'nothing'}"
        table.add_row(rule, str(len(steps)), short_count(saved), Text(where))
    return table


def _near_misses(misses: Sequence[NearMiss]) -> Table:
    """One row for each rule and condition: how often, and why in the first place, with numbers if there are any."""
    table = table_of("near miss", ">times", "condition; why not in the first place")
    places: dict[tuple[str, str], list[NearMiss]] = defaultdict(list)
    for miss in misses:
        places[miss.rule, miss.condition].append(miss)
    for (rule, condition), found in places.items():
        shown = next((miss for miss in found if miss.counterexample), found[0])
        lines = [condition, f"{', '.join(shown.layers)}: {shown.reason}"]
        table.add_row(rule, str(len(found)), Text("\n".join(filter(None, [*lines, shown.counterexample]))))
    return table


def _groups(found: Explanation) -> Table:
    size, unit = byte_unit(group.bytes_apart for group in found.groups)
    numbers = (">predicted", f">apart\n{unit}", f">together\n{unit}")
    table = table_of(">group", "layers", "type", "blocks", "strategy", *numbers)
    for number, group in enumerate(found.groups):
        amounts = (significant(amount / size, decimals=2) for amount in (group.bytes_apart, group.bytes_together))
        predicted = "-" if math.isnan(group.seconds) else short_seconds(group.seconds)
        cells = (Text(_members(group)), group.mapping, _blocks(group), Text("\n".join(_strategy(group))))
        table.add_row(str(number), *cells, predicted, *amounts)
    return table


def _published(found: Explanation) -> Table:
    table = table_of(">block", "layers", "type")
    for number, block in enumerate(found.published):
        table.add_row(str(number), Text(_ends(block.layers)), block.mapping)
    return table


def _blocks(group: ExplainedGroup) -> str:
    """The blocks of the published plan that a group has layers of."""
    first, last = group.blocks[0], group.blocks[-1]
    together = len(group.blocks) == last - first + 1
    return str(first) if first == last else f"{first}-{last}" if together else ", ".join(map(str, group.blocks))


def _strategy(group: ExplainedGroup) -> Iterator[str]:
    """Its tile and places, and by how much the nearest of the others and the farthest lose."""
    if group.tile is None:
        yield "layer by layer" if len(group.layers) > 1 else "-"
        return
    yield label_of(Strategy(group.tile, group.others, group.retention))
    losses = sorted((price / group.seconds - 1, label) for label, price in group.looked_at.items() if price < math.inf)
    for loss, label in dict.fromkeys(losses[:1] + losses[-1:]):
        yield f"{label} {100 * loss:+.0f}%"


def _members(group: ExplainedGroup) -> str:
    """The kinds in a row, equal ones counted, and the first and the last layer."""
    runs = [(kind, len(list(same))) for kind, same in groupby(group.kinds)]
    return _ends(group.layers) + ": " + " ".join(kind if many == 1 else f"{many} {kind}" for kind, many in runs)


def _ends(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
