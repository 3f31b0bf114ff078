"""The front of a small classifier: a strided 3x3 convolution of an image, then a 5x5 depthwise-separable pair.

Three input channels, windows of 5x5 and odd sizes, as in MobileNetV3 and EfficientNet (Howard et al., 2019; Tan and Le,
2019), which take images of 224 to 299 and more.
"""

from polyfuse.network.network import Builder, Network


def network(size: int = 227, channels: int = 24, batch: int = 1) -> Network:
    """`x[batch, 3, size, size]` to `channels` at half the size, rounded up."""
    build = Builder("stem")
    x = build.input("x", (batch, 3, size, size))
    first = build.conv("first", x, channels, kernel=3, stride=2, padding=1, activation="relu6")
    depthwise = build.depthwise("depthwise", first, kernel=5, padding=2, activation="relu6")
    return build.network(build.conv("pointwise", depthwise, channels, kernel=1))
