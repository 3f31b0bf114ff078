"""Harris corner detection: gradients, their products, sums over 3x3 windows, and the response of every pixel.

A directed graph of ten layers with windows in two places, as in PolyMage (Mullapudi et al., ASPLOS 2015).
"""

from polyfuse.network.custom import statement_layer
from polyfuse.network.network import Builder, Network
from polyfuse.network.tensor import Tensor

WINDOW = "and 0 <= p < 3 and 0 <= q < 3"


def network(size: int = 256) -> Network:
    """`x[size, size]` to a response for each of `size - 4` rows and columns."""
    build = Builder("harris")
    image = build.input("x", (size, size))

    def windowed(name: str, source: Tensor, factor: str) -> Tensor:
        side = source.concrete_shape[0] - 2
        return build.add(
            statement_layer(
                name,
                domain=f"{{ S[i, j, p, q] : 0 <= i, j < {side} {WINDOW} }}",
                output=Tensor(f"{name}_out", (side, side)),
                reads={"a": (source, f"{{ S[i, j, p, q] -> {source.name}[i + p, j + q] }}")},
                expression=f"acc + {factor}",
                init="0.0",
            )
        )

    def pointwise(name: str, expression: str, **sources: Tensor) -> Tensor:
        side = next(iter(sources.values())).concrete_shape[0]
        return build.add(
            statement_layer(
                name,
                domain=f"{{ S[i, j] : 0 <= i, j < {side} }}",
                output=Tensor(f"{name}_out", (side, side)),
                reads={operand: (t, f"{{ S[i, j] -> {t.name}[i, j] }}") for operand, t in sources.items()},
                expression=expression,
            )
        )

    dx = windowed("dx", image, "a * (q - 1) * (2 - fabsf(p - 1)) / 12")
    dy = windowed("dy", image, "a * (p - 1) * (2 - fabsf(q - 1)) / 12")
    products = {
        "xx": pointwise("xx", "a * a", a=dx),
        "xy": pointwise("xy", "a * b", a=dx, b=dy),
        "yy": pointwise("yy", "a * a", a=dy),
    }
    sums = {name: windowed(f"s{name}", product, "a") for name, product in products.items()}
    response = "xx * yy - xy * xy - 0.04 * (xx + yy) * (xx + yy)"
    return build.network(pointwise("response", response, **sums))
