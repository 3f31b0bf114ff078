"""Longest paths of three edges between layers of a graph: products of matrices over maximum and plus."""

from polyfuse.network.custom import statement_layer
from polyfuse.network.network import Builder, Network
from polyfuse.network.tensor import Tensor


def network(rows: int = 128, columns: int = 64, products: int = 3) -> Network:
    """`A[rows, columns]` and edges `B1`, `B2`, …: `C1[i, j]` is the largest `A[i, k] + B1[k, j]`, and so on."""
    build = Builder("maxplus")
    paths = build.input("A", (rows, columns))
    for number in range(1, products + 1):
        edges = build.input(f"B{number}", (columns, columns))
        paths = build.add(
            statement_layer(
                f"product{number}",
                domain=f"{{ S[i, j, k] : 0 <= i < {rows} and 0 <= j, k < {columns} }}",
                output=Tensor(f"C{number}", (rows, columns)),
                reads={
                    "a": (paths, f"{{ S[i, j, k] -> {paths.name}[i, k] }}"),
                    "b": (edges, f"{{ S[i, j, k] -> {edges.name}[k, j] }}"),
                },
                expression="maximum(acc, a + b)",
                init="-1e30",
            )
        )
    return build.network(paths)
