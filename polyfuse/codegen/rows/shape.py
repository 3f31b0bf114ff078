"""What a row kernel computes and how: its kind, a value; its shape; its tuning; its work.

Sizes of a layer enter; `RowShape` and `Tuning` leave. Whatever depends on the kind, the kind answers: see `Kind`.

A *blocked* row holds the channels of one image row in blocks of V (`floats`), the columns of a block side by side:
`row[block][column][V]`, blocks `pitch` columns apart. A *planar* row is one channel of one image row: `row[column]`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from polyfuse.codegen.c.elements import FLOAT
from polyfuse.errors import InvalidInput
from polyfuse.network.layer import Layer
from polyfuse.network.network import Network
from polyfuse.network.tensor import IDENTIFIER, Tensor

Floats = NDArray[np.float32]
WIDEST_WINDOW = 32
"""Windows with more columns are not unrolled."""
FEW_CHANNELS = 4
"""Inputs with at most so many channels stay planar: blocks of them would be mostly empty."""
Residual = Literal["none", "before", "after"]
Order = Literal["blocks", "columns"]
PRELU = "prelu"
"""The activation of rows whose slopes are weights."""


class Vectors(Protocol):
    """The vectors of a machine: `floats` in each, and how many `registers` hold one."""

    @property
    def floats(self) -> int: ...

    @property
    def registers(self) -> int: ...


@dataclass(frozen=True)
class Site:
    """A layer where it stands, for a kind to claim or to leave."""

    network: Network
    layer: Layer
    vectors: Vectors

    @property
    def is_wide(self) -> bool:
        """Whether the channels of the image that the layer makes are worth blocks."""
        return self.layer.output.concrete_shape[1] > FEW_CHANNELS


@dataclass(frozen=True)
class Tuning:
    """How a row is computed; results differ in rounding at most.

    - `blocks` x `pixels`: the accumulators of a chunk, output-channel blocks x at most so many columns;
    - `taps`: the columns of a kernel row whose weights are held at once;
    - `unroll`: input channels per step of the inner loop; divides the channels of every block;
    - `ways`: the last output block, half empty or more, takes so many input channels at once (see narrow.py);
    - `order`: which loop is outside, over output blocks or over chunks of columns;
    - `tile`, `batch`: `winograd` makes tiles of `tile` x `tile` outputs, transforms so many at once, and multiplies
      `pixels` of them at once;
    - `edge`: the last rows, and the last columns, may be made by smaller tiles, so high or so wide; 0 for none;
    - `prefetch_in`, `prefetch_out`: prefetch rows that will be read, and rows that will be written.
    """

    blocks: int = 1
    pixels: int = 16
    taps: int = 3
    unroll: int = 1
    order: Order = "blocks"
    ways: int = 1
    tile: int = 0
    batch: int = 0
    edge: tuple[int, int] = (0, 0)
    prefetch_in: bool = False
    prefetch_out: bool = False


@dataclass(frozen=True)
class RowWork:
    """One call with all of its rows inside of the image.

    macs        multiply-accumulates of the layer that meet no padding
    vectors     multiply-adds (or maxima, additions, moves) of vectors, their empty lanes included; and stencils' loads
    loads       input columns that are loaded or broadcast
    stores      vectors that are finished: residual, activation, store
    chunks      how often a chunk of columns of a group of output blocks is begun
    transforms  operations of Winograd's transforms, as if they were multiply-adds
    again       bytes of weights that are read again and again, and what is read between two times
    """

    macs: int
    vectors: float
    loads: float
    stores: int
    chunks: int
    transforms: float = 0.0
    again: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Kind(ABC):
    """A kind of row kernel: which layers it claims, the rows it reads, its tuning, its C, its weights and its work.

    The values of a kind differ in what only that kind has, such as the groups of a convolution. A target lists its
    kinds; catalogue.py lists those of vectors.
    """

    name: ClassVar[str]
    weighted: ClassVar[bool] = False
    """It reads packed weights."""
    planar_in: ClassVar[bool] = False
    planar_out: ClassVar[bool] = False
    """It reads, or makes, planar rows instead of blocked ones."""
    lanewise: ClassVar[bool] = False
    """Output channels are made of the input channels of the same number."""
    has_window: ClassVar[bool] = True
    takes_slopes: ClassVar[bool] = True
    several_blocks: ClassVar[bool] = False
    """Its tuning may compute several output blocks at once."""
    unrolls: ClassVar[bool] = False
    """Its inner loop may take several input channels at once."""
    tall: ClassVar[int] = 1
    """The most rows that are worth computing at once; with more than one, it reads all rows between the first and the
    last."""
    follows: ClassVar[bool] = False
    """It claims only layers whose tensors are all in blocks for the sake of others."""
    joins_rows: ClassVar[bool] = False
    """It may compute the columns of several rows as if they were of one, where windows are single elements."""
    spaces_outputs: ClassVar[bool] = False
    """It may leave gaps between outputs, `RowShape.apart`."""
    streams: ClassVar[bool] = False
    """It may write past the caches."""
    prefetches_nearest: ClassVar[bool] = False
    """What it prefetches is never NULL: the row below, or the image's last one."""
    given_next_out: ClassVar[bool] = False
    """It is given the address of the rows that it writes next time."""
    has_workspace: ClassVar[bool] = False
    """A call needs memory besides rows and weights."""
    skips_rows: ClassVar[bool] = True
    """Rows outside of the image are not computed with."""
    relative_cost: ClassVar[float] = 1.1
    """A guess, until costs are fitted: a vector operation of the kind in multiply-adds of vectors at their best."""

    @property
    def groups(self) -> int:
        """The groups of channels."""
        return 1

    @property
    def priced(self) -> bool:
        """Whether another kind may be cheaper for what a group executes of a layer: see `otherwise`."""
        return False

    def otherwise(self, shape: "RowShape", vectors: Vectors) -> "Kind | None":
        """The kind that is cheaper for the kernel that computes most of a layer; None where this one is."""
        return None

    def claim(self, site: Site) -> "Kind | None":
        """The kind for a layer that it computes; None for a layer that it does not."""
        return None

    def joins(self, layer: Layer, blocked: frozenset[str], made: frozenset[str]) -> bool:
        """Whether a layer that the kind could compute makes blocks, since it reads some: of all tensors, those made."""
        return False

    def operands(self, layer: Layer) -> tuple[Tensor, ...]:
        """The tensors that the kernel of a layer reads rows of; the first one is that of the windows."""
        return layer.inputs[:1]

    def column(self, layer: Layer) -> Tensor | None:
        """The operand, if any, of which every execution reads the same column."""
        return None

    def in_channels(self, layer: Layer) -> int:
        """The input channels that the kernel of a layer reads."""
        return layer.inputs[0].concrete_shape[1]

    def tallest(self, layer: Layer, vectors: Vectors) -> int:
        """How many rows of a layer are worth computing at once."""
        return self.tall

    def placed(self, padding: tuple[int, int], outside: tuple[int, int], pitches: Sequence[int]) -> "Kind":
        """The kind for a strip of rows.

        `padding` is the layer's on the left and on the right, `outside` what of it the strip reaches; `pitches` are
        those of the operands' arrays.
        """
        return self

    def check(self, shape: "RowShape") -> None:
        """Errors: InvalidInput for a shape that the kind does not compute."""
        where = f"row kernel {shape.name!r}"
        if self.lanewise and shape.in_channels != shape.out_channels:
            raise InvalidInput(
                f"{where}: {self.name} expects as many channels in as out, "
                f"got {shape.in_channels} and {shape.out_channels}"
            )
        if shape.height != 1 and self.tall == 1 and not (shape.joins_rows and shape.apart == 1):
            raise InvalidInput(f"{where}: only stencil, winograd and pointwise direct make {shape.height} rows at once")
        if shape.has_slopes and not self.takes_slopes:
            raise InvalidInput(f"{where}: prelu expects blocked rows, {self.name} makes or reads others")
        if shape.apart != 1 and not self.spaces_outputs:
            raise InvalidInput(f"{where}: only direct puts outputs {shape.apart} columns apart")
        if not self.has_window and (shape.span != shape.columns or any(shape.outside)):
            raise InvalidInput(f"{where}: {self.name} expects no window, got kernel {shape.kernel}")

    def rows_read(self, shape: "RowShape") -> int:
        """How many input rows the caller points at (of each input channel where the input is planar)."""
        rows = shape.kernel[0]
        return shape.height - 1 + shape.dilation * (rows - 1) + 1 if self.tall > 1 else rows

    def row_uses(self, shape: "RowShape") -> tuple[int, ...]:
        """For each row of one operand and channel, how many output rows times taps read it."""
        return (1,) * shape.rows_read

    def prefetches_in(self, shape: "RowShape", is_large: bool) -> bool:
        """Whether rows that come straight from memory, of a large array or not, are prefetched."""
        return False

    def prefetches_out(self, shape: "RowShape", is_large: bool) -> bool:
        """Whether rows that go straight to memory are prefetched."""
        return False

    def floats(self, shape: "RowShape", vectors: Vectors) -> int:
        """The floats of the vectors that suit a shape."""
        return vectors.floats

    def tuning(self, shape: "RowShape", vectors: Vectors) -> Tuning:
        """A good tuning of a shape."""
        return Tuning(pixels=64)

    def check_tuning(self, shape: "RowShape", tuning: Tuning, floats: int) -> None:
        """Errors: InvalidInput for a tuning that does not suit the shape."""
        where = f"row kernel {shape.name!r}"
        if min(tuning.blocks, tuning.pixels, tuning.taps, tuning.unroll) < 1:
            raise InvalidInput(f"{where}: expected numbers of at least 1, got {tuning}")
        self.check_tiles(where, tuning)
        most = self.most_ways(shape, floats)
        if tuning.ways > 1 and most % tuning.ways:
            raise InvalidInput(f"{where}: {tuning.ways} ways do not fit, at most {most}; set ways=1")
        out_blocks = len(block_sizes(shape.out_channels // self.groups, floats)) - (tuning.ways > 1)
        if out_blocks % tuning.blocks or (tuning.blocks > 1 and not self.several_blocks):
            raise InvalidInput(
                f"{where}: expected a number of blocks that divides {out_blocks} blocks of {floats} output channels, "
                f"got {tuning.blocks}"
            )
        self.check_unroll(where, shape, tuning, floats)

    def check_tiles(self, where: str, tuning: Tuning) -> None:
        """Errors: InvalidInput for tiles that the kind has not."""
        if tuning.tile or tuning.batch or any(tuning.edge):
            raise InvalidInput(f"{where}: {self.name} has no tiles, got {tuning}; leave tile, batch and edge at 0")

    def check_unroll(self, where: str, shape: "RowShape", tuning: Tuning, floats: int) -> None:
        """Errors: InvalidInput for channels at once that the kind does not take, or that do not divide every block."""
        sizes = block_sizes(shape.in_channels // self.groups, floats)
        if tuning.unroll > 1 and not self.unrolls:
            raise InvalidInput(f"{where}: only direct convolution unrolls over input channels; set unroll=1")
        if any(size % tuning.unroll for size in sizes):
            raise InvalidInput(
                f"{where}: {tuning.unroll} channels at once do not divide blocks of {sizes} input channels"
            )

    def most_ways(self, shape: "RowShape", floats: int) -> int:
        """Into how many parts the input channels can be shared out in the last output block."""
        return 1

    @abstractmethod
    def functions(self, shape: "RowShape", tuning: Tuning, floats: int) -> list[str]:
        """The C of a kernel: functions, of which the last is the row kernel."""

    def header(self, shape: "RowShape", tuning: Tuning, floats: int) -> list[str]:
        """What the comment above a kernel says of its weights and its loops."""
        return []

    def workspace_bytes(self, shape: "RowShape", tuning: Tuning, floats: int) -> int:
        """What a call needs besides rows and weights."""
        return 0

    def weights_shape(self, shape: "RowShape") -> tuple[int, ...]:
        """The weights `[out channel, in channel of its group, kernel row, tap]`."""
        return (shape.out_channels, shape.in_channels // self.groups, *shape.kernel)

    def packed(self, shape: "RowShape", tuning: Tuning, floats: int, weights: Floats) -> Floats:
        """The weights, flat, in the order in which the kernel reads them."""
        raise InvalidInput(f"row kernel {shape.name!r}: {self.name} has no weights")

    def weight_bytes(self, shape: "RowShape", tuning: Tuning, floats: int) -> int:
        """The bytes of weights that a call reads, without what fills up blocks."""
        return FLOAT.bytes * int(np.prod(self.weights_shape(shape)))

    def work(self, shape: "RowShape", tuning: Tuning, floats: int) -> RowWork:
        """The work of one call without its activation; of kinds without a window, a vector of each operand a vector."""
        blocks = len(block_sizes(shape.out_channels, floats))
        vectors = shape.columns * blocks
        return RowWork(0, vectors, shape.rows_read * vectors, vectors, blocks)

    def vectors_once(self, shape: "RowShape", tuning: Tuning, floats: int) -> float:
        """What a run adds to the vectors of all calls: weights that come from memory once."""
        return 0.0


@dataclass(frozen=True)
class RowShape:
    """One row of a layer, `columns` outputs wide (kinds that make several rows at once: `height` rows).

    - `kernel` is (rows, columns); `stride` and `dilation` are those along columns: rows are the caller's, by pointers.
    - `outside` is how many columns of the first window lie left, and of the last window right, of what there is to
      read. They are not read, whatever the weight.
    - `in_pitch`, `out_pitch`, `residual_pitch` are the columns from one channel block to the next; 0 means no gap.
    - `activation` is one of the network's, or `prelu`, whose slopes, one for each channel, lie behind the bias.
    - `residual` adds a row like the output's before or after the activation.
    - `stream`: the blocked row, at an address that suits a vector, is written past the caches where the machine can.
    - `apart`: the outputs are so many columns of `out` and `residual` apart, and what lies between is not touched.
    """

    name: str
    kind: Kind
    in_channels: int
    out_channels: int
    columns: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    dilation: int = 1
    outside: tuple[int, int] = (0, 0)
    in_pitch: int = 0
    out_pitch: int = 0
    residual_pitch: int = 0
    bias: bool = True
    activation: str | Sequence[object] | None = None
    residual: Residual = "none"
    height: int = 1
    stream: bool = False
    apart: int = 1

    def __post_init__(self) -> None:
        where = f"row kernel {self.name!r}"
        if not IDENTIFIER.fullmatch(self.name) or "__" in self.name:
            raise InvalidInput(f"{where}: expected a C identifier without double underscores")
        sizes = (self.in_channels, self.out_channels, self.columns, *self.kernel, self.stride, self.dilation)
        if min(*sizes, self.kind.groups, self.height) < 1 or min(self.outside) < 0:
            raise InvalidInput(f"{where}: expected sizes of at least 1, got {self}")
        if self.in_columns < 1:
            raise InvalidInput(f"{where}: all {self.span} columns it reads are outside; it has no input")
        self.kind.check(self)
        for side, pitch, columns in (("in", self.in_pitch, self.in_columns), ("out", self.out_pitch, self.out_span),
                                     ("residual", self.residual_pitch, self.out_span)):  # fmt: skip
            check_pitch(where, side, pitch, columns)

    def with_pitches(self) -> "RowShape":
        """The shape with blocks side by side where no pitch was given."""
        return replace(
            self,
            in_pitch=self.in_pitch or self.in_columns,
            out_pitch=self.out_pitch or self.out_span,
            residual_pitch=self.residual_pitch or self.out_span,
        )

    @property
    def is_pointwise(self) -> bool:
        """Whether its windows are single elements that are all inside."""
        return self.kernel == (1, 1) and self.outside == (0, 0)

    @property
    def joins_rows(self) -> bool:
        """Whether the columns of several rows are computed as if they were of one."""
        return self.height > 1 and self.kind.joins_rows and self.is_pointwise

    @property
    def has_slopes(self) -> bool:
        """Whether negative values are multiplied by a slope for each channel."""
        return self.activation == PRELU

    @property
    def reads_bias(self) -> bool:
        """Whether there is a bias, or something behind it."""
        return self.bias or self.has_slopes

    @property
    def reach(self) -> int:
        """The columns that a window spans."""
        return self.dilation * (self.kernel[1] - 1) + 1

    @property
    def span(self) -> int:
        """The columns that all windows of the row span, those outside included."""
        return self.stride * (self.columns - 1) + self.reach

    @property
    def out_span(self) -> int:
        """The columns that the outputs span."""
        return self.apart * (self.columns - 1) + 1

    @property
    def in_columns(self) -> int:
        """The columns that are read."""
        return self.span - sum(self.outside)

    @property
    def rows_read(self) -> int:
        """How many input rows the caller points at (of each input channel where the input is planar)."""
        return self.kind.rows_read(self)


def is_thin(network: Network, tensor: Tensor) -> bool:
    """Whether a tensor is an input of few channels."""
    return tensor in network.inputs and len(tensor.shape) == 4 and tensor.concrete_shape[1] <= FEW_CHANNELS


def check_pitch(where: str, side: str, pitch: int, columns: int) -> None:
    """Errors: InvalidInput for a pitch, if not 0, of fewer columns than a row has."""
    if pitch and pitch < columns:
        raise InvalidInput(f"{where}: expected a pitch of at least {columns} columns {side}, got {pitch}")


def balanced(total: int, most: int) -> tuple[int, ...]:
    """`total` in as few parts of at most `most` as possible, which differ by one at most.

    >>> balanced(34, 26), balanced(56, 26)
    ((17, 17), (19, 19, 18))
    """
    count = -(-total // most)
    return tuple(total // count + (k < total % count) for k in range(count))


def block_sizes(channels: int, floats: int) -> tuple[int, ...]:
    """The channels in each block.

    >>> block_sizes(24, 16)
    (16, 8)
    """
    return tuple(min(floats, channels - low) for low in range(0, channels, floats))


def filled(values: Floats, floats: int) -> Floats:
    """Values with zeros behind them along the first axis, up to whole blocks."""
    missing = -values.shape[0] % floats
    return np.pad(values, [(0, missing), *((0, 0) for _ in values.shape[1:])])
