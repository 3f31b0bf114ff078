"""Measures whole networks and writes docs/network-benchmarks.md: `python docs/network_benchmarks.py`.

Each network is planned, compiled and counted, then races whichever peers are installed; what is measured is kept in
docs/networks/, one file for each network, and not measured again while it is there. `--only TEXT` takes some networks.
"""

import argparse
import datetime
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

import polyfuse as pf
from polyfuse.bench.host import host_facts
from polyfuse.bench.peers.contender import peers_named
from polyfuse.bench.peers.models import workload_of
from polyfuse.bench.peers.ours import Configuration
from polyfuse.bench.peers.race import Rules, race, shared_settings
from polyfuse.bench.peers.results import PeerComparison, PeerReport
from polyfuse.codegen.compiler import find_compiler
from polyfuse.deploy.files import library_files
from polyfuse.deploy.memory import footprint, least_layer_by_layer
from polyfuse.deploy.model import Settings, plan_of, program_of
from polyfuse.deploy.source import read_source
from polyfuse.files import make_folder, write_atomically
from polyfuse.report.format import short_bytes
from polyfuse.typed_json import decode, encode, parse

FOLDER = Path(__file__).parent
KEPT = FOLDER / "networks"
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
PEERS = "onnxruntime,openvino,torch,ncnn"
NETWORKS: tuple[tuple[str, float | None, str], ...] = (
    ("mobilenet_v1", 1.1, ""),
    ("mobilenet_v2", 1.3, ""),
    ("efficientnet_b0", 1.5, ""),
    ("light_shufflenet", 1.5, "73 / 56"),
    ("light_squeezenet", 1.15, "31 / 31"),
    ("light_resnet50", 1.25, "58 / 57"),
    ("light_vgg19", 1.3, "26 / 26"),
    ("light_densenet121", 1.1, "126 / 126"),
    ("light_inception_v1", 1.15, "76 / 75"),
    ("light_inception_v2", None, ""),
    ("light_bvlc_alexnet", None, ""),
    ("light_zfnet512", None, ""),
    ("unet", 1.6, ""),
    ("fsrcnn_x2", 2.5, ""),
)
"""A network, how many times longer the best runtime is to take, and the groups of the published plan, Y refused and
accepted."""
HEAD = """\
# Whole networks, measured

Measured {date} on {cpu}, {cores} cores, {compiler}; one thread, fp32, seeded random weights.
`python docs/network_benchmarks.py` measures all of this again and writes this page; [peers.md](peers.md) says how each
tool is run. Ratios are of medians of CPU time in one race. They are what one machine showed, not promises.

*peer / polyfuse* is how many times longer the best peer takes, *goal* what was aimed at; *peer / bound* is the most
that direct algorithms could reach here, the peer over `max(flops / peak, compulsory bytes / bandwidth)`.

"""
COUNTED = """\
## Counted

*groups* are polyfuse's, of so many layers after rewriting; *published plan* the blocks that a literal DNNFusion makes
of the model's operators. Off-chip bytes (weights included) are those of a machine that keeps on chip what groups keep;
*memory* is what the C needs beside weights: the arena, buffers, inputs and outputs; *alive* what layers one by one must
hold at once. Seconds are those of rewriting, planning, generating and compiling, on two cores.

"""


@dataclass(frozen=True)
class Counted:
    """What planning made of a network; bytes and seconds."""

    network: str
    layers: int
    groups: int
    offchip: int
    offchip_unfused: int
    memory: int
    memory_unfused: int
    alive: int
    compile_seconds: float
    source_bytes: int


def path_of(name: str) -> str:
    """The file of a network."""
    return str(LIGHT / f"{name}.onnx" if name.startswith("light_") else FOLDER.parent / "kernels" / f"{name}.py")


def seed_of(name: str) -> int | None:
    """Weights for models that have none."""
    return 1 if name.startswith("light_") else None


def counted(name: str) -> Counted:
    """Plan, compile and count a network."""
    settings = Settings().ready
    start = time.perf_counter()
    network = read_source(path_of(name), random_weights=seed_of(name)).network
    plan = plan_of(network, settings)
    code = program_of(network, plan, settings)
    library_files(code, plan, settings)
    seconds = time.perf_counter() - start
    apart = plan_of(network, Settings(fuse=False).ready)
    fused, unfused = footprint(code), footprint(program_of(network, apart, settings))
    return Counted(
        name,
        len(network.layers),
        len(plan.groups),
        fused.offchip,
        unfused.offchip,
        fused.memory,
        unfused.memory,
        least_layer_by_layer(code.network),
        seconds,
        len(code.source),
    )


