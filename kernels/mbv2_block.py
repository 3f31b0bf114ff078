"""An inverted residual block of MobileNetV2: expand, depthwise, project, add.

Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks" (CVPR 2018): the wide tensors are inside of
the block, its input is needed again by the addition. At size 56 it is the second block of 24 channels.
"""

from polyfuse.network.network import Builder, Network


def network(size: int = 56, channels: int = 24, expansion: int = 6, batch: int = 1) -> Network:
    """`x[batch, channels, size, size]` to the same shape, through `expansion` times as many channels."""
    build = Builder("mbv2_block")
    x = build.input("x", (batch, channels, size, size))
    expand = build.conv("expand", x, channels * expansion, kernel=1, activation="relu6")
    depthwise = build.depthwise("depthwise", expand, kernel=3, padding=1, activation="relu6")
    project = build.conv("project", depthwise, channels, kernel=1)
    return build.network(build.arithmetic("residual", "add", project, x))
