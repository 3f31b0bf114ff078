"""Three 3x3 convolutions of one channel, without padding: the overlapped stencil chain.

The kind of example of Jongen et al., "Optimization Through Recomputation in the Polyhedral Model" (IMPACT 2018): every
layer widens what a tile of the last one needs by one row and one column on each side.
"""

from polyfuse.network.network import Builder, Network


def network(size: int = 2048, batch: int = 1) -> Network:
    """`x[batch, 1, size, size]` through three convolutions, to `size - 6` rows and columns."""
    build = Builder("stencil3")
    x = build.input("x", (batch, 1, size, size))
    for k in (1, 2, 3):
        x = build.conv(f"conv{k}", x, 1, kernel=3)
    return build.network(x)
