"""Measures whole networks and writes docs/measured/network-benchmarks.md: `python docs/measured/network_benchmarks.py`.

Each network is planned, compiled and counted, then races whichever peers are installed. Results are kept in
docs/measured/networks/, one file for each network; a network with a file is not measured again. `--only TEXT` takes
some networks, `--again races` repeats their races; a file is replaced when its race is over, and the page is written
then.
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import onnx
import peerpages as pages

import polyfuse as pf
from polyfuse.bench.peers.contender import peers_named
from polyfuse.bench.peers.models import network_and_model
from polyfuse.bench.peers.ours import Configuration
from polyfuse.bench.peers.race import RaceRules, race, shared_settings
from polyfuse.bench.peers.results import PeerReport
from polyfuse.deploy.files import library_files
from polyfuse.deploy.memory import footprint, least_layer_by_layer
from polyfuse.deploy.model import plan_of, program_of
from polyfuse.deploy.settings import Settings
from polyfuse.deploy.source import read_source
from polyfuse.files import make_folder, write_atomically
from polyfuse.loading import Workload
from polyfuse.report.format import short_bytes
from polyfuse.typed_json import decode, encode, parse

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
KEPT = FOLDER / "networks"
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
PEERS = "onnxruntime,openvino,torch,ncnn"
OWN = "polyfuse plan"
AGAIN = ("races", "counts", "all")
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

{measured}; one thread, fp32, seeded random weights.
`python docs/measured/network_benchmarks.py --again all` measures all of this again and writes this page;
[peers.md](../use/peers.md) says how each tool is run. Ratios are of medians of CPU time in one race: what one machine
showed, not promises.

Asked to race were onnxruntime, OpenVINO, torch (eager, and compiled by inductor) and ncnn; not Halide, which
needs a schedule written for each network, and no other runtime. *best peer* is the fastest of those that
*ran* in that row: their result is within 1e-4 of the float64 reference, and they were timed. One that did not is *not
compared*, which does not mean beaten; [every contender](#every-contender) says why. *peer / polyfuse* is how many times
longer the best peer takes, *goal* the aim; *peer / bound* is the most that direct algorithms could reach
here, the peer over `max(flops / peak, compulsory bytes / bandwidth)`. An error of 0 says little: the softmax of such
weights is 1 for one class and 0 for all others, in a less exact tool, too.

"""
ALONE = """\
## Peer by peer

How many times longer each peer takes than polyfuse, over the networks that it ran in and no others.

"""
COUNTED = """\
## Counted

*groups* are polyfuse's, of so many layers after rewriting; *published plan* the blocks that a literal DNNFusion makes
of the model's operators. Off-chip bytes (weights included) are those of a machine that keeps on chip what groups keep;
*memory* is what the C needs apart from weights: the arena, buffers, inputs and outputs; *alive* what layers one by one
must hold at once. Seconds are those of rewriting, planning, generating and compiling, on two cores.

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


def workload_of(name: str) -> Workload:
    """The file of a network; those that have no weights get random ones."""
    if name.startswith("light_"):
        return Workload(str(LIGHT / f"{name}.onnx"), random_weights=1)
    return Workload(str(ROOT / "kernels" / f"{name}.py"))


def counted(name: str) -> Counted:
    """Plan, compile and count a network."""
    settings = Settings().ready
    start = time.perf_counter()
    network = read_source(workload_of(name)).network
    plan = plan_of(network, settings)
    code = program_of(network, plan, settings)
    library_files(code, plan, settings)
    seconds = time.perf_counter() - start
    fused, unfused = footprint(code), footprint(program_of(network, plan.unfused(network), settings))
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
    """Race a network: planned, and layer by layer, against its peers."""
    network, model = network_and_model(workload_of(name))
    own = [Configuration(strategy).contender() for strategy in ("plan", "unfused")]
    rules = RaceRules(1, "preferred", repeats)
    found = race(network, [*own, *peers_named(PEERS)], pf.read_machine(), rules, model=model)
    return PeerReport(pages.facts_of_now(), (found,), shared_settings(rules))


def speed_row(race: pages.Kept, goal: float | None) -> tuple[str, ...]:
    """One network in the table of speeds."""
    comparison, best = race.comparison, race.comparison.best_peer
    return (
        race.title,
        *pages.best_peer_cells(race),
        f"{goal}" if goal else "",
        *pages.peer_cells(race),
        pages.decimals(comparison.ratio_to_bound(best) if best else None),
        pages.decimals(race.ratio(comparison.row("polyfuse unfused"))),
        *pages.own_cells(race),
        race.date,
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


def kept() -> list[tuple[pages.Kept, float | None]]:
    """The races that were measured, with their goals."""
    files = [(name, goal, KEPT / f"{name}.json") for name, goal, _ in NETWORKS]
    return [(pages.kept_race(name, file, OWN, PEERS), goal) for name, goal, file in files if file.exists()]


def page() -> str:
    """What is kept, as Markdown."""
    counts = []
    for name, _, published in NETWORKS:
        file = KEPT / f"{name}-counted.json"
        if file.exists():
            counts.append(counted_row(decode(parse(file.read_text(), name), Counted, name), published))
    found = kept()
    races = [race for race, _ in found]
    lines = pages.markdown(
        ("network", "best peer", "peer / polyfuse", "goal", *pages.PEER_COLUMNS, "peer / bound", "unfused / fused",
         "of direct peak", "max error", "measured"), [speed_row(race, goal) for race, goal in found])  # fmt: skip
    lines += ["", *ALONE.splitlines(), *pages.markdown(pages.ALONE_COLUMNS, pages.one_by_one(races))]
    lines += ["", *COUNTED.splitlines()]
    lines += pages.markdown(
        ("network", "groups", "published plan", "off-chip", "unfused", "memory", "unfused", "alive", "seconds"), counts
    )
    lines += ["", "## Every contender", "", "Times relative to the fastest of its race.", ""]
    lines += pages.markdown(
        ("network", *pages.CONTENDER_COLUMNS), [row for race in races for row in pages.contender_rows(race)]
    )
    return HEAD.format(measured=pages.measured_on(races)) + "\n".join([*lines, ""])


def main() -> None:
    """Measure what is not kept yet, or is to be measured again, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="networks whose name holds this")
    parser.add_argument("--again", choices=AGAIN, help="measure again what is kept")
    parser.add_argument("--repeats", type=int, default=7, help="rounds of a race")
    chosen = parser.parse_args()
    make_folder(KEPT)
    for name, _, _ in NETWORKS:
        if chosen.only not in name:
            continue
        if chosen.again in ("counts", "all") or not (KEPT / f"{name}-counted.json").exists():
            text = json.dumps(encode(counted(name)), indent=1) + "\n"
            write_atomically(KEPT / f"{name}-counted.json", text.encode())
            print(f"{name}: counted", flush=True)
        if chosen.again in ("races", "all") or not (KEPT / f"{name}.json").exists():
            start = time.perf_counter()
            report = raced(name, chosen.repeats)
            report.write_json(KEPT / f"{name}.json")
            print(f"{name}: raced in {time.perf_counter() - start:.0f} s\n{report.comparisons[0]}", flush=True)
        (FOLDER / "network-benchmarks.md").write_text(page())
    (FOLDER / "network-benchmarks.md").write_text(page())


if __name__ == "__main__":
    main()
