"""Jacobi iterations of five points over a plane, a layer for each time step; borders as those of jacobi1d.

The kind of loop nest of PolyBench's jacobi-2d: an element and its four neighbours, averaged.
"""

from polyfuse.network.custom import statement_layer
from polyfuse.network.network import Builder, Network
from polyfuse.network.tensor import Tensor


def network(size: int = 256, steps: int = 4, border: str = "shrinking") -> Network:
    """`x[size, size]` after some steps: as large, or `2*steps` rows and columns smaller where they shrink."""
    build = Builder(f"jacobi2d_{border}")
    grid = build.input("x", (size, size))
    for step in range(1, steps + 1):
        before = grid.concrete_shape[0]
        after = before - 2 if border == "shrinking" else before
        row, column = "i + p - 1", "j + q - 1"
        reads = {
            "shrinking": f"S[i, j, p, q] -> {grid.name}[i + p, j + q]",
            "zero": f"S[i, j, p, q] -> {grid.name}[{row}, {column}] : 0 <= {row} < {before} "
            f"and 0 <= {column} < {before}",
            "clamped": f"S[i, j, p, q] -> {grid.name}[a, b] : a = max(0, min({before - 1}, {row})) "
            f"and b = max(0, min({before - 1}, {column}))",
        }
        grid = build.add(
            statement_layer(
                f"step{step}",
                domain=f"{{ S[i, j, p, q] : 0 <= i < {after} and 0 <= j < {after} "
                "and ((p = 1 and 0 <= q < 3) or (q = 1 and 0 <= p < 3)) }",
                output=Tensor(f"a{step}", (after, after)),
                reads={"a": (grid, f"{{ {reads[border]} }}")},
                expression="acc + a / 5",
                init="0.0",
            )
        )
    return build.network(grid)
