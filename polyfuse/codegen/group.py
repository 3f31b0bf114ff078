"""One group's part of a program: its steps, its loop nests, and the arrays its code works on."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from polyfuse.codegen.access import Places
from polyfuse.codegen.layout import Array
from polyfuse.codegen.loops import LoopNest
from polyfuse.codegen.rowsteps import RowStep
from polyfuse.network.tensor import Tensor
from polyfuse.schedule.steps import Step
from polyfuse.schedule.storage import Storage

LINE_BYTES = 64
WORKSPACE = "row_workspace"
"""The name in C of the memory that computing takes besides buffers."""


@dataclass(frozen=True)
class Counter:
    """One number that an instrumented run counts: executions of a step, or bytes read or written somewhere."""

    kind: str
    group: int
    name: str


@dataclass(frozen=True, eq=False)
class Group:
    """The parts of one group's code; `parallel` names the loop that threads share, if there is one.

    `workspace_bytes` is what computing takes in each thread besides `chip`: layers take turns.
    `steps` have scalar leaves, `rows` have row kernels; `packed` are the arrays of constants that row kernels read
    instead of the weights of their layers.
    """

    index: int
    places: Places
    steps: tuple[Step, ...]
    preload: tuple[Step, ...]
    nest: LoopNest
    preload_nest: LoopNest | None
    parallel: str | None
    rows: tuple[RowStep, ...] = ()
    packed: tuple[Array, ...] = ()
    workspace_bytes: int = 0

    @property
    def alignment(self) -> int:
        """What the address of each buffer is a multiple of, in bytes: rows of vectors start at cache lines."""
        return LINE_BYTES if self.places.leaves.target.has_rows else 4

    @property
    def buffer_bytes(self) -> int:
        """The buffers as the C has them, those of one thread, with what fills up blocks, rows and cache lines."""
        every = (*self.chip, *self.kept)
        return sum(-(-4 * array.elements // self.alignment) * self.alignment for array in every)

    @property
    def storage(self) -> Storage:
        """The schedule of the group with its buffers."""
        return self.places.storage

    @property
    def tensors(self) -> frozenset[Tensor]:
        """What the layers of the group read and make."""
        layers = self.storage.schedule.network.layers
        return frozenset(tensor for layer in layers for tensor in (*layer.inputs, layer.output))

    @cached_property
    def chip(self) -> tuple[Array, ...]:
        """The buffers of each thread's own."""
        tensors = (flow.tensor for flow in self.storage.schedule.flows.values())
        return self._used(self.places.array(tensor, False) for tensor in tensors if not self.places.stays(tensor))

    @cached_property
    def kept(self) -> tuple[Array, ...]:
        """The weights with a buffer that threads share."""
        weights = self.storage.schedule.preloaded if self.places.staged else ()
        return self._used(self.places.array(weight, False) for weight in weights)

    @cached_property
    def offchip(self) -> tuple[Array, ...]:
        """The off-chip arrays: inputs, weights, and what is stored."""
        schedule = self.storage.schedule
        weights = (weight for layer in schedule.network.layers for weight in layer.weights)
        stored = (f.tensor for f in schedule.flows.values() if f.role == "made" and not f.stores.is_empty())
        tensors = dict.fromkeys((*schedule.network.inputs, *weights, *stored))
        return (*self._used(self.places.array(tensor, True) for tensor in tensors), *self.packed)

    @cached_property
    def written(self) -> frozenset[str]:
        """The names of the off-chip arrays that the group writes."""
        return frozenset(layer.output.name for layer in self.storage.schedule.network.layers)

    def _used(self, arrays: Iterable[Array]) -> tuple[Array, ...]:
        """Without what row kernels make unnecessary: raw weights, sums that they finish in registers."""
        return tuple(array for array in arrays if not self.places.leaves.target.has_rows or array.name in self._words)

    @cached_property
    def _words(self) -> frozenset[str]:
        nests = [self.nest, self.preload_nest] if self.preload_nest else [self.nest]
        lines = (line for nest in nests for leaf in nest.leaves.values() for line in leaf)
        return frozenset(word for line in lines for word in re.findall(r"\w+", line))
