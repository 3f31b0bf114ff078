"""What a comparison with peers found, and its JSON.

Enters: numbers, or the text of a JSON file. Leaves: a `PeerReport`, checked.

The file holds "format" ("polyfuse-peers"), "version" (1) and all fields of `PeerReport`; docs/use/formats.md says what
each key means. A change of meaning raises the version.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path

from polyfuse.errors import InvalidInput
from polyfuse.files import write_atomically
from polyfuse.text import columns, html_table
from polyfuse.typed_json import check_measure, decode, headed, headed_text

FORMAT = "polyfuse-peers"
VERSION = 1
OWN = "polyfuse"
"""How the names of polyfuse's own contenders begin."""

STATES = ("timed", "wrong", "failed", "missing")
IN_WORDS = {"wrong": "wrong", "failed": "failed", "missing": "not installed"}
"""What is said of a contender that was not timed."""


@dataclass(frozen=True)
class PeerRow:
    """One contender on one workload; times are medians over rounds of one run, in seconds.

    state: `timed`; `wrong` where its result is not that of the reference; `failed`; `missing` where it is not
    installed. message: one line, for those that are not timed.
    """

    contender: str
    state: str
    message: str = ""
    version: str = ""
    layout: str = ""
    detail: str = ""
    cpu_seconds: float | None = None
    wall_seconds: float | None = None
    cpu_seconds_min: float | None = None
    wall_seconds_min: float | None = None
    calls: int = 0
    rounds: int = 0
    max_rel_error: float | None = None

    def __post_init__(self) -> None:
        if self.state not in STATES:
            raise InvalidInput(f"row: expected a state of {', '.join(STATES)}, got '{self.state}'; correct it")
        for name in ("cpu_seconds", "wall_seconds", "cpu_seconds_min", "wall_seconds_min"):
            seconds = getattr(self, name)
            if seconds is not None and not 0 < seconds < math.inf:
                raise InvalidInput(f"row: expected {name} above 0 and finite, got {seconds}; race again")

    @property
    def is_peer(self) -> bool:
        """Whether this is another tool than polyfuse."""
        return not self.contender.startswith(OWN)

    @property
    def in_words(self) -> str:
        """The contender, and why it was not timed.

        >>> PeerRow("ncnn", "failed").in_words, PeerRow("halide", "missing").in_words
        ('ncnn failed', 'halide not installed')
        """
        return f"{self.contender} {IN_WORDS.get(self.state, self.state)}"


