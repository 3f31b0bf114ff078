"""Measures and writes docs/measured/benchmarks.md: `python docs/measured/benchmarks.py` (ten minutes on two cores).

Every ratio is of medians measured in one run, candidates in turns, on one pinned core, by CPU time.
"""

import datetime
from collections.abc import Iterable
from pathlib import Path

import handwritten
import toolkit
from peerpages import markdown

import polyfuse as pf
from polyfuse.bench.results import Row
from polyfuse.report.format import short_share, tile_label

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
KERNELS: tuple[tuple[str, dict[str, str]], ...] = (
    ("stencil3", {}),
    ("vgg_pair", {}),
    ("mbv2_block", {}),
    ("mbv2_block", {"size": "224"}),
    ("dwsep", {}),
    ("sr4", {}),
    ("resnet_block", {}),
    ("two_convs", {}),
)
HEAD = """\
# Strategies and the toolkit, measured

Measured {date} on {cpu}, {cores} cores, {compiler}, `{flags}`; one thread, fp32, plain C loops.

`python docs/measured/benchmarks.py` measures all of this again and writes this page. Ratios are of medians of CPU time,
measured in one run in turns. They are what one machine showed, not promises.

"""
STRATEGIES = """\
## Strategies

For each kernel and strategy the fastest tile of the default spread. *Time* and *off-chip* are relative to the unfused
code (layer by layer, row by row, every tensor written and read once); *counted* says whether the instrumented run
counted the executions and bytes that were predicted, in all rows of the strategy.

"""
AFTER = """
The code is plain C: the innermost loop runs along a row of the tile and adds one tap at a time, so a short row
(a narrow tile) costs time that [row kernels](fast-benchmarks.md) save. The counts do not depend on it.

"""
TOOLKIT = """\
## The toolkit itself

CPU seconds of every stage for chains of 3x3 convolutions, 16 channels, 540x960, tiles of 60x240
(`python docs/measured/toolkit.py`). The goals: four layers under 2 s, ten under 10 s.

"""
BY_HAND = """
## Generated plain C against loops written by hand

How many times faster the generated code of one layer is (`python docs/measured/handwritten.py`): than the obvious
loops (sum over channels and taps for each output), and than loops that add one tap at a time to a row.

"""


def fastest(rows: Iterable[Row]) -> list[tuple[Row, bool]]:
    """The fastest row of each strategy and placement, and whether all its rows counted what was predicted."""
    groups: dict[tuple[str, str | None], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.name, row.placement), []).append(row)
    return [
        (min(group, key=lambda row: row.seconds_median or 0.0), not any(row.mismatches for row in group))
        for group in groups.values()
    ]


def strategy_lines() -> tuple[pf.Comparison, list[str]]:
    """The table of strategies, and one of the comparisons it is made of."""
    lines = []
    for name, parameters in KERNELS:
        network = pf.load_workload(str(ROOT / "kernels" / f"{name}.py"), parameters=parameters)
        rows = pf.candidates(pf.default_tiles(network), ("recompute", "local", "global", "mixed"))
        comparison = pf.compare(network, rows, repeats=5, kernels="scalar")
        (unfused, *_) = comparison.rows
        before = unfused.offchip_read_bytes + unfused.offchip_write_bytes
        for row, exact in fastest(comparison.rows[1:]):
            moved = row.offchip_read_bytes + row.offchip_write_bytes
            lines.append(
                (
                    " ".join([name, *parameters.values()]),
                    f"{row.name} {row.placement or ''}".strip(),
                    tile_label(row.tile),
                    short_share(row.recomputed, row.instances),
                    f"{row.onchip_bytes / 1024:,.0f}",
                    f"{moved / before:.2f}",
                    f"{row.ratio_to_unfused:.2f}",
                    f"{row.max_rel_error:.0e}",
                    "exact" if exact else "WRONG",
                )
            )
        print(f"{name}: measured", flush=True)
    head = ("kernel", "strategy", "tile", "recomputed", "on chip, KiB", "off-chip", "time", "max rel error", "counted")
    return comparison, markdown(head, lines)


def main() -> None:
    """Measure everything and write the page."""
    comparison, table = strategy_lines()
    head = HEAD.format(
        date=datetime.date.today().isoformat(),
        cpu=comparison.machine.get("cpu", "an unknown processor"),
        cores=comparison.machine.get("cores", "?"),
        compiler=comparison.compiler,
        flags=" ".join(comparison.flags),
    )
    stages = ("layers", "strategy", *toolkit.STAGES, "total")
    parts = [head, STRATEGIES, "\n".join(table), "\n", AFTER]
    parts += [TOOLKIT, "\n".join(markdown(stages, toolkit.rows((4, 10), (60, 240)))), "\n"]
    columns = ("layer", "obvious / generated", "by rows / generated", "max rel error")
    parts += [BY_HAND, "\n".join(markdown(columns, handwritten.rows(7))), "\n"]
    (FOLDER / "benchmarks.md").write_text("".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
