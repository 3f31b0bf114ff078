"""EfficientNet-B0, a classifier of inverted residual blocks with squeeze and excitation.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (ICML 2019), table 1, with batch
normalisation folded into the weights.
"""

from polyfuse.network.network import Builder, Network
from polyfuse.network.tensor import Tensor

BLOCKS = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
"""Expansion, output channels, how many blocks, the stride of the first of them, and the kernel."""


def network(size: int = 224, width: float = 1.0, classes: int = 1000, batch: int = 1) -> Network:
    """`x[batch, 3, size, size]` to a score for each class."""
    build = Builder("efficientnet_b0")
    x = build.input("x", (batch, 3, size, size))
    x = build.conv("stem", x, scaled(32, width), kernel=3, stride=2, padding=1, activation="silu")
    number = 0
    for expansion, channels, repeats, stride, kernel in BLOCKS:
        for repeat in range(repeats):
            number += 1
            x = block(build, f"b{number}", x, expansion, scaled(channels, width), stride if repeat == 0 else 1, kernel)
    x = build.conv("head", x, scaled(1280, width), kernel=1, activation="silu")
    return build.network(build.linear("classes", build.global_average_pool("pool", x), classes))


def block(build: Builder, name: str, x: Tensor, expansion: int, channels: int, stride: int, kernel: int) -> Tensor:
    """Expand, depthwise, weigh the channels, project, and add where the shape stays."""
    inside = int(x.shape[1]) * expansion
    y = x if expansion == 1 else build.conv(f"{name}_expand", x, inside, kernel=1, activation="silu")
    y = build.depthwise(f"{name}_depthwise", y, kernel=kernel, stride=stride, padding=kernel // 2, activation="silu")
    weighed = excited(build, name, y, max(1, int(x.shape[1]) // 4))
    y = build.conv(f"{name}_project", weighed, channels, kernel=1)
    return build.arithmetic(f"{name}_add", "add", y, x) if y.shape == x.shape else y


def excited(build: Builder, name: str, x: Tensor, squeezed: int) -> Tensor:
    """Every channel times a gate made of the means of all."""
    mean = build.global_average_pool(f"{name}_mean", x)
    squeeze = build.conv(f"{name}_squeeze", mean, squeezed, kernel=1, activation="silu")
    gate = build.conv(f"{name}_gate", squeeze, int(x.shape[1]), kernel=1, activation="sigmoid")
    return build.arithmetic(f"{name}_excite", "mul", x, gate)


def scaled(channels: int, width: float) -> int:
    """Channels times a width, rounded to a multiple of 8 that is no more than a tenth smaller."""
    rounded = max(8, int(channels * width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels * width else rounded
