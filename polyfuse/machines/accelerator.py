"""Accelerators with an on-chip memory that a compiler manages, as values and as TOML files that people read and edit.

Enters: the text of a file, the name of a shipped one, or a probed host. Leaves: an `Accelerator`, checked.

The file holds "format" ("polyfuse-accelerator"), "version" (1) and the fields of `Accelerator`; memories, rates and
energies are tables. Keys carry their unit. docs/use/accelerators.md says what each means.
"""

import math
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args, overload

import numpy as np
from numpy.typing import NDArray

from polyfuse.choices import DTYPE_BYTES, HOST_CACHE, accelerators
from polyfuse.doors import public
from polyfuse.errors import InvalidInput
from polyfuse.files import read_text
from polyfuse.machines.host import Machine, known_machine
from polyfuse.machines.toml import check_positive, check_text, document, record_of

Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]
Numbers = NDArray[np.float64]
FORMAT = "polyfuse-accelerator"
VERSION = 1
COMMENT = "An accelerator as polyfuse sees it. docs/use/accelerators.md says what each key means."
OperatorClass = Literal["conv", "depthwise", "matmul", "pool", "elementwise"]
CLASSES: tuple[OperatorClass, ...] = get_args(OperatorClass)
LARGEST = 1 << 40
"""Bytes on chip, and lanes, that no machine has: a larger number is a slip of the pen."""


@dataclass(frozen=True)
class Memory:
    """A memory: bytes that a transfer moves per cycle, cycles before its first byte, energy of a byte."""

    bytes_per_cycle: float
    latency_cycles: float
    pj_per_byte: float

    def __post_init__(self) -> None:
        check_positive("memory", self, zero=("latency_cycles", "pj_per_byte"))


@public
@dataclass(frozen=True)
class Accelerator:
    """A machine whose on-chip memory is planned: the arena, the DMA engines between it and off-chip memory, the rates.

    capacity_bytes      of the on-chip arena; buffers in it begin at multiples of `alignment_bytes`
    accumulator_bytes   of a memory for sums alone; 0 where sums are kept in the arena
    lanes               output channels that are summed at once
    weights_in_place    operations read weights off chip, in flash or through a cache: they have no buffers or transfers
    double_buffer       transfers of the steps before and after run while a step computes
    dma_engines         1, or 2 where loads and stores have one each
    rates               for each class of operators and type: multiply-accumulates (conv, depthwise, matmul), elements
                        taken in (pool) or made (elementwise) per cycle
    mac_pj              energy of a multiply-accumulate by type; the other classes' work costs as much an element
    offchip_writable    whether tensors between layers may be stored off chip; where not, the inputs of a network are
                        read from there and its outputs handed over there, and all others stay on chip

    Raises InvalidInput for numbers that are not positive and finite and for unknown classes and types.
    """

    name: str
    clock_ghz: float
    capacity_bytes: int
    alignment_bytes: int
    accumulator_bytes: int
    lanes: int
    weights_in_place: bool
    double_buffer: bool
    dma_engines: int
    onchip: Memory
    offchip: Memory
    rates: dict[str, dict[str, float]]
    mac_pj: dict[str, float]
    offchip_writable: bool = field(default_factory=lambda: True)

    def __post_init__(self) -> None:
        check_text("accelerator", "name", self.name)
        check_positive(f"accelerator '{self.name}'", self, zero=("accumulator_bytes",))
        for key in ("capacity_bytes", "alignment_bytes", "accumulator_bytes", "lanes"):
            if getattr(self, key) > LARGEST:
                raise InvalidInput(
                    f"accelerator '{self.name}': expected {key} of at most {LARGEST:,}, got {getattr(self, key):,}; "
                    "correct it"
                )
        if self.dma_engines not in (1, 2):
            raise InvalidInput(
                f"accelerator '{self.name}': expected 1 or 2 dma_engines, got {self.dma_engines}; correct it"
            )
        self._check_classes()
        for cls, rates in self.rates.items():
            self._check_numbers(f"rates.{cls}", rates, zero=False)
        self._check_numbers("mac_pj", self.mac_pj, zero=True)
        if unpriced := {dtype for rates in self.rates.values() for dtype in rates} - set(self.mac_pj):
            raise InvalidInput(
                f"accelerator '{self.name}': expected mac_pj of every type that has a rate, got none of "
                f"{min(unpriced)!r}; add it"
            )

    def _check_classes(self) -> None:
        for problem, found in (("an unknown", set(self.rates) - set(CLASSES)), ("no", set(CLASSES) - set(self.rates))):
            if found:
                raise InvalidInput(
                    f"accelerator '{self.name}': expected rates of {', '.join(CLASSES)}, got {problem} {min(found)!r}; "
                    "correct it"
                )

    def _check_numbers(self, key: str, table: dict[str, float], zero: bool) -> None:
        unknown = [dtype for dtype in table if dtype not in DTYPE_BYTES]
        if unknown or not table:
            raise InvalidInput(
                f"accelerator '{self.name}': expected {key} of {', '.join(DTYPE_BYTES)}, got "
                f"{repr(unknown[0]) if unknown else 'none'}; correct it"
            )
        for dtype, value in table.items():
            if not 0 <= value < math.inf or (value == 0 and not zero):
                raise InvalidInput(
                    f"accelerator '{self.name}': expected {key}.{dtype} {'of 0 or more' if zero else 'above 0'} and "
                    f"finite, got {value}; correct it"
                )

    def __hash__(self) -> int:
        return hash((self.name, self.capacity_bytes, self.offchip, self.offchip_writable))

    def with_capacity(self, capacity_bytes: int) -> "Accelerator":
        """The same with another on-chip memory."""
        return replace(self, capacity_bytes=capacity_bytes)

    def memory_alone(self) -> "Accelerator":
        """The same with an off-chip memory in which no tensor between layers is stored."""
        return replace(self, offchip_writable=False)

    def rate(self, cls: str, dtype: str) -> float:
        """The work of a class per cycle with elements of a type.

        Errors: InvalidInput where the machine does not compute with that type.
        """
        found = self.rates[cls].get(dtype)
        if found is None:
            raise InvalidInput(
                f"accelerator '{self.name}': expected a rate of {cls} in {dtype}, got those of "
                f"{', '.join(self.rates[cls])}; plan in one of these types, or add the rate"
            )
        return found

    def work_pj(self, cls: str, dtype: str) -> float:
        """The energy of one piece of work.

        Errors: InvalidInput as `rate`.
        """
        self.rate(cls, dtype)
        return self.mac_pj[dtype]

    @overload
    def transfer_cycles(self, bytes_moved: float, transfers: int = 1) -> float: ...
    @overload
    def transfer_cycles(self, bytes_moved: Integers, transfers: Integers | Booleans | int = 1) -> Numbers: ...
    def transfer_cycles(self, bytes_moved: Any, transfers: Any = 1) -> Any:
        """How long it takes to move bytes between the memories, in one transfer or in several one after the other."""
        return transfers * self.offchip.latency_cycles + bytes_moved / self.offchip.bytes_per_cycle

    def to_toml(self) -> str:
        """The text of an accelerator file, in the order of the fields."""
        return document(COMMENT, (FORMAT, VERSION), self)

    @classmethod
    def from_toml(cls, text: str, where: str = "accelerator file") -> "Accelerator":
        """The accelerator in a TOML text, which errors call `where`.

        Errors: InvalidInput when it is no TOML, has unknown or missing keys, wrong types or impossible numbers.
        """
        again = "docs/use/accelerators.md shows a whole file"
        optional: dict[str, object] = {"accumulator_bytes": 0, "weights_in_place": False, "offchip_writable": True}
        return record_of(text, cls, head=(FORMAT, VERSION), where=where, again=again, optional=optional)


