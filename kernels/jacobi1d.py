"""Jacobi iterations over a line, a layer for each time step: tiles of the last step's output are tiles in time.

Every step averages three neighbours. What they are at the ends is the border: `zero` takes what is outside for 0,
`clamped` repeats the ends, and with `shrinking` every step is two elements shorter than the one before.
"""

from polyfuse.network.custom import statement_layer
from polyfuse.network.network import Builder, Network
from polyfuse.network.tensor import Tensor


def network(size: int = 4096, steps: int = 4, border: str = "shrinking") -> Network:
    """`x[size]` after some steps: `size` elements, or `size - 2*steps` where they shrink."""
    build = Builder(f"jacobi1d_{border}")
    grid = build.input("x", (size,))
    for step in range(1, steps + 1):
        before = grid.concrete_shape[0]
        made = Tensor(f"a{step}", (before - 2 if border == "shrinking" else before,))
        reads = {
            "shrinking": f"S[i, k] -> {grid.name}[i + k]",
            "zero": f"S[i, k] -> {grid.name}[i + k - 1] : 0 <= i + k - 1 < {before}",
            "clamped": f"S[i, k] -> {grid.name}[j] : j = max(0, min({before - 1}, i + k - 1))",
        }
        grid = build.add(
            statement_layer(
                f"step{step}",
                domain=f"{{ S[i, k] : 0 <= i < {made.concrete_shape[0]} and 0 <= k < 3 }}",
                output=made,
                reads={"a": (grid, f"{{ {reads[border]} }}")},
                expression="acc + a / 3",
                init="0.0",
            )
        )
    return build.network(grid)
