"""Attention of one head: scores, a softmax along each row, and the weighted sum of values.

In tiles of rows nothing is computed twice, and of the scores only the rows of a tile are on chip.
"""

from polyfuse.network.custom import statement_layer
from polyfuse.network.network import Builder, Network
from polyfuse.network.tensor import Tensor


def network(queries: int = 128, keys: int = 128, width: int = 32) -> Network:
    """`Q[queries, width]`, `K[width, keys]` and `V[keys, width]` to `out[queries, width]`."""
    build = Builder("attention")
    shapes = {"Q": (queries, width), "K": (width, keys), "V": (keys, width)}
    q, k, v = (build.input(name, shape) for name, shape in shapes.items())
    rows, pairs = f"0 <= i < {queries}", f"0 <= i < {queries} and 0 <= j < {keys}"

    def layer(
        name: str,
        output: Tensor,
        domain: str,
        expression: str,
        init: str | None = None,
        macs: int = 0,
        **reads: tuple[Tensor, str],
    ) -> Tensor:
        """`reads` are operands: a tensor and the index of its element."""
        index = domain.split(" :")[0]
        relations = {x: (tensor, f"{{ S{index} -> {tensor.name}{at} }}") for x, (tensor, at) in reads.items()}
        return build.add(
            statement_layer(
                name,
                domain=f"{{ S{domain} }}",
                output=output,
                reads=relations,
                expression=expression,
                init=init,
                macs=macs,
            )
        )

    scores = layer(
        "scores", Tensor("S", (queries, keys)), f"[i, j, d] : {pairs} and 0 <= d < {width}",
        f"acc + q * k * {width**-0.5!r}", "0.0", 1, q=(q, "[i, d]"), k=(k, "[d, j]"),
    )  # fmt: skip
    most = layer("most", Tensor("M", (queries,)), f"[i, j] : {pairs}", "maximum(acc, s)", "-1e30", s=(scores, "[i, j]"))
    weights = layer(
        "shares",
        Tensor("P", (queries, keys)),
        f"[i, j] : {pairs}",
        "expf(s - m)",
        s=(scores, "[i, j]"),
        m=(most, "[i]"),
    )
    total = layer("total", Tensor("L", (queries,)), f"[i, j] : {pairs}", "acc + p", "0.0", p=(weights, "[i, j]"))
    summed = layer(
        "summed", Tensor("A", (queries, width)), f"[i, d, j] : {rows} and 0 <= d < {width} and 0 <= j < {keys}",
        "acc + p * v", "0.0", 1, p=(weights, "[i, j]"), v=(v, "[j, d]"),
    )  # fmt: skip
    return build.network(
        layer("out", Tensor("out", (queries, width)), f"[i, d] : {rows} and 0 <= d < {width}", "a / l",
              a=(summed, "[i, d]"), l=(total, "[i]"))
    )  # fmt: skip