def accelerator(name_or_path: str | Path) -> Accelerator:
    """An accelerator by the name of a shipped one, or from a file.

    Errors: InvalidInput for a name or a file that there is not, and as `Accelerator.from_toml`.

    >>> accelerator("npu").with_capacity(65536).capacity_bytes
    65536
    """
    name = str(name_or_path)
    if name == HOST_CACHE:
        return host_accelerator(known_machine())
    if name in accelerators():
        found = resources.files("polyfuse.machines").joinpath("files", f"{name}.toml")
        return Accelerator.from_toml(found.read_text(encoding="utf-8"), f"accelerator '{name}'")
    where = f"accelerator file '{name}'"
    missing = f"expected a file or one of {', '.join(accelerators())}, there is none; correct the name"
    return Accelerator.from_toml(read_text(Path(name), where, "TOML", missing=missing), where)


def host_accelerator(machine: Machine) -> Accelerator:
    """A host taken for an accelerator: its second cache, or its only one, is on chip, the last level off chip.

    One core at its vector width; transfers have no latency, and the energies are unknown, thus 0.
    """
    inner = machine.caches[min(1, len(machine.caches) - 1)] if machine.caches else machine.dram
    lanes = max(1, machine.vector_bytes // 4)
    macs = machine.peak.gflop_per_second / 2 / machine.clock_ghz
    rate = {"conv": macs, "depthwise": macs, "matmul": macs, "pool": float(lanes), "elementwise": float(lanes)}
    near, far = (
        Memory(level.one_core.copy_gb_per_second / machine.clock_ghz, 0.0, 0.0) for level in (inner, machine.dram)
    )
    return Accelerator(
        name=HOST_CACHE,
        clock_ghz=machine.clock_ghz,
        capacity_bytes=inner.capacity_bytes,
        alignment_bytes=machine.cache_line_bytes,
        accumulator_bytes=0,
        lanes=lanes,
        weights_in_place=False,
        double_buffer=True,
        dma_engines=1,
        onchip=near,
        offchip=far,
        rates={cls: dict.fromkeys(DTYPE_BYTES, rate[cls]) for cls in CLASSES},
        mac_pj=dict.fromkeys(DTYPE_BYTES, 0.0),
    )
