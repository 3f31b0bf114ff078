"""Measures polyfuse beside its peers and writes docs/fast-benchmarks.md: `python docs/fast_benchmarks.py` (hours).

Each workload is tuned, then races whichever peers are installed; what is measured is kept in docs/fast/, one file for
each workload and interface, and not measured again while it is there. `--only TEXT` takes some workloads. Shapes beyond
those with a goal race MORE_PEERS only.
"""

import argparse
import datetime
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import polyfuse as pf
from polyfuse.bench.host import host_facts
from polyfuse.bench.peers.contender import INTERFACES, Interface, peers_named
from polyfuse.bench.peers.ours import Configuration
from polyfuse.bench.peers.race import Rules, race, shared_settings
from polyfuse.bench.peers.results import PeerComparison, PeerReport, PeerRow
from polyfuse.codegen.compiler import find_compiler
from polyfuse.files import make_folder

FOLDER = Path(__file__).parent
KEPT = FOLDER / "fast"
WORKLOADS: tuple[tuple[str, dict[str, str], float], ...] = (
    ("stencil3", {}, 1.5),
    ("vgg_pair", {}, 2.2),
    ("mbv2_block", {}, 1.35),
    ("mbv2_block", {"size": "224"}, 1.4),
    ("dwsep", {"pairs": "1"}, 1.25),
    ("dwsep", {}, 1.3),
    ("sr4", {}, 2.2),
    ("resnet_block", {}, 1.45),
)
"""A kernel, its parameters, and how many times longer the best peer is to take."""
MORE: tuple[tuple[str, dict[str, str]], ...] = (
    ("fsrcnn", {}),
    ("vgg_pair", {"size": "227", "channels": "40"}),
    ("mbv2_block", {"size": "299", "channels": "20"}),
    ("resnet_block", {"size": "57", "channels": "100"}),
    ("stem", {}),
    ("stem", {"size": "299", "channels": "20"}),
    ("dilated", {}),
    ("asymmetric", {}),
)
"""Odd sizes, channels that fill no vector, three channels, 5x5 depthwise, dilated and asymmetric windows."""
MORE_PEERS = "onnxruntime,openvino"
HEAD = """\
# Beside other tools, measured

Measured {date} on {cpu}, {cores} cores, {compiler}; one thread, fp32.
`python docs/fast_benchmarks.py` measures all of this again and writes this page; [peers.md](peers.md) says how each
tool is run, and what is the same for all. Ratios are of medians of CPU time in one race. They are what one machine
showed, not promises.

*peer / polyfuse* is how many times longer the best peer takes, *goal* what was aimed at, *peer / bound* the most that
the direct algorithm could reach here: the peer over `max(flops / peak, compulsory bytes / bandwidth)`. *exact* is
polyfuse without Winograd's algorithm, *unfused* its own code layer by layer.

"""
OTHERS = """\
## Other shapes

Odd sizes, channel counts that fill no vector, images of three channels, 5x5 depthwise, dilated and asymmetric windows,
beside onnxruntime and OpenVINO.
"""
COLUMNS = ("workload", "best peer", "peer / polyfuse", "goal", "peer / bound", "peer / exact", "unfused / tuned",
           "of direct peak", "chosen", "max error")  # fmt: skip
INTRODUCTION = {
    "preferred": "Each at the interface layout that it prefers: polyfuse channels in blocks, Halide and torch channels "
    "last, the others NCHW.",
    "nchw": "The same with NCHW at every interface.",
}


def label(name: str, parameters: dict[str, str]) -> str:
    """The workload in a table, and as a file name."""
    return " ".join([name, *(f"{key}={value}" for key, value in parameters.items())])


def file_of(name: str, parameters: dict[str, str], interface: str) -> Path:
    """Where the race of a workload is kept."""
    return KEPT / f"{re.sub('[^a-z0-9]+', '-', label(name, parameters))}-{interface}.json"


def run(
    name: str, parameters: dict[str, str], interface: Interface, seconds: float, repeats: int, peers: str = "all"
) -> None:
    """Tune a workload and race it."""
    network = pf.load_workload(str(FOLDER.parent / "kernels" / f"{name}.py"), parameters=parameters)
    machine = pf.read_machine()
    own = []
    for exact in (False, True) if has_choice(network) else (False,):
        layout = "blocked" if interface == "preferred" else "nchw"
        pf.tune(network, machine, workload=label(name, parameters), interface=layout, exact=exact)
        own.append(Configuration("tuned", exact_arithmetic=exact).contender())
    own.append(Configuration("unfused").contender())
    rules = Rules(1, interface, repeats, search_seconds=seconds)
    found = race(network, [*own, *peers_named(peers)], machine, rules)
    PeerReport(host_facts(), (found,), shared_settings(rules)).write_json(file_of(name, parameters, interface))


