"""One group's part of a program: what it executes, lowered, and its loop nests."""

from dataclasses import dataclass

from polyfuse.codegen.loops import LoopNest
from polyfuse.codegen.lower.group import LoweredGroup
from polyfuse.codegen.lower.layout import Array


@dataclass(frozen=True)
class Counter:
    """One number that an instrumented run counts: executions of a step, or bytes read or written somewhere."""

    kind: str
    group: int
    name: str


@dataclass(frozen=True, eq=False)
class Group:
    """The loops of a group, those that load its weights first, and the constants that its row kernels read."""

    lowered: LoweredGroup
    nest: LoopNest
    preload_nest: LoopNest | None
    packed: tuple[Array, ...]

    @property
    def index(self) -> int:
        """The number of the group."""
        return self.lowered.index

    @property
    def offchip(self) -> tuple[Array, ...]:
        """The off-chip arrays: inputs, weights, what is stored, constants."""
        return (*self.lowered.offchip, *self.packed)
