"""A group of a plan with all that its C needs: where its buffers are, and what moves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from polyfuse.codegen.scratchpad.compute import ComputeFunction
from polyfuse.machines.accelerator import Accelerator
from polyfuse.plan.graph.operations import Graph
from polyfuse.plan.memory.addresses import Allocation
from polyfuse.plan.proof.placed import BufferLayout, PlacedGroup, PlacedWeights
from polyfuse.plan.tiles.tables import Tables

Integers = NDArray[np.int64]


def tensor_numbers(graph: Graph) -> dict[str, int]:
    """Tensors are numbered from 1 on; 0 are the weights."""
    return {name: 1 + k for k, name in enumerate(graph.tensors)}


@dataclass(frozen=True, eq=False)
class GroupInPlace:
    """A group of a plan with all that its C needs.

    functions      of its operations, by name, in order
    machine        that runs it
    placed         its steps, and its tensors in their places
    buffers        of the group by name: `ring_<tensor>`, `weights_<operation>`, `scratch`
    pinned         the address of each whole tensor that is on chip while it runs
    preloaded      those that are loaded whole before it starts
    image_at       where the weights of each operation begin in the tensor of weights
    early          operations whose weights are there when it starts
    following      the transfers of the next group's such weights, as C, in each step that starts some
    """

    number: int
    graph: Graph
    functions: Mapping[str, ComputeFunction]
    machine: Accelerator
    placed: PlacedGroup
    buffers: Mapping[str, Allocation]
    pinned: Mapping[str, int]
    preloaded: tuple[str, ...]
    image_at: Mapping[str, int]
    early: frozenset[str] = frozenset()
    following: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        """The numbers of tensors, among all that the machine knows."""
        return tensor_numbers(self.graph)

    @property
    def tables(self) -> Tables:
        """Its steps."""
        return self.placed.tables

    @cached_property
    def streams(self) -> Mapping[str, PlacedWeights]:
        """The weights that are loaded again in every step in which their operation runs, by its name, in order."""
        return {weights.operation: weights for weights in self.placed.weights.values() if weights.block}

    @cached_property
    def tensors(self) -> tuple[str, ...]:
        """What it touches, in order."""
        operations = [function.operation for function in self.functions.values()]
        return tuple(dict.fromkeys(name for o in operations for name in (*o.reads, o.output)))

    @cached_property
    def blocks(self) -> Integers:
        """The block of output channels of each step: (steps, 2), from and to."""
        (first, *_) = self.functions.values()
        return self.tables.of[first.operation.output].channels

    @property
    def has_blocks(self) -> bool:
        """Whether steps work on some of the output channels."""
        return self.tables.tile.channels > 0

    def place(self, tensor: str) -> BufferLayout:
        """Where a tensor is while the group runs: whole, or in a ring."""
        return self.placed.places[tensor]
