"""A pyramid blend of two images under a mask: halves, differences between levels, blended level by level, rebuilt.

Reads go down and up by a factor of two, so that tiles of the result are tiles of half the size one level down.
"""

from polyfuse.network.custom import statement_layer
from polyfuse.network.network import Builder, Network
from polyfuse.network.tensor import Tensor

HERE, TWICE = "[i, j]", "[floor(i/2), floor(j/2)]"


def network(size: int = 256, levels: int = 2) -> Network:
    """Images `a`, `b` and a mask `m`, all `[size, size]`; `size` is a multiple of `2**levels`."""
    build = Builder("pyramid")
    a, b, mask = (build.input(name, (size, size)) for name in "abm")

    def halved(name: str, source: Tensor) -> Tensor:
        side = source.concrete_shape[0] // 2
        return build.add(
            statement_layer(
                name,
                domain=f"{{ S[i, j, p, q] : 0 <= i, j < {side} and 0 <= p, q < 2 }}",
                output=Tensor(f"{name}_out", (side, side)),
                reads={"x": (source, f"{{ S[i, j, p, q] -> {source.name}[2i + p, 2j + q] }}")},
                expression="acc + x / 4",
                init="0.0",
            )
        )

    def pointwise(name: str, expression: str, **sources: tuple[Tensor, str]) -> Tensor:
        side = max(tensor.concrete_shape[0] for tensor, _ in sources.values())
        return build.add(
            statement_layer(
                name,
                domain=f"{{ S[i, j] : 0 <= i, j < {side} }}",
                output=Tensor(f"{name}_out", (side, side)),
                reads={x: (tensor, f"{{ S[i, j] -> {tensor.name}{at} }}") for x, (tensor, at) in sources.items()},
                expression=expression,
            )
        )

    details = []
    for level in range(levels):
        halves = [halved(f"{name}{level}", each) for name, each in (("da", a), ("db", b), ("dm", mask))]
        found = pointwise(
            f"detail{level}",
            "m * (a - u) + (1 - m) * (b - v)",
            a=(a, HERE),
            b=(b, HERE),
            m=(mask, HERE),
            u=(halves[0], TWICE),
            v=(halves[1], TWICE),
        )
        details.append(found)
        a, b, mask = halves
    result = pointwise("coarse", "m * a + (1 - m) * b", a=(a, HERE), b=(b, HERE), m=(mask, HERE))
    for level in reversed(range(levels)):
        result = pointwise(f"blend{level}", "d + u", d=(details[level], HERE), u=(result, TWICE))
    return build.network(result)
