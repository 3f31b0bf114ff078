"""Share of the peak that row kernels reach: `python -m polyfuse.bench.rows`.

The peak is that of chains of independent fused multiply-adds in registers, measured in the same rounds as the kernels.
Every kernel computes one row again and again, from rows that fit into L1 or L2; several rows at once, of Winograd's
convolution, may fit into L3 only. Operations counted are those of the layer: what fills up half-empty vectors does not
count. They are those of the direct algorithm also where Winograd's is used, which therefore passes the peak.
"""

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from polyfuse.bench.measure import measure
from polyfuse.choices import DEFAULT_FLAGS
from polyfuse.codegen.build import Options, compile_many, find_compiler, load
from polyfuse.codegen.c.text import braces, function
from polyfuse.codegen.kernel import aligned_copy
from polyfuse.codegen.rows.chunks import chunks, uses
from polyfuse.codegen.rows.direct import Direct
from polyfuse.codegen.rows.few_channels import FewChannels
from polyfuse.codegen.rows.kernel import RowKernel, row_kernel
from polyfuse.codegen.rows.pack import packed_bias, packed_weights
from polyfuse.codegen.rows.shape import RowShape, block_sizes
from polyfuse.codegen.rows.stencil import Stencil
from polyfuse.codegen.rows.text import NAMES, PARAMETERS, prelude
from polyfuse.codegen.rows.tune import tiled
from polyfuse.codegen.rows.windows import Depthwise
from polyfuse.codegen.rows.winograd import Winograd
from polyfuse.codegen.target import Target, probe

CALLS = 50
LINE = 16
CHAINS, STEPS = 12, 8


def shapes() -> tuple[RowShape, ...]:
    """What is measured: each kind, at usual sizes."""
    return (
        RowShape("conv3x3_64_64", Direct(), 64, 64, 56, kernel=(3, 3), outside=(1, 1), activation="relu"),
        RowShape("conv3x3_16_16", Direct(), 16, 16, 240, kernel=(3, 3), outside=(1, 1), activation="relu"),
        RowShape("conv3x3_odd_64_64", Direct(), 64, 64, 57, kernel=(3, 3), outside=(1, 1), activation="relu"),
        RowShape("conv3x3_s2_32_64", Direct(), 32, 64, 56, kernel=(3, 3), stride=2, outside=(1, 0)),
        RowShape("conv3x3_d2_32_32", Direct(), 32, 32, 56, kernel=(3, 3), dilation=2, outside=(2, 2)),
        RowShape("conv3x3_short_128_64", Direct(), 128, 64, 7, kernel=(3, 3), outside=(1, 1), activation="relu"),
        RowShape("conv5x5_16_16", Direct(), 16, 16, 112, kernel=(5, 5), outside=(2, 2), activation="relu"),
        RowShape("conv1x1_24_144", Direct(), 24, 144, 56, activation="relu6"),
        RowShape("conv1x1_32_64", Direct(), 32, 64, 112, activation="relu6"),
        RowShape("conv1x1_144_24", Direct(), 144, 24, 56, residual="before"),
        RowShape("conv1x1_256_64", Direct(), 256, 64, 56),
        RowShape("conv3x3_16_3", Direct(), 16, 3, 240, kernel=(3, 3), outside=(1, 1)),
        RowShape("dw3x3_144", Depthwise(), 144, 144, 56, kernel=(3, 3), outside=(1, 1), activation="relu6"),
        RowShape("dw3x3_32", Depthwise(), 32, 32, 112, kernel=(3, 3), outside=(1, 1), activation="relu"),
        RowShape("dw3x3_s2_64", Depthwise(), 64, 64, 56, kernel=(3, 3), stride=2, outside=(1, 0), activation="relu6"),
        RowShape("dw3x3_s2_16", Depthwise(), 16, 16, 56, kernel=(3, 3), stride=2, outside=(1, 0), activation="relu6"),
        RowShape("dw5x5_64", Depthwise(), 64, 64, 56, kernel=(5, 5), outside=(2, 2), activation="relu6"),
        RowShape("dw5x5_s2_64", Depthwise(), 64, 64, 28, kernel=(5, 5), stride=2, outside=(2, 1), activation="relu6"),
        RowShape("first3x3_s2_3_32", FewChannels(), 3, 32, 112, kernel=(3, 3), stride=2, outside=(1, 0)),
        RowShape("first3x3_3_64", FewChannels(), 3, 64, 224, kernel=(3, 3), outside=(1, 1), activation="relu"),
        RowShape("first7x7_s2_3_64", FewChannels(), 3, 64, 112, kernel=(7, 7), stride=2, outside=(3, 2)),
        RowShape("first5x5_1_56", FewChannels(), 1, 56, 240, kernel=(5, 5), outside=(2, 2)),
        RowShape("stencil3x3", Stencil(), 1, 1, 512, kernel=(3, 3), outside=(1, 1), height=8),
        RowShape("stencil3x3_relu", Stencil(), 1, 1, 512, kernel=(3, 3), outside=(1, 1), height=8, activation="relu"),
    )


