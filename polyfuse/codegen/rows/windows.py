"""Lane by lane over a window: depthwise convolution, maximum and mean, of blocked rows.

    for each channel block, for each chunk of columns:       accumulators a<pixel> = bias, -infinity or 0
      for each kernel row:                                   the weights of its taps in registers
        for each input column: load it once, and combine it with every accumulator it belongs to

A column that lies outside the image has no code; a kernel row whose pointer is NULL is skipped, and does not count in
the divisor of a mean. Means of rows too wide to be unrolled are a loop over columns, into several accumulators.

    weights of a depthwise convolution  [block][kernel row][tap][V]
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from polyfuse.codegen.c.text import braces, listed
from polyfuse.codegen.rows.accumulate import first_column, pointers
from polyfuse.codegen.rows.activation import finished, finished_later
from polyfuse.codegen.rows.chunked import Chunked, blocks_of_weights
from polyfuse.codegen.rows.chunks import Chunk, chunks, reads, taps_inside, uses
from polyfuse.codegen.rows.folds import MOST, Folds
from polyfuse.codegen.rows.shape import (
    WIDEST_WINDOW,
    Floats,
    Kind,
    RowShape,
    RowWork,
    Site,
    Tuning,
    Vectors,
    block_sizes,
)
from polyfuse.codegen.rows.text import LINE
from polyfuse.errors import InvalidInput
from polyfuse.network.layer import Layer
from polyfuse.network.operator import Affine, Conv, GlobalPool, Pool
from polyfuse.network.tensor import Tensor
from polyfuse.network.window import Window

AT_ONCE = 4
"""The accumulators of the mean of a wide row: additions follow each other four cycles apart."""


class Windowed(Chunked):
    """Windows of every channel by itself. A kind says how an element is combined with an accumulator."""

    lanewise = True
    start = "0.0f"
    vectors_each = 1
    """Operations on vectors for each element."""

    def accumulators(self, shape: RowShape, chunk: Chunk) -> int:
        """The accumulators of a chunk."""
        return chunk.pixels

    def terms(self, shape: RowShape) -> int:
        """The elements of a kernel row that are added up in one accumulator; 0 where nothing is added up."""
        return shape.kernel[1]

    def row(self, shape: RowShape, folds: Folds, chunk: Chunk) -> list[str]:
        """One kernel row, `x`, into the accumulators."""
        lines = []
        for column, pairs in uses(shape, chunk, range(shape.kernel[1])):
            load = f"vec{folds.floats} x{column} = GET{folds.floats}(x, {(column - chunk.left) * folds.floats});"
            keep = f" KEEP{folds.floats}(x{column});" if len(pairs) > 1 else ""
            combined = " ".join(self.combined(folds.floats, column, p, t) for p, t in pairs)
            lines.append(f"{load}{keep}{self.noted(folds.floats, column)} {combined}")
        return lines

    @abstractmethod
    def combined(self, v: int, column: int, pixel: int, tap: int) -> str:
        """One element into one accumulator."""

    def noted(self, v: int, column: int) -> str:
        """What is noted of an element before it is combined."""
        return ""

    def begun(self, shape: RowShape, v: int, chunk: Chunk) -> list[str]:
        """What comes before the loop over kernel rows."""
        return []

    def row_begun(self, shape: RowShape, v: int, chunk: Chunk) -> list[str]:
        """What comes before the elements of a kernel row."""
        return []

    def ended(self, shape: RowShape, v: int, chunk: Chunk) -> list[str]:
        """What is done with the accumulators in the end."""
        return []

    def chunk(self, shape: RowShape, tuning: Tuning, floats: int, chunk: Chunk) -> list[str]:
        v, kh = floats, shape.kernel[0]
        count = self.accumulators(shape, chunk)
        first = f"GET{v}(bias, group * {v})" if self.weighted and shape.bias else f"SPLAT{v}({self.start})"
        folds = Folds([f"a{p}" for p in range(count)], v, kh * self.terms(shape))
        lines = [f"const vec{v} b0 = {first};", *listed(f"vec{v} ", (f"a{p} = b0" for p in range(count)))]
        lines += self.begun(shape, v, chunk)
        place = f"(group * (ptrdiff_t){shape.in_pitch} + {first_column(chunk)}) * {v}"
        if tuning.prefetch_in and reads(shape, chunk):
            lines.append(f"const float *ahead = next_in + {place};")
        if reads(shape, chunk) or not self.weighted:
            row = [
                *folds.at("kh", max(1, self.terms(shape))),
                *braces("if (!in[kh])", ["continue;"]),
                f"const float *x = in[kh] + {place};",
                *self.row_begun(shape, v, chunk),
                *(_prefetched(shape, v, chunk) if tuning.prefetch_in else []),
                *self.row(shape, folds, chunk),
            ]
            lines += folds.around(braces(f"for (int kh = 0; kh < {kh}; kh++)", row))
        lines += [*self.ended(shape, v, chunk), *pointers(shape, v, "group")]
        for p in range(chunk.pixels):
            lines += finished(shape, f"a{p}", v, str(p * v))
        return [*lines, *finished_later(shape, chunk.pixels, v)]

    def work(self, shape: RowShape, tuning: Tuning, floats: int) -> RowWork:
        blocks, rows = len(block_sizes(shape.out_channels, floats)), shape.kernel[0]
        cut = chunks(shape, tuning.pixels)
        columns = sum(len(uses(shape, chunk, range(shape.kernel[1]))) for chunk in cut)
        taps = taps_inside(shape)
        macs = taps * rows * shape.out_channels if self.weighted else 0
        vectors = blocks * rows * taps * self.vectors_each
        return RowWork(macs, vectors, blocks * rows * columns, blocks * shape.columns, blocks * len(cut))


@dataclass(frozen=True)
class Depthwise(Windowed):
    """Convolutions in as many groups as channels; scale and shift of each channel are windows of 1x1."""

    name = "depthwise"
    weighted = True

    def claim(self, site: Site) -> Kind | None:
        layer = site.layer
        match layer.operator:
            case Conv(window=window, groups=groups) if window.kernel[1] <= WIDEST_WINDOW and groups > 1:
                made = layer.output.concrete_shape[1]
                return self if groups == layer.inputs[0].concrete_shape[1] == made else None
            case Affine() if len(layer.weights) == 2 and site.is_wide:
                same = all(tensor.shape == layer.output.shape for tensor in layer.inputs)
                return self if same and all(is_per_channel(layer, weight) for weight in layer.weights) else None
        return None

    def tuning(self, shape: RowShape, vectors: Vectors) -> Tuning:
        small = shape.kernel[1] <= 3 or vectors.registers < 32
        return Tuning(pixels=16 if not small else 10 if shape.stride == 1 else 8)

    def weights_shape(self, shape: RowShape) -> tuple[int, ...]:
        return (shape.out_channels, 1, *shape.kernel)

    def header(self, shape: RowShape, tuning: Tuning, floats: int) -> list[str]:
        return [f"weights [block][row][tap][{floats}]", *super().header(shape, tuning, floats)]

    def packed(self, shape: RowShape, tuning: Tuning, floats: int, weights: Floats) -> Floats:
        blocks = blocks_of_weights(weights, floats)
        return np.ascontiguousarray(blocks[:, :, 0].transpose(0, 2, 3, 1)).reshape(-1)

    def begun(self, shape: RowShape, v: int, chunk: Chunk) -> list[str]:
        size = shape.kernel[0] * shape.kernel[1] * v
        return [f"const float *w = weights + (ptrdiff_t)group * {size};"] if reads(shape, chunk) else []

    def row_begun(self, shape: RowShape, v: int, chunk: Chunk) -> list[str]:
        kw = shape.kernel[1]
        used = sorted({t for _, pairs in uses(shape, chunk, range(kw)) for _, t in pairs})
        return [f"vec{v} w{t} = GET{v}(w, (kh * {kw} + {t}) * {v}); KEEP{v}(w{t});" for t in used]

    def combined(self, v: int, column: int, pixel: int, tap: int) -> str:
        return f"a{pixel} += w{tap} * x{column};"


class Pooled(Windowed):
    """Maxima and means."""

    def tuning(self, shape: RowShape, vectors: Vectors) -> Tuning:
        return Tuning(pixels=vectors.registers // 4)

    def check(self, shape: RowShape) -> None:
        super().check(shape)
        if max(shape.outside) >= shape.reach:
            where = f"row kernel {shape.name!r}"
            raise InvalidInput(f"{where}: a window is all outside; expected padding smaller than it")


@dataclass(frozen=True)
class MaxPool(Pooled):
    """Maxima of windows."""

    name = "max_pool"
    relative_cost = 1.5
    start = "-INFINITY"
    vectors_each = 2

    def claim(self, site: Site) -> Kind | None:
        match site.layer.operator:
            case Pool(how="max", window=window) if window.kernel[1] <= WIDEST_WINDOW and site.is_wide:
                return self
        return None

    def terms(self, shape: RowShape) -> int:
        return 0

    def noted(self, v: int, column: int) -> str:
        return f" mask{v} n{column} = x{column} != x{column};"

    def combined(self, v: int, column: int, pixel: int, tap: int) -> str:
        """NaN stays, whichever of the two it is."""
        return f"AT_LEAST{v}(a{pixel}, x{column}); a{pixel} = SELECT{v}(n{column}, x{column}, a{pixel});"


@dataclass(frozen=True)
class AveragePool(Pooled):
    """Means of windows: `counted` of the columns outside, on either side, count in the divisor."""

    counted: tuple[int, int] = (0, 0)
    counts_padding: bool = False

    name = "average_pool"

    def claim(self, site: Site) -> Kind | None:
        """Not those whose divisor counts rows that are not there."""
        if not site.is_wide:
            return None
        match site.layer.operator:
            case GlobalPool():
                return self
            case Pool(window=Window(padding=(0, _, 0, _), kernel=(_, wide)), how="average", counts_padding=True):
                return replace(self, counts_padding=True) if wide <= WIDEST_WINDOW else None
            case Pool(window=window, how="average", counts_padding=False) if window.kernel[1] <= WIDEST_WINDOW:
                return self
        return None

    def placed(self, padding: tuple[int, int], outside: tuple[int, int], pitches: Sequence[int]) -> Kind:
        left, right = (min(each) for each in zip(outside, padding, strict=True))
        return AveragePool((left, right) if self.counts_padding else (0, 0))

    def check(self, shape: RowShape) -> None:
        super().check(shape)
        if min(self.counted) < 0:
            raise InvalidInput(f"row kernel {shape.name!r}: expected counts of at least 0, got {self.counted}")
        if shape.columns == 1 and shape.kernel[1] > WIDEST_WINDOW and any(shape.outside):
            raise InvalidInput(f"row kernel {shape.name!r}: expected a mean of whole rows, got {shape.outside} outside")

    def accumulators(self, shape: RowShape, chunk: Chunk) -> int:
        return AT_ONCE if is_wide(shape) else chunk.pixels

    def terms(self, shape: RowShape) -> int:
        return -(-shape.kernel[1] // (AT_ONCE if is_wide(shape) else 1))

    def begun(self, shape: RowShape, v: int, chunk: Chunk) -> list[str]:
        return ["int rows = 0;"]

    def row_begun(self, shape: RowShape, v: int, chunk: Chunk) -> list[str]:
        return ["rows++;"]

    def row(self, shape: RowShape, folds: Folds, chunk: Chunk) -> list[str]:
        return _wide_row(shape.kernel[1], folds) if is_wide(shape) else super().row(shape, folds, chunk)

    def combined(self, v: int, column: int, pixel: int, tap: int) -> str:
        return f"a{pixel} += x{column};"

    def ended(self, shape: RowShape, v: int, chunk: Chunk) -> list[str]:
        """Accumulators over the number of elements: rows pointed at, times columns read or counted."""
        low, high = shape.outside[0] - self.counted[0], shape.span - shape.outside[1] + self.counted[1]
        firsts = (shape.stride * (chunk.first + p) for p in range(chunk.pixels))
        taps = [shape.dilation * t for t in range(shape.kernel[1])]
        divisors = [max(1, sum(low <= first + tap < high for tap in taps)) for first in firsts]
        return [
            *([f"a0 += {' + '.join(f'a{k}' for k in range(1, AT_ONCE))};"] if is_wide(shape) else []),
            *(f"const float over{d} = 1.0f / (float)(rows * {d});" for d in sorted(set(divisors))),
            *(f"a{p} *= SPLAT{v}(over{d});" for p, d in enumerate(divisors)),
        ]


def is_per_channel(layer: Layer, weight: Tensor) -> bool:
    """Whether a weight that is broadcast to images has one value for each channel, or one for all."""
    whole = (1,) * (4 - len(weight.shape)) + weight.concrete_shape
    return whole in ((1, layer.output.concrete_shape[1], 1, 1), (1, 1, 1, 1))


def is_wide(shape: RowShape) -> bool:
    """Whether a mean is of whole rows too wide to be unrolled."""
    return shape.columns == 1 and shape.kernel[1] > WIDEST_WINDOW


def _prefetched(shape: RowShape, v: int, chunk: Chunk) -> list[str]:
    """A share of the columns that are read next time, with every kernel row."""
    each = -(-chunk.pixels * shape.stride * v // (LINE * shape.kernel[0]))
    return [f"__builtin_prefetch(ahead + (kh * {each} + {k}) * {LINE}, 0);" for k in range(each)]


def _wide_row(columns: int, folds: Folds) -> list[str]:
    """All columns of a row, several at once."""
    v, whole = folds.floats, columns - columns % AT_ONCE
    loop = folds.at(f"(column / {AT_ONCE})", 1, nested=True) if columns > MOST * AT_ONCE else []
    loop += [f"a{k} += GET{v}(x, (column + {k}) * {v});" for k in range(AT_ONCE)]
    rest = [f"a{k} += GET{v}(x, {(whole + k) * v});" for k in range(columns % AT_ONCE)]
    return [*braces(f"for (int column = 0; column < {whole}; column += {AT_ONCE})", loop), *rest]
