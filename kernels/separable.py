"""A separable filter: a blur of five taps along columns, then along rows, and what it leaves of the image."""

from polyfuse.network.custom import statement_layer
from polyfuse.network.network import Builder, Network
from polyfuse.network.tensor import Tensor


def network(size: int = 256) -> Network:
    """`x[size, size]` to `size - 4` rows and columns: the image sharpened by what the blur takes away."""
    build = Builder("separable")
    image, side = build.input("x", (size, size)), size - 4
    across = build.add(
        statement_layer(
            "across",
            domain=f"{{ S[i, j, k] : 0 <= i < {size} and 0 <= j < {side} and 0 <= k < 5 }}",
            output=Tensor("across_out", (size, side)),
            reads={"a": (image, "{ S[i, j, k] -> x[i, j + k] }")},
            expression="acc + a / 5",
            init="0.0",
        )
    )
    down = build.add(
        statement_layer(
            "down",
            domain=f"{{ S[i, j, k] : 0 <= i, j < {side} and 0 <= k < 5 }}",
            output=Tensor("down_out", (side, side)),
            reads={"a": (across, "{ S[i, j, k] -> across_out[i + k, j] }")},
            expression="acc + a / 5",
            init="0.0",
        )
    )
    return build.network(
        build.add(
            statement_layer(
                "sharpened",
                domain=f"{{ S[i, j] : 0 <= i, j < {side} }}",
                output=Tensor("sharpened_out", (side, side)),
                reads={"a": (image, "{ S[i, j] -> x[i + 2, j + 2] }"), "b": (down, "{ S[i, j] -> down_out[i, j] }")},
                expression="2 * a - b",
            )
        )
    )
