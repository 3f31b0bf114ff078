"""A plan as one C file, with the image of its weights.

Groups in place ──program_of()──> ScratchProgram: the C, the weights as bytes, the tensors that it numbers
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polyfuse.codegen.c.elements import Element
from polyfuse.codegen.scratchpad.compute import ComputeFunction
from polyfuse.codegen.scratchpad.group import GroupInPlace, tensor_numbers
from polyfuse.codegen.scratchpad.runtime import opening, part
from polyfuse.codegen.scratchpad.steps import group_function, views_bytes
from polyfuse.codegen.scratchpad.storing import Storing
from polyfuse.machines.accelerator import Accelerator
from polyfuse.plan.graph.operations import Graph


@dataclass(frozen=True, eq=False)
class ScratchProgram:
    """The C of a plan; `weights` is what its tensor 0 holds off chip, in bytes of the host.

    tensors     the numbers of tensors, from 1 on
    operations  the names of operations, by number
    """

    graph: Graph
    machine: Accelerator
    storing: Storing
    text: str
    weights: NDArray[np.uint8]
    tensors: Mapping[str, int]
    operations: tuple[str, ...]

    @property
    def source(self) -> str:
        """The C with the simulator, in one file."""
        return f"{self.text}\n{part('simulator.c')}"

    @property
    def files(self) -> dict[str, bytes]:
        """The C for a machine of one's own, the interface that it calls, the simulator, and the weights off chip.

        The first holds the interface, too, and is compiled as it is: `plan()` runs one pass over all images.
        """
        name = self.graph.network.name
        texts = {f"{name}.c": self.text, "scratchpad.h": part("scratchpad.h"), "simulator.c": part("simulator.c")}
        return {file: text.encode() for file, text in texts.items()} | {f"{name}.weights": self.weights.tobytes()}


def program_of(
    graph: Graph, machine: Accelerator, storing: Storing, groups: Sequence[GroupInPlace], weights: NDArray[np.uint8]
) -> ScratchProgram:
    """The program of groups in order."""
    functions = [function for group in groups for function in group.functions.values()]
    elements = {element for f in functions for element in elements_of(f, storing)}
    body = "\n\n".join(
        [
            f"/* On the stack: at most {max(f.stack_bytes for f in functions)} bytes of lines for an operation, and "
            f"{max(map(views_bytes, groups))} bytes of views for a group. */",
            *(function.text for function in functions),
            *(group_function(group) for group in groups),
            "\n".join(["void plan(void)", "{", *(f"  group{group.number}();" for group in groups), "}", ""]),
        ]
    )
    head = opening(machine, storing.wide, elements, body)
    text, operations = f"{head}\n\n{body}", tuple(operation.name for operation in graph.operations)
    return ScratchProgram(graph, machine, storing, text, weights, tensor_numbers(graph), operations)


def elements_of(function: ComputeFunction, storing: Storing) -> list[Element]:
    """The types of what a function reads and makes."""
    layer = function.operation.layer
    return [storing.element(tensor) for tensor in (layer.output, *layer.inputs, *layer.weights)]


def weight_image(
    graph: Graph, storing: Storing, functions: Mapping[str, ComputeFunction], blocks: Mapping[str, int]
) -> tuple[dict[str, int], NDArray[np.uint8]]:
    """Where the weights of each operation begin on the machine, and all of them as bytes of the host.

    `blocks` says how many output channels a block of an operation has; its blocks follow each other.
    """
    where: dict[str, int] = {}
    parts: list[NDArray[np.uint8]] = []
    size = 0
    for name, function in functions.items():
        where[name] = size
        block = blocks.get(name, 0) or function.channels
        for first in range(0, function.channels, block):
            for array in function.weights:
                values = np.transpose(graph.network.weights[array.tensor.name], array.order())
                if array.channel is not None:
                    values = values[first : first + block]
                spread = storing.spread(array.tensor)
                wide = np.zeros((values.size, spread), values.dtype)
                wide[:, 0] = values.ravel()
                parts.append(wide.view(np.uint8).ravel())
                size += values.size * array.element_bytes
    image = np.concatenate(parts) if parts else np.zeros(0, np.uint8)
    assert len(image) == size * storing.wide
    return where, image
