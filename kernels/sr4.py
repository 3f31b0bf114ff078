"""Four 3x3 convolutions of 16 channels with ReLU on a large image: the body of a super-resolution network.

Few channels and many rows, so that feature maps are everything and weights next to nothing.
"""

from polyfuse.network.network import Builder, Network


def network(rows: int = 540, columns: int = 960, channels: int = 16, layers: int = 4, batch: int = 1) -> Network:
    """`x[batch, channels, rows, columns]` to the same shape."""
    build = Builder("sr4")
    x = build.input("x", (batch, channels, rows, columns))
    for k in range(1, layers + 1):
        x = build.conv(f"conv{k}", x, channels, kernel=3, padding=1, activation="relu")
    return build.network(x)
