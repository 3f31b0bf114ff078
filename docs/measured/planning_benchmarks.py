"""Plans whole networks for scratchpad machines and writes docs/measured/planning-benchmarks.md.

Run `python docs/measured/planning_benchmarks.py`. Each network is planned at each capacity in every way of planning,
and the joint plan runs on the simulated machine. Results are kept in docs/measured/planning/, one file for each network
and machine, and not computed again while they are there. `--only TEXT` takes some networks, `--machine NAME` one
machine, `--capacities 256,512` some capacities, in KiB. `--simulate 256,512` says at which of them plans run too,
`--page` writes the page from what is there.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from statistics import mean

import numpy as np
import onnx

from polyfuse.deploy.scratchpad import compiled, worst_error
from polyfuse.deploy.source import read_source
from polyfuse.errors import DoesNotFit
from polyfuse.files import make_folder, write_atomically
from polyfuse.loading import Workload
from polyfuse.machines.accelerator import accelerator
from polyfuse.network.network import Network
from polyfuse.network.reference import random_inputs
from polyfuse.network.reference import run as reference
from polyfuse.plan.planning import Ways, ways_of
from polyfuse.plan.scratchplan import Certificate, ScratchPlan, Totals
from polyfuse.plan.search.baselines import NAMES, Baseline
from polyfuse.typed_json import decode, encode, parse

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
KEPT = FOLDER / "planning"
PAGE = FOLDER / "planning-benchmarks.md"
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
DTYPE = "int8"
NETWORKS = (
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "light_resnet50",
    "light_squeezenet",
    "light_inception_v1",
)
MACHINES = ("npu-memory-bound", "npu")
CAPACITIES = (64, 128, 256, 512, 1024, 2048, 4096)
"""KiB."""
AIMED = (256, 512)
"""KiB on the memory-bound machine at which joint plans are to move half the feature maps of `fuse_weak`, in 15% less
time, on average."""
AGAINST = ("fuse_weak", "fuse_strong", "fuse_then_pin_retiled")
HEAD = """\
# Pin or fuse, measured

