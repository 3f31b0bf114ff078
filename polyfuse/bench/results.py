"""What a comparison of strategies found: the JSON that tables and plots are made of.

Enters: predictions, counts and timings. Leaves: a `Comparison`, as a value or as a JSON file.

The JSON is one object: "format" ("polyfuse-comparison"), "version" (1), then the fields of `Comparison`, "rows" being a
list of objects with the fields of `Row`. Tuples are lists. All keys are always there; what is not known is null. A
number that is not finite is the string "nan", "inf" or "-inf". A change of meaning raises the version.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from polyfuse import choices
from polyfuse.doors import public
from polyfuse.errors import InvalidInput
from polyfuse.files import read_text, write_atomically
from polyfuse.schedule.retention import Placement
from polyfuse.text import columns, html_table, tile_label
from polyfuse.typed_json import decode, headed, headed_text

FORMAT = "polyfuse-comparison"
VERSION = 1
STRATEGIES = ("unfused", *choices.STRATEGIES, "tuned")
PLACEMENTS = get_args(Placement)
COUNTED = (
    "executions",
    "macs_executed",
    "onchip_bytes",
    "offchip_read_bytes",
    "offchip_write_bytes",
    "buffer_bytes",
    "workspace_bytes",
)


@public
@dataclass(frozen=True)
class Row:
    """One way to run the workload: what was predicted, what an instrumented run counted, how long it took.

    strategy: one of STRATEGIES; placement: of first executions, one of PLACEMENTS, or None where nothing is retained.
    retention: for each tensor that a layer reads (weights excepted), along each tile dimension, one of PLACES.
    tile: elements of the last output along each tile dimension; () for unfused rows.
    instances, executions: of the points of all layers; recomputed: executions beyond the first of each point.
    macs, macs_executed: multiply-accumulates of the network, and executed.
    halo: for each tensor, the elements that neighbouring tiles share along each tile dimension.
    onchip_bytes: of all buffers of the largest group; offchip_read_bytes, offchip_write_bytes: moved in one run.
    buffer_bytes, workspace_bytes: in the C that is timed, all buffers of the largest group, and what Winograd's
    transforms keep; of one thread.
    loops, branches: `for` and `if` in the tile loops of the C that is timed.
    counted: of the keys in COUNTED, those that the instrumented run counted; None if there was none.
    seconds_median, seconds_min: of one run; ratio_to_unfused: of the medians, below 1 is faster; None if not timed.
    max_rel_error: of the outputs against the reference; None if not compared.
    threads: of the timed run.

    Errors: InvalidInput for other names, for counts that contradict each other and for negative ones.
    """

    strategy: str
    placement: str | None
    retention: dict[str, tuple[str, ...]]
    tile: tuple[int, ...]
    instances: int
    executions: int
    macs: int
    macs_executed: int
    recomputed: int
    halo: dict[str, tuple[int, ...]]
    onchip_bytes: int
    offchip_read_bytes: int
    offchip_write_bytes: int
    buffer_bytes: int
    workspace_bytes: int
    loops: int
    branches: int
    counted: dict[str, int] | None
    seconds_median: float | None
    seconds_min: float | None
    ratio_to_unfused: float | None
    max_rel_error: float | None
    threads: int
    axes: tuple[str, ...] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        _check_name("strategy", self.strategy, STRATEGIES)
        if self.placement is not None:
            _check_name("placement", self.placement, PLACEMENTS)
        for tensor, places in self.retention.items():
            for choice in places:
                _check_name(f"retention of '{tensor}'", choice, choices.PLACES)
        for key in self.counted or {}:
            _check_name("counted", key, COUNTED)
        for name in (*COUNTED, "instances", "macs", "loops", "branches"):
            if getattr(self, name) < 0:
                raise InvalidInput(
                    f"row '{self.label}': expected {name} of at least 0, got {getattr(self, name)}; correct it"
                )
        least = max(0, self.executions - self.instances)
        if not least <= self.recomputed <= self.executions:
            raise InvalidInput(
                f"row '{self.label}': expected {least} to {self.executions} recomputed of {self.executions} executions "
                f"of {self.instances} instances, got {self.recomputed}; correct one of them"
            )

    @property
    def label(self) -> str:
        """Tile, strategy and placement, as in "8x8 local (first)" and "8x8 mixed LR (shifted)"."""
        return " ".join(
            [tile_label(self.tile, self.axes), self.name, *([f"({self.placement})"] if self.placement else [])]
        )

    @property
    def name(self) -> str:
        """The strategy; if mixed, with a letter for the place along each tile dimension, for each tensor or for all."""
        if self.strategy != "mixed":
            return self.strategy
        codes = [letters(places) for places in self.retention.values()]
        return " ".join([self.strategy, *(codes[:1] if len(set(codes)) == 1 else codes)])

    @property
    def mismatches(self) -> list[str]:
        """The counted keys that differ from the prediction, in the order of COUNTED."""
        counted = self.counted or {}
        return [key for key in COUNTED if key in counted and counted[key] != getattr(self, key)]


@public
@dataclass(frozen=True)
class Comparison:
    """Strategies for one workload on one machine: `machine` is free-form JSON, such as `host_facts` gives."""

    workload: str
    machine: dict[str, object]
    compiler: str
    flags: tuple[str, ...]
    rows: tuple[Row, ...]

    def __str__(self) -> str:
        return "\n".join([f"{self.workload}: {self.compiler}", *columns([SUMMARY, *map(summary, self.rows)], indent=2)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(f"{self.workload}: {self.compiler}", SUMMARY, map(summary, self.rows))

    def to_json(self) -> str:
        """The JSON text, in the order of the fields."""
        return headed_text(self, (FORMAT, VERSION))

    def write_json(self, path: Path) -> None:
        """Write the JSON text, all of it or nothing.

        Errors: InvalidInput when the path cannot be written.
        """
        write_atomically(path, self.to_json().encode())

    @classmethod
    def from_json(cls, text: str, where: str = "comparison") -> "Comparison":
        """The comparison in a JSON text, which errors call `where`.

        Errors: InvalidInput when it holds none, and where a ratio is not that of the times.
        """
        document = headed(text, where, "a comparison", (FORMAT, VERSION), "write it again with this polyfuse")
        comparison: Comparison = decode(document, cls, where)
        comparison.check_ratios(where)
        return comparison

    def check_ratios(self, where: str) -> None:
        """Ratios are those of the times in the rows, where the unfused one is among them.

        Errors: InvalidInput for others.
        """
        unfused = next((row.seconds_median for row in self.rows if row.strategy == "unfused"), None)
        for index, row in enumerate(self.rows):
            if row.ratio_to_unfused is None or not unfused:
                continue
            expected = row.seconds_median / unfused if row.seconds_median is not None else None
            if expected is None or not math.isclose(row.ratio_to_unfused, expected, rel_tol=1e-9):
                raise InvalidInput(
                    f"{where}.rows[{index}]: expected a ratio_to_unfused of {expected}, got {row.ratio_to_unfused}; "
                    "correct it, or compare again"
                )


def letters(places: Iterable[str]) -> str:
    """`LR` for (local, recompute)."""
    return "".join(place[0].upper() for place in places)


SUMMARY = ("row", "executions", "recomputed", "bytes on chip", "bytes off-chip", "seconds", "max error", "counted")


def summary(row: Row) -> tuple[object, ...]:
    """A row in the columns of SUMMARY."""
    differing = "; ".join(f"{key} differs" for key in row.mismatches) or "as predicted"
    counted = "not run" if row.counted is None else differing
    seconds = "" if row.seconds_median is None else f"{row.seconds_median:.3g}"
    error = "" if row.max_rel_error is None else f"{row.max_rel_error:.1e}"
    offchip = row.offchip_read_bytes + row.offchip_write_bytes
    return row.label, row.executions, row.recomputed, row.onchip_bytes, offchip, seconds, error, counted


def read_comparison(path: Path) -> Comparison:
    """The comparison in a JSON file. Errors: InvalidInput when it cannot be read or holds none."""
    where = f"comparison '{path}'"
    return Comparison.from_json(read_text(path, where, "JSON"), where)


def _check_name(what: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise InvalidInput(f"row: expected a {what} of {', '.join(known)}, got '{name}'; correct the name")
