"""A chain of matrix products, `((A B1) B2) …`: tiles of rows make whole rows of every product before the last one."""

from polyfuse.network.custom import statement_layer
from polyfuse.network.network import Builder, Network
from polyfuse.network.tensor import Tensor


def network(rows: int = 256, columns: int = 64, products: int = 3) -> Network:
    """`A[rows, columns]` times matrices `B1`, `B2`, … of `columns` rows and columns, which are inputs too."""
    build = Builder("matmul_chain")
    left = build.input("A", (rows, columns))
    for number in range(1, products + 1):
        right = build.input(f"B{number}", (columns, columns))
        left = build.add(
            statement_layer(
                f"product{number}",
                domain=f"{{ S[i, j, k] : 0 <= i < {rows} and 0 <= j, k < {columns} }}",
                output=Tensor(f"C{number}", (rows, columns)),
                reads={
                    "a": (left, f"{{ S[i, j, k] -> {left.name}[i, k] }}"),
                    "b": (right, f"{{ S[i, j, k] -> {right.name}[k, j] }}"),
                },
                expression="acc + a * b",
                init="0.0",
                macs=1,
            )
        )
    return build.network(left)
