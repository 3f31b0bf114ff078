"""FSRCNN as published: PReLUs, and a transposed convolution of 9x9 that doubles rows and columns.

Dong et al., "Accelerating the Super-Resolution Convolutional Neural Network" (ECCV 2016), FSRCNN(56, 12, 4) for a
factor of two; every convolution keeps the size of its image.
"""

from polyfuse.network.network import Builder, Network

LAYERS = ((56, 5), (12, 1), (12, 3), (12, 3), (12, 3), (12, 3), (56, 1))
"""Output channels and kernel of each convolution."""


def network(rows: int = 270, columns: int = 480, batch: int = 1) -> Network:
    """`x[batch, 1, rows, columns]` to twice as many rows and columns."""
    build = Builder("fsrcnn_x2")
    x = build.input("x", (batch, 1, rows, columns))
    for k, (channels, kernel) in enumerate(LAYERS, 1):
        x = build.prelu(f"prelu{k}", build.conv(f"conv{k}", x, channels, kernel=kernel, padding=kernel // 2))
    return build.network(build.conv_transpose("wider", x, 1, kernel=9, stride=2, padding=4, output_padding=1))
