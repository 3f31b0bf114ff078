"""What was decided for a whole network, as data: a JSON file that people read, edit, compare and compile again.

    Network + settings ──planned()──> Plan ──program()──> Program
    Plan ──to_json()──> text ──from_json()──> Plan

The file is that of every plan (`polyfuse.plan.planfile`), for a machine of kind "host". See docs/use/formats.md.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from polyfuse.choices import LONGEST, Groups
from polyfuse.codegen.lower.concats import placed_concats
from polyfuse.codegen.lower.program import LoweredProgram, lowered
from polyfuse.codegen.lower.selection import Interface, Selection, select_kernels
from polyfuse.codegen.program import Program, generate
from polyfuse.codegen.target import Target
from polyfuse.deploy.grouping import Grouping, grouped, in_chains, ungrouped
from polyfuse.deploy.lean import leaner
from polyfuse.deploy.prices import Price, PricedGroup
from polyfuse.deploy.published import published
from polyfuse.deploy.space import label_of
from polyfuse.doors import public
from polyfuse.errors import InvalidInput
from polyfuse.files import read_text
from polyfuse.network.network import Network
from polyfuse.plan.planfile import Origin, document_of, fields_for, text_of
from polyfuse.plan.scratchplan import ScratchPlan
from polyfuse.progress import Progress
from polyfuse.schedule.storage import Storage
from polyfuse.schedule.written import strategy_in, written
from polyfuse.typed_json import decode, digest_of, encode

Arithmetic = Literal["any", "exact"]


@dataclass(frozen=True)
class Host:
    """The host that a plan is for: the floats of a vector, which layouts follow; compiler and flags, for people."""

    vector_floats: int
    written_for: tuple[str, ...] = field(default_factory=tuple)


@dataclass(frozen=True)
class HostGroup:
    """One group: its layers in order, and its strategy; `tile` is null where layers run row by row, one by one.

    price: what it was predicted to cost, in seconds; not a number where the plan was edited since. looked_at: what
    other strategies of the group were predicted to cost, by their label; infinite where one could not be scheduled.
    tuned: whether `polyfuse tune` chose it, and the price was measured.
    """

    layers: tuple[str, ...]
    tile: tuple[int, ...] | None
    others: tuple[str, ...]
    retention: dict[str, tuple[str, ...]]
    placement: str
    price: float
    looked_at: dict[str, float] = field(default_factory=dict)
    tuned: bool = field(default_factory=bool)

    @staticmethod
    def of(part: PricedGroup) -> "HostGroup":
        """A part as it is written down."""
        looked_at = {label_of(each): price for each, price in part.looked_at}
        return HostGroup(layers=part.layers, **written(part.strategy), price=part.price, looked_at=looked_at)

    @property
    def part(self) -> PricedGroup:
        """The part itself. Errors: InvalidInput for places and placements that there are not."""
        return PricedGroup(self.layers, strategy_in(self), self.price)


@public
@dataclass(frozen=True)
class Plan:
    """The groups of a network in the order in which they run, its layout, and the algorithm of each layer.

    interface: `nchw` or `blocked`. arithmetic: `exact` without Winograd's algorithm, else `any`. algorithms: for some
    3x3 layers by name 2, 4 or 6, the tile of Winograd's algorithm, or 0 for the direct one; for the others the price
    decides. inputs, outputs: the model's names, in order. digest: of all this as it was planned; the prices of a plan
    that differs from it are forgotten where it is read. origin: where the network was read from; null where it was
    built.
    """

    network: str
    machine: Host
    interface: Interface
    arithmetic: Arithmetic
    algorithms: dict[str, int]
    groups: tuple[HostGroup, ...] = field(default=())
    inputs: tuple[str, ...] = field(default_factory=tuple)
    outputs: tuple[str, ...] = field(default_factory=tuple)
    digest: str = field(default_factory=str)
    origin: Origin | None = field(default_factory=lambda: None)

    @property
    def seal(self) -> str:
        """A digest of what was decided and predicted."""
        return digest_of(replace(self, digest="", origin=None))

    def sealed(self) -> "Plan":
        """The plan with the digest of what it says now: for what was just planned."""
        return replace(self, digest=self.seal)

    def judged(self) -> "Plan":
        """The plan, without the prices that were predicted of it before it was edited."""
        if self.digest == self.seal:
            return self
        unknown = {"price": math.nan, "looked_at": {}, "tuned": False}
        return replace(self, groups=tuple(replace(group, **unknown) for group in self.groups))  # type: ignore[arg-type]

    def selection(self, network: Network, target: Target) -> Selection:
        """The row kernels of the network's layers.

        Errors: InvalidInput for vectors of another width than the plan's, and an algorithm that suits a layer not.
        """
        if target.floats != self.machine.vector_floats:
            raise InvalidInput(
                f"plan of {self.network!r}: it is for vectors of {self.machine.vector_floats} floats, this compiler "
                f"and its flags have {target.floats}; plan again"
            )
        return select_kernels(
            network, target, self.interface, exact=self.arithmetic == "exact", winograd=self.algorithms
        )

    def grouping(self, network: Network) -> Grouping:
        """The groups of a network.

        Errors: InvalidInput where they are not all its layers, each once, or it takes and gives something else.
        """
        planned, known = [name for group in self.groups for name in group.layers], [x.name for x in network.layers]
        if sorted(planned) != sorted(known):
            strange = sorted(set(planned) - set(known)) or sorted(set(known) - set(planned)) or ["one layer twice"]
            raise InvalidInput(
                f"plan of {self.network!r}: expected the {len(known)} layers of {network.name!r}, each in one group; "
                f"{strange[0]!r} does not fit; plan this model again"
            )
        network.ends.check_said(f"plan of {self.network!r}", self.inputs, self.outputs)
        return Grouping(in_chains(network), tuple(group.part for group in self.groups))

    def unfused(self, network: Network) -> "Plan":
        """The plan with each layer in a group of its own, computed by the same algorithm."""
        return replace(self, groups=tuple(HostGroup.of(part) for part in ungrouped(network).parts))

    def to_json(self) -> str:
        """The text of the file."""
        encoded = encode(self)
        assert isinstance(encoded, Mapping)
        return text_of("host", encoded)

    @staticmethod
    def from_json(text: str, where: str = "plan") -> "Plan":
        """The plan in a text, which errors call `where`; without the prices of one that was edited.

        Errors: InvalidInput for what is no JSON, another format, version or kind of machine, unknown or missing keys
        and wrong types.
        """
        plan: Plan = decode(fields_for("host", text, where), Plan, where)
        return plan.judged()


def planned(
    network: Network,
    target: Target,
    price: Price | None,
    *,
    groups: Groups = "planned",
    interface: Interface = "nchw",
    exact: bool = False,
    algorithms: Mapping[str, int] | None = None,
    longest: int = LONGEST,
    workers: int = 1,
    progress: Progress | None = None,
) -> Plan:
    """Decide which layers to fuse and how: what `price` says is cheapest.

    `groups`: `planned`, those of the published plan, or `single`, each layer a group of its own, which is not priced.
    `exact` keeps to the direct algorithm; `algorithms` are those of some layers, as `Plan` holds them. `workers`
    processes price groups.
    Errors: InvalidInput, TooComplex, Unbounded, as scheduling a layer by itself has them.
    """
    kernels = select_kernels(network, target, interface, exact=exact, winograd=algorithms)
    if price is None or groups == "single":
        found = ungrouped(network)
    elif groups == "published":
        found = published(network, kernels, price)
    else:
        fastest = grouped(network, kernels, price, longest=longest, workers=workers, progress=progress)
        found = leaner(fastest, kernels, price)
    parts = tuple(HostGroup.of(part) for part in found.parts)
    ends = network.ends.input_names, network.ends.output_names
    host = Host(target.floats, target.toolchain.described if target.toolchain is not None else ())
    arithmetic: Arithmetic = "exact" if exact else "any"
    return Plan(network.name, host, interface, arithmetic, dict(algorithms or {}), parts, *ends).sealed()


def program(network: Network, plan: Plan, target: Target) -> Program:
    """The C of a planned network; every group is proved legal.

    Errors: InvalidInput for a plan of another network; IllegalSchedule with a witness.
    """
    ordered, groups, kernels = scheduled_plan(network, plan, target)
    return generate(ordered, groups, kernels=kernels)


def lowered_plan(network: Network, plan: Plan, target: Target) -> LoweredProgram:
    """What a planned network executes and needs, without its C. Errors: as `program`."""
    ordered, groups, kernels = scheduled_plan(network, plan, target)
    return lowered(ordered, groups, kernels=kernels)


def scheduled_plan(network: Network, plan: Plan, target: Target) -> tuple[Network, tuple[Storage, ...], Selection]:
    """The network in the order of its groups, the groups, proved legal, and their kernels. Errors: as `program`."""
    kernels, grouping = plan.selection(network, target), plan.grouping(network)
    placed, groups = placed_concats(network, grouping.groups(kernels), kernels)
    return grouping.network, groups, placed


def read_plan(path: Path) -> Plan | ScratchPlan:
    """The plan in a file, for whatever machine it says.

    A plan that was edited comes without what was found out about it before: prices, certificate, baselines.
    Errors: InvalidInput for a file that cannot be read or is no plan, unknown or missing keys and wrong types.
    """
    where = f"plan '{path}'"
    text = read_text(path, where, "JSON")
    kind, _ = document_of(text, where)
    return Plan.from_json(text, where) if kind == "host" else ScratchPlan.from_json(text, where)
