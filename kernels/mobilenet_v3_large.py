"""MobileNetV3-Large, a classifier of inverted residual blocks, some with squeeze and excitation.

Howard et al., "Searching for MobileNetV3" (ICCV 2019), table 1, with batch normalisation folded into the weights:
216,589,760 multiply-accumulates at 224 x 224 and width 1.
"""

from polyfuse.network.network import Builder, Network
from polyfuse.network.tensor import Tensor

BLOCKS = (
    (3, 16, 16, False, "relu", 1),
    (3, 64, 24, False, "relu", 2),
    (3, 72, 24, False, "relu", 1),
    (5, 72, 40, True, "relu", 2),
    (5, 120, 40, True, "relu", 1),
    (5, 120, 40, True, "relu", 1),
    (3, 240, 80, False, "hard_swish", 2),
    (3, 200, 80, False, "hard_swish", 1),
    (3, 184, 80, False, "hard_swish", 1),
    (3, 184, 80, False, "hard_swish", 1),
    (3, 480, 112, True, "hard_swish", 1),
    (3, 672, 112, True, "hard_swish", 1),
    (5, 672, 160, True, "hard_swish", 2),
    (5, 960, 160, True, "hard_swish", 1),
    (5, 960, 160, True, "hard_swish", 1),
)
"""The kernel, the channels inside and out, whether channels are weighed, the activation and the stride."""

GATE = ("hard_sigmoid", 1 / 6, 0.5)


def network(size: int = 224, width: float = 1.0, classes: int = 1000, batch: int = 1) -> Network:
    """`x[batch, 3, size, size]` to a score for each class."""
    build = Builder("mobilenet_v3_large")
    x = build.input("x", (batch, 3, size, size))
    x = build.conv("stem", x, scaled(16, width), kernel=3, stride=2, padding=1, activation="hard_swish")
    for number, (kernel, inside, channels, weighs, activation, stride) in enumerate(BLOCKS, 1):
        x = block(
            build, f"b{number}", x, kernel, scaled(inside, width), scaled(channels, width), weighs, activation, stride
        )
    x = build.conv("head", x, scaled(960, width), kernel=1, activation="hard_swish")
    x = build.linear("features", build.global_average_pool("pool", x), scaled(1280, width), activation="hard_swish")
    return build.network(build.linear("classes", x, classes))


def block(
    build: Builder,
    name: str,
    x: Tensor,
    kernel: int,
    inside: int,
    channels: int,
    weighs: bool,
    activation: str,
    stride: int,
) -> Tensor:
    """Expand, depthwise, weigh the channels where asked to, project, and add where the shape stays."""
    y = x if x.shape[1] == inside else build.conv(f"{name}_expand", x, inside, kernel=1, activation=activation)
    y = build.depthwise(
        f"{name}_depthwise", y, kernel=kernel, stride=stride, padding=kernel // 2, activation=activation
    )
    y = build.conv(f"{name}_project", excited(build, name, y) if weighs else y, channels, kernel=1)
    return build.arithmetic(f"{name}_add", "add", y, x) if y.shape == x.shape else y


def excited(build: Builder, name: str, x: Tensor) -> Tensor:
    """Every channel times a gate made of the means of all."""
    mean = build.global_average_pool(f"{name}_mean", x)
    squeeze = build.conv(f"{name}_squeeze", mean, scaled(int(x.shape[1]) // 4), kernel=1, activation="relu")
    gate = build.conv(f"{name}_gate", squeeze, int(x.shape[1]), kernel=1, activation=GATE)
    return build.arithmetic(f"{name}_excite", "mul", x, gate)


def scaled(channels: int, width: float = 1.0) -> int:
    """Channels times a width, rounded to a multiple of 8 that is no more than a tenth smaller."""
    rounded = max(8, int(channels * width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels * width else rounded
