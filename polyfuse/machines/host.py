"""A host, as a value for plans and the time model and as a TOML file that people read and edit.

Enters: measured numbers, or the text of a machine file. Leaves: a `Machine`, checked.

The file holds "format" ("polyfuse-machine"), "version" (1) and all fields of `Machine`; peaks and levels are lists of
tables, costs are tables that may be missing. Keys carry their unit; GB is 10^9 bytes. A change of meaning raises the
version.
"""

import math
import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import platformdirs

from polyfuse.doors import public
from polyfuse.errors import InvalidInput
from polyfuse.files import read_text
from polyfuse.machines.toml import check_distinct, check_positive, check_text, document, record_of

FORMAT = "polyfuse-machine"
VERSION = 1
VARIABLE = "POLYFUSE_MACHINE"
COMMENT = "A machine as polyfuse sees it. docs/use/machine.md says what each key means and how it is measured."


@dataclass(frozen=True)
class Bandwidth:
    """Bytes moved per second, in GB (10^9 bytes) per second; a copy counts what it reads and what it writes."""

    read_gb_per_second: float
    write_gb_per_second: float
    copy_gb_per_second: float

    def __post_init__(self) -> None:
        check_positive("bandwidth", self)


@dataclass(frozen=True)
class Level:
    """A level of memory, and the bandwidth of one core and of all cores together.

    `capacity_bytes` is that of one instance of the level, which `shared_by_cores` cores share.
    """

    name: str
    capacity_bytes: int
    shared_by_cores: int
    one_core: Bandwidth
    all_cores: Bandwidth

    def __post_init__(self) -> None:
        check_text("level", "name", self.name)
        check_positive(f"level '{self.name}'", self)


@dataclass(frozen=True)
class Peak:
    """The peak of one core in single precision with vectors of this width: a multiply-add is two operations."""

    vector_bytes: int
    gflop_per_second: float
    fma_per_cycle: float

    def __post_init__(self) -> None:
        check_positive("peak", self)


@dataclass(frozen=True)
class Costs:
    """The costs of work on one core, fitted to measurements; docs/use/model.md says how.

    compute      nanoseconds of a vector operation of each kind of row kernel, of a `chunk`, and of a `call`
    memory       nanoseconds of a byte, as `L2 read`, `DRAM write` and so on; of a separate run of bytes, as `L2 run`
    held_bytes   for each cache, what it holds in practice
    """

    compute: dict[str, float]
    memory: dict[str, float]
    held_bytes: dict[str, int]

    @property
    def parts(self) -> tuple[dict[str, float], dict[str, float]]:
        """Those of computing and those of memory."""
        return self.compute, self.memory

    def __post_init__(self) -> None:
        for name, value in (*self.compute.items(), *self.memory.items()):
            if not 0 <= value < math.inf:
                raise InvalidInput(f"costs: expected {name!r} of 0 or more and finite, got {value}; correct it")
        for name, size in self.held_bytes.items():
            if size <= 0:
                raise InvalidInput(f"costs: expected held_bytes of {name!r} above 0, got {size}; correct it")


@public
@dataclass(frozen=True)
class Machine:
    """A host: compute rates of a core, and levels of memory from the nearest to DRAM.

    compiler, flags: what the numbers were measured with. cores: those that work at once, without hardware threads.
    clock_ghz: of one core at work. vector_bytes: the width to generate code for, one of those in `peaks`.

    Raises InvalidInput for numbers that are not positive and finite, widths or names given twice, a `vector_bytes` that
    has no peak, and levels whose capacity does not grow.
    """

    name: str
    compiler: str
    flags: tuple[str, ...]
    cores: int
    clock_ghz: float
    cache_line_bytes: int
    vector_bytes: int
    peaks: tuple[Peak, ...]
    levels: tuple[Level, ...]
    costs: Costs | None = None

    def __post_init__(self) -> None:
        for key in ("name", "compiler"):
            check_text("machine", key, getattr(self, key))
        for flag in self.flags:
            check_text("machine", "flag", flag)
        check_positive("machine", self)
        widths = [peak.vector_bytes for peak in self.peaks]
        check_distinct("peaks", widths)
        if self.vector_bytes not in widths:
            raise InvalidInput(
                f"machine: expected vector_bytes to be one of its peaks ({', '.join(map(str, widths))}), "
                f"got {self.vector_bytes}; correct one of them"
            )
        check_distinct("levels", [level.name for level in self.levels])
        for inner, outer in zip(self.levels, self.levels[1:], strict=False):
            if inner.capacity_bytes >= outer.capacity_bytes:
                raise InvalidInput(
                    f"machine: expected levels from the smallest to the largest, got {inner.name} of "
                    f"{inner.capacity_bytes:,} B before {outer.name} of {outer.capacity_bytes:,} B; order them"
                )

    @property
    def peak(self) -> Peak:
        """The peak at the width to generate code for."""
        return next(peak for peak in self.peaks if peak.vector_bytes == self.vector_bytes)

    @property
    def caches(self) -> tuple[Level, ...]:
        """All levels but the last."""
        return self.levels[:-1]

    @property
    def capacities(self) -> dict[str, int]:
        """The bytes of each cache by its name, the nearest first: memories of `hierarchy`."""
        return {level.name: level.capacity_bytes for level in self.caches}

    @property
    def dram(self) -> Level:
        """The last level."""
        return self.levels[-1]

    def to_toml(self) -> str:
        """The text of a machine file, in the order of the fields."""
        return document(COMMENT, (FORMAT, VERSION), self)

    @classmethod
    def from_toml(cls, text: str, where: str = "machine file") -> "Machine":
        """The machine in a TOML text, which errors call `where`.

        Errors: InvalidInput when it is no TOML, has unknown or missing keys, wrong types or impossible numbers.
        """
        return record_of(
            text,
            cls,
            head=(FORMAT, VERSION),
            where=where,
            again="write it again with polyfuse machine --probe",
            optional={"costs": None},
        )


def machine_path() -> Path:
    """Where the machine file of this user is: $POLYFUSE_MACHINE, else machine.toml in the user's config folder."""
    named = os.environ.get(VARIABLE)
    return Path(named).expanduser() if named else platformdirs.user_config_path("polyfuse") / "machine.toml"


def read_machine(path: Path | None = None) -> Machine:
    """The machine in a file, by default that of this user.

    Errors: InvalidInput when there is none, when it cannot be read, and as `Machine.from_toml`.
    """
    chosen = machine_path() if path is None else path
    where = f"machine file '{chosen}'"
    text = read_text(
        chosen,
        where,
        "TOML",
        missing="expected a machine description, there is none; run polyfuse machine --probe to measure this host"
        f"{'' if path is None else f', with -o {path} to write it there'}",
    )
    return Machine.from_toml(text, where)


def known_machine() -> Machine:
    """The machine in this user's file; where there is none, one with typical numbers, which machines/files/ has.

    Errors: InvalidInput for a file that cannot be read or holds something else.
    """
    if machine_path().exists():
        return read_machine()
    text = resources.files("polyfuse.machines").joinpath("files", "typical.toml").read_text(encoding="utf-8")
    return Machine.from_toml(text, "the typical machine")


def usable_cores() -> int:
    """How many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
