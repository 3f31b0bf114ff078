"""A plan for a scratchpad machine, as data: a JSON file that people read, edit, compare and compile.

    ScratchPlan ──to_json()──> text ──from_json()──> ScratchPlan

The file is that of every plan (`polyfuse.plan.planfile`), for a machine of kind "scratchpad": the fields of
`ScratchPlan`, with those of its totals: docs/inside/scratchpad-plans.md. `polyfuse.plan.checking` says whether a
plan is legal.

The certificate and the baselines, which a search finds, cannot be recomputed cheaply. The certificate holds a digest of
the plan it was given for; a plan that differs from that in anything is an edited plan, and loses both where it is read,
checked or shown.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from polyfuse.doors import public
from polyfuse.machines.accelerator import Accelerator
from polyfuse.plan.memory.addresses import Allocation, Lived
from polyfuse.plan.planfile import Origin, fields_for, text_of
from polyfuse.plan.price.costs import Sink, Source
from polyfuse.plan.price.objective import Objective
from polyfuse.plan.tiles.tables import Tile
from polyfuse.typed_json import check_measure, decode, digest_of, encode


@dataclass(frozen=True)
class PlannedGroup:
    """Operations that run as one, with their tile, buffers and figures.

    sources      where each of its inputs is read: on chip or off chip
    sinks        where each of its outputs, read later or outputs of the network, is left
    fetched      tensors that are loaded whole, into their pins, before the first step; their source is "on"
    buffers      pieces of the arena while it runs, pins left out
    load_bytes   feature maps loaded, fetched ones included; weights are `weight_bytes`
    early        operations whose weights are prefetched, and the step of the group before in which that happens
    """

    operations: tuple[str, ...]
    tile: Tile
    sources: dict[str, Source]
    sinks: dict[str, Sink]
    fetched: tuple[str, ...]
    buffers: dict[str, Allocation]
    load_bytes: int
    store_bytes: int
    weight_bytes: int
    cycles: float
    macs_executed: int
    energy_pj: float
    early: dict[str, int] = field(default_factory=dict)

    @property
    def moved(self) -> frozenset[str]:
        """The tensors that it reads from outside or leaves."""
        return frozenset(self.sources) | frozenset(self.sinks)

    def is_early(self, buffer: str) -> bool:
        """Whether a buffer holds weights that are prefetched while the group before runs."""
        return buffer.removeprefix("weights_") in self.early and buffer.startswith("weights_")

    @property
    def names(self) -> str:
        """Its operations, shortened."""
        return "..".join(dict.fromkeys((*self.operations[:1], *self.operations[-1:]))) or "none"


@dataclass(frozen=True)
class Pin:
    """A whole tensor on chip, from a first to a last group, both included, by their numbers in the plan."""

    tensor: str
    first: int
    last: int
    address: int
    bytes: int


@dataclass(frozen=True)
class OffchipBytes:
    """Bytes moved between the memories in one run."""

    feature_maps: int
    weights: int

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            check_measure("off-chip bytes", name, value)

    @property
    def all(self) -> int:
        """All of them."""
        return self.feature_maps + self.weights


@dataclass(frozen=True)
class Totals:
    """Figures of a plan, over all groups; `macs` are those of the network, `macs_executed` include recomputation."""

    latency_cycles: float
    offchip_bytes: OffchipBytes
    onchip_peak_bytes: int
    macs: int
    macs_executed: int
    energy_pj: float

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, OffchipBytes):
                check_measure("totals", name, value)


@dataclass(frozen=True)
class Certificate:
    """A lower bound of all plans, in the unit of the objective, and how far above it this one is: 0 is optimal.

    gap      infinite where there is no bound; `scope` then says why
    scope    the plans that the bound holds for
    digest   of the certified plan (`ScratchPlan.seal`), or of the point of a sweep

    Raises InvalidInput for a bound that is negative or not finite, and for a gap that is negative or no number.
    """

    lower_bound: float
    gap: float
    scope: str
    digest: str = field(default_factory=str)

    def __post_init__(self) -> None:
        check_measure("certificate", "a lower_bound", self.lower_bound)
        if self.gap != math.inf:
            check_measure("certificate", "a gap", self.gap)

    def __str__(self) -> str:
        if self.gap == math.inf:
            return f"none: {self.scope}"
        found = "optimal for this model" if self.gap == 0 else f"within {100 * self.gap:.2f}% of the optimum"
        return f"{found} ({self.scope})"


UNCERTIFIED = Certificate(
    0.0,
    math.inf,
    "the plan was edited since it was certified, or is of an earlier version, and its certificate no longer holds; "
    "polyfuse plan WORKLOAD makes a certified plan, and with --plan FILE --certify certifies this one",
)


@public
@dataclass(frozen=True)
class ScratchPlan:
    """How a network runs on a scratchpad machine: groups in order, pins, addresses, and figures.

    dtype       the type that it was planned in
    baselines   totals of restricted searches by name; null where they have no plan that fits
    origin      where the network was read from; null where it was built
    inputs      the names of the model's inputs, and outputs those of its outputs, in its order
    graph       a digest of the operations that were planned, as `polyfuse.plan.graph.group.graph_digest` makes it
    """

    network: str
    dtype: str
    machine: Accelerator
    objective: Objective
    totals: Totals
    certificate: Certificate
    groups: tuple[PlannedGroup, ...]
    pins: tuple[Pin, ...]
    baselines: dict[str, Totals | None]
    origin: Origin | None = None
    inputs: tuple[str, ...] = field(default_factory=tuple)
    outputs: tuple[str, ...] = field(default_factory=tuple)
    graph: str = field(default_factory=str)

    @property
    def seal(self) -> str:
        """A digest of the plan with its certificate and baselines."""
        return digest_of(replace(self, origin=None, certificate=replace(self.certificate, digest="")))

    @property
    def is_edited(self) -> bool:
        """Whether it differs from the plan that it was certified as."""
        return self.certificate.digest != self.seal

    def sealed(self) -> "ScratchPlan":
        """The plan with its certificate bound to it: for a plan that a search has just found."""
        return replace(self, certificate=replace(self.certificate, digest=self.seal))

    def judged(self) -> "ScratchPlan":
        """The plan without certificate and baselines where it was edited, else the plan."""
        return replace(self, certificate=UNCERTIFIED, baselines={}) if self.is_edited else self

    @property
    def buffers(self) -> tuple[tuple[Lived, int], ...]:
        """Every buffer and pin with its live range in groups, and its address."""
        own = [
            (Lived(f"{name} of {group.names}", buffer.bytes, index - group.is_early(name), index), buffer.address)
            for index, group in enumerate(self.groups)
            for name, buffer in group.buffers.items()
        ]
        whole = [(Lived(f"pin {pin.tensor}", pin.bytes, pin.first, pin.last), pin.address) for pin in self.pins]
        return (*own, *whole)

    def to_json(self) -> str:
        """The text of the file."""
        encoded = encode(self)
        assert isinstance(encoded, dict)
        totals = encoded.pop("totals")
        head = {key: encoded.pop(key) for key in ("network", "dtype", "machine", "objective")}
        return text_of("scratchpad", {**head, **totals, **encoded})

    @staticmethod
    def from_json(text: str, where: str = "plan") -> "ScratchPlan":
        """The plan in a text, which errors call `where`: without certificate where it was edited (`judged`).

        Its figures are not checked; `polyfuse.plan.checking.check_plan` does that.

        Errors: InvalidInput for what is no JSON, another format, version or kind of machine, unknown or missing keys
        and wrong types.
        """
        plan: ScratchPlan = decode(_gathered(fields_for("scratchpad", text, where)), ScratchPlan, where)
        return plan.judged()


def value_of(objective: Objective, totals: Totals) -> float:
    """The figure of totals that an objective minimises, in its unit."""
    if objective.goal == "peak":
        return float(totals.onchip_peak_bytes)
    figures = totals.latency_cycles, totals.offchip_bytes.all, totals.energy_pj, totals.macs_executed
    return float(objective.wanted(*figures))


def _gathered(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with the keys of its totals in an object of their own."""
    keys = [field.name for field in dataclasses.fields(Totals)]
    totals = {key: document[key] for key in keys if key in document}
    return {**{key: value for key, value in document.items() if key not in keys}, "totals": totals}
