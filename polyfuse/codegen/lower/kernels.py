"""The row kernels of a program: one for each shape, named, and the constants that they read.

RowStep of every group  ──RowKernels.add()──> the names to call;  .kernels and .constants go into the program
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from polyfuse.codegen.lower.rowsteps import RowStep, main_step
from polyfuse.codegen.lower.selection import Selection
from polyfuse.codegen.rows.kernel import RowKernel, row_kernel
from polyfuse.codegen.rows.pack import packed_bias, packed_weights
from polyfuse.codegen.rows.shape import RowShape, Tuning
from polyfuse.codegen.rows.winograd import Winograd
from polyfuse.codegen.target import Target
from polyfuse.network.layer import Layer
from polyfuse.network.network import Network
from polyfuse.network.operator import Affine
from polyfuse.sets import count

Floats = NDArray[np.float32]
LONGEST = 60


def layer_tuning(steps: Sequence[RowStep], selection: Selection) -> tuple[RowStep, Tuning]:
    """The step of a layer that computes most, and the tuning for it, which all steps of the layer share."""
    main = main_step(steps)
    chosen = selection.kind(main.layer) if main.layer is not None else None
    if not isinstance(main.shape.kind, Winograd) or not isinstance(chosen, Winograd):
        return main, main.shape.kind.tuning(main.shape, selection.target)
    others = [step for step in steps if step is not main]
    calls = [(step.shape, count(step.executions)) for step in (main, *others)]
    return main, chosen.layer_tuning(calls, selection.target)


def kernel_weights(network: Network, layer: Layer) -> tuple[Floats, Floats | None]:
    """The weights and the bias that a layer's row kernel works with.

    Scale and shift, one for each channel or one for all, are those of a depthwise convolution with windows of 1x1.
    """
    weights, *bias = (network.weights[weight.name] for weight in layer.weights)
    if layer.operator == Affine():
        return channel_values(weights, layer).reshape(-1, 1, 1, 1), channel_values(bias[0], layer)
    return weights, bias[0] if bias else None


def channel_values(values: Floats, layer: Layer) -> Floats:
    """One value for each channel that a layer makes, of as many or one."""
    return np.broadcast_to(values.reshape(-1), (layer.output.concrete_shape[1],))


def label_of(step: RowStep) -> str:
    """What a step computes: a layer, or a tensor that is converted."""
    return step.layer.name if step.layer is not None else step.writes.tensor.name


def fitting(shape: RowShape, target: Target) -> Target:
    """The target with the vectors that suit a shape."""
    return replace(target, floats=shape.kind.floats(shape, target))


@dataclass
class RowKernels:
    """Kernels by shape and tuning, who uses them, Winograd's tiles by layer, and which step packs which constants.

    All are in the order in which they were asked for. Constants are packed when they are asked for.
    """

    network: Network
    selection: Selection
    kernels: dict[tuple[RowShape, Tuning], RowKernel] = field(default_factory=dict)
    users: dict[str, list[str]] = field(default_factory=dict)
    tiles: dict[str, int] = field(default_factory=dict)
    packing: dict[str, tuple[RowStep, RowKernel]] = field(default_factory=dict)

    @cached_property
    def constants(self) -> Mapping[str, Floats]:
        """The packed weights and biases, by their name in C."""
        return {name: self._packed(name, step, kernel) for name, (step, kernel) in self.packing.items()}

    def add(self, steps: Sequence[RowStep]) -> tuple[dict[str, str], tuple[str, ...]]:
        """The kernel of every step of a layer, by name, and the names of the constants that they read.

        Weights are packed once, so that all kernels of a layer are tuned like the one that computes most.
        """
        main, tuning = layer_tuning(steps, self.selection)
        tuning = replace(tuning, prefetch_in=main.prefetches_in, prefetch_out=main.prefetches_out)
        if tuning.tile and main.layer is not None:
            self.tiles[main.layer.name] = tuning.tile
        names = {step.name: self._kernel(step, tuning).name for step in steps}
        for step in steps:
            users, label = self.users.setdefault(names[step.name], []), label_of(step)
            users += [label] if label not in users else []
        packed = tuple(name for name in (main.weights_name, main.bias_name) if name is not None)
        self.packing |= dict.fromkeys(packed, (main, self.kernels[main.shape, tuning]))
        return names, packed

    def workspace_bytes(self, names: Iterable[str]) -> int:
        """The workspace of the kernels of some names, which share it."""
        wanted = set(names)
        return max(kernel.workspace_bytes for kernel in self.kernels.values() if kernel.name in wanted)

    def _kernel(self, step: RowStep, tuning: Tuning) -> RowKernel:
        key = step.shape, tuning
        if key not in self.kernels:
            name = f"row{len(self.kernels)}_{label_of(step)}"[:LONGEST].rstrip("_")
            self.kernels[key] = row_kernel(
                replace(step.shape, name=name), fitting(step.shape, self.selection.target), tuning
            )
        return self.kernels[key]

    def _packed(self, name: str, step: RowStep, kernel: RowKernel) -> Floats:
        assert step.layer is not None
        bias = slopes = None
        if step.has_weights:
            weights, bias = kernel_weights(self.network, step.layer)
            if name == step.weights_name:
                return packed_weights(kernel, step.phase.weights(weights) if step.phase else weights)
        if step.slopes is not None:
            slopes = channel_values(self.network.weights[step.slopes.weights[0].name], step.slopes)
        return packed_bias(kernel, bias, slopes)
