"""Races polyfuse against other tools and writes docs/measured/fast-benchmarks.md.

`python docs/measured/fast_benchmarks.py` takes hours. Each workload is tuned, then races whichever peers are installed.
Results are kept in docs/measured/fast/, one file for each workload and interface; a workload is measured again only
with `--again`. `--only TEXT` takes some workloads. Shapes beyond those with a goal race MORE_PEERS only.
"""

import argparse
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import peerpages as pages

import polyfuse as pf
from polyfuse.bench.peers.contender import peers_named
from polyfuse.bench.peers.ours import Configuration
from polyfuse.bench.peers.race import RaceRules, race, shared_settings
from polyfuse.bench.peers.results import PeerReport
from polyfuse.choices import RACE_LAYOUTS, RaceLayout
from polyfuse.files import make_folder
from polyfuse.network.operator import Conv

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
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
MORE_PEERS = "onnxruntime,openvino,torch,ncnn"
OWN = "polyfuse"
HEAD = """\
# Fast code against other tools, measured

{measured}; one thread, fp32.
`python docs/measured/fast_benchmarks.py --again` measures all of this again and writes this page;
[peers.md](../use/peers.md) says how each tool is run, and what is the same for all. Ratios are of medians of CPU time
in one race. They are what one machine showed, not promises.

*best peer* is the fastest of the peers that *ran* in that row, which names them: their result is within 1e-4 of the
float64 reference, and they were timed. One that did not is *not compared*, which does not mean beaten;
[every contender](#every-contender) says why. *peer / polyfuse* is how many times longer the best peer takes, *goal*
the aim, *peer / bound* the most that the direct algorithm could reach here: the peer over
`max(flops / peak, compulsory bytes / bandwidth)`. *exact* is polyfuse without Winograd's algorithm, *unfused* its own
code layer by layer. Rows of ncnn that do not say `converted by pnnx` ran a net that was written for it layer by layer.

"""
OTHERS = """\
## Other shapes

Odd sizes, channel counts that fill no vector, images of three channels, 5x5 depthwise, dilated and asymmetric windows.
Halide, whose schedules are searched for minutes, does not take part in these.
"""
ALONE = """\
## Peer by peer

How many times longer each peer takes than polyfuse, over the races above that it ran in and no others.

"""
COLUMNS = ("workload", "best peer", "peer / polyfuse", "goal", *pages.PEER_COLUMNS, "peer / bound", "peer / exact",
           "unfused / tuned", "of direct peak", "chosen", "max error", "measured")  # fmt: skip
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
    name: str, parameters: dict[str, str], interface: RaceLayout, seconds: float, repeats: int, peers: str = "all"
) -> None:
    """Tune a workload and race it."""
    network = pf.load_workload(str(ROOT / "kernels" / f"{name}.py"), parameters=parameters)
    machine = pf.read_machine()
    own = []
    for exact in (False, True) if has_choice(network) else (False,):
        layout = "blocked" if interface == "preferred" else "nchw"
        pf.tune(network, machine, workload=label(name, parameters), interface=layout, exact=exact)
        own.append(Configuration("tuned", exact_arithmetic=exact).contender())
    own.append(Configuration("unfused").contender())
    rules = RaceRules(1, interface, repeats, search_seconds=seconds)
    found = race(network, [*own, *peers_named(peers)], machine, rules)
    PeerReport(pages.facts_of_now(), (found,), shared_settings(rules)).write_json(file_of(name, parameters, interface))


def has_choice(network: pf.Network) -> bool:
    """Whether Winograd's algorithm could compute a layer, so that forbidding it may make a difference."""
    return any(isinstance(layer.operator, Conv) and layer.operator.window.kernel == (3, 3) for layer in network.layers)


def row_cells(race: pages.Kept, goal: str) -> tuple[str, ...]:
    """One workload in the table."""
    comparison, ours, peer = race.comparison, race.ours, race.comparison.best_peer
    exact, unfused = comparison.row("polyfuse exact"), comparison.row("polyfuse unfused")
    share, error = pages.own_cells(race)
    return (
        race.title,
        *pages.best_peer_cells(race),
        goal,
        *pages.peer_cells(race),
        pages.decimals(comparison.ratio_to_bound(peer) if peer else None),
        pages.decimals(comparison.ratio(peer, exact or ours)),
        pages.decimals(race.ratio(unfused)),
        share,
        ours.detail if ours else "-",
        error,
        race.date,
    )


def kept(
    wanted: Iterable[tuple[str, dict[str, str], str]], interface: RaceLayout, peers: str
) -> list[tuple[pages.Kept, str]]:
    """The race and the goal of every workload that was measured."""
    files = [(label(name, parameters), goal, file_of(name, parameters, interface)) for name, parameters, goal in wanted]
    return [(pages.kept_race(title, file, OWN, peers), goal) for title, goal, file in files if file.exists()]


def page() -> str:
    """What is kept, as Markdown."""
    goals = [(name, parameters, f"{goal}") for name, parameters, goal in WORKLOADS]
    lines: list[str] = []
    races: list[pages.Kept] = []
    more = [(name, parameters, "1") for name, parameters in MORE]
    for introduction, wanted, peers in ((None, goals, "all"), (OTHERS, more, MORE_PEERS)):
        lines += [introduction] if introduction else []
        for interface in RACE_LAYOUTS:
            found = kept(wanted, interface, peers)
            races += [replace(race, title=f"{race.title}, {interface}") for race, _ in found]
            lines += [INTRODUCTION[interface], "", *pages.markdown(COLUMNS, [row_cells(*pair) for pair in found]), ""]
    lines += [*ALONE.splitlines(), *pages.markdown(pages.ALONE_COLUMNS, pages.one_by_one(races)), ""]
    lines += ["## Every contender", "", "Times relative to the fastest of its race.", ""]
    details = [row for race in races for row in pages.contender_rows(race)]
    lines += pages.markdown(("workload, interface", *pages.CONTENDER_COLUMNS), details)
    return HEAD.format(measured=pages.measured_on(races)) + "\n".join([*lines, ""])


def main() -> None:
    """Measure what is not kept yet and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="workloads whose name and parameters hold this")
    parser.add_argument("--again", action="store_true", help="measure again what is kept")
    parser.add_argument("--search-seconds", type=float, default=120.0, help="how long Halide may try schedules")
    parser.add_argument("--repeats", type=int, default=11, help="rounds of a race")
    chosen = parser.parse_args()
    make_folder(KEPT)
    goals = [(name, parameters) for name, parameters, _ in WORKLOADS]
    for workloads, peers in ((goals, "all"), (MORE, MORE_PEERS)):
        for interface in RACE_LAYOUTS:
            for name, parameters in workloads:
                path = file_of(name, parameters, interface)
                if chosen.only in label(name, parameters) and (chosen.again or not path.exists()):
                    run(name, parameters, interface, chosen.search_seconds, chosen.repeats, peers)
                    print(f"{path.stem}: measured", flush=True)
                    (FOLDER / "fast-benchmarks.md").write_text(page())
    (FOLDER / "fast-benchmarks.md").write_text(page())


if __name__ == "__main__":
    main()
