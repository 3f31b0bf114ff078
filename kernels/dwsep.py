"""Depthwise-separable pairs: a 3x3 convolution of every channel on its own, then a 1x1 convolution.

The first layers of MobileNetV1 behind its stem (Howard et al., 2017), at most 13 pairs.
"""

from polyfuse.errors import InvalidInput
from polyfuse.network.network import Builder, Network

PAIRS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
"""Output channels and stride of each pair."""


def network(pairs: int = 2, size: int = 112, batch: int = 1) -> Network:
    """`x[batch, 32, size, size]` through the first pairs of MobileNetV1."""
    if not 1 <= pairs <= len(PAIRS):
        raise InvalidInput(f"dwsep: expected 1 to {len(PAIRS)} pairs, got {pairs}")
    build = Builder("dwsep")
    x = build.input("x", (batch, 32, size, size))
    for k, (channels, stride) in enumerate(PAIRS[:pairs], 1):
        x = build.depthwise(f"depthwise{k}", x, kernel=3, stride=stride, padding=1, activation="relu")
        x = build.conv(f"pointwise{k}", x, channels, kernel=1, activation="relu")
    return build.network(x)
