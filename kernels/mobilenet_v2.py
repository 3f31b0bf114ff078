"""MobileNetV2, a classifier of inverted residual blocks.

Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks" (CVPR 2018), table 2, with batch normalisation
folded into the weights: 300,774,272 multiply-accumulates at 224 x 224 and width 1.
"""

from polyfuse.network.network import Builder, Network
from polyfuse.network.tensor import Tensor

BLOCKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, output channels, how many blocks, and the stride of the first of them."""


def network(size: int = 224, width: float = 1.0, classes: int = 1000, batch: int = 1) -> Network:
    """`x[batch, 3, size, size]` to a score for each class."""
    build = Builder("mobilenet_v2")
    x = build.input("x", (batch, 3, size, size))
    x = build.conv("stem", x, scaled(32, width), kernel=3, stride=2, padding=1, activation="relu6")
    number = 0
    for expansion, channels, repeats, stride in BLOCKS:
        for repeat in range(repeats):
            number += 1
            x = block(build, f"b{number}", x, expansion, scaled(channels, width), stride if repeat == 0 else 1)
    x = build.conv("head", x, scaled(1280, max(width, 1.0)), kernel=1, activation="relu6")
    return build.network(build.linear("classes", build.global_average_pool("pool", x), classes))


def block(build: Builder, name: str, x: Tensor, expansion: int, channels: int, stride: int) -> Tensor:
    """Expand, depthwise, project, and add where the shape stays."""
    inside = int(x.shape[1]) * expansion
    y = x if expansion == 1 else build.conv(f"{name}_expand", x, inside, kernel=1, activation="relu6")
    y = build.depthwise(f"{name}_depthwise", y, kernel=3, stride=stride, padding=1, activation="relu6")
    y = build.conv(f"{name}_project", y, channels, kernel=1)
    return build.arithmetic(f"{name}_add", "add", y, x) if y.shape == x.shape else y


def scaled(channels: int, width: float) -> int:
    """Channels times a width, rounded to a multiple of 8 that is no more than a tenth smaller."""
    rounded = max(8, int(channels * width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels * width else rounded
