"""One group's part of a program: its steps, its loop nests, and the arrays its code works on."""

from dataclasses import dataclass
from functools import cached_property

from polyfuse.codegen.access import in_place
from polyfuse.codegen.loops import LoopNest
from polyfuse.network.tensor import Tensor
from polyfuse.schedule.steps import Step
from polyfuse.schedule.storage import Storage


@dataclass(frozen=True)
class Counter:
    """One number that an instrumented run counts: executions of a step, or bytes read or written somewhere."""

    kind: str
    group: int
    name: str


@dataclass(frozen=True, eq=False)
class Group:
    """The parts of one group's code; `parallel` names the loop that threads share, if there is one."""

    index: int
    storage: Storage
    staged: bool
    steps: tuple[Step, ...]
    preload: tuple[Step, ...]
    nest: LoopNest
    preload_nest: LoopNest | None
    parallel: str | None

    @cached_property
    def chip(self) -> tuple[Tensor, ...]:
        """The tensors with a buffer of each thread's own."""
        schedule = self.storage.schedule
        tensors = (flow.tensor for flow in schedule.flows.values())
        return tuple(tensor for tensor in tensors if self.staged or not in_place(schedule, tensor))

    @cached_property
    def kept(self) -> tuple[Tensor, ...]:
        """The weights with a buffer that threads share."""
        return self.storage.schedule.preloaded if self.staged else ()

    @cached_property
    def offchip(self) -> tuple[Tensor, ...]:
        """The off-chip arrays: inputs, weights, and what is stored."""
        schedule = self.storage.schedule
        weights = (weight for layer in schedule.network.layers for weight in layer.weights)
        stored = (f.tensor for f in schedule.flows.values() if f.role == "made" and not f.stores.is_empty())
        return tuple(dict.fromkeys((*schedule.network.inputs, *weights, *stored)))

    def is_written(self, tensor: Tensor) -> bool:
        """Whether the group writes the off-chip array of a tensor."""
        return any(layer.output == tensor for layer in self.storage.schedule.network.layers)

    def shape(self, tensor: Tensor) -> tuple[int, ...]:
        """The shape of a tensor's on-chip buffer."""
        return self.storage.buffers[tensor.name].shape
