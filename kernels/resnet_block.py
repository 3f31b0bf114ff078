"""A basic residual block of ResNet: two 3x3 convolutions and the addition of the input.

He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016), with batch normalisation folded into the weights;
size 56 and 64 channels are the first stage of ResNet-18 and ResNet-34.
"""

from polyfuse.network.network import Builder, Network


def network(size: int = 56, channels: int = 64, batch: int = 1) -> Network:
    """`x[batch, channels, size, size]` to the same shape."""
    build = Builder("resnet_block")
    x = build.input("x", (batch, channels, size, size))
    conv1 = build.conv("conv1", x, channels, kernel=3, padding=1, activation="relu")
    conv2 = build.conv("conv2", conv1, channels, kernel=3, padding=1)
    return build.network(build.arithmetic("residual", "add", conv2, x, activation="relu"))
