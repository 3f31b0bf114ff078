"""Weights and rows in the order that row kernels read them, in numpy.

    direct        [group of A out blocks][in block][kernel row][taps at once][lane][tap][A][V]
      its last block, if Tuning.ways > 1: [in block][kernel row][taps at once][lane / ways][tap][V / ways][ways]
    few_channels  [group of A out blocks][in channel][kernel row][tap][A][V]
    grouped       [part of an out block][in block][kernel row][taps at once][lane][tap][V], 0 in lanes of other groups
    depthwise     [block][kernel row][tap][V]
    stencil       [kernel row][tap]
    winograd      [group of A out blocks][frequency][in channel][A][V], transformed in float64, for each size of tiles
    bias          [block][V], zeros where there is none; a stencil's as it is; slopes lie behind it, [block][V]
    blocked row   [block][column][V], channels that fill up the last block are 0

Output channels are filled up with zeros to whole blocks; input channels that do not exist take no room.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from polyfuse.codegen.rows.grouped import GroupPart, group_parts
from polyfuse.codegen.rows.interpolation import transformed_weights
from polyfuse.codegen.rows.kernel import RowKernel
from polyfuse.codegen.rows.shape import block_sizes, tap_groups
from polyfuse.codegen.rows.tiling import transforms
from polyfuse.errors import InvalidInput

Floats = NDArray[np.float32]


def packed_weights(kernel: RowKernel, weights: NDArray[np.floating]) -> Floats:
    """Weights `[out channel, in channel of its group, kernel row, tap]` as the kernel reads them, flat.

    Raises InvalidInput when they have another shape.
    """
    shape = kernel.shape
    per_group = 1 if shape.kind == "depthwise" else shape.in_channels // shape.groups
    expected = (shape.out_channels, per_group, *shape.kernel)
    if weights.shape != expected:
        raise InvalidInput(f"row kernel {shape.name!r}: expected weights of shape {expected}, got {weights.shape}")
    if shape.kind == "winograd":
        return _transformed(kernel, weights)
    w = np.asarray(weights, dtype=np.float32)
    if shape.kind == "stencil":
        return np.ascontiguousarray(w[0, 0]).reshape(-1)
    if shape.kind == "grouped":
        return np.concatenate([_part(kernel, w, part) for part in group_parts(shape, kernel.floats)[0]])
    # [block, V, in channel, kernel row, tap]
    blocks = _filled(w, 0, kernel.floats).reshape(-1, kernel.floats, *w.shape[1:])
    if shape.kind == "depthwise":
        return np.ascontiguousarray(blocks[:, :, 0].transpose(0, 2, 3, 1)).reshape(-1)
    full = len(blocks) if kernel.tuning.ways == 1 else len(blocks) - 1
    groups = blocks[:full].reshape(-1, kernel.tuning.blocks, *blocks.shape[1:])
    last = [_last_block(kernel, blocks[-1])] if full < len(blocks) else []
    return np.concatenate([*(_group(kernel, group) for group in groups), *last])


def _transformed(kernel: RowKernel, weights: NDArray[np.floating]) -> Floats:
    """Weights as the frequencies of every size of tiles are multiplied by them."""
    w = np.asarray(weights, dtype=np.float32)
    return np.concatenate([_frequencies(kernel, w, tile) for tile in transforms(kernel.tuning)])


def _frequencies(kernel: RowKernel, weights: Floats, tile: tuple[int, int]) -> Floats:
    """Weights as the frequencies of one size of tiles are multiplied by them."""
    with np.errstate(over="ignore"):
        u = transformed_weights(weights, tile).astype(np.float32)
    # [group, A, V, in channel, frequency]
    groups = _filled(u, 0, kernel.floats).reshape(-1, kernel.tuning.blocks, kernel.floats, u.shape[1], u[0, 0].size)
    return np.ascontiguousarray(groups.transpose(0, 4, 3, 1, 2)).reshape(-1)


def _last_block(kernel: RowKernel, block: Floats) -> Floats:
    """`[V, in channel, kernel row, tap]` of a block whose lanes are shared out among `ways` input channels."""
    ways, v = kernel.tuning.ways, kernel.floats
    parts, first = [], 0
    for lanes in block_sizes(kernel.shape.in_channels, v):
        for row in range(kernel.shape.kernel[0]):
            for taps in tap_groups(kernel.shape, kernel.tuning):
                part = block[: v // ways, first : first + lanes, row, taps.start : taps.stop]
                steps = part.reshape(v // ways, lanes // ways, ways, len(taps))
                parts.append(steps.transpose(1, 3, 0, 2).reshape(-1))
        first += lanes
    return np.concatenate(parts)


def _part(kernel: RowKernel, weights: Floats, part: GroupPart) -> Floats:
    """The weights of a part: those of its channels in its lanes."""
    v, first = kernel.floats, part.block * kernel.floats
    lanes = np.zeros((v, *weights.shape[1:]), np.float32)
    lanes[part.first : part.end] = weights[first + part.first : first + part.end]
    cuts = range(part.low // v * v + v, part.high, v)
    pieces = []
    for low, high in pairwise((part.low, *cuts, part.high)):
        for row in range(kernel.shape.kernel[0]):
            for taps in tap_groups(kernel.shape, kernel.tuning):
                piece = lanes[:, low - part.low : high - part.low, row, taps.start : taps.stop]
                pieces.append(piece.transpose(1, 2, 0).reshape(-1))
    return np.concatenate(pieces)


def _group(kernel: RowKernel, group: Floats) -> Floats:
    """`[A, V, in channel, kernel row, tap]` in the order of the loops."""
    direct = kernel.shape.kind == "direct"
    channels = kernel.shape.in_channels // kernel.shape.groups
    sizes = block_sizes(channels, kernel.floats) if direct else (1,) * channels
    parts, first = [], 0
    for lanes in sizes:
        for row in range(kernel.shape.kernel[0]):
            for taps in tap_groups(kernel.shape, kernel.tuning):
                part = group[:, :, first : first + lanes, row, taps.start : taps.stop]
                parts.append(part.transpose(2, 3, 0, 1).reshape(-1))
        first += lanes
    return np.concatenate(parts)


def packed_bias(
    kernel: RowKernel, bias: NDArray[np.floating] | None, slopes: NDArray[np.floating] | None = None
) -> Floats:
    """The bias `[out channel]` filled up to whole blocks, zeros for None; and slopes behind it, if there are any."""
    if slopes is not None:
        return np.concatenate([packed_bias(kernel, bias), packed_bias(kernel, slopes)])
    channels = kernel.shape.out_channels
    values = np.zeros(channels) if bias is None else bias
    if values.shape != (channels,):
        raise InvalidInput(f"row kernel {kernel.name!r}: expected a bias of shape ({channels},), got {values.shape}")
    return _filled(np.asarray(values, dtype=np.float32), 0, kernel.floats)


def blocked(rows: NDArray[np.floating], floats: int) -> Floats:
    """`[channel, …, column]` to `[…, block, column, V]`: an image `[c, h, w]` to blocked rows.

    >>> blocked(np.arange(6, dtype=np.float32).reshape(3, 2), 4).tolist()
    [[[0.0, 2.0, 4.0, 0.0], [1.0, 3.0, 5.0, 0.0]]]
    """
    filled = _filled(np.asarray(rows, dtype=np.float32), 0, floats)
    split = filled.reshape(-1, floats, *rows.shape[1:])
    return np.ascontiguousarray(np.moveaxis(split, (0, 1), (-3, -1)))


def planar(rows: Floats, channels: int) -> Floats:
    """`[…, block, column, V]` to `[channel, …, column]`, without what filled up the last block."""
    split = np.moveaxis(rows, (-3, -1), (0, 1))
    return np.ascontiguousarray(split.reshape(-1, *split.shape[2:])[:channels])


def _filled(values: Floats, axis: int, floats: int) -> Floats:
    missing = -values.shape[axis] % floats
    return np.pad(values, [(0, missing if a == axis else 0) for a in range(values.ndim)])