def has_choice(network: pf.Network) -> bool:
    """Whether Winograd's algorithm could compute a layer, so that forbidding it may make a difference."""
    return any(layer.kind == "conv" and layer.attributes["kernel"] == (3, 3) for layer in network.layers)


def best(comparison: PeerComparison, own: bool) -> PeerRow | None:
    """The fastest contender of one side; of ours the one that was tuned without restrictions."""
    rows = [row for row in comparison.timed if row.contender.startswith("polyfuse") == own]
    return next((row for row in rows if not own or row.contender == "polyfuse"), None)


def ratio(comparison: PeerComparison, over: PeerRow | None, under: PeerRow | None) -> str:
    """The time of one over that of the other."""
    pair = [comparison.seconds(row) if row is not None else None for row in (over, under)]
    return f"{pair[0] / pair[1]:.2f}" if pair[0] and pair[1] else "-"


def row_lines(comparison: PeerComparison, title: str, goal: str) -> tuple[str, ...]:
    """One workload in the table."""
    ours, peer = best(comparison, True), best(comparison, False)
    rows = {row.contender: row for row in comparison.timed}
    exact, unfused = rows.get("polyfuse exact"), rows.get("polyfuse unfused")
    rate = comparison.gflop_per_second(ours) if ours else None
    return (
        title,
        peer.contender if peer else "none",
        ratio(comparison, peer, ours),
        goal,
        f"{comparison.ratio_to_bound(peer):.2f}" if peer else "-",
        ratio(comparison, peer, exact or ours),
        ratio(comparison, unfused, ours),
        f"{rate / comparison.peak_gflop_per_second:.0%}" if rate else "-",
        ours.detail if ours else "-",
        f"{ours.max_rel_error:.0e}" if ours and ours.max_rel_error is not None else "-",
    )


def all_rows(comparison: PeerComparison, title: str) -> Iterable[tuple[str, ...]]:
    """Every contender of one workload, relative to the fastest."""
    for row in comparison.rows:
        if row.state == "timed":
            yield title, row.contender, f"{comparison.ratio_to_best(row):.2f}", row.layout, row.detail
        else:
            yield title, row.contender, row.state, "", row.message


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows)]


def kept(
    wanted: Iterable[tuple[str, dict[str, str], str]], interface: Interface
) -> Iterable[tuple[str, str, PeerComparison]]:
    """The title, goal and race of every workload that was measured."""
    for name, parameters, goal in wanted:
        path = file_of(name, parameters, interface)
        if path.exists():
            (comparison,) = PeerReport.from_json(path.read_text(), str(path)).comparisons
            yield label(name, parameters), goal, comparison


def page() -> str:
    """What is kept, as Markdown."""
    goals = [(name, parameters, f"{goal}") for name, parameters, goal in WORKLOADS]
    lines: list[str] = []
    details: list[tuple[str, ...]] = []
    for introduction, wanted in ((None, goals), (OTHERS, [(name, parameters, "1") for name, parameters in MORE])):
        lines += [introduction] if introduction else []
        for interface in INTERFACES:
            found = list(kept(wanted, interface))
            rows = [row_lines(comparison, title, goal) for title, goal, comparison in found]
            details += [x for title, _, comparison in found for x in all_rows(comparison, f"{title}, {interface}")]
            lines += [INTRODUCTION[interface], "", *markdown(COLUMNS, rows), ""]
    lines += ["## Every contender", "", "Times relative to the fastest of its race.", ""]
    lines += markdown(("workload, interface", "contender", "to fastest", "layout", "chosen, or why not"), details)
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
    parser.add_argument("--only", default="", help="workloads whose name and parameters hold this")
    parser.add_argument("--search-seconds", type=float, default=120.0, help="how long Halide may try schedules")
    parser.add_argument("--repeats", type=int, default=11, help="rounds of a race")
    chosen = parser.parse_args()
    make_folder(KEPT)
    goals = [(name, parameters) for name, parameters, _ in WORKLOADS]
    for workloads, peers in ((goals, "all"), (MORE, MORE_PEERS)):
        for interface in INTERFACES:
            for name, parameters in workloads:
                path = file_of(name, parameters, interface)
                if chosen.only in label(name, parameters) and not path.exists():
                    run(name, parameters, interface, chosen.search_seconds, chosen.repeats, peers)
                    print(f"{path.stem}: measured", flush=True)
                    (FOLDER / "fast-benchmarks.md").write_text(page())
    (FOLDER / "fast-benchmarks.md").write_text(page())


if __name__ == "__main__":
    main()