Whole networks of 224 x 224 pixels, planned in int8, on the shipped machines `npu` (16 B a cycle off-chip) and
`npu-memory-bound` (4 B a cycle) with other capacities. `python docs/measured/planning_benchmarks.py` plans and runs
what [planning/](planning/) does not have and writes this page.
[planning.md](../use/planning.md#what-it-is-compared-with) says what each way of planning may do; the objective is
latency, and bytes decide between equals. Bytes and cycles are those of plans; what the simulated machine counted is
[below](#simulated).

Points of Inception v1, and of SqueezeNet on `npu`, are older than the exact time of streamed weights: planned cycles
may be above simulated ones there. Planning without their files in planning/ makes them again.

"""
AIM = """\
## Joint plans against fusing alone

How much less `joint` takes, on `npu-memory-bound`, of feature maps moved off-chip, of all bytes moved, and of latency,
than `fuse_weak` (groups of one output, resident weights, halos recomputed, nothing pinned), `fuse_strong` (any groups
and tiles, nothing pinned) and `fuse_then_pin_retiled`. The aim was 50% of feature maps and 15% of latency below
`fuse_weak` on average at 256 and 512 KiB. Plans minimise latency: where it allows, a plan may move more
feature maps for fewer weights, or more of both for the same time.

"""
SIMULATED = """\
Joint plans as generated C on the simulated machine, with seeded random weights and inputs. *bytes* are those that the
machine counted, feature maps and weights, each with the planned bytes; *cycles* how far simulated cycles are from
planned ones; *error* that of the outputs, relative to float64 arithmetic (a float network planned in int8 computes in
float32; integer arithmetic is [tested apart](../use/quantisation.md)).

"""
CERTIFIED = """\
*gap*: how far the plan may be above the optimum of the model, 0 is optimal; *seconds*: processor time of one core for
the joint plan alone; those marked + began from the costs of groups in a plan of another capacity. *scope* says which
plans the certificate is about, and which caps were hit.

"""


PRICED: list[tuple[str, str]] = []
"""The network and machine of each point that was planned in this run."""


@dataclass(frozen=True)
class Ran:
    """What a simulated run of a joint plan counted."""

    feature_maps: int
    weights: int
    peak_bytes: int
    cycles: float
    error: float
    most_error: float


@dataclass(frozen=True)
class Point:
    """A network on a machine with one capacity; totals are null where a way of planning has no plan.

    seconds: processor time of the joint plan; known: whether groups had been priced for another capacity before.
    """

    capacity_kib: int
    totals: dict[str, Totals | None]
    certificate: Certificate | None
    groups: int
    pins: int
    seconds: float
    known: bool
    ran: Ran | None
    refusal: str | None

    @property
    def ways(self) -> tuple[Totals | None, ...]:
        """The totals of each way of planning, in the order of `NAMES`."""
        return tuple(self.totals[name] for name in NAMES)


@dataclass(frozen=True)
class Planned:
    """The points of a network on a machine, by capacity."""

    network: str
    machine: str
    operations: int
    points: tuple[Point, ...]

    @property
    def at(self) -> Mapping[int, Point]:
        """The points by capacity in KiB."""
        return {point.capacity_kib: point for point in self.points}


def path_of(name: str) -> str:
    """The file of a network."""
    return str(LIGHT / f"{name}.onnx" if name.startswith("light_") else ROOT / "kernels" / f"{name}.py")


@lru_cache(maxsize=1)
def network_of(name: str) -> Network:
    """A network after rewriting; models without weights get random ones."""
    return read_source(Workload(path_of(name), random_weights=1 if name.startswith("light_") else None)).network


@lru_cache(maxsize=1)
def expected(name: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Seeded inputs and what the reference makes of them."""
    inputs = random_inputs(network_of(name), 0)
    return inputs, reference(network_of(name), inputs)


@lru_cache(maxsize=1)
def ways(name: str, machine: str) -> Ways:
    """What is priced of a network on a machine."""
    return ways_of(network_of(name), accelerator(machine), dtype=DTYPE)


def file_of(name: str, machine: str) -> Path:
    """Where the points of a network on a machine are kept."""
    return KEPT / f"{name}-{machine}.json"


def kept(name: str, machine: str) -> Planned | None:
    """The points that are kept; none where there are none."""
    file = file_of(name, machine)
    return decode(parse(file.read_text(), file.name), Planned, file.name) if file.exists() else None


def keep(name: str, machine: str, point: Point) -> None:
    """Add a point to those that are kept."""
    found = kept(name, machine)
    points = {**(found.at if found else {}), point.capacity_kib: point}
    operations = len(ways(name, machine).graph.operations)
    every = Planned(name, machine, operations, tuple(points[key] for key in sorted(points)))
    write_atomically(file_of(name, machine), (json.dumps(encode(every), indent=1) + "\n").encode())


def planned(name: str, machine: str, capacity_kib: int) -> tuple[Point, ScratchPlan | None]:
    """A network planned in every way at one capacity; the joint plan where there is one."""
    known = bool(PRICED) and PRICED[-1] == (name, machine)
    PRICED.append((name, machine))
    found, start = ways(name, machine), time.process_time()
    try:
        plan = found.plan(capacity_kib * 1024)
    except DoesNotFit as error:
        seconds = time.process_time() - start
        return Point(capacity_kib, dict.fromkeys(NAMES), None, 0, 0, seconds, known, None, str(error)), None
    seconds = time.process_time() - start
    totals = {way: totals_in(way, found, capacity_kib) for way in NAMES if way != "joint"} | {"joint": plan.totals}
    groups, pins = len(plan.groups), len(plan.pins)
    return Point(capacity_kib, totals, plan.certificate, groups, pins, seconds, known, None, None), plan


def totals_in(way: Baseline, found: Ways, capacity_kib: int) -> Totals | None:
    """What one way of planning takes; none where it has no plan."""
    try:
        return found.plan(capacity_kib * 1024, way=way).totals
    except DoesNotFit:
        return None


def run_of(name: str, plan: ScratchPlan) -> Ran:
    """A plan found legal, compiled and run on the simulated machine. Errors: as `compiled` and a kernel's call."""
    inputs, wanted = expected(name)
    outputs, taken = compiled(plan, network_of(name)).kernel(**inputs)
    error, most = worst_error(network_of(name), outputs, wanted)
    moved = taken.offchip_bytes - taken.weight_bytes
    return Ran(moved, taken.weight_bytes, taken.peak_bytes, taken.cycles, error, most)


def measure(name: str, machine: str, capacity_kib: int, simulates: bool) -> bool:
    """Do what is not kept of one point; whether there was anything to do."""
    found = kept(name, machine)
    point = found.at.get(capacity_kib) if found else None
    plan: ScratchPlan | None = None
    if point is not None and (point.ran is not None or point.refusal is not None or not simulates):
        return False
    if point is None:
        point, plan = planned(name, machine, capacity_kib)
        keep(name, machine, point)
    if simulates and point.refusal is None:
        plan = plan or ways(name, machine).plan(capacity_kib * 1024)
        keep(name, machine, replace(point, ran=run_of(name, plan)))
    return True


def saved(point: Point, way: str, of: Callable[[Totals], float]) -> float | None:
    """How much less the joint plan takes than another way of planning, as a part of that; none without either."""
    joint, other = point.totals["joint"], point.totals[way]
    return 1 - of(joint) / of(other) if joint and other else None


def latency(totals: Totals) -> float:
    """Cycles."""
    return totals.latency_cycles


def feature_maps(totals: Totals) -> float:
    """Bytes of feature maps moved."""
    return totals.offchip_bytes.feature_maps


def all_bytes(totals: Totals) -> float:
    """All bytes moved."""
    return totals.offchip_bytes.all


def share(value: float | None) -> str:
    """What is saved, as people read it."""
    return "-" if value is None else f"{-100 * value:+.1f}%".replace("+0.0%", "0%").replace("-0.0%", "0%")


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]


def every_point(machines: Sequence[str] = MACHINES) -> Iterator[tuple[Planned, Point]]:
    """All that is kept."""
    for machine in machines:
        for name in NETWORKS:
            if (found := kept(name, machine)) is not None:
                yield from ((found, point) for point in found.points)


def short(name: str) -> str:
    """The name of a network without the collection that it comes from."""
    return name.removeprefix("light_")


def savings(point: Point) -> list[float | None]:
    """What the joint plan saves against each of `AGAINST`: feature maps, all bytes, latency, feature maps, ..."""
    return [saved(point, way, of) for way in AGAINST for of in (feature_maps, all_bytes, latency)]


def mean_row(label: str, rows: Sequence[Sequence[float | None]]) -> tuple[str, ...]:
    """Averages over those rows that have a value."""
    columns = [[value for value in column if value is not None] for column in zip(*rows, strict=True)]
    return (label, str(len(rows)), *(share(mean(column)) if column else "-" for column in columns))


def aim_lines() -> list[str]:
    """Joint plans against fusing alone, each where it was aimed at, and averages at every capacity."""
    head = ("network", "KiB", *(f"{way}: {what}" for way in AGAINST for what in ("maps", "all bytes", "latency")))
    aimed = [(found, point) for found, point in every_point(MACHINES[:1]) if point.capacity_kib in AIMED]
    rows = [(short(f.network), str(p.capacity_kib), *map(share, savings(p))) for f, p in aimed]
    lines = markdown(head, [*rows, mean_row("**average**, number of points", [savings(p) for _, p in aimed])])
    lines += ["Averages over the networks at each capacity:", ""]
    averages = [
        mean_row(f"{machine}, {capacity} KiB", [savings(p) for _, p in points])
        for machine in MACHINES
        for capacity in CAPACITIES
        if (points := [(f, p) for f, p in every_point([machine]) if p.capacity_kib == capacity and p.certificate])
    ]
    return lines + markdown(("machine", "networks", *head[2:]), averages)


def way_lines(machine: str) -> list[str]:
    """Every way of planning of every network on a machine: three tables."""
    points = list(every_point([machine]))
    lines = [f"## {machine}: every way of planning", ""]
    tables: tuple[tuple[str, Callable[[Totals], float], float], ...] = (
        ("Feature maps moved off-chip, KiB", feature_maps, 1024.0),
        ("All bytes moved off-chip, KiB", all_bytes, 1024.0),
        ("Latency, thousands of cycles", latency, 1000.0),
    )
    for title, of, unit in tables:
        rows = [
            (
                short(f.network),
                str(p.capacity_kib),
                *(f"{of(t) / unit:,.1f}" if (t := p.totals[w]) else "-" for w in NAMES),
            )
            for f, p in points
        ]
        lines += [f"{title}:", "", *markdown(("network", "KiB", *NAMES), rows)]
    return lines


def simulated_lines() -> list[str]:
    """What simulated runs counted, and what was planned."""
    rows, errors, equal = [], [], []
    for found, point in every_point():
        ran, totals = point.ran, point.totals["joint"]
        if ran is None or totals is None:
            continue
        moved = totals.offchip_bytes
        same = (ran.feature_maps, ran.weights) == (moved.feature_maps, moved.weights)
        off = ran.cycles / totals.latency_cycles - 1
        errors.append(abs(off))
        equal.append(same)
        rows.append(
            (
                short(found.network),
                found.machine,
                str(point.capacity_kib),
                f"{ran.feature_maps:,} {'=' if same else '≠'} {moved.feature_maps:,}",
                f"{ran.weights:,} {'=' if same else '≠'} {moved.weights:,}",
                f"{100 * off:+.2f}%",
                f"{ran.error:.0e}",
            )
        )
    if not rows:
        return ["Nothing yet.", ""]
    said = (
        f"Bytes are equal in {sum(equal)} of {len(equal)} runs. Simulated cycles are {100 * mean(errors):.2f}% from "
        f"planned ones on average, {100 * max(errors):.2f}% at most."
    )
    head = ("network", "machine", "KiB", "feature maps, simulated = planned", "weights", "cycles", "error")
    return [said, "", *markdown(head, rows)]


def certificate_lines() -> list[str]:
    """The certificate of every joint plan, and how long it took."""
    rows = []
    for found, point in every_point():
        time_taken = f"{point.seconds:.1f}{'+' if point.known else ''}"
        where = (short(found.network), found.machine, str(point.capacity_kib))
        if point.certificate is None:
            rows.append((*where, "-", "-", "-", time_taken, point.refusal or ""))
            continue
        gap, scope = point.certificate.gap, point.certificate.scope
        rows.append((*where, str(point.groups), str(point.pins), f"{100 * gap:.2g}%", time_taken, scope))
    none = sum(point.certificate is not None and point.certificate.gap == 0 for _, point in every_point())
    said = f"{none} of {sum(p.certificate is not None for _, p in every_point())} plans are optimal for the model."
    return [said, "", *markdown(("network", "machine", "KiB", "groups", "pins", "gap", "seconds", "scope"), rows)]


def missing_lines() -> list[str]:
    """What the page does not have."""
    there = {(f.network, f.machine, p.capacity_kib) for f, p in every_point()}
    wanted = [(n, m, c) for m in MACHINES for n in NETWORKS for c in CAPACITIES]
    lost = [each for each in wanted if each not in there]
    if not lost:
        return []
    gone = {(short(n), m): [str(c) for a, b, c in lost if (a, b) == (n, m)] for n, m, _ in lost}
    named = "; ".join(f"{n} on {m} at {', '.join(sizes)} KiB" for (n, m), sizes in gone.items())
    return [f"Not planned yet, {len(lost)} of {len(wanted)} points: {named}.", ""]


def page() -> str:
    """What is kept, as Markdown."""
    lines = [*missing_lines(), *AIM.splitlines(), *aim_lines()]
    lines += ["## Simulated", "", *SIMULATED.splitlines(), *simulated_lines()]
    lines += ["## Certificates and time", "", *CERTIFIED.splitlines(), *certificate_lines()]
    for machine in MACHINES:
        lines += way_lines(machine)
    return HEAD + "\n".join(lines)


def numbers(text: str) -> tuple[int, ...]:
    """Numbers between commas."""
    return tuple(int(each) for each in text.split(",") if each)


def main() -> None:
    """Plan and run what is not kept yet and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="networks whose name holds this")
    parser.add_argument("--machine", choices=MACHINES, help="one machine")
    parser.add_argument("--capacities", type=numbers, default=CAPACITIES, help="KiB, between commas")
    parser.add_argument("--simulate", type=numbers, default=CAPACITIES, help="KiB at which plans run too")
    parser.add_argument("--page", action="store_true", help="write the page alone")
    chosen = parser.parse_args()
    make_folder(KEPT)
    for machine in () if chosen.page else [chosen.machine] if chosen.machine else MACHINES:
        for name in (name for name in NETWORKS if chosen.only in name):
            for capacity in chosen.capacities:
                if measure(name, machine, capacity, capacity in chosen.simulate):
                    print(f"{name} on {machine}: {capacity} KiB", flush=True)
                    PAGE.write_text(page())
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