def winograd_kernels(target: Target) -> list[RowKernel]:
    """Winograd's convolution with each tile that pays: channels, columns and height of usual layers."""
    sizes = [(64, 56, 6), (64, 56, 12), (64, 56, 24), (64, 224, 12), (16, 240, 6), (16, 960, 12), (128, 28, 24),
             (256, 14, 14), (24, 112, 12)]  # fmt: skip
    found = []
    for (channels, columns, height), tile in product(sizes, (4, 6)):
        name = f"winograd{tile}_{channels}_{channels}_{height}rows"
        shape = RowShape(
            f"{name}_{columns}", Winograd(), channels, channels, columns, kernel=(3, 3), outside=(1, 1), height=height,
            activation="relu",
        )  # fmt: skip
        found.append(row_kernel(shape, target, tiled(shape, target, tile)))
    return found


def operations(shape: RowShape) -> int:
    """The multiplications and additions of the direct algorithm: of the taps in columns that are inside."""
    out_channels, per_group, rows, _ = shape.kind.weights_shape(shape)
    whole = chunks(shape, shape.columns)[0]
    taps = sum(len(pairs) for _, pairs in uses(shape, whole, range(shape.kernel[1])))
    return 2 * shape.height * taps * out_channels * per_group * rows


@dataclass(frozen=True, eq=False)
class RowCalls:
    """A compiled kernel and the arrays that its row reads and writes; calling it computes the row CALLS times."""

    function: Callable[..., object]
    arguments: tuple[object, ...]
    arrays: tuple[NDArray[np.float32], ...]

    def __call__(self) -> None:
        self.function(ctypes.c_int(CALLS), *self.arguments)


def repeated(kernel: RowKernel) -> str:
    """The kernel with an entry `repeat` that calls it `count` times."""
    call = [f"for (int k = 0; k < count; k++) {kernel.name}({', '.join(NAMES)});"]
    return "\n".join([kernel.source, *function("void repeat", ("int count", *PARAMETERS), call), ""])


