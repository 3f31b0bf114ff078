"""Attention of one head with the softmax made as keys come: running maximum, running sum, running weighted values.

Every step along the keys reads the step before it, so that nothing of a whole row of scores has to be held: with times
`[row tile, key tile, …]` (`pf.schedule_from`) what is on chip does not depend on the number of keys.
"""

from polyfuse.network.custom import statement_layer
from polyfuse.network.network import Builder, Network
from polyfuse.network.tensor import Tensor


def network(queries: int = 64, keys: int = 64, width: int = 16) -> Network:
    """`Q[queries, width]`, `K[keys, width]` and `V[keys, width]` to `out[queries, width]`."""
    build = Builder("online_attention")
    q = build.input("Q", (queries, width))
    k, v = (build.input(name, (keys, width)) for name in "KV")
    pairs = f"0 <= i < {queries} and 0 <= j < {keys}"
    scores, most = Tensor("S", (queries, keys)), Tensor("M", (queries, keys))
    total, summed = Tensor("L", (queries, keys)), Tensor("A", (queries, keys, width))

    def layer(
        name: str, output: Tensor, domain: str, expression: str, init: str | None, **reads: tuple[Tensor, str]
    ) -> None:
        """`reads` are operands: a tensor and the index of its element, with its condition."""
        index = domain.split(" :")[0]
        relations = {x: (tensor, f"{{ S{index} -> {tensor.name}{at} }}") for x, (tensor, at) in reads.items()}
        build.add(
            statement_layer(
                name, domain=f"{{ S{domain} }}", output=output, reads=relations, expression=expression, init=init
            )
        )

    layer(
        "scores",
        scores,
        f"[i, j, d] : {pairs} and 0 <= d < {width}",
        f"acc + q * k * {width**-0.5!r}",
        "0.0",
        q=(q, "[i, d]"),
        k=(k, "[j, d]"),
    )
    before = "[i, j - 1] : j >= 1"
    layer("most", most, f"[i, j] : {pairs}", "maximum(b, s)", "s", b=(most, before), s=(scores, "[i, j]"))
    layer(
        "total",
        total,
        f"[i, j] : {pairs}",
        "l * expf(b - m) + expf(s - m)",
        "1.0",
        l=(total, before),
        b=(most, before),
        m=(most, "[i, j]"),
        s=(scores, "[i, j]"),
    )
    layer(
        "summed",
        summed,
        f"[i, j, d] : {pairs} and 0 <= d < {width}",
        "a * expf(b - m) + v * expf(s - m)",
        "v",
        a=(summed, "[i, j - 1, d] : j >= 1"),
        b=(most, before),
        m=(most, "[i, j]"),
        s=(scores, "[i, j]"),
        v=(v, "[j, d]"),
    )
    last = f"[i, {keys - 1}"
    out = Tensor("out", (queries, width))
    layer(
        "out",
        out,
        f"[i, d] : 0 <= i < {queries} and 0 <= d < {width}",
        "a / l",
        None,
        a=(summed, f"{last}, d]"),
        l=(total, f"{last}]"),
    )
    return build.network(out)
