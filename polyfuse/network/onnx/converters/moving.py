"""ONNX operators that only move elements as layers; what says sizes, axes and positions has to be constant."""

from math import prod

import numpy as np

from polyfuse.errors import InvalidInput, UnsupportedOperator
from polyfuse.network.layer import Layer
from polyfuse.network.layers import copies
from polyfuse.network.onnx import attributes
from polyfuse.network.onnx.file import Constant
from polyfuse.network.onnx.graph import Node
from polyfuse.network.onnx.importing import Import
from polyfuse.network.onnx.writing import OPSET, Parts, Writers, node, single, with_numbers
from polyfuse.network.operator import Concat, DepthToSpace, Expand, Gather, Pad, Reshape, Slice, SpaceToDepth, Transpose


def _integers(state: Import, node: Node, name: str, position: int) -> tuple[int, ...]:
    found = state.listed(node, name, position)
    if found is None:
        raise InvalidInput(f"{node.label}: expected {name} for {node.operator}, got none")
    return found


def _reshaped(state: Import, node: Node, shape: tuple[int, ...]) -> None:
    x = state.tensor(node)
    if shape == x.shape:
        state.alias(node, x)
    else:
        state.add(node, copies.reshape(node.name, x, shape or (1,)))


def reshape(state: Import, node: Node) -> None:
    """Reshape: 0 keeps a size, -1 stands for what is left."""
    x, wanted = state.tensor(node), list(_integers(state, node, "shape", 1))
    old = x.concrete_shape
    if not attributes.flag(node, "allowzero"):
        wanted = [old[k] if size == 0 and k < len(old) else size for k, size in enumerate(wanted)]
    if wanted.count(-1) == 1:
        rest = -prod(wanted)
        wanted[wanted.index(-1)] = x.elements // rest if rest > 0 and x.elements % rest == 0 else 0
    if min(wanted, default=1) < 1 or prod(wanted) != x.elements:
        raise InvalidInput(f"{node.label}: expected a shape of the {x.elements} elements of {x}, got {wanted}")
    _reshaped(state, node, tuple(wanted))


def flatten(state: Import, node: Node) -> None:
    """Flatten to rows of what is behind an axis."""
    shape = state.tensor(node).concrete_shape
    axis = attributes.attribute(node, "axis", 1)
    if not -len(shape) <= axis <= len(shape):
        raise InvalidInput(f"{node.label}: expected an axis up to {len(shape)}, got {axis}")
    _reshaped(state, node, (prod(shape[:axis]), prod(shape[axis:])))


def squeeze(state: Import, node: Node) -> None:
    """Squeeze: axes of size 1 left out."""
    x = state.tensor(node)
    ones = tuple(a for a, size in enumerate(x.shape) if size == 1)
    given = state.listed(node, "axes", 1)
    axes = attributes.axes_of(node, x, ones if given is None else given)
    if not set(axes) <= set(ones):
        raise InvalidInput(f"{node.label}: expected axes of size 1 of {x}, got {axes}")
    _reshaped(state, node, tuple(size for a, size in enumerate(x.concrete_shape) if a not in axes))


def unsqueeze(state: Import, node: Node) -> None:
    """Unsqueeze: axes of size 1 put in."""
    shape, given = list(state.tensor(node).concrete_shape), _integers(state, node, "axes", 1)
    for axis in sorted(attributes.axes_of(node, len(shape) + len(given), given)):
        shape.insert(axis, 1)
    _reshaped(state, node, tuple(shape))


def transpose(state: Import, node: Node) -> None:
    """Transpose."""
    x = state.tensor(node)
    given = attributes.integers(node, "perm")
    order = given if given is not None else tuple(range(len(x.shape)))[::-1]
    if order == tuple(range(len(x.shape))):
        state.alias(node, x)
    else:
        state.add(node, copies.transpose(node.name, x, order))


