"""FSRCNN, a super-resolution network, as eight convolutions without padding.

Dong et al., "Accelerating the Super-Resolution Convolutional Neural Network" (ECCV 2016), in the form that DeFiNES
(Mei et al., HPCA 2023) schedules: 8,362,594,208 multiply-accumulates from 1 x 554 x 974 to 16 x 540 x 960.
"""

from polyfuse.network.network import Builder, Network

LAYERS = ((56, 5), (12, 1), (12, 3), (12, 3), (12, 3), (12, 3), (56, 1), (16, 3))
"""Output channels and kernel of each convolution."""


def network(rows: int = 540, columns: int = 960, batch: int = 1) -> Network:
    """To `y[batch, 16, rows, columns]`, from 14 more rows and columns of one channel."""
    build = Builder("fsrcnn")
    x = build.input("x", (batch, 1, rows + 14, columns + 14))
    for k, (channels, kernel) in enumerate(LAYERS, 1):
        x = build.conv(f"conv{k}", x, channels, kernel=kernel)
    return build.network(x)
