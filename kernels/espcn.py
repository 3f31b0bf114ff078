"""ESPCN, a super-resolution network whose last layer turns channels into rows and columns.

Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural
Network" (CVPR 2016), with padding, so that every convolution keeps the size of its image.
"""

from polyfuse.network.layers.copies import depth_to_space
from polyfuse.network.network import Builder, Network


def network(rows: int = 270, columns: int = 480, scale: int = 2, batch: int = 1) -> Network:
    """`x[batch, 1, rows, columns]` to `scale` times as many rows and columns."""
    build = Builder("espcn")
    x = build.input("x", (batch, 1, rows, columns))
    x = build.conv("conv1", x, 64, kernel=5, padding=2, activation="tanh")
    x = build.conv("conv2", x, 32, kernel=3, padding=1, activation="tanh")
    x = build.conv("conv3", x, scale * scale, kernel=3, padding=1)
    return build.network(build.add(depth_to_space("wider", x, scale, "CRD")))
