"""Comparisons with peers as Markdown: what each row of a page says of the peers that ran, and of those that did not.

Enters: `PeerReport`s that were kept, one comparison each. Leaves: lines of Markdown. A peer that was not timed is never
part of a ratio; each row names it.
"""

import datetime
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from polyfuse.bench.peers.contender import peers_named
from polyfuse.bench.peers.results import PeerComparison, PeerReport, PeerRow
from polyfuse.codegen.compiler import find_compiler
from polyfuse.deploy.host import host_facts

PEER_COLUMNS = ("peers that ran", "not compared")
CONTENDER_COLUMNS = ("contender", "to fastest", "layout", "max error", "chosen, or why not")
ALONE_COLUMNS = ("peer", "races that it ran in", "polyfuse is faster in", "geometric mean", "smallest", "largest",
                 "not compared in")  # fmt: skip
UNKNOWN = "not kept"


@dataclass(frozen=True)
class Kept:
    """A race of a page.

    title   what tables call it
    own     the contender of polyfuse that is compared with peers
    asked   the peers that would be asked today; one that is in no row was not asked then
    """

    title: str
    report: PeerReport
    own: str
    asked: tuple[str, ...] = ()

    @property
    def comparison(self) -> PeerComparison:
        """The comparison, of which there is one."""
        (found,) = self.report.comparisons
        return found

    @property
    def ours(self) -> PeerRow | None:
        """The row of polyfuse that is compared with peers, where it was timed."""
        return self.comparison.row(self.own)

    @property
    def date(self) -> str:
        """When it was measured."""
        return str(self.report.machine.get("date", UNKNOWN))

    @property
    def not_compared(self) -> tuple[str, ...]:
        """The peers that nothing is known of, and why."""
        there = {row.contender for row in self.comparison.rows}
        others = [f"{name} not asked" for name in self.asked if name not in there]
        return (*(row.in_words for row in self.comparison.peers_that_did_not), *others)

    def ratio(self, peer: PeerRow | None) -> float | None:
        """How many times longer a peer takes than polyfuse; None where one of them was not timed."""
        return self.comparison.ratio(peer, self.ours)


def kept_race(title: str, file: Path, own: str, peers: str) -> Kept:
    """The race in a file; `peers` are those that would be asked today, by name. Errors: InvalidInput."""
    asked = tuple(peer.name for peer in peers_named(peers))
    return Kept(title, PeerReport.from_json(file.read_text(encoding="utf-8"), str(file)), own, asked)


def facts_of_now() -> dict[str, object]:
    """The host, the date and the C compiler, to be kept with a race that ends now."""
    return {**host_facts(), "date": datetime.date.today().isoformat(), "compiler": find_compiler().version}


def measured_on(races: Sequence[Kept]) -> str:
    """When and where races were measured: all dates, processors and compilers that were kept with them.

    >>> row = PeerComparison("w", 1, "nchw", "CPU time", 1, 1, 1.0, 1.0, "L1", ())
    >>> facts = ({"date": "2026-01-02", "cpu": "A", "cores": 2}, {"date": "2026-01-05", "cpu": "A", "cores": 2})
    >>> measured_on([Kept("w", PeerReport(machine, (row,)), "polyfuse") for machine in facts])
    'Measured 2026-01-02, 2026-01-05 on A, 2 cores'
    """
    machines = [race.report.machine for race in races]

    def all_of(key: str, unit: str = "") -> str:
        found = sorted({f"{machine[key]}{unit}" for machine in machines if key in machine})
        return ", ".join(found) or f"{key} {UNKNOWN}"

    parts = [all_of("cpu"), all_of("cores", " cores")]
    if any("compiler" in machine for machine in machines):
        parts.append(all_of("compiler"))
    return f"Measured {all_of('date')} on {', '.join(parts)}"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table; a bar in a cell does not end it."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return [*lines, *(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)]


def decimals(ratio: float | None) -> str:
    """A ratio to two digits after the point, or a dash."""
    return "-" if ratio is None else f"{ratio:.2f}"


def best_peer_cells(race: Kept) -> tuple[str, str]:
    """The fastest of the peers that ran, and how many times longer than polyfuse it takes."""
    best = race.comparison.best_peer
    return best.contender if best is not None else "none ran", decimals(race.ratio(best))


def own_cells(race: Kept) -> tuple[str, str]:
    """The share of the machine's peak that polyfuse reaches, and its error."""
    ours = race.ours
    rate = race.comparison.gflop_per_second(ours) if ours else None
    share = f"{rate / race.comparison.peak_gflop_per_second:.0%}" if rate else "-"
    return share, f"{ours.max_rel_error:.0e}" if ours and ours.max_rel_error is not None else "-"


def peer_cells(race: Kept) -> tuple[str, str]:
    """The cells of PEER_COLUMNS: who ran, and who did not."""
    ran = race.comparison.peers_that_ran
    return ", ".join(row.contender for row in ran) or "none", ", ".join(race.not_compared)


def contender_rows(race: Kept) -> Iterable[tuple[str, ...]]:
    """Every contender, relative to the fastest of its race: the title, then CONTENDER_COLUMNS."""
    for row in race.comparison.rows:
        ratio = race.comparison.ratio_to_best(row)
        shown = row.state if ratio is None else f"{ratio:.2f}"
        error = "" if row.max_rel_error is None else f"{row.max_rel_error:.0e}"
        name = " ".join(filter(None, (row.contender, row.version)))
        yield race.title, name, shown, row.layout, error, row.detail if ratio is not None else row.message


def one_by_one(races: Sequence[Kept]) -> list[tuple[str, ...]]:
    """Every peer alone over the races that it ran in, then the best of each race: the cells of ALONE_COLUMNS.

    A race that a peer did not run in is no part of its figures; the last cell names those, and at the best those in
    which some peer did not run.
    """
    names = dict.fromkeys(row.contender for race in races for row in race.comparison.rows if row.is_peer)
    rows = [_alone(name, races, [race.comparison.row(name) for race in races]) for name in names]
    *best, _ = _alone("the best of those that ran", races, [race.comparison.best_peer for race in races])
    partly = ", ".join(race.title for race in races if race.not_compared)
    return [*rows, (*best, f"not all of them in {partly}" if partly else "")]


def _alone(name: str, races: Sequence[Kept], rows: Sequence[PeerRow | None]) -> tuple[str, ...]:
    pairs = [(race.title, race.ratio(row)) for race, row in zip(races, rows, strict=True)]
    ratios = [ratio for _, ratio in pairs if ratio is not None]
    without = [title for title, ratio in pairs if ratio is None]
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else None
    return (
        name,
        f"{len(ratios)} of {len(races)}",
        f"{sum(ratio > 1 for ratio in ratios)}",
        decimals(mean),
        decimals(min(ratios, default=None)),
        decimals(max(ratios, default=None)),
        ", ".join(without),
    )
