"""Concatenation without copies: what is concatenated is made where the result has it.

    Network + groups + Selection ──placed_concats()──> Selection with `inside`, and the groups that still have to run

A concat that is a group of its own does nothing once its operands lie inside its result, next to each other. That
takes operands that other groups store, in the same layout, each once; in blocks of channels all but the last must fill
their blocks. A result may itself lie inside another: the slices are those of the outermost.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

from polyfuse.codegen.lower.selection import ChannelSlice, Selection
from polyfuse.network.layer import Layer
from polyfuse.network.network import Network
from polyfuse.network.operator import Concat
from polyfuse.network.tensor import Tensor
from polyfuse.schedule.storage import Storage


def placed_concats(
    network: Network, groups: Sequence[Storage], selection: Selection
) -> tuple[Selection, tuple[Storage, ...]]:
    """The selection with the slices of all concats that need no copies, and the groups without these.

    Later concats come first, so that a tensor that grows from layer to layer is one array.
    """
    inside: dict[str, ChannelSlice] = {}
    gone: set[str] = set()
    for storage in reversed(groups):
        layers = storage.schedule.network.layers
        free = inside.keys().isdisjoint(tensor.name for tensor in layers[0].inputs)
        if free and len(layers) == 1 and is_placeable(network, layers[0], selection):
            inside |= slices(layers[0], inside)
            gone.add(layers[0].name)
    left = tuple(storage for storage in groups if storage.schedule.network.layers[0].name not in gone)
    return replace(selection, inside=inside), left


def is_placeable(network: Network, layer: Layer, selection: Selection) -> bool:
    """Whether the operands of a layer can lie inside its result."""
    operands, ends = layer.inputs, {*network.inputs, *network.outputs}
    if layer.operator != Concat(1) or operands != layer.operands or ends & {layer.output, *operands}:
        return False
    layout = selection.layout(layer.output, True)
    aligned = all(tensor.concrete_shape[1] % layout.floats == 0 for tensor in operands[:-1])
    return aligned and all(selection.layout(tensor, True) == layout for tensor in operands)


def slices(layer: Layer, inside: dict[str, ChannelSlice]) -> dict[str, ChannelSlice]:
    """Where the operands of a concat lie: in its result, or in what that lies in."""
    found = {}
    outer = inside.get(layer.output.name, ChannelSlice(layer.output, 0))
    channel = outer.channel
    for tensor in layer.inputs:
        found[tensor.name] = ChannelSlice(outer.whole, channel)
        channel += tensor.concrete_shape[1]
    return found


def holder(tensor: Tensor, selection: Selection) -> Tensor:
    """The tensor whose array a tensor lies in: itself, mostly."""
    part = selection.inside.get(tensor.name)
    return tensor if part is None else part.whole


def is_covered(tensor: Tensor, made: Collection[Tensor], selection: Selection) -> bool:
    """Whether tensors that were made lie in every channel of a tensor."""
    first, end = channels(tensor, selection)
    parts = sorted(channels(part, selection) for part in made if holder(part, selection) == holder(tensor, selection))
    for low, high in parts:
        first = max(first, high) if low <= first else first
    return first >= end and bool(parts)


def channels(tensor: Tensor, selection: Selection) -> tuple[int, int]:
    """The channels that a tensor takes in the array that it lies in: the first, and the one behind the last."""
    part = selection.inside.get(tensor.name)
    first = 0 if part is None else part.channel
    return first, first + (tensor.concrete_shape[1] if len(tensor.shape) > 1 else 1)
