"""Additions and activations that the row kernel before them does on its way out.

A pointwise layer that reads what nothing else reads, at exactly the tiles at which that is made, needs no tensor
between the two: the kernel of the first layer finishes the values of the second.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import islpy as isl

from polyfuse.codegen.lower.selection import Selection
from polyfuse.codegen.rows.elementwise import SUM, activation_of, has_slopes, is_applied
from polyfuse.codegen.rows.shape import Residual
from polyfuse.network.activation import Spec
from polyfuse.network.layer import Layer
from polyfuse.network.tensor import Tensor
from polyfuse.schedule.schedule import Schedule


@dataclass(frozen=True, eq=False)
class Finish:
    """A layer with a row kernel, and what the kernel does with its sums: the layers from `base` to `last`.

    `added` is a tensor added before or after the activation, as `residual` says; `slopes` is the layer that has those
    of the activation as weights.
    """

    base: Layer
    last: Layer
    activation: Spec | None = None
    residual: Residual = "none"
    added: Tensor | None = None
    slopes: Layer | None = None

    @staticmethod
    def of(layer: Layer) -> "Finish":
        """A layer by itself."""
        return Finish(layer, layer, activation_of(layer), slopes=layer if has_slopes(layer) else None)

    def with_activation(self, layer: Layer) -> "Finish | None":
        """The kernel ends with one more activation; None where it has one, or has added something after it."""
        if self.activation is not None or self.residual == "after":
            return None
        slopes = layer if has_slopes(layer) else None
        return replace(self, last=layer, activation=activation_of(layer), slopes=slopes)

    def with_addition(self, layer: Layer) -> "Finish | None":
        """The kernel adds a tensor, then applies the activation of the addition; None where there is no room for it."""
        own = activation_of(layer)
        if self.added is not None or (self.activation is not None and own is not None):
            return None
        (added,) = (tensor for tensor in layer.inputs if tensor != self.last.output)
        if self.activation is not None:
            return replace(self, last=layer, residual="after", added=added)
        return replace(self, last=layer, residual="before", added=added, activation=own)


def finishes(schedule: Schedule, selection: Selection) -> Mapping[str, Finish]:
    """For the last layer of every row kernel of a group, by name, what the kernel computes."""
    found: dict[str, Finish] = {}
    for layer in schedule.network.layers:
        joined = next((f for t in reversed(layer.inputs) if (f := _joined(schedule, selection, layer, t, found))), None)
        if joined is not None:
            del found[next(name for name, finish in found.items() if finish.base is joined.base)]
            found[layer.name] = joined
        elif selection.kind(layer) is not None:
            found[layer.name] = Finish.of(layer)
    return found


def _joined(
    schedule: Schedule, selection: Selection, layer: Layer, tensor: Tensor, found: Mapping[str, Finish]
) -> Finish | None:
    """The kernel that makes a tensor with a pointwise layer after it; None where the two cannot be one."""
    maker = schedule.network.makers.get(tensor)
    before = found.get(maker.name) if maker is not None else None
    if before is None or not _only_here(schedule, layer, tensor):
        return None
    kind = selection.kind(before.base)
    planar = kind is not None and kind.planar_out
    if (selection.layout(layer.output, False).order == "planar") != planar:
        return None
    if is_applied(layer):
        return before.with_activation(layer) if not (planar and has_slopes(layer)) else None
    if layer.operator != SUM or layer.weights or len(layer.inputs) != 2:
        return None
    other = next(each for each in layer.inputs if each != tensor)
    fits = other.shape == tensor.shape and (selection.layout(other, False).order == "planar") == planar
    return before.with_addition(layer) if fits else None


def _only_here(schedule: Schedule, layer: Layer, tensor: Tensor) -> bool:
    """Whether a tensor is read by one layer only, and made exactly where that layer runs."""
    network, flows = schedule.network, schedule.flows
    if tensor in network.outputs or network.readers(tensor) != (layer,) or not flows[tensor.name].loads.is_empty():
        return False
    made, used = flows[tensor.name].executions, flows[layer.output.name].executions
    if tensor.shape != layer.output.shape:
        return False
    return bool(made.reset_tuple_id(isl.dim_type.in_).is_equal(used.reset_tuple_id(isl.dim_type.in_)))
