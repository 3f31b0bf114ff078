"""Layers that only move elements: reshape, transpose, slice, pad, concat, …, each point a copy of one element.

Tensors of concrete sizes and any rank enter; a `Layer` leaves whose one read is quasi-affine. What it is stands in its
operator, so that others can undo it or merge it with its neighbours.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from math import prod
from operator import itemgetter

import numpy as np

from polyfuse.errors import InvalidInput
from polyfuse.network.dtypes import Array, is_whole, stored
from polyfuse.network.indexing import along, check_entries, index_runs, reshaped_index
from polyfuse.network.layer import Layer, Statement
from polyfuse.network.layers.pointwise import arranged, broadcast_index, pointwise
from polyfuse.network.operator import (
    Concat,
    Copy,
    DepthToSpace,
    Expand,
    Gather,
    Operator,
    Pad,
    Reshape,
    Slice,
    SpaceToDepth,
    Split,
    Transpose,
)
from polyfuse.network.statements import point_dims, point_statement
from polyfuse.network.tensor import Size, Tensor

PAD_MODES = ("constant", "reflect", "edge", "wrap")
"""The modes of padding; all but the first repeat the tensor."""
MAX_PARTS = 64
"""The most statements a copy may be cut into."""


def copy(name: str, x: Tensor) -> Layer:
    """The tensor itself (ONNX Identity)."""
    return pointwise(name, {"x": x}, "x", np.asarray, operator=Copy(), dtype=x.dtype)


def reshape(name: str, x: Tensor, shape: Sequence[int]) -> Layer:
    """The same elements in the same order in another shape (ONNX Reshape, Flatten, Squeeze, Unsqueeze).

    Errors: InvalidInput where the shape has another number of elements.
    """
    old, new = x.concrete_shape, tuple(shape)
    if prod(old) != prod(new) or min(new, default=1) < 1:
        raise InvalidInput(f"layer {name!r}: expected a shape of {x.elements} elements like {x}, got {new}")
    dims = point_dims(len(new))
    index, plain = reshaped_index(old, new, dims)
    inside = [d for d in dims if d not in plain]
    return _copied(name, Reshape(new), x, new, index, partial(_reshaped, new), inside)


def transpose(name: str, x: Tensor, permutation: Sequence[int]) -> Layer:
    """Axis k of the result is axis `permutation[k]` of the tensor (ONNX Transpose).

    Errors: InvalidInput where that is no permutation of the axes.
    """
    order = tuple(permutation)
    if sorted(order) != list(range(len(x.shape))):
        raise InvalidInput(f"layer {name!r}: expected a permutation of the {len(x.shape)} axes of {x}, got {order}")
    dims = point_dims(len(order))
    index = ", ".join(dims[order.index(axis)] for axis in range(len(order)))
    shape = tuple(x.shape[axis] for axis in order)
    return _copied(name, Transpose(order), x, shape, index, partial(np.transpose, axes=order))


def slice_of(
    name: str, x: Tensor, starts: Sequence[int], sizes: Sequence[int], steps: Sequence[int] | None = None
) -> Layer:
    """`sizes` elements of every axis from `starts` on, `steps` apart, which may be negative (ONNX Slice).

    Errors: InvalidInput where one of them is outside of the tensor.
    """
    firsts, counts = tuple(starts), tuple(sizes)
    strides = tuple(steps) if steps is not None else (1,) * len(counts)
    shape = x.concrete_shape
    if not len(firsts) == len(counts) == len(strides) == len(shape) or 0 in strides:
        raise InvalidInput(
            f"layer {name!r}: expected a start, a size and a step other than 0 for each axis of {x}, got {firsts}, "
            f"{counts} and {strides}"
        )
    ends = [(first, first + step * (count - 1)) for first, count, step in zip(firsts, counts, strides, strict=True)]
    if any(not 0 <= end < size for pair, size in zip(ends, shape, strict=True) for end in pair):
        raise InvalidInput(f"layer {name!r}: expected a part of {x}, got elements {ends} along its axes")
    dims = point_dims(len(shape))
    index = ", ".join(map(along, dims, firsts, strides))
    part = tuple(slice(f, e, s) for f, e, s in zip(firsts, _ends(ends, strides), strides, strict=True))
    return _copied(name, Slice(firsts, counts, strides), x, counts, index, itemgetter(part))


def _ends(pairs: Sequence[tuple[int, int]], steps: Sequence[int]) -> list[int | None]:
    """The ends of numpy's slices: one beyond the last element, None for one below 0."""
    ends = [last + (1 if step > 0 else -1) for (_, last), step in zip(pairs, steps, strict=True)]
    return [end if end >= 0 else None for end in ends]