def prepared(kernel: RowKernel, repeat: Callable[..., object]) -> RowCalls:
    """Random rows and weights, aligned to a cache line."""
    shape, v = kernel.shape, kernel.floats
    planar_in, planar_out = shape.kind.planar_in, shape.kind.planar_out
    rows_in = shape.rows_read * (shape.in_channels if planar_in else 1)
    row_in = shape.in_columns + 1 if planar_in else len(block_sizes(shape.in_channels, v)) * shape.in_pitch * v
    rows_out = shape.height if shape.kind.tall > 1 else shape.out_channels if planar_out else 1
    row_out = shape.columns if planar_out else len(block_sizes(shape.out_channels, v)) * shape.out_pitch * v
    rows, outs, adds = staggered(rows_in, row_in), staggered(rows_out, row_out), staggered(rows_out, row_out)
    random = np.random.default_rng(0)
    w = random.standard_normal(shape.kind.weights_shape(shape)) if shape.kind.weighted else None
    weights = aligned_copy(packed_weights(kernel, w)) if w is not None else aligned(1)
    bias = aligned_copy(packed_bias(kernel, None))
    parts = (pointers(rows), address(weights), address(bias), pointers(adds), pointers(outs))
    places = (ctypes.c_ssize_t(-shape.outside[0]), ctypes.c_ssize_t(0), address(rows[0]), address(outs[0]))
    workspace = aligned(max(1, kernel.workspace_bytes // 4))
    arrays = (*rows, *outs, *adds, weights, bias, workspace)
    return RowCalls(repeat, (*parts, *places, address(workspace)), arrays)


def staggered(count: int, floats: int) -> list[NDArray[np.float32]]:
    """Rows one after the other, a cache line between them: rows that are 4096 bytes apart would hinder each other."""
    pitch = -(-floats // LINE) * LINE + LINE
    arena = aligned(count * pitch)
    return [arena[k * pitch : k * pitch + floats] for k in range(count)]


def aligned(count: int) -> NDArray[np.float32]:
    """Small random floats from a cache line's start."""
    return aligned_copy(np.random.default_rng(0).standard_normal(count).astype(np.float32))


def address(array: NDArray[np.float32]) -> ctypes.c_void_p:
    """Where an array starts."""
    return ctypes.c_void_p(array.ctypes.data)


def pointers(rows: Sequence[NDArray[np.float32]]) -> ctypes.Array[ctypes.c_void_p]:
    """An array of pointers to rows."""
    return (ctypes.c_void_p * len(rows))(*(row.ctypes.data for row in rows))


def peak_source(floats: int) -> str:
    """`peak(count, out)`: CHAINS independent chains of fused multiply-adds, STEPS * `count` long."""
    names = [f"c{k}" for k in range(CHAINS)]
    values = ", ".join(f"{name} = SPLAT{floats}({k}.0f)" for k, name in enumerate(names))
    steps = [f"{name} = {name} * m + s; KEEP{floats}({name});" for name in names] * STEPS
    body = [
        f"vec{floats} m = SPLAT{floats}(0.5f), s = SPLAT{floats}(1.0f); KEEP{floats}(m); KEEP{floats}(s);",
        f"vec{floats} {values};",
        *braces("for (int k = 0; k < count; k++)", steps),
        f"PUT{floats}(out, 0, {' + '.join(names)});",
    ]
    return "\n".join([prelude(floats), *function("void peak", ("int count", "float *out"), body), ""])


def shares(
    kernels: Sequence[RowKernel], floats: int, compiler: str | None, flags: tuple[str, ...], repeats: int
) -> Mapping[str, float]:
    """The share of the measured peak that each kernel reaches, by the fastest sample of each."""
    found = find_compiler(compiler)
    sources = [peak_source(floats), *map(repeated, kernels)]
    libraries = [load(built) for built in compile_many(sources, Options(compiler=found, flags=flags))]
    out, count = aligned(floats), 3000
    runs: dict[str, Callable[[], None]] = {}
    shares_: dict[str, float] = {}
    for kernel, library in zip(kernels, libraries[1:], strict=True):
        runs[kernel.name] = prepared(kernel, library.repeat)
    for batch in [list(runs)[k : k + 4] for k in range(0, len(runs), 4)]:
        timed = {name: runs[name] for name in batch}
        timed["peak"] = lambda: libraries[0].peak(count, address(out))
        times = measure(timed, repeats=repeats, min_seconds=0.005)
        rate = 2 * floats * CHAINS * STEPS * count / times["peak"].minimum
        for kernel in kernels:
            if kernel.name in batch:
                shares_[kernel.name] = operations(kernel.shape) * CALLS / times[kernel.name].minimum / rate
    return shares_


@click.command()
@click.option("--repeats", default=15, type=click.IntRange(1), help="Samples of each kernel.")
@click.option("--floats", type=click.Choice(["4", "8", "16"]), help="Floats of a vector; found out if not given.")
@click.option("--flag", "flags", multiple=True, help="A flag for the compiler, such as -mno-avx512f.")
@click.option("--compiler", help="gcc or clang; found if not given.")
@click.option("--only", default="", help="Kernels whose name holds this.")
def main(repeats: int, floats: str | None, flags: tuple[str, ...], compiler: str | None, only: str) -> None:
    """Print the share of the measured peak that each kind of row kernel reaches."""
    options = (*DEFAULT_FLAGS, *flags)
    target = probe(find_compiler(compiler), options)
    if floats is not None:
        target = Target(int(floats), target.registers)
    every = [*(row_kernel(shape, target) for shape in shapes()), *winograd_kernels(target)]
    kernels = [kernel for kernel in every if only in kernel.name]
    found = shares(kernels, target.floats, compiler, options, repeats)
    table = Table(title=f"share of peak, vectors of {target.floats}", box=None)
    for heading in ("kernel", "columns", "accumulators", "share of peak"):
        table.add_column(heading, justify="left" if heading == "kernel" else "right")
    for kernel in kernels:
        size = f"{kernel.tuning.blocks}x{kernel.tuning.pixels}"
        table.add_row(kernel.name, str(kernel.shape.columns), size, f"{found[kernel.name]:.0%}")
    Console().print(table)


if __name__ == "__main__":
    main()