@dataclass(frozen=True)
class PeerComparison:
    """All contenders on one workload.

    clock            `CPU time` or `wall time`: what ratios are made of
    flops            of the direct algorithm, two for each multiply-accumulate; taps on padding are none
    compulsory_bytes inputs, outputs and weights, once
    peak, bandwidth  what so many threads reach: GFLOP/s, and GB/s of `level`, the nearest that holds those bytes
    """

    workload: str
    threads: int
    interface: str
    clock: str
    flops: int
    compulsory_bytes: int
    peak_gflop_per_second: float
    bandwidth_gb_per_second: float
    level: str
    rows: tuple[PeerRow, ...]

    def __post_init__(self) -> None:
        where = f"comparison of '{self.workload}'"
        for name in ("flops", "compulsory_bytes"):
            check_measure(where, name, getattr(self, name))
        for name in ("peak_gflop_per_second", "bandwidth_gb_per_second"):
            rate = getattr(self, name)
            if not 0 < rate < math.inf:
                raise InvalidInput(f"{where}: expected {name} above 0 and finite, got {rate}; race again")

    @property
    def bound_seconds(self) -> float:
        """What no direct algorithm stays below: `max(flops / peak, compulsory bytes / bandwidth)`."""
        compute = self.flops / (self.peak_gflop_per_second * 1e9)
        return max(compute, self.compulsory_bytes / (self.bandwidth_gb_per_second * 1e9))

    @property
    def timed(self) -> tuple[PeerRow, ...]:
        """The rows with times, the fastest first."""
        rows = [row for row in self.rows if self.seconds(row) is not None]
        return tuple(sorted(rows, key=lambda row: self.seconds(row) or math.inf))

    @property
    def best_own(self) -> PeerRow | None:
        """The fastest of polyfuse's own contenders; None where none was timed."""
        return next((row for row in self.timed if not row.is_peer), None)

    @property
    def best_peer(self) -> PeerRow | None:
        """The fastest of the peers that ran; None where none did."""
        return next((row for row in self.timed if row.is_peer), None)

    @property
    def peers_that_ran(self) -> tuple[PeerRow, ...]:
        """The peers whose results are right and timed, in the order in which they were asked."""
        return tuple(row for row in self.rows if row.is_peer and self.seconds(row) is not None)

    @property
    def peers_that_did_not(self) -> tuple[PeerRow, ...]:
        """The peers that failed, were wrong or are not installed: nothing is known of their times."""
        return tuple(row for row in self.rows if row.is_peer and self.seconds(row) is None)

    def row(self, contender: str) -> PeerRow | None:
        """The row of a contender if it was timed."""
        return next((row for row in self.timed if row.contender == contender), None)

    def ratio(self, over: PeerRow | None, under: PeerRow | None) -> float | None:
        """The time of one row over that of another; None where one has none."""
        pair = [None if row is None else self.seconds(row) for row in (over, under)]
        return None if pair[0] is None or pair[1] is None else pair[0] / pair[1]

    def seconds(self, row: PeerRow) -> float | None:
        """The time of a row by the clock that counts; None of one whose state is not `timed`, and of no time."""
        seconds = row.cpu_seconds if self.clock == "CPU time" else row.wall_seconds
        return seconds if row.state == "timed" and seconds is not None and 0 < seconds < math.inf else None

    def gflop_per_second(self, row: PeerRow) -> float | None:
        """The rate of the direct algorithm; faster algorithms do less and may pass the peak."""
        seconds = self.seconds(row)
        return None if not seconds or not self.flops else self.flops / seconds / 1e9

    def ratio_to_best(self, row: PeerRow) -> float | None:
        """The time of a row over that of the fastest."""
        return self.ratio(row, self.timed[0]) if self.timed else None

    def ratio_to_bound(self, row: PeerRow) -> float | None:
        """The time of a row over the bound."""
        seconds = self.seconds(row)
        return None if seconds is None else seconds / self.bound_seconds

    def __str__(self) -> str:
        return "\n".join([f"{self.workload}: {self.clock}", *columns([SUMMARY, *map(self.summary, self.rows)], 2)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(f"{self.workload}: {self.clock}", SUMMARY, map(self.summary, self.rows))

    def summary(self, row: PeerRow) -> tuple[object, ...]:
        """A row in the columns of SUMMARY."""
        seconds, ratio = self.seconds(row), self.ratio_to_best(row)
        if seconds is None or ratio is None:
            return row.contender, row.state, "", ""
        return row.contender, f"{seconds * 1e3:.3g}", f"{ratio:.2f}", f"{row.max_rel_error:.0e}"


SUMMARY = ("contender", "ms", "to best", "max error")


@dataclass(frozen=True)
class PeerReport:
    """Comparisons on one machine: `machine` is free-form JSON, such as `host_facts` gives."""

    machine: dict[str, object]
    comparisons: tuple[PeerComparison, ...]
    environment: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """The JSON text, in the order of the fields."""
        return headed_text(self, (FORMAT, VERSION))

    def write_json(self, path: Path) -> None:
        """Write the JSON text, all of it or nothing.

        Errors: InvalidInput when the path cannot be written.
        """
        write_atomically(path, self.to_json().encode())

    @classmethod
    def from_json(cls, text: str, where: str = "peers") -> "PeerReport":
        """The report in a JSON text, which errors call `where`.

        Errors: InvalidInput when it holds none.
        """
        document = headed(text, where, "a race", (FORMAT, VERSION), "write it again with this polyfuse")
        report: PeerReport = decode(document, cls, where)
        return report
