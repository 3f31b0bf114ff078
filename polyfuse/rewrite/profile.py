"""The profile database of the fusion plan: whether fusing pays, measured once for operators and shapes.

Enters: a `Database` and, where it knows nothing, a measurement. Leaves: a `Profitable` for `fusion_plan`.

A measurement holds for one machine, one compiler, and what the operators compute on which shapes; names do not matter.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from polyfuse.rewrite.fusion import FusionOperator, Profitable
from polyfuse.typed_json import check_measure


@dataclass(frozen=True)
class ProfileKey:
    """The key of a measurement; `block` and `neighbour` are signatures of operators."""

    machine: str
    compiler: str
    block: tuple[str, ...]
    neighbour: str


@dataclass(frozen=True)
class Profiled:
    """The seconds that a block and its neighbour take fused and apart."""

    key: ProfileKey
    fused_seconds: float
    apart_seconds: float

    def __post_init__(self) -> None:
        for name in ("fused_seconds", "apart_seconds"):
            check_measure("profile", name, getattr(self, name))


class Database(Protocol):
    """Measurements that were made; `bench.profiles` keeps them in a file."""

    def find(self, key: ProfileKey) -> Profiled | None:
        """The measurement under a key; None where there is none."""

    def add(self, measured: Profiled) -> None:
        """Keep a measurement."""


Measure = Callable[[Sequence[FusionOperator], FusionOperator], tuple[float, float] | None]
"""Seconds of a block and its neighbour, fused and apart; None where they cannot be run."""


def by_profile(database: Database, machine: str, compiler: str, measure: Measure, otherwise: Profitable) -> Profitable:
    """Asks the database, and measures and adds what it does not know; `otherwise` decides what cannot be run."""

    def pays(block: Sequence[FusionOperator], neighbour: FusionOperator) -> bool:
        key = ProfileKey(machine, compiler, tuple(each.signature for each in block), neighbour.signature)
        known = database.find(key)
        if known is None:
            seconds = measure(block, neighbour)
            if seconds is None:
                return otherwise(block, neighbour)
            known = Profiled(key, *seconds)
            database.add(known)
        return known.fused_seconds < known.apart_seconds

    return pays
