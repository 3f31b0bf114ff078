"""Two 3x3 convolutions without padding or bias, 16 -> 16 -> 16 channels on 32x32: small enough to count by hand.

With 1-byte elements, row-rolling fusion moves 33,536 bytes off-chip and keeps 8,032 bytes on chip.
"""

from polyfuse.network.network import Builder, Network


def network(size: int = 32, channels: int = 16, batch: int = 1) -> Network:
    """`x[batch, channels, size, size]` to `size - 4` rows and columns."""
    build = Builder("two_convs")
    x = build.input("x", (batch, channels, size, size))
    conv1 = build.conv("conv1", x, channels, kernel=3, bias=False)
    return build.network(build.conv("conv2", conv1, channels, kernel=3, bias=False))