def split(name: str, x: Tensor, axis: int, start: int, size: int) -> Layer:
    """The part of a tensor from `start` on along an axis (one output of ONNX Split).

    Errors: InvalidInput where it is not in the tensor.
    """
    axis = checked_axis(name, x, axis)
    starts = [start if a == axis else 0 for a in range(len(x.shape))]
    sizes = [size if a == axis else s for a, s in enumerate(x.concrete_shape)]
    operator = Split(tuple(starts), tuple(sizes), (1,) * len(starts), axis)
    return replace(slice_of(name, x, starts, sizes), operator=operator)


def gather(name: str, x: Tensor, axis: int, indices: Sequence[int]) -> Layer:
    """The elements at some indices along an axis, in their order (ONNX Gather with constant indices).

    Errors: InvalidInput for indices outside of the tensor, and where they do not lie in a few even runs.
    """
    axis = checked_axis(name, x, axis)
    size, wanted = x.concrete_shape[axis], tuple(indices)
    if not wanted or any(not 0 <= index < size for index in wanted):
        raise InvalidInput(f"layer {name!r}: expected indices from 0 to {size - 1} of axis {axis} of {x}, got {wanted}")
    tables = [wanted if a == axis else tuple(range(s)) for a, s in enumerate(x.concrete_shape)]
    check_entries(name, [len(wanted)])
    out = Tensor(f"{name}_out", tuple(len(table) for table in tables), x.dtype)
    reference = partial(np.take, indices=np.array(wanted), axis=axis)
    return Layer(name, Gather(axis, wanted), out, gathered(name, x, out, tables), (x,), (), reference)


def checked_axis(name: str, x: Tensor, axis: int) -> int:
    """An axis counted from the first one; negative ones count from the end.

    Errors: InvalidInput where the tensor has no such axis.
    """
    rank = len(x.shape)
    if not -rank <= axis < rank:
        raise InvalidInput(f"layer {name!r}: expected an axis of {x}, from {-rank} to {rank - 1}, got {axis}")
    return axis % rank


def expand(name: str, x: Tensor, shape: Sequence[int]) -> Layer:
    """The tensor broadcast to a shape (ONNX Expand).

    Errors: InvalidInput where the shape is not one that it is broadcast to.
    """
    target = tuple(shape)
    sizes = (1,) * (len(target) - len(x.shape)) + x.concrete_shape
    if len(sizes) != len(target) or any(a not in (1, b) for a, b in zip(sizes, target, strict=True)):
        raise InvalidInput(f"layer {name!r}: expected a shape that {x} is broadcast to, got {target}")
    index = broadcast_index(x, target, point_dims(len(target)))
    return _copied(name, Expand(target), x, target, index, partial(np.broadcast_to, shape=target))


def depth_to_space(name: str, x: Tensor, block: int, mode: str = "DCR") -> Layer:
    """Channels as blocks of rows and columns (ONNX DepthToSpace): depth first (DCR), or columns and rows first (CRD).

    Errors: InvalidInput where the channels do not make whole blocks.
    """
    batch, channels, rows, columns = _image(name, x)
    if block < 1 or channels % (block * block) or mode not in ("DCR", "CRD"):
        raise InvalidInput(
            f"layer {name!r}: expected a mode DCR or CRD and a block whose square divides {channels} channels, got "
            f"{mode} and {block}"
        )
    made = channels // (block * block)
    one, of_column, of_row = (1, made, made * block) if mode == "DCR" else (block * block, 1, block)
    index = f"n, {one}*c + {of_row}*(h mod {block}) + {of_column}*(w mod {block}), floor(h/{block}), floor(w/{block})"
    shape = (batch, made, rows * block, columns * block)
    reference = partial(_space_of_depth, block, mode)
    return _copied(name, DepthToSpace(block, mode), x, shape, index, reference)


