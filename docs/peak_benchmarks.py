"""Plans MobileNetV2 for little memory: `python docs/peak_benchmarks.py` writes docs/peak-benchmarks.md.

Width 0.35, 144 x 144 pixels, int8, on the microcontroller `mcu-320k`, least recomputation at each capacity: once where
what does not fit may go to slow external memory, once where only the image begins and the scores end there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from polyfuse.codegen.scratchpad.planned import build_scratchpad
from polyfuse.deploy.scratchpad import worst_error
from polyfuse.deploy.source import source_of
from polyfuse.network.reference import random_inputs, run
from polyfuse.plan.accelerator import accelerator
from polyfuse.plan.checking import check_plan
from polyfuse.plan.objective import Objective
from polyfuse.plan.pins import placed_plan
from polyfuse.plan.planning import Ways, totals_of, ways_of, written
from polyfuse.plan.scratchplan import Certificate, ScratchPlan
from polyfuse.plan.walk import Rules
from polyfuse.rewrite.workload import load_workload

FOLDER = Path(__file__).parent
KERNEL = FOLDER.parent / "kernels" / "mobilenet_v2.py"
SIZE, WIDTH = 144, 0.35
LONGEST = 13
CAPACITIES = (65536, 32768, 24576, 20480, 16384, 15340, 14336, 12288)
MORE_WITH_SPILLS = (10240, 7887, 6144, 4096)
PUBLISHED = ((15340, 1.382), (7887, 1.679))
"""Peak bytes, and multiply-accumulates as a multiple of those of the network, of msf-CNN's plans."""
PAGE = """\
# Memory against recomputation

MobileNetV2 of width {width} on an image of {size} x {size} pixels in int8, on `mcu-320k`, which reads weights from
flash. The fewest multiply-accumulates (MACs) at each on-chip capacity; groups of up to {longest} operations. *on chip*
counts everything but weights: whole tensors, rings, accumulators of 4 bytes. `python docs/peak_benchmarks.py` writes
this page.

- *memory alone*: no tensor between layers leaves the chip; the image is loaded piece by piece, the scores are stored.
- *external memory*: tensors between groups may be stored off-chip and loaded again.

Each plan ran on the simulated machine: its bytes were those of the plan, its outputs those of the reference to within
{error:.0e}.

| capacity | memory alone: on chip | MACs | off-chip | external memory: on chip | MACs | off-chip |
|---|---|---|---|---|---|---|
{rows}

The smallest capacity with a plan in memory alone is {least:,} B, at {least_macs:.3f} times the MACs. msf-CNN's plans,
which know no external memory, take {published}. Memory alone is below the first
of them in both. It does not get to the second: a step of a group makes what one tile of its last tensor needs, one
operation after the other, so a group over three strides holds patches of its first tensors that are eight times as
tall; what fits best is the tensor of 18 x 18 x 16 whole, and patches before it. With external memory nothing is made
again at that size.
"""


@dataclass(frozen=True)
class Point:
    """A plan, run: bytes on chip at its peak, how many times the network's MACs, bytes moved, error."""

    peak_bytes: int
    macs: float
    offchip_bytes: int
    error: float

    def __str__(self) -> str:
        return f"{self.peak_bytes:,} | {self.macs:.3f}x | {self.offchip_bytes:,}"


def ways() -> Ways:
    """The network on the microcontroller, for least recomputation."""
    network = source_of(load_workload(str(KERNEL), parameters={"size": str(SIZE), "width": str(WIDTH)})).network
    return ways_of(network, accelerator("mcu-320k"), dtype="int8", objective=Objective("macs"), longest=LONGEST)


def planned(known: Ways, capacity_bytes: int, rules: Rules) -> ScratchPlan:
    """The plan of least recomputation under rules, with addresses. Errors: DoesNotFit."""
    found = known.searches.joint.found(capacity_bytes, rules)
    placed = placed_plan(known.problem, found.steps, capacity_bytes)
    assert placed is not None
    groups, pins = written(known.problem, found.steps, *placed)
    machine = known.machine.with_capacity(capacity_bytes)
    totals = totals_of(known.graph, groups, pins, machine)
    certificate = Certificate(float(totals.macs_executed), 0.0, found.scope)
    name, objective = known.graph.network.name, known.searches.objective
    return ScratchPlan(name, "int8", machine, objective, totals, certificate, groups, pins, {})


def run_of(known: Ways, plan: ScratchPlan) -> Point:
    """A plan checked and run; its bytes are those that were planned."""
    check_plan(plan, known.graph, plan.machine)
    network = known.graph.network
    inputs = random_inputs(network, 0)
    outputs, taken = build_scratchpad(plan, known.graph)(**inputs)
    assert taken.offchip_bytes == plan.totals.offchip_bytes.all
    assert taken.peak_bytes <= plan.totals.onchip_peak_bytes
    error, most = worst_error(network, outputs, run(network, inputs))
    assert error <= most
    totals = plan.totals
    return Point(totals.onchip_peak_bytes, totals.macs_executed / totals.macs, totals.offchip_bytes.all, error)


def points(known: Ways) -> Iterator[tuple[int, Point | None, Point]]:
    """Each capacity, with a plan in memory alone where there is one, and one with external memory."""
    for capacity in (*CAPACITIES, *MORE_WITH_SPILLS):
        alone = None
        if capacity in CAPACITIES:
            alone = run_of(known, planned(known, capacity, Rules(spills=False)))
        yield capacity, alone, run_of(known, planned(known, capacity, Rules()))
        print(f"{capacity:,} B", flush=True)


def main() -> None:
    """Plan, run and write the page."""
    known = ways()
    found = list(points(known))
    least = known.searches.joint.smallest_capacity(Rules(spills=False))
    assert least is not None
    smallest = planned(known, least, Rules(spills=False)).totals
    rows = [f"| {capacity:,} | {alone or '- | - | -'} | {spilled} |" for capacity, alone, spilled in found]
    text = PAGE.format(
        width=WIDTH,
        size=SIZE,
        longest=LONGEST,
        rows="\n".join(rows),
        least=least,
        least_macs=smallest.macs_executed / smallest.macs,
        published=" and ".join(f"{peak:,} B at {macs} times" for peak, macs in PUBLISHED),
        error=max(point.error for _, *both in found for point in both if point is not None),
    )
    (FOLDER / "peak-benchmarks.md").write_text(text)


if __name__ == "__main__":
    main()
