"""The generated scalar C compared with loops written by hand: `python docs/measured/handwritten.py` prints the ratios.

Both hand-written forms are one convolution layer, NCHW, padding as bounds of the loops, compiled with the same flags:
*obvious* sums over channels and taps for each output; *by rows* adds one tap at a time to a row of outputs.
"""

import ctypes
from collections.abc import Callable, Iterator

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from polyfuse.bench.measure import measure
from polyfuse.codegen.build import compile_shared, load
from polyfuse.codegen.kernel import Kernel, build
from polyfuse.codegen.program import generate
from polyfuse.network.network import Builder, Network
from polyfuse.network.reference import max_relative_error, random_inputs, run
from polyfuse.schedule.groups import layer_by_layer

HEAD = """\
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
void conv(const float x[restrict C][H][W], const float w[restrict C][C][K][K], const float b[restrict C],
          float y[restrict C][H][W])
{
"""
OBVIOUS = """\
  for (int o = 0; o < C; o++)
    for (int i = 0; i < H; i++)
      for (int j = 0; j < W; j++) {
        float sum = b[o];
        for (int c = 0; c < C; c++)
          for (int k = MAX(0, P - i); k < MIN(K, H + P - i); k++)
            for (int l = MAX(0, P - j); l < MIN(K, W + P - j); l++)
              sum += w[o][c][k][l] * x[c][i + k - P][j + l - P];
        y[o][i][j] = sum;
      }
}
"""
BY_ROWS = """\
  for (int i = 0; i < H; i++)
    for (int o = 0; o < C; o++) {
      for (int j = 0; j < W; j++)
        y[o][i][j] = b[o];
      for (int c = 0; c < C; c++)
        for (int k = MAX(0, P - i); k < MIN(K, H + P - i); k++)
          for (int l = 0; l < K; l++)
            for (int j = MAX(0, P - l); j < MIN(W, W + P - l); j++)
              y[o][i][j] += w[o][c][k][l] * x[c][i + k - P][j + l - P];
    }
}
"""


def layer(channels: int, rows: int, columns: int, kernel: int) -> Network:
    """One convolution that keeps the size of its image."""
    builder = Builder("layer")
    x = builder.input("x", (1, channels, rows, columns))
    return builder.network(builder.conv("conv", x, channels, kernel=kernel, padding=kernel // 2))


def by_hand(
    body: str, kernel: Kernel, channels: int, rows: int, columns: int, taps: int
) -> tuple[NDArray[np.float32], Callable[[], None]]:
    """The output array and the call of a hand-written form, on the inputs and weights of a kernel."""
    sizes = {"C": channels, "H": rows, "W": columns, "K": taps, "P": taps // 2}
    defines = "".join(f"#define {name} {value}\n" for name, value in sizes.items())
    function = load(compile_shared(defines + HEAD + body)).conv
    out = np.full((1, channels, rows, columns), np.nan, np.float32)
    arrays = [kernel.inputs["x"], *kernel.program.network.weights.values(), out]
    return out, lambda: function(*(ctypes.c_void_p(array.ctypes.data) for array in arrays))


def rows(repeats: int) -> Iterator[tuple[str, ...]]:
    """For each layer: what it is, both ratios, and the largest error of the three forms."""
    for channels, height, width, taps in ((16, 135, 240, 3), (64, 56, 56, 3), (1, 1024, 1024, 3), (32, 56, 56, 5)):
        network = layer(channels, height, width, taps)
        kernel = build(generate(network, layer_by_layer(network), kernels="scalar"))
        inputs = random_inputs(network, 0)
        kernel.set_inputs(inputs)
        shape = (channels, height, width, taps)
        obvious, run_obvious = by_hand(OBVIOUS, kernel, *shape)
        rowwise, run_rowwise = by_hand(BY_ROWS, kernel, *shape)
        found = measure({"generated": kernel.run, "obvious": run_obvious, "by rows": run_rowwise}, repeats=repeats)
        expected = run(network, inputs)["conv_out"]
        error = max(max_relative_error(y, expected) for y in (kernel.outputs["conv_out"], obvious, rowwise))
        ratios = [f"{found[name].median / found['generated'].median:.2f}" for name in ("obvious", "by rows")]
        yield f"{taps}x{taps}, {channels} channels, {height}x{width}", *ratios, f"{error:.0e}"


@click.command()
@click.option("--repeats", default=7, type=click.IntRange(1), help="Samples of each form.")
def main(repeats: int) -> None:
    """Print how many times faster the generated scalar C is than loops written by hand."""
    table = Table("layer", "obvious / generated", "by rows / generated", "max rel error", box=None)
    for row in rows(repeats):
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    main()
