"""Two 3x3x3 convolutions of one channel over a volume, without padding: tiles cut depth, rows and columns."""

from polyfuse.network.custom import statement_layer
from polyfuse.network.network import Builder, Network
from polyfuse.network.tensor import Tensor


def network(size: int = 48) -> Network:
    """`x[size, size, size]` to `size - 4` along each axis."""
    build = Builder("conv3d")
    volume = build.input("x", (size, size, size))
    for number in (1, 2):
        after = size - 2 * number
        weight = build.weight(f"w{number}", (3, 3, 3), 27)
        volume = build.add(
            statement_layer(
                f"conv{number}",
                domain=f"{{ S[d, h, w, p, q, r] : 0 <= d, h, w < {after} and 0 <= p, q, r < 3 }}",
                output=Tensor(f"y{number}", (after, after, after)),
                reads={
                    "a": (volume, f"{{ S[d, h, w, p, q, r] -> {volume.name}[d + p, h + q, w + r] }}"),
                    "v": (weight, f"{{ S[d, h, w, p, q, r] -> {weight.name}[p, q, r] }}"),
                },
                expression="acc + v * a",
                init="0.0",
                weights=["v"],
                macs=1,
            )
        )
    return build.network(volume)
