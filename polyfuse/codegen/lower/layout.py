"""How the elements of a tensor lie in an array.

A tensor, the sizes of its indices and a `Layout` enter; the dimensions of the array and subscripts leave.

    planar      A[n][c][h][w]
    rows        A[n][h][c / V][w][c % V]       what row kernels work on, rows side by side in memory
    blocks      A[n][c / V][h][w][c % V]       the NCHWc of other libraries, at the interface

An array may have further indices in front, which count tiles whose copies of a buffer are alive at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

import islpy as isl
import numpy as np

from polyfuse.codegen.c.elements import FLOAT, Element
from polyfuse.network.dtypes import Values

Order = Literal["planar", "rows", "blocks"]
PAGE_BYTES = 4096
"""Addresses that agree modulo so many bytes compete for the same lines of a first-level cache."""
ROWS_AT_ONCE = 18
"""The rows that a kernel reads and writes at the same time, at most."""
APART = 128
"""Bytes between the starts of rows that do not compete."""


def spread_pitch(width: int) -> int:
    """The floats from one planar row to the next: no fewer than its width, and so many that rows spread over a page.

    >>> spread_pitch(2048), spread_pitch(2046), spread_pitch(515), spread_pitch(100), spread_pitch(20)
    (2080, 2080, 528, 106, 20)
    """
    if width * ROWS_AT_ONCE * FLOAT.bytes <= PAGE_BYTES:
        return width
    return next(pitch for pitch in range(width, width + PAGE_BYTES) if is_spread(FLOAT.bytes * pitch))


def is_spread(pitch_bytes: int) -> bool:
    """Whether so many neighbouring rows start far enough from each other, modulo a page."""
    starts = (row * pitch_bytes % PAGE_BYTES for row in range(1, ROWS_AT_ONCE))
    return all(APART <= start <= PAGE_BYTES - APART for start in starts)


@dataclass(frozen=True)
class Layout:
    """The order of the indices, and V, the channels of a block (1 where planar)."""

    order: Order = "planar"
    floats: int = 1

    def __str__(self) -> str:
        return {"planar": "nchw", "rows": f"nhcw{self.floats}c", "blocks": f"nchw{self.floats}c"}[self.order]


PLANAR = Layout()


@dataclass(frozen=True)
class Array:
    """A C array that holds a tensor, or a window of it: `sizes` are those of `[.., n, c, h, w]`, or of any indices.

    A `padded` array has wider rows where they would start at nearly the same place in every page. With `among` it is
    part of an array of so many channels, and has the dimensions of that.
    """

    name: str
    sizes: tuple[int, ...]
    layout: Layout = PLANAR
    padded: bool = False
    among: int | None = None
    element: Element = FLOAT

    @property
    def shape(self) -> tuple[int, ...]:
        """The dimensions in C."""
        if self.layout.order == "planar":
            *outer, width = self.sizes if self.among is None else (self.sizes[0], self.among, *self.sizes[2:])
            return (*outer, spread_pitch(width) if self.padded else width)
        *copies, n, channels, height, width = self.sizes
        channels = channels if self.among is None else self.among
        blocks = -(-channels // self.layout.floats)
        if self.layout.order == "rows":
            return (*copies, n, height, blocks, self._pitch(width, blocks), self.layout.floats)
        return (*copies, n, blocks, height, width, self.layout.floats)

    def _pitch(self, width: int, blocks: int) -> int:
        """Columns from block to block."""
        column = FLOAT.bytes * self.layout.floats
        clash = self.padded and (width * column % PAGE_BYTES == 0 or width * blocks * column % PAGE_BYTES == 0)
        return width + 1 if clash else width

    @property
    def elements(self) -> int:
        """The elements of the array, those that fill up blocks and rows included."""
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        """The size of the array."""
        return self.element.bytes * self.elements

    @property
    def pitch(self) -> int:
        """The columns from one channel block of a row to the next (planar: from one row to the next)."""
        if self.layout.order == "blocks":
            return self.shape[-3] * self.shape[-2]
        return self.shape[-2] if self.layout.order == "rows" else self.shape[-1]

    def offset(self, channel: int) -> int:
        """The elements from the start of the array to a channel: where a part of it begins.

        >>> Array("a", (1, 48, 5, 7), Layout("rows", 16)).offset(32), Array("a", (1, 3, 5, 7)).offset(2)
        (224, 70)
        >>> Array("a", (2, 6)).offset(4), Array("a", (6,)).offset(0)
        (4, 0)
        """
        if self.layout.order == "planar":
            return channel * prod(self.shape[2:])
        return channel * self.pitch

    def subscripts(self, index: Sequence[isl.PwAff]) -> list[isl.PwAff]:
        """The subscripts of an element, from its indices in the order of `sizes`."""
        if self.layout.order == "planar":
            return list(index)
        *copies, n, channel, row, column = index
        v = isl.Val(self.layout.floats)
        block, lane = channel.scale_down_val(v).floor(), channel.mod_val(v)
        middle = [row, block] if self.layout.order == "rows" else [block, row]
        return [*copies, n, *middle, column, lane]

    def fill(self, memory: Values, values: Values) -> None:
        """Copy a whole tensor, `[n, c, h, w]` or planar, into memory of this shape; lanes without a channel are 0."""
        if self.layout.order == "planar":
            np.copyto(memory, values)
            return
        memory.fill(0.0)
        for block, part in self._blocks(memory):
            low = block * self.layout.floats
            channels = values[:, low : low + self.layout.floats]
            part[..., : channels.shape[1]] = np.moveaxis(channels, 1, -1)

    def tensor(self, memory: Values) -> Values:
        """The whole tensor in memory of this shape: the memory itself where planar, else a copy."""
        if self.layout.order == "planar":
            return memory
        parts = [np.moveaxis(part, -1, 1) for _, part in self._blocks(memory)]
        return np.ascontiguousarray(np.concatenate(parts, axis=1)[:, : self.sizes[1], :, : self.sizes[3]])

    def _blocks(self, memory: Values) -> list[tuple[int, Values]]:
        """Every channel block as `[n, h, w, lane]`."""
        axis = 2 if self.layout.order == "rows" else 1
        return list(enumerate(np.moveaxis(memory[..., : self.sizes[3], :], axis, 0)))
