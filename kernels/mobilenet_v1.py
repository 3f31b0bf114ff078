"""MobileNetV1, a classifier of depthwise-separable layers.

Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications" (2017), table 1,
with batch normalisation folded into the weights: 568,740,352 multiply-accumulates at 224 x 224 and width 1.
"""

from polyfuse.network.network import Builder, Network

BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
"""The channels that each block makes, and the stride of its depthwise layer."""


def network(size: int = 224, width: float = 1.0, classes: int = 1000, batch: int = 1) -> Network:
    """`x[batch, 3, size, size]` to a score for each class."""
    build = Builder("mobilenet_v1")
    x = build.input("x", (batch, 3, size, size))
    x = build.conv("stem", x, scaled(32, width), kernel=3, stride=2, padding=1, activation="relu")
    for number, (channels, stride) in enumerate(BLOCKS, 1):
        x = build.depthwise(f"b{number}_depthwise", x, kernel=3, stride=stride, padding=1, activation="relu")
        x = build.conv(f"b{number}_point", x, scaled(channels, width), kernel=1, activation="relu")
    return build.network(build.linear("classes", build.global_average_pool("pool", x), classes))


def scaled(channels: int, width: float) -> int:
    """Channels times a width, rounded to a multiple of 8."""
    return max(8, round(channels * width / 8) * 8)
