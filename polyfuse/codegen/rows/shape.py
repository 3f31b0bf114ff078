"""What a row kernel computes and how: shapes, tuning, and the columns of a chunk.

Sizes of a layer enter; `RowShape`, `Tuning` and `Chunk` leave, which the generators of C and the packing both read.

A *blocked* row holds the channels of one image row in blocks of V (`floats`), the columns of a block side by side:
`row[block][column][V]`, blocks `pitch` columns apart. A *planar* row is one channel of one image row: `row[column]`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from polyfuse.errors import InvalidInput
from polyfuse.network.tensor import IDENTIFIER

Kind = Literal[
    "direct",
    "grouped",
    "few_channels",
    "depthwise",
    "stencil",
    "winograd",
    "max_pool",
    "average_pool",
    "add",
    "mul",
    "apply",
    "lrn",
    "gather",
    "to_blocked",
    "to_planar",
]
WIDEST_WINDOW = 32
"""Windows with more columns are not unrolled."""
Residual = Literal["none", "before", "after"]
Order = Literal["blocks", "columns"]
PRELU = "prelu"
"""The activation of rows whose slopes are weights."""
WEIGHTED = ("direct", "grouped", "few_channels", "depthwise", "stencil", "winograd")
EQUAL = ("add", "mul", "apply", "lrn", "to_blocked", "to_planar")
POINTWISE = (*EQUAL, "gather")
LANEWISE = ("depthwise", "max_pool", "average_pool", *EQUAL)


@dataclass(frozen=True)
class RowShape:
    """One row of a layer, `columns` outputs wide (`stencil`, `winograd`, pointwise `direct`: `height` rows at once).

    - `kernel` is (rows, columns); `stride` and `dilation` are those along columns: rows are the caller's, by pointers.
    - `outside` is how many columns of the first window lie left, and of the last window right, of what there is to
      read. They are not read, whatever the weight; `counted` of them on either side count in the divisor of a mean.
    - `in_pitch`, `out_pitch`, `residual_pitch` are the columns from one channel block to the next; 0 means no gap.
      `second_pitch` is that of the second operand of `add` and `mul`; 0 means as in the first.
    - `spread`: the second operand of `add` or `mul` is one column, which all columns of the first are joined with.
    - `activation` is one of the network's, or `prelu`, whose slopes, one for each channel, lie behind the bias.
    - `numbers` of `lrn` are size, alpha, beta and bias.
    - `sources` of `gather` are, for each output channel, the operand and the channel that it copies; `in_channels` are
      those of both operands.
    - `residual` adds a row like the output's before or after the activation.
    - `apart`: the outputs are so many columns of `out` and `residual` apart, and what lies between is not touched.
    - `stream`: the blocked row, at an address that suits a vector, is written past the caches where the machine can.
    """

    name: str
    kind: Kind
    in_channels: int
    out_channels: int
    columns: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    outside: tuple[int, int] = (0, 0)
    counted: tuple[int, int] = (0, 0)
    in_pitch: int = 0
    out_pitch: int = 0
    residual_pitch: int = 0
    bias: bool = True
    activation: str | Sequence[object] | None = None
    residual: Residual = "none"
    height: int = 1
    second_pitch: int = 0
    spread: bool = False
    numbers: tuple[float, ...] = ()
    sources: tuple[tuple[int, int], ...] = ()
    stream: bool = False
    apart: int = 1

    def __post_init__(self) -> None:
        if not IDENTIFIER.fullmatch(self.name) or "__" in self.name:
            raise InvalidInput(f"row kernel {self.name!r}: expected a C identifier without double underscores")
        sizes = (self.in_channels, self.out_channels, self.columns, *self.kernel, self.stride, self.dilation)
        if min(*sizes, self.groups, self.height) < 1 or min(*self.outside, *self.counted) < 0:
            raise InvalidInput(f"row kernel {self.name!r}: expected sizes of at least 1, got {self}")
        if self.in_columns < 1:
            raise InvalidInput(
                f"row kernel {self.name!r}: all {self.span} columns it reads are outside; it has no input"
            )
        if self.kind in LANEWISE and self.in_channels != self.out_channels:
            raise InvalidInput(
                f"row kernel {self.name!r}: {self.kind} expects as many channels in as out, "
                f"got {self.in_channels} and {self.out_channels}"
            )
        self._check_kind()
        self._check_pitches()

    def _check_pitches(self) -> None:
        pitches = (("in", self.in_pitch, self.in_columns), ("out", self.out_pitch, self.out_span),
                   ("residual", self.residual_pitch, self.out_span),
                   ("of the second operand", self.second_pitch, 1 if self.spread else self.columns))  # fmt: skip
        for side, pitch, columns in pitches:
            if pitch and pitch < columns:
                raise InvalidInput(
                    f"row kernel {self.name!r}: expected a pitch of at least {columns} columns {side}, got {pitch}"
                )

    def _check_kind(self) -> None:
        plain = self.stride == 1 and self.in_channels == self.out_channels == 1
        if self.kind == "stencil" and not plain:
            raise InvalidInput(
                f"row kernel {self.name!r}: a stencil expects one channel and stride 1; use few_channels instead"
            )
        if self.kind == "winograd" and (self.kernel, self.stride, self.dilation) != ((3, 3), 1, 1):
            raise InvalidInput(
                f"row kernel {self.name!r}: winograd expects kernel (3, 3), stride 1 and dilation 1; use direct instead"
            )
        dense = self.is_pointwise and self.apart == 1
        if self.height != 1 and self.kind not in ("stencil", "winograd") and not dense:
            raise InvalidInput(
                f"row kernel {self.name!r}: only stencil, winograd and pointwise direct make {self.height} rows at once"
            )
        if self.kind not in ("direct", "grouped") and self.groups != 1:
            raise InvalidInput(
                f"row kernel {self.name!r}: only direct and grouped convolution have groups, got {self.groups}; "
                "for one channel a group use depthwise, with groups=1"
            )
        if self.kind in ("stencil", "to_blocked", "to_planar") and self.has_slopes:
            raise InvalidInput(
                f"row kernel {self.name!r}: prelu expects blocked rows, {self.kind} makes or reads others"
            )
        if len(self.sources) != (self.out_channels if self.kind == "gather" else 0):
            raise InvalidInput(f"row kernel {self.name!r}: gather, and nothing else, has a source for each channel")
        if (self.kind == "lrn") != (len(self.numbers) == 4):
            raise InvalidInput(f"row kernel {self.name!r}: only lrn has numbers, size, alpha, beta and bias")
        if self.apart != 1 and self.kind != "direct":
            raise InvalidInput(f"row kernel {self.name!r}: only direct puts outputs {self.apart} columns apart")
        if self.spread and self.rows_read != 2:
            raise InvalidInput(f"row kernel {self.name!r}: {self.kind} has no second operand to spread")
        if self.kind == "average_pool" and self.columns == 1 and self.kernel[1] > WIDEST_WINDOW and any(self.outside):
            raise InvalidInput(f"row kernel {self.name!r}: expected a mean of whole rows, got {self.outside} outside")
        if self.kind.endswith("pool") and max(self.outside) >= self.reach:
            raise InvalidInput(f"row kernel {self.name!r}: a window is all outside; expected padding smaller than it")
        if self.kind in POINTWISE and (self.span != self.columns or any(self.outside)):
            raise InvalidInput(f"row kernel {self.name!r}: {self.kind} expects no window, got kernel {self.kernel}")

    @property
    def is_pointwise(self) -> bool:
        """Whether it is a convolution of single elements that are all inside."""
        return self.kind == "direct" and self.kernel == (1, 1) and self.outside == (0, 0)

    @property
    def joins_rows(self) -> bool:
        """Whether the columns of several rows are computed as if they were of one."""
        return self.is_pointwise and self.height > 1

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
        if self.kind in ("stencil", "winograd"):
            return self.height - 1 + self.dilation * (self.kernel[0] - 1) + 1
        if self.kind == "gather":
            return 1 + max(operand for operand, _ in self.sources)
        return self.height if self.joins_rows else {"add": 2, "mul": 2}.get(self.kind, self.kernel[0])


@dataclass(frozen=True)
class Target:
    """The vectors of a machine: `floats` in each, and how many `registers` hold one."""

    floats: int
    registers: int

    def __post_init__(self) -> None:
        if self.floats not in (4, 8, 16) or self.registers < 8:
            raise InvalidInput(f"vectors: expected 4, 8 or 16 floats and at least 8 registers, got {self}")


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
    - `asks_in`, `asks_out`: ask early for rows that will be read; `stencil` and `winograd` for those they will write.
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
    asks_in: bool = False
    asks_out: bool = False


@dataclass(frozen=True)
class Chunk:
    """`pixels` output columns from `first`; `left` and `right` columns of its windows are outside.

    Where rows are joined, the columns of `rows` rows from row `first` on.
    """

    first: int
    pixels: int
    left: int
    right: int
    rows: int = 1

    @property
    def variant(self) -> tuple[int, int, int]:
        """What its code depends on."""
        return self.pixels, self.left, self.right


def balanced(total: int, most: int) -> tuple[int, ...]:
    """`total` in as few parts of at most `most` as possible, which differ by one at most.

    >>> balanced(34, 26), balanced(56, 26)
    ((17, 17), (19, 19, 18))
    """
    count = -(-total // most)
    return tuple(total // count + (k < total % count) for k in range(count))


def chunks(shape: RowShape, most: int) -> tuple[Chunk, ...]:
    """The columns of a row in balanced chunks, with what of each one's windows is outside.

    >>> shape = RowShape("conv", "direct", 8, 8, 20, kernel=(3, 3), outside=(1, 1))
    >>> chunks(shape, 8)
    (Chunk(first=0, pixels=7, left=1, right=0, rows=1), Chunk(first=7, pixels=7, left=0, right=0, rows=1), \
Chunk(first=14, pixels=6, left=0, right=1, rows=1))
    """
    found, first = [], 0
    if shape.joins_rows:
        for rows in balanced(shape.height, max(1, most // shape.columns)):
            found.append(Chunk(first, rows * shape.columns, 0, 0, rows))
            first += rows
        return tuple(found)
    for pixels in balanced(shape.columns, most):
        low = shape.stride * first
        high = shape.stride * (first + pixels - 1) + shape.reach
        left = max(0, shape.outside[0] - low)
        right = max(0, high - (shape.span - shape.outside[1]))
        found.append(Chunk(first, pixels, left, right))
        first += pixels
    return tuple(found)


def runs(cut: tuple[Chunk, ...]) -> list[list[Chunk]]:
    """Neighbouring chunks of the same code."""
    found: list[list[Chunk]] = []
    for chunk in cut:
        if found and found[-1][0].variant == chunk.variant:
            found[-1].append(chunk)
        else:
            found.append([chunk])
    return found


def uses(shape: RowShape, chunk: Chunk, taps: range) -> list[tuple[int, list[tuple[int, int]]]]:
    """For each input column of a chunk that some tap reads: the column, and its (pixel, tap) pairs.

    Columns count from the first column of the chunk's first window; those outside are left out. Where rows are joined,
    they are numbered like the pixels.

    >>> shape = RowShape("conv", "direct", 8, 8, 2, kernel=(1, 3), stride=2, outside=(1, 0))
    >>> uses(shape, chunks(shape, 8)[0], range(3))
    [(1, [(0, 1)]), (2, [(0, 2), (1, 0)]), (3, [(1, 1)]), (4, [(1, 2)])]
    """
    if shape.joins_rows:
        return [(pixel, [(pixel, 0)]) for pixel in range(chunk.pixels)]
    found: dict[int, list[tuple[int, int]]] = {}
    end = shape.stride * (chunk.pixels - 1) + shape.reach - chunk.right
    for pixel in range(chunk.pixels):
        for tap in taps:
            column = shape.stride * pixel + shape.dilation * tap
            if chunk.left <= column < end:
                found.setdefault(column, []).append((pixel, tap))
    return sorted(found.items())


def reads(shape: RowShape, chunk: Chunk) -> bool:
    """Whether any window of the chunk reaches a column that is inside."""
    return bool(uses(shape, chunk, range(shape.kernel[1])))


def tap_groups(shape: RowShape, tuning: Tuning) -> tuple[range, ...]:
    """The columns of a kernel row in groups whose weights are held at once."""
    groups, first = [], 0
    for count in balanced(shape.kernel[1], tuning.taps):
        groups.append(range(first, first + count))
        first += count
    return tuple(groups)


def block_sizes(channels: int, floats: int) -> tuple[int, ...]:
    """The channels in each block.

    >>> block_sizes(24, 16)
    (16, 8)
    """
    return tuple(min(floats, channels - low) for low in range(0, channels, floats))