def slice_(state: Import, node: Node) -> None:
    """Slice, with the borders that Python's slices have."""
    x = state.tensor(node)
    begins, ends = _integers(state, node, "starts", 1), _integers(state, node, "ends", 2)
    given, apart = state.listed(node, "axes", 3), state.integers(node, 4)
    along = attributes.axes_of(node, x, range(len(begins)) if given is None else given)
    strides = apart if apart is not None else (1,) * len(along)
    if not len(begins) == len(ends) == len(along) == len(strides) or 0 in strides:
        raise InvalidInput(f"{node.label}: expected as many starts, ends and steps other than 0 as axes {along}")
    parts = [range(size) for size in x.concrete_shape]
    for axis, begin, end, step in zip(along, begins, ends, strides, strict=True):
        parts[axis] = parts[axis][slice(begin, end, step)]
    if not all(parts):
        raise InvalidInput(f"{node.label}: expected a slice of {x} that leaves elements, got none along an axis")
    starts, sizes, steps = ([f(part) for part in parts] for f in (lambda p: p[0], len, lambda p: p.step))
    state.add(node, copies.slice_of(node.name, x, starts, sizes, steps))


def split(state: Import, node: Node) -> None:
    """Split: a layer for each output that is used."""
    x = state.tensor(node)
    axis = attributes.axis_of(node, x, attributes.attribute(node, "axis", 0))
    size, count = x.concrete_shape[axis], len(node.outputs)
    if (wanted := attributes.attribute(node, "num_outputs", count)) != count:
        raise InvalidInput(f"{node.label}: expected as many outputs as num_outputs says, {wanted}, got {count}")
    given = state.listed(node, "split", 1)
    each = -(-size // count)
    sizes = given if given is not None else (*[each] * (count - 1), size - each * (count - 1))
    if len(sizes) != count or sum(sizes) != size or min(sizes) < 1:
        raise InvalidInput(f"{node.label}: expected {count} sizes of at least 1 that sum to {size}, got {list(sizes)}")
    for k, output in enumerate(node.outputs):
        if output in state.graph.readers or output in state.graph.outputs:
            layer = copies.split(f"{node.name}_split{k}", x, axis, sum(sizes[:k]), sizes[k])
            state.tensors[output] = state.build.add(layer)


def gather(state: Import, node: Node) -> None:
    """Gather with constant indices: one of them leaves its axis out, several axes of them replace it."""
    x = state.tensor(node)
    axis = attributes.axis_of(node, x, attributes.attribute(node, "axis", 0))
    size, given = x.concrete_shape[axis], _integers(state, node, "indices", 1)
    if any(not -size <= index < size for index in given):
        raise InvalidInput(f"{node.label}: expected indices from {-size} to {size - 1}, got {list(given)}")
    shape = (*x.concrete_shape[:axis], *state.graph.constants.value(node.input(1)).shape, *x.concrete_shape[axis + 1 :])
    wanted = [index % size for index in given]
    if len(shape) == len(x.shape):
        state.add(node, copies.gather(node.name, x, axis, wanted))
    else:
        parts = state.build.add(copies.gather(f"{node.name}_a", x, axis, wanted))
        state.add(node, copies.reshape(node.name, parts, shape or (1,)))


def concat(state: Import, node: Node) -> None:
    """Concat along any axis; some of the operands may be constants."""
    read, constants = state.operands(node)
    axis = attributes.axis_of(node, read[0], attributes.attribute(node, "axis", 1))
    if len(read) == 1:
        state.alias(node, read[0])
    else:
        state.add(node, copies.concat(node.name, read, axis, constants))


def expand(state: Import, node: Node) -> None:
    """Expand: broadcast to a shape, which may itself be smaller than the tensor's."""
    x, wanted = state.tensor(node), _integers(state, node, "shape", 1)
    try:
        shape = np.broadcast_shapes(x.concrete_shape, wanted)
    except ValueError:
        raise InvalidInput(f"{node.label}: cannot broadcast {x} and the shape {list(wanted)}") from None
    if shape == x.shape:
        state.alias(node, x)
    else:
        state.add(node, copies.expand(node.name, x, shape))


def pad(state: Import, node: Node) -> None:
    """Pad, constant and of the other modes."""
    x, pads = state.tensor(node), _integers(state, node, "pads", 1)
    mode = attributes.text(node, "mode", "constant")
    value = attributes.attribute(node, "value", 0.0)
    if node.input(2):
        constant = state.constant if x.dtype == "float32" else state.whole
        value = float(constant(node, 2).ravel()[0])
    given = state.integers(node, 3)
    axes = attributes.axes_of(node, x, range(len(x.shape)) if given is None else given)
    if len(pads) != 2 * len(axes) or mode not in copies.PAD_MODES:
        raise UnsupportedOperator(
            f"{node.label}: expected two pads for each of {len(axes)} axes and a mode of "
            f"{', '.join(copies.PAD_MODES)}, got {list(pads)} and {mode!r}"
        )
    before, after = [0] * len(x.shape), [0] * len(x.shape)
    for k, axis in enumerate(axes):
        before[axis], after[axis] = pads[k], pads[len(axes) + k]
    if not any(before) and not any(after):
        state.alias(node, x)
    else:
        state.add(node, copies.pad(node.name, x, before, after, mode, attributes.short(value)))


def depth(state: Import, node: Node) -> None:
    """DepthToSpace and SpaceToDepth."""
    make = copies.depth_to_space if node.operator == "DepthToSpace" else copies.space_to_depth
    block, mode = attributes.attribute(node, "blocksize", 0), attributes.text(node, "mode", "DCR")
    state.add(node, make(node.name, state.tensor(node), block, mode))


READS = {
    **dict.fromkeys(["DepthToSpace", "SpaceToDepth"], depth),
    "Concat": concat,
    "Expand": expand,
    "Flatten": flatten,
    "Gather": gather,
    "Pad": pad,
    "Reshape": reshape,
    "Slice": slice_,
    "Split": split,
    "Squeeze": squeeze,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
}


def _slice(part: Slice, layer: Layer, y: str) -> Parts:
    ends = np.array(part.starts, np.int64) + np.array(part.sizes, np.int64) * np.array(part.steps, np.int64)
    limits = np.where(ends < 0, np.iinfo(np.int64).min, ends).tolist()
    axes = range(len(part.starts))
    return with_numbers("Slice", layer, y, {"starts": part.starts, "ends": limits, "axes": axes, "steps": part.steps})


def _pad(padding: Pad, layer: Layer, y: str) -> Parts:
    pads, value = f"{layer.name}/pads", f"{layer.name}/value"
    added = np.array([*padding.before, *padding.after], np.int64)
    constants: dict[str, Constant] = {pads: added, value: np.array(padding.value, np.float32)}
    return [node("Pad", [layer.inputs[0].name, pads, value], y, layer.name, mode=padding.mode)], constants


def _space_to_depth(made: SpaceToDepth, layer: Layer, y: str) -> Parts:
    if made.mode != "DCR":
        raise UnsupportedOperator(f"layer {layer.name!r}: ONNX {OPSET} has no SpaceToDepth of the mode {made.mode}")
    return single("SpaceToDepth", layer, y, blocksize=made.block)


WRITES: Writers = {
    Concat: lambda joined, layer, y: single("Concat", layer, y, axis=joined.axis),
    DepthToSpace: lambda made, layer, y: single("DepthToSpace", layer, y, blocksize=made.block, mode=made.mode),
    Expand: lambda made, layer, y: with_numbers("Expand", layer, y, {"shape": made.shape}),
    Gather: lambda taken, layer, y: with_numbers("Gather", layer, y, {"indices": taken.indices}, axis=taken.axis),
    Pad: _pad,
    Reshape: lambda made, layer, y: with_numbers("Reshape", layer, y, {"shape": made.shape}),
    Slice: _slice,
    SpaceToDepth: _space_to_depth,
    Transpose: lambda turned, layer, y: single("Transpose", layer, y, perm=turned.order),
}
