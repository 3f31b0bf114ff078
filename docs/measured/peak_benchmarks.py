"""Plans MobileNetV2 for little memory: `python docs/measured/peak_benchmarks.py` writes peak-benchmarks.md.

Width 0.35, 144 x 144 pixels, int8, on the microcontroller `mcu-320k`, least recomputation at each capacity: once the
network that msf-CNN plans, counted as msf-CNN counts; once the whole classifier, in memory alone and with a slow
external memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from polyfuse.codegen.scratchpad.planned import build_scratchpad
from polyfuse.deploy.scratchpad import worst_error
from polyfuse.deploy.source import source_of
from polyfuse.errors import DoesNotFit
from polyfuse.loading import load_workload
from polyfuse.machines.accelerator import Accelerator, accelerator
from polyfuse.network.network import Builder, Network
from polyfuse.network.reference import random_inputs, run
from polyfuse.plan.checking import check_plan
from polyfuse.plan.planning import Ways, ways_of
from polyfuse.plan.price.objective import Objective
from polyfuse.schedule.counts import macs_of

FOLDER = Path(__file__).parent
KERNEL = FOLDER.parents[1] / "kernels" / "mobilenet_v2.py"
SIZE, WIDTH = 144, 0.35
LONGEST = 13
BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, output channels, how many blocks, and the stride of the first of them."""
PUBLISHED = (
    (83065, 19265890),
    (67905, 20751538),
    (63741, 23249938),
    (25674, 23700946),
    (21288, 24536110),
    (15340, 26132080),
    (13926, 29560000),
    (7887, 31758160),
)
"""Peak bytes and multiply-accumulates of msf-CNN's plans of MBV2-w0.35-r144, from the results in its repository."""
PUBLISHED_MACS = 18909490
"""Those of the network, as msf-CNN counts them: taps on padding are in."""
CAPACITIES = (65536, 32768, 24576, 20480, 16384, 14336, 12288)
MORE_WITH_EXTERNAL = (10240, 6144, 4096)
PAGE = """\
# Memory against recomputation

MobileNetV2 of width {width} on an image of {size} x {size} pixels in int8, on `mcu-320k`, which reads weights from
flash. The fewest multiply-accumulates (MACs) at each on-chip capacity; groups of up to {longest} operations.
`python docs/measured/peak_benchmarks.py` writes this page. Each plan ran on the simulated machine: its bytes were those
of the plan, its outputs those of the reference to within {error:.0e}.

## Against msf-CNN

The network is the one that msf-CNN plans (its repository, `analysis_optimization.py`): channels are {width} times those
of MobileNetV2, cut to whole numbers and not rounded to 8; {layers} convolutions, no residuals, no pooling, no
classifier. Memory is counted as there: one byte an element, without alignment, the image and the result not, sums not,
weights not. The pieces of the image and of the result that are on chip are in polyfuse's bytes; of these msf-CNN counts
the first. MACs are multiples of those of the network, {macs:,} without taps on padding (polyfuse) and {published:,}
with them (msf-CNN). Neither uses an external memory.

| msf-CNN: on chip | MACs | polyfuse in that memory: on chip | MACs |
|---|---|---|---|
{compared}

{least}

## The whole classifier

Channels rounded to multiples of 8, residuals, 1,280 channels, pooling and 1,000 classes, as in
`kernels/mobilenet_v2.py`; *on chip* counts everything but weights: whole tensors, rings, sums of 4 bytes.

- *memory alone*: no tensor between layers leaves the chip (`polyfuse plan --machine mcu-320k`); the image is loaded
  piece by piece, the scores are stored.
- *external memory*: the same machine with `offchip_writable = true`: tensors between groups may be stored and loaded
  again.

| capacity | memory alone: on chip | MACs | off-chip | external memory: on chip | MACs | off-chip |
|---|---|---|---|---|---|---|
{rows}

The smallest capacity with a plan in memory alone is {classifier:,} B.
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


def published_network() -> Network:
    """MobileNetV2 as msf-CNN plans it."""
    build = Builder("msf_cnn")
    channels = int(32 * WIDTH)
    x = build.conv("stem", build.input("x", (1, 3, SIZE, SIZE)), channels, kernel=3, stride=2, padding=1)
    number = 0
    for expansion, wide, repeats, stride in BLOCKS:
        for repeat in range(repeats):
            number += 1
            y = build.conv(f"b{number}_expand", x, channels * expansion, kernel=1)
            y = build.depthwise(f"b{number}_depthwise", y, kernel=3, stride=1 if repeat else stride, padding=1)
            channels = int(wide * WIDTH)
            x = build.conv(f"b{number}_project", y, channels, kernel=1)
    return build.network(build.conv("head", x, int(1280 * WIDTH), kernel=1))


def classifier() -> Network:
    """The whole network."""
    return source_of(load_workload(str(KERNEL), parameters={"size": str(SIZE), "width": str(WIDTH)})).network


def as_msf_counts() -> Accelerator:
    """The microcontroller with what msf-CNN leaves out left out: sums outside the arena, no alignment."""
    return replace(accelerator("mcu-320k"), alignment_bytes=1, accumulator_bytes=4096)


def ways(network: Network, machine: Accelerator) -> Ways:
    """A network on a microcontroller, for least recomputation."""
    return ways_of(network, machine, dtype="int8", objective=Objective("macs"), longest=LONGEST)


def point(known: Ways, capacity_bytes: int) -> Point | None:
    """The plan of a capacity, checked and run: its bytes are those that were planned. None where nothing fits."""
    try:
        plan = known.plan(capacity_bytes)
    except DoesNotFit:
        return None
    plan = check_plan(plan, known.graph, plan.machine)
    network, totals = known.graph.network, plan.totals
    inputs = random_inputs(network, 0)
    outputs, taken = build_scratchpad(plan, known.graph)(**inputs)
    assert taken.offchip_bytes == totals.offchip_bytes.all
    assert taken.peak_bytes <= totals.onchip_peak_bytes
    error, most = worst_error(network, outputs, run(network, inputs))
    assert error <= most
    print(f"{network.name}, {capacity_bytes:,} B: {plan.certificate}", flush=True)
    return Point(totals.onchip_peak_bytes, totals.macs_executed / totals.macs, totals.offchip_bytes.all, error)


def least_of(known: Ways) -> int:
    """The smallest capacity with a plan."""
    least = known.searches.joint.smallest_capacity()
    assert least is not None
    return least


def compared(known: Ways) -> Iterator[tuple[str, Point | None]]:
    """A row for each published plan, and the plan in as much memory."""
    for peak, macs in PUBLISHED:
        found = point(known, peak)
        mine = f"{found.peak_bytes:,} | {found.macs:.3f}x" if found is not None else "- | -"
        yield f"| {peak:,} | {macs / PUBLISHED_MACS:.3f}x | {mine} |", found


def of_classifier(alone: Ways, external: Ways) -> Iterator[tuple[str, tuple[Point | None, Point | None]]]:
    """A row for each capacity, and its plans."""
    for capacity in (*CAPACITIES, *MORE_WITH_EXTERNAL):
        both = point(alone, capacity), point(external, capacity)
        first, second = (str(each) if each is not None else "- | - | -" for each in both)
        yield f"| {capacity:,} | {first} | {second} |", both


def least_text(known: Ways) -> str:
    """The least memory that has a plan, and the least that is published."""
    least, published = least_of(known), min(peak for peak, _ in PUBLISHED)
    found = point(known, least)
    assert found is not None
    said = f"The smallest capacity with a plan of polyfuse is {least:,} B, at {found.macs:.3f} times the MACs"
    below = "" if least <= published else " Polyfuse has no plan in so little."
    return f"{said}.\nThat of msf-CNN is {published:,} B.{below}"


def main() -> None:
    """Plan, run and write the page."""
    published = ways(published_network(), as_msf_counts())
    against = list(compared(published))
    network = classifier()
    machine = accelerator("mcu-320k")
    alone = ways(network, machine)
    rows = list(of_classifier(alone, ways(network, replace(machine, offchip_writable=True))))
    points = [*(each for _, each in against), *(each for _, both in rows for each in both)]
    text = PAGE.format(
        width=WIDTH,
        size=SIZE,
        longest=LONGEST,
        error=max(each.error for each in points if each is not None),
        layers=len(published.graph.operations),
        macs=macs_of(operation.layer for operation in published.graph.operations),
        published=PUBLISHED_MACS,
        compared="\n".join(row for row, _ in against),
        least=least_text(published),
        rows="\n".join(row for row, _ in rows),
        classifier=least_of(alone),
    )
    (FOLDER / "peak-benchmarks.md").write_text(text)


if __name__ == "__main__":
    main()