def space_to_depth(name: str, x: Tensor, block: int, mode: str = "DCR") -> Layer:
    """Blocks of rows and columns as channels (ONNX SpaceToDepth): the inverse of `depth_to_space`.

    Errors: InvalidInput where rows and columns do not make whole blocks.
    """
    batch, channels, rows, columns = _image(name, x)
    if block < 1 or rows % block or columns % block or mode not in ("DCR", "CRD"):
        raise InvalidInput(
            f"layer {name!r}: expected a mode DCR or CRD and a block that divides {rows} rows and {columns} columns, "
            f"got {mode} and {block}"
        )
    if mode == "DCR":
        channel, row, column = f"c mod {channels}", f"floor(c/{channels * block})", f"floor(c/{channels}) mod {block}"
    else:
        channel, row, column = f"floor(c/{block * block})", f"floor(c/{block}) mod {block}", f"c mod {block}"
    index = f"n, {channel}, {block}*h + {row}, {block}*w + {column}"
    shape = (batch, channels * block * block, rows // block, columns // block)
    reference = partial(_depth_of_space, block, mode)
    return _copied(name, SpaceToDepth(block, mode), x, shape, index, reference)


def _image(name: str, x: Tensor) -> tuple[int, ...]:
    if len(x.shape) != 4:
        raise InvalidInput(f"layer {name!r}: expected an input [n, c, h, w], got {x}")
    return x.concrete_shape


def pad(
    name: str, x: Tensor, before: Sequence[int], after: Sequence[int], mode: str = "constant", value: float = 0.0
) -> Layer:
    """Elements added before and after every axis, or cut off where negative (ONNX Pad).

    They hold `value`, or what `mode` repeats of the tensor.
    Errors: InvalidInput for an unknown mode and for padding that the tensor is too small for.
    """
    sizes = [size + b + a for size, b, a in zip(x.concrete_shape, before, after, strict=True)]
    if mode not in PAD_MODES or min(sizes) < 1 or np.isnan(value):
        raise InvalidInput(
            f"layer {name!r}: expected a mode of {', '.join(PAD_MODES)}, a value that is a number, and padding that "
            f"leaves some of {x}, got {mode}, {value}, {tuple(before)} and {tuple(after)}"
        )
    operator = Pad(tuple(before), tuple(after), mode, value)
    out = Tensor(f"{name}_out", tuple(sizes), x.dtype)
    reference = partial(_padded, tuple(before), tuple(after), mode, value)
    if mode == "constant":
        return Layer(name, operator, out, _filled(name, x, out, before, value), (x,), (), reference)
    check_entries(name, sizes)
    try:
        tables = [
            _padded((b,), (a,), mode, value, np.arange(float(size)))
            for size, b, a in zip(x.concrete_shape, before, after, strict=True)
        ]
    except ValueError as error:
        raise InvalidInput(
            f"layer {name!r}: expected a tensor that can be padded by {mode}, got {x} ({error})"
        ) from None
    return Layer(name, operator, out, gathered(name, x, out, tables), (x,), (), reference)


def _filled(name: str, x: Tensor, out: Tensor, before: Sequence[int], value: float) -> tuple[Statement, ...]:
    """The statements of constant padding: points of the tensor, and those that are not."""
    dims = point_dims(len(out.shape))
    ranges = [f"{b} <= {d} < {b + size}" for d, b, size in zip(dims, before, x.concrete_shape, strict=True)]
    within = " and ".join(ranges)
    index = ", ".join(along(d, -b, 1) for d, b in zip(dims, before, strict=True))
    part = point_statement(f"{name}_part1", out, {"x": (x, index)}, "x", within)
    if is_whole(x.dtype):
        text = str(int(stored(value, x.dtype, f"layer {name!r}: value")))
    else:
        text = repr(float(value)) if np.isfinite(value) else "INFINITY" if value > 0 else "-INFINITY"
    fill = point_statement(f"{name}_part0", out, {}, text, f"not ({within})")
    found = tuple(each for each in (fill, part) if not each.domain.is_empty())
    if part not in found:
        raise InvalidInput(f"layer {name!r}: expected padding that leaves some of {x}, got only padding in {out}")
    return found


def gathered(name: str, x: Tensor, out: Tensor, tables: Sequence[Sequence[int] | Array]) -> tuple[Statement, ...]:
    """The statements of a copy whose element along each axis is looked up in a table: one for each product of runs.

    A run is an interval of a point's index over which the element is affine in it.
    Errors: InvalidInput where there would be more than 64 statements.
    """
    dims = point_dims(len(out.shape))
    runs = [index_runs(dim, [int(t) for t in table]) for dim, table in zip(dims, tables, strict=True)]
    if prod(len(each) for each in runs) > MAX_PARTS:
        raise InvalidInput(
            f"layer {name!r}: its elements of {x} do not lie evenly; expected at most {MAX_PARTS} even parts, got "
            f"{prod(len(each) for each in runs)}"
        )
    plain = {dim for dim, each in zip(dims, runs, strict=True) if len(each) == 1}
    return tuple(
        point_statement(
            f"{name}_part{k}",
            out,
            {"x": (x, ", ".join(text for _, text in parts))},
            "x",
            " and ".join(where for where, _ in parts),
            [d for d in dims if d not in plain],
        )
        for k, parts in enumerate(product(*runs))
    )


def concat(name: str, tensors: Sequence[Tensor], axis: int = 1, constants: Collection[Tensor] = ()) -> Layer:
    """Concatenation along an axis: one statement for each part; `constants` are those that are weights (ONNX Concat).

    Errors: InvalidInput where the tensors differ in more than that axis.
    """
    if not tensors:
        raise InvalidInput(f"layer {name!r}: expected at least one tensor to concatenate, got none")
    axis = checked_axis(name, tensors[0], axis)
    rest = {(*t.shape[:axis], *t.shape[axis + 1 :], len(t.shape), t.dtype) for t in tensors}
    if len(rest) > 1 or any(not isinstance(t.shape[axis], int) for t in tensors):
        raise InvalidInput(
            f"layer {name!r}: expected tensors that differ only along axis {axis}, got {', '.join(map(str, tensors))}"
        )
    sizes = [int(t.shape[axis]) for t in tensors]
    shape: list[Size] = [*tensors[0].shape]
    shape[axis] = sum(sizes)
    out = Tensor(f"{name}_out", tuple(shape), tensors[0].dtype)
    dims = point_dims(len(shape))
    statements = []
    for k, tensor in enumerate(tensors):
        low = sum(sizes[:k])
        index = ", ".join(f"{d} - {low}" if a == axis else d for a, d in enumerate(dims))
        where = f"{low} <= {dims[axis]} < {low + sizes[k]}"
        statements.append(point_statement(f"{name}_part{k}", out, {"x": (tensor, index)}, "x", where))
    read = arranged(partial(_concatenated, axis), tensors, constants)
    return Layer(name, Concat(axis), out, tuple(statements), *read)


def _copied(
    name: str,
    operator: Operator,
    x: Tensor,
    shape: Sequence[Size],
    index: str,
    reference: Callable[[Array], Array],
    inside: Collection[str] = (),
) -> Layer:
    """The layer whose every point is the element of `x` at an index."""
    out = Tensor(f"{name}_out", tuple(shape), x.dtype)
    statement = point_statement(f"{name}_final", out, {"x": (x, index)}, "x", inside=inside)
    return Layer(name, operator, out, (statement,), (x,), (), reference)


# References: functions of modules with arguments bound, so that networks can be pickled and sent to other processes.


def _reshaped(shape: tuple[int, ...], x: Array) -> Array:
    return x.reshape(shape)


def _space_of_depth(block: int, mode: str, x: Array) -> Array:
    n, c, h, w = x.shape
    if mode == "DCR":
        parts = x.reshape(n, block, block, c // block**2, h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        parts = x.reshape(n, c // block**2, block, block, h, w).transpose(0, 1, 4, 2, 5, 3)
    return parts.reshape(n, c // block**2, h * block, w * block)


def _depth_of_space(block: int, mode: str, x: Array) -> Array:
    n, c, h, w = x.shape
    parts = x.reshape(n, c, h // block, block, w // block, block)
    order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    return parts.transpose(order).reshape(n, c * block**2, h // block, w // block)


def _padded(before: tuple[int, ...], after: tuple[int, ...], mode: str, value: float, x: Array) -> Array:
    more = [(max(b, 0), max(a, 0)) for b, a in zip(before, after, strict=True)]
    part = tuple(slice(max(-b, 0), size - max(-a, 0)) for size, b, a in zip(x.shape, before, after, strict=True))
    if mode == "constant":
        return np.pad(x, more, constant_values=value)[_after(part, more)]
    return np.asarray(np.pad(x, more, mode=mode)[_after(part, more)])  # type: ignore[call-overload]


def _after(part: tuple[slice, ...], more: Sequence[tuple[int, int]]) -> tuple[slice, ...]:
    """A part of a tensor in the tensor that was padded: what is cut off was not padded on that side."""
    return tuple(slice(p.start, p.stop + before + after) for p, (before, after) in zip(part, more, strict=True))


def _concatenated(axis: int, *arrays: Array) -> Array:
    return np.concatenate(arrays, axis=axis)
