"""A context module: 3x3 convolutions whose taps lie ever further apart.

Yu and Koltun, "Multi-Scale Context Aggregation by Dilated Convolutions" (ICLR 2016): the field of view grows without
pooling, and so does the halo of a tile.
"""

from polyfuse.network.network import Builder, Network


def network(size: int = 64, channels: int = 32, batch: int = 1) -> Network:
    """`x[batch, channels, size, size]` to the same shape, with taps 1, 2 and 4 apart."""
    build = Builder("dilated")
    x = build.input("x", (batch, channels, size, size))
    for step in (1, 2, 4):
        x = build.conv(f"conv{step}", x, channels, kernel=3, padding=step, dilation=step, activation="relu")
    return build.network(x)
