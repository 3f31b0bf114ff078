"""Whole images through row kernels: what a caller has to do, in a few lines of numpy and ctypes."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from polyfuse.codegen.rows.catalogue import VECTOR_KINDS
from polyfuse.codegen.rows.kernel import RowKernel, row_kernel
from polyfuse.codegen.rows.pack import packed_bias, packed_weights
from polyfuse.codegen.rows.shape import Floats, Kind, RowShape, Tuning, filled
from polyfuse.codegen.target import Target

REGISTERS = {4: 16, 8: 16, 16: 32}
PLANAR_IN = ("few_channels", "stencil", "to_blocked")
PLANAR_OUT = ("stencil", "to_planar")
TALL = ("stencil", "winograd")
NAMED = {kind.name: kind for kind in VECTOR_KINDS}
GUARD = np.float32(12345.0)


@dataclass(frozen=True)
class Case:
    """A layer: `padding` is (top, left, bottom, right)."""

    kind: str
    channels: tuple[int, int]
    image: tuple[int, int]
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    dilation: int = 1
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1
    activation: object = None
    residual: str = "none"
    bias: bool = True
    count_pad: bool = False
    height: int = 1
    tuning: Tuning | None = None
    spread: bool = False
    numbers: tuple[float, ...] = ()
    sources: tuple[tuple[int, int], ...] = ()

    @property
    def out_image(self) -> tuple[int, int]:
        """Rows and columns that come out."""
        pads = (self.padding[0] + self.padding[2], self.padding[1] + self.padding[3])
        reach = [self.dilation * (k - 1) + 1 for k in self.kernel]
        rows, columns = ((self.image[a] + pads[a] - reach[a]) // self.stride + 1 for a in range(2))
        return rows, columns

    def kind_of(self, outside: tuple[int, int]) -> Kind:
        """The kind with what only that kind has."""
        own = dict(zip(("size", "alpha", "beta", "bias"), self.numbers, strict=False))
        own |= {"groups": self.groups, "spread": self.spread, "sources": self.sources}
        own |= {"counted": outside if self.count_pad else (0, 0)}
        kind = NAMED[self.kind]
        return replace(kind, **{field.name: own[field.name] for field in fields(kind) if field.name in own})

    def row_kernel(self, name: str, floats: int, registers: int | None = None) -> RowKernel:
        """The kernel that makes whole rows of it."""
        left, width = self.padding[1], self.image[1]
        span = self.stride * (self.out_image[1] - 1) + self.dilation * (self.kernel[1] - 1) + 1
        right = max(0, span - left - width)
        shape = RowShape(
            name,
            self.kind_of((left, right)),
            *self.channels,
            self.out_image[1],
            kernel=self.kernel,
            stride=self.stride,
            dilation=self.dilation,
            outside=(left, right),
            in_pitch=width,
            out_pitch=self.out_image[1] + 1,
            residual_pitch=self.out_image[1] + 2,
            bias=self.bias,
            activation=self.activation,
            residual=self.residual,
            height=self.height,
        )
        return row_kernel(shape, Target(floats, registers or REGISTERS[floats]), self.tuning)


def pointers(rows: Sequence[np.ndarray | None]) -> ctypes.Array:
    """An array of pointers to rows; None is NULL."""
    found = (ctypes.c_void_p * len(rows))()
    for k, row in enumerate(rows):
        found[k] = None if row is None else row.ctypes.data
    return found


def workspace(kernel: RowKernel) -> ctypes.c_void_p:
    """Memory of NaN for one call of a kernel."""
    return np.full(kernel.workspace_bytes // 4 + 1, np.nan, np.float32).ctypes.data_as(ctypes.c_void_p)


def in_rows(case: Case, x: np.ndarray, floats: int, oh: int) -> list[np.ndarray | None]:
    """The rows that output row `oh` reads; None outside of the image."""
    tall = case.kind in TALL
    reads = case.height - 1 + case.dilation * (case.kernel[0] - 1) + 1 if tall else case.kernel[0]
    step = 1 if tall else case.dilation
    if case.kind == "direct" and case.height > 1:
        reads, step = case.height, case.stride
    wanted = [case.stride * oh + step * k - case.padding[0] for k in range(reads)]
    if case.kind in PLANAR_IN:
        x = np.ascontiguousarray(x)
        return [x[c, h] if 0 <= h < x.shape[1] else None for c in range(x.shape[0]) for h in wanted]
    blocks = spoilt(blocked(x, floats), x.shape[0])
    return [blocks[h] if 0 <= h < len(blocks) else None for h in wanted]


def spoilt(rows: np.ndarray, channels: int) -> np.ndarray:
    """Blocked rows with NaN in the lanes without a channel, which must reach none."""
    if channels % rows.shape[-1]:
        rows[..., -1, :, channels % rows.shape[-1] :] = np.nan
    return rows


def run(function, kernel: RowKernel, case: Case, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """The image `[oc, oh, ow]` that a compiled row kernel makes; fails where it writes outside of its row."""
    v, flat, channels = kernel.floats, case.kind in PLANAR_OUT, case.channels[1]
    rows, columns = case.out_image
    packed = packed_weights(kernel, arrays["w"]) if "w" in arrays else np.zeros(1, np.float32)
    bias = packed_bias(kernel, arrays.get("b"), arrays.get("slopes"))
    added = np.pad(arrays.get("r", np.zeros((channels, rows, columns), np.float32)), ((0, 0), (0, 0), (1, 1)))
    added = added if flat else blocked(added, v)
    made = []
    for oh in range(0, rows - case.height + 1, case.height):
        reads = in_rows(case, arrays["x"], v, oh)
        if case.kind in ("add", "mul", "gather"):
            second = arrays["y"][:, :1, :1] if case.spread else arrays["y"]
            reads.append(spoilt(blocked(second, v), len(second))[0 if case.spread else oh])
        shape = (channels * case.height, 1 + columns) if flat else (case.height, -(-channels // v), 1 + columns, v)
        out = np.full((np.prod(shape[: 2 if flat else 3]) + 1, *shape[2 if flat else 3 :]), GUARD, np.float32)
        inside = out[:-1].reshape(shape)
        targets = list(inside)
        adds = [added[0, oh + k] if flat else added[oh + k] for k in range(case.height)]
        values = [ctypes.c_void_p(packed.ctypes.data), ctypes.c_void_p(bias.ctypes.data), pointers(adds)]
        places = [ctypes.c_ssize_t(-case.padding[1]), ctypes.c_ssize_t(1), None, None]
        function(pointers(reads), *values, pointers(targets), *places, workspace(kernel))
        gap = inside[:, 0] if flat else inside[:, :, 0]
        assert (gap == GUARD).all() and (out[-1] == GUARD).all(), "wrote outside of its columns"
        made += [inside[:, 1:]] if flat else list(inside[:, :, 1:])
    if flat:
        return np.stack(made).reshape(1, -1, columns) if case.kind == "stencil" else np.stack(made, axis=1)
    return planar(np.stack(made), channels)


def blocked(rows: NDArray[np.floating], floats: int) -> Floats:
    """`[channel, …, column]` to `[…, block, column, V]`: an image `[c, h, w]` to blocked rows.

    >>> blocked(np.arange(6, dtype=np.float32).reshape(3, 2), 4).tolist()
    [[[0.0, 2.0, 4.0, 0.0], [1.0, 3.0, 5.0, 0.0]]]
    """
    split = filled(np.asarray(rows, dtype=np.float32), floats).reshape(-1, floats, *rows.shape[1:])
    return np.ascontiguousarray(np.moveaxis(split, (0, 1), (-3, -1)))


def planar(rows: Floats, channels: int) -> Floats:
    """`[…, block, column, V]` to `[channel, …, column]`, without what filled up the last block."""
    split = np.moveaxis(rows, (-3, -1), (0, 1))
    return np.ascontiguousarray(split.reshape(-1, *split.shape[2:])[:channels])
