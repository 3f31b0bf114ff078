"""Two 3x3 convolutions of 64 channels with ReLU and a 2x2 max-pool: the wide front of VGG.

The shape of the first stage of VGG (Simonyan and Zisserman, 2015) after its first layer, where feature maps are
largest and weights are small.
"""

from polyfuse.network.network import Builder, Network


def network(size: int = 224, channels: int = 64, batch: int = 1) -> Network:
    """`x[batch, channels, size, size]` to half as many rows and columns."""
    build = Builder("vgg_pair")
    x = build.input("x", (batch, channels, size, size))
    for k in (1, 2):
        x = build.conv(f"conv{k}", x, channels, kernel=3, padding=1, activation="relu")
    return build.network(build.max_pool("pool", x, kernel=2))
