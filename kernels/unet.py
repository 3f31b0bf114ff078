"""A U-Net: an encoder of pooled pairs of convolutions, and a decoder that joins what the encoder made at each level.

Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation" (MICCAI 2015), with padding, so
that the image keeps its size. Four levels of 16, 32, 64 and 128 channels.
"""

from polyfuse.network.layers.resizing import Resampling
from polyfuse.network.network import Builder, Network
from polyfuse.network.tensor import Tensor


def network(size: int = 256, channels: int = 16, levels: int = 4, up: str = "transposed", batch: int = 1) -> Network:
    """`x[batch, 3, size, size]` to two classes for each of its elements.

    `up` says how rows and columns are doubled: by a transposed convolution, or by the `nearest` element or `linear`
    interpolation and a convolution.
    """
    build = Builder("unet")
    x = build.input("x", (batch, 3, size, size))
    skips = []
    for level in range(levels - 1):
        skips.append(pair(build, f"down{level}", x, channels << level))
        x = build.max_pool(f"down{level}_pool", skips[-1], kernel=2)
    x = pair(build, "bottom", x, channels << (levels - 1))
    for level in reversed(range(levels - 1)):
        wider = doubled(build, f"up{level}_wider", x, channels << level, up)
        x = pair(build, f"up{level}", build.concat(f"up{level}_join", skips[level], wider), channels << level)
    return build.network(build.conv("classes", x, 2, kernel=1))


def pair(build: Builder, name: str, x: Tensor, channels: int) -> Tensor:
    """Two convolutions of 3x3."""
    x = build.conv(f"{name}_conv1", x, channels, kernel=3, padding=1, activation="relu")
    return build.conv(f"{name}_conv2", x, channels, kernel=3, padding=1, activation="relu")


def doubled(build: Builder, name: str, x: Tensor, channels: int, up: str) -> Tensor:
    """Twice as many rows and columns, of fewer channels."""
    if up == "transposed":
        return build.conv_transpose(name, x, channels, kernel=2, stride=2)
    return build.conv(f"{name}_conv", build.resize(name, x, 2, Resampling(up)), channels, kernel=3, padding=1)
