"""A 7x7 convolution as one along rows and one along columns, as in Inception-v3.

Szegedy et al., "Rethinking the Inception Architecture for Computer Vision" (CVPR 2016), figure 6: maps of 17x17.
"""

from polyfuse.network.network import Builder, Network


def network(size: int = 17, channels: int = 128, out: int = 192, batch: int = 1) -> Network:
    """`x[batch, channels, size, size]` to `out` channels of the same size."""
    build = Builder("asymmetric")
    x = build.input("x", (batch, channels, size, size))
    along = build.conv("along", x, channels, kernel=(1, 7), padding=(0, 3), activation="relu")
    return build.network(build.conv("down", along, out, kernel=(7, 1), padding=(3, 0), activation="relu"))