def raced(name: str, repeats: int) -> PeerReport:
    """Race a network: planned, and layer by layer, beside its peers."""
    network, model = workload_of(path_of(name), random_weights=seed_of(name))
    own = [Configuration(strategy).contender() for strategy in ("plan", "unfused")]
    rules = Rules(1, "preferred", repeats)
    found = race(network, [*own, *peers_named(PEERS)], pf.read_machine(), rules, model=model)
    return PeerReport(host_facts(), (found,), shared_settings(rules))


def ratio(comparison: PeerComparison, over: str, under: str) -> str:
    """The time of one contender over that of another."""
    rows = {row.contender: row for row in comparison.timed}
    pair = [comparison.seconds(rows[name]) if name in rows else None for name in (over, under)]
    return f"{pair[0] / pair[1]:.2f}" if pair[0] and pair[1] else "-"


def speed_row(comparison: PeerComparison, name: str, goal: float | None) -> tuple[str, ...]:
    """One network in the table of speeds."""
    peers = [row for row in comparison.timed if not row.contender.startswith("polyfuse")]
    ours = next((row for row in comparison.timed if row.contender == "polyfuse plan"), None)
    best = peers[0] if peers else None
    rate = comparison.gflop_per_second(ours) if ours else None
    return (
        name,
        best.contender if best else "none",
        ratio(comparison, best.contender, "polyfuse plan") if best else "-",
        f"{goal}" if goal else "",
        f"{comparison.ratio_to_bound(best):.2f}" if best else "-",
        ratio(comparison, "polyfuse unfused", "polyfuse plan"),
        f"{rate / comparison.peak_gflop_per_second:.0%}" if rate else "-",
        f"{ours.max_rel_error:.0e}" if ours and ours.max_rel_error is not None else "-",
    )


def counted_row(found: Counted, published: str) -> tuple[str, ...]:
    """One network in the table of counts."""
    return (
        found.network,
        f"{found.groups} of {found.layers}",
        published,
        short_bytes(found.offchip),
        short_bytes(found.offchip_unfused),
        short_bytes(found.memory),
        short_bytes(found.memory_unfused),
        short_bytes(found.alive),
        f"{found.compile_seconds:.0f}",
    )


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows)]


def page() -> str:
    """What is kept, as Markdown."""
    speeds, counts, details = [], [], []
    for name, goal, published in NETWORKS:
        race_file, count_file = KEPT / f"{name}.json", KEPT / f"{name}-counted.json"
        if race_file.exists():
            (comparison,) = PeerReport.from_json(race_file.read_text(), str(race_file)).comparisons
            speeds.append(speed_row(comparison, name, goal))
            for row in comparison.rows:
                told = f"{comparison.ratio_to_best(row):.2f}" if row.state == "timed" else row.state
                details.append((name, row.contender, told, row.layout, row.detail or row.message))
        if count_file.exists():
            counts.append(counted_row(decode(parse(count_file.read_text(), name), Counted, name), published))
    lines = markdown(
        ("network", "best peer", "peer / polyfuse", "goal", "peer / bound", "unfused / fused", "of direct peak",
         "max error"), speeds)  # fmt: skip
    lines += ["", *COUNTED.splitlines()]
    lines += markdown(
        ("network", "groups", "published plan", "off-chip", "unfused", "memory", "unfused", "alive", "seconds"), counts
    )
    lines += ["", "## Every contender", "", "Times relative to the fastest of its race.", ""]
    lines += markdown(("network", "contender", "to fastest", "layout", "chosen, or why not"), details)
    facts = host_facts()
    head = HEAD.format(
        date=datetime.date.today().isoformat(),
        cpu=facts.get("cpu", "an unknown processor"),
        cores=facts.get("cores", "?"),
        compiler=find_compiler().version,
    )
    return head + "\n".join([*lines, ""])


def main() -> None:
    """Measure what is not kept yet and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="networks whose name holds this")
    parser.add_argument("--repeats", type=int, default=7, help="rounds of a race")
    chosen = parser.parse_args()
    make_folder(KEPT)
    for name, _, _ in NETWORKS:
        if chosen.only not in name:
            continue
        if not (KEPT / f"{name}-counted.json").exists():
            text = json.dumps(encode(counted(name)), indent=1) + "\n"
            write_atomically(KEPT / f"{name}-counted.json", text.encode())
            print(f"{name}: counted", flush=True)
        if not (KEPT / f"{name}.json").exists():
            raced(name, chosen.repeats).write_json(KEPT / f"{name}.json")
            print(f"{name}: raced", flush=True)
        (FOLDER / "network-benchmarks.md").write_text(page())
    (FOLDER / "network-benchmarks.md").write_text(page())


if __name__ == "__main__":
    main()
