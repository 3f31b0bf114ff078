"""A chain of one-dimensional convolutions of several channels, as over sound: tiles cut time."""

from polyfuse.network.custom import statement_layer
from polyfuse.network.network import Builder, Network
from polyfuse.network.tensor import Tensor


def network(size: int = 2048, channels: int = 8, taps: int = 5, layers: int = 3) -> Network:
    """`x[size, channels]`, time first, through convolutions without padding that keep the number of channels."""
    build = Builder("conv1d")
    signal = build.input("x", (size, channels))
    for number in range(1, layers + 1):
        after = signal.concrete_shape[0] - taps + 1
        weight = build.weight(f"w{number}", (channels, channels, taps), channels * taps)
        signal = build.add(
            statement_layer(
                f"conv{number}",
                domain=f"{{ S[t, c, d, k] : 0 <= t < {after} and 0 <= c, d < {channels} and 0 <= k < {taps} }}",
                output=Tensor(f"y{number}", (after, channels)),
                reads={
                    "a": (signal, f"{{ S[t, c, d, k] -> {signal.name}[t + k, d] }}"),
                    "w": (weight, f"{{ S[t, c, d, k] -> {weight.name}[c, d, k] }}"),
                },
                expression="acc + w * a",
                init="0.0",
                weights=["w"],
                macs=1,
            )
        )
    return build.network(signal)
