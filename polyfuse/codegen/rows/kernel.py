"""The row kernel of a shape: C text with one entry, the same signature for every kind.

    void NAME(const float *const *in, const float *weights, const float *bias, const float *const *residual,
              float *const *out, ptrdiff_t from, ptrdiff_t to, const float *next_in, float *next_out,
              float *workspace)

- `in`: the rows that are read. Blocked, one for each kernel row, top to bottom; `add` and `mul`: their two operands;
  `few_channels` and `to_blocked`: planar, `in[channel * kernel rows + kernel row]`; `stencil`: planar, top to bottom.
  of a second operand that is spread, the column itself.
  NULL is a row outside the image: it is not read. A row of zeros gives the same but for infinite weights and maxima.
- `weights`, `bias`: as packed by pack.py, the bias filled up with zeros to whole blocks; not read where there is none.
  Behind it are the slopes of `prelu`, filled up alike.
- `out`, `residual`: the row (`stencil`: the `height` rows; `to_planar`: one for each channel).
- `winograd`: `in` are height + 2 rows, `out` and `residual` height rows.
- `workspace`: `RowKernel.workspace_bytes` at a cache line, for this call alone; may be NULL where that is 0.
- `from`: the column of `in` that the first column of the first window falls on: negative where that is outside.
  `to`: the column of `out` and of `residual` that is computed first.
- `next_in`: rows of the same form that are needed soon, with `Tuning.prefetch_in`; else it may be NULL. `stencil`,
  `few_channels`, `winograd`: the row that will be the first one next time, the others as far below theirs, or NULL.
- `next_out`: the same of rows that `stencil` writes, with `prefetch_out`. `winograd` then prefetches rows of `out`; no
  other kind prefetches what it writes.

Row pointers need the alignment of a float, those of a streamed row that of a vector; blocked rows aligned to a vector
are faster. `out` overlaps nothing that is read, except that `residual` may be `out` itself (at one pitch) where the
activation runs on vectors.
Lanes that fill up the last block of output channels are of no meaning; no kernel lets them reach a channel.
"""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from polyfuse.codegen.c.text import comment
from polyfuse.codegen.rows.activation import activation_vectors
from polyfuse.codegen.rows.shape import RowShape, RowWork, Tuning, Vectors
from polyfuse.codegen.rows.text import prelude
from polyfuse.network.activation import Activation


@dataclass(frozen=True)
class RowKernel:
    """A row kernel: what it computes, how, and with vectors of how many floats. Its C is printed when it is asked for.

    `text` needs `prelude(floats)` before it, once a file, and `source` has it.
    """

    shape: RowShape
    tuning: Tuning
    floats: int

    @property
    def name(self) -> str:
        """The entry."""
        return self.shape.name

    @property
    def workspace_bytes(self) -> int:
        """What a call needs besides rows and weights: each thread provides its own."""
        return self.shape.kind.workspace_bytes(self.shape, self.tuning, self.floats)

    @cached_property
    def text(self) -> str:
        """The functions, of which the last is the entry."""
        part = self.shape, self.tuning, self.floats
        return "\n".join([*comment(header(*part)), *self.shape.kind.functions(*part), ""])

    @property
    def source(self) -> str:
        """A C file of its own."""
        return f"{prelude(self.floats)}\n{self.text}"


def row_kernel(shape: RowShape, vectors: Vectors, tuning: Tuning | None = None) -> RowKernel:
    """The kernel of a shape for the vectors of a machine; the usual tuning of its kind unless one is given.

    Errors: InvalidInput where the tuning does not suit the shape, or there is no such activation.

    >>> from polyfuse.codegen.rows.direct import Direct
    >>> from polyfuse.codegen.target import Target
    >>> shape = RowShape("conv1", Direct(), 16, 16, 4, kernel=(3, 3), outside=(1, 1))
    >>> print(row_kernel(shape, Target(4, 16)).text.splitlines()[0])
    /* conv1: direct 3x3, 16 -> 16 channels, 4 columns, outside 1 and 1
    """
    shape = shape.with_pitches()
    used = shape.kind.tuning(shape, vectors) if tuning is None else tuning
    shape.kind.check_tuning(shape, used, vectors.floats)
    if shape.activation is not None and not shape.has_slopes:
        Activation.of(shape.activation)
    return RowKernel(shape, used, vectors.floats)


def header(shape: RowShape, tuning: Tuning, v: int) -> list[str]:
    """What the comment above a kernel says: the shape, the layout, and what its kind adds."""
    kernel = f" {shape.kernel[0]}x{shape.kernel[1]}"
    numbers = {"stride": shape.stride, "dilation": shape.dilation, "groups": shape.kind.groups, "height": shape.height}
    steps = [f"{name} {number}" for name, number in numbers.items() if number != 1]
    channels = f"{shape.in_channels} -> {shape.out_channels} channels"
    outside = [f"outside {shape.outside[0]} and {shape.outside[1]}"] if any(shape.outside) else []
    return [
        f"{shape.name}: "
        + ", ".join([shape.kind.name + kernel, *steps, channels, f"{shape.columns} columns", *outside]),
        f"layout [block][column][{v}], blocks {shape.in_pitch} columns apart in, {shape.out_pitch} out"
        + (f", {shape.residual_pitch} residual" if shape.residual != "none" else ""),
        f"bias {'yes' if shape.bias else 'no'}, activation {shape.activation or 'none'}, residual {shape.residual}",
        *shape.kind.header(shape, tuning, v),
    ]


@lru_cache(maxsize=4096)
def row_work(shape: RowShape, tuning: Tuning, floats: int) -> RowWork:
    """The work of one call, in operations on whole vectors.

    Activations count among its vectors where they take many operations.

    >>> from polyfuse.codegen.rows.direct import Direct
    >>> shape = RowShape("conv", Direct(), 16, 24, 4, kernel=(3, 3), outside=(1, 1))
    >>> row_work(shape, Tuning(pixels=4, ways=2), 16)
    RowWork(macs=11520, vectors=720.0, loads=288.0, stores=8, chunks=2, transforms=0.0, again=())
    """
    work = shape.kind.work(shape, tuning, floats)
    return replace(work, vectors=work.vectors + work.stores * activation_vectors(shape, floats))
