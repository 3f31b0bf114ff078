"""Attention of one head with the softmax made as blocks of keys come: running maximum, sum and weighted values.

Every block reads the block before it, so that nothing of a whole row of scores has to be held: with times
`[row tile, block, …]` (`pf.schedule_from`) what is on chip does not depend on the number of keys.
"""

from polyfuse.network.custom import statement_layer
from polyfuse.network.network import Builder, Network
from polyfuse.network.tensor import Tensor

Reads = dict[str, tuple[Tensor, str]]


def network(queries: int = 64, keys: int = 64, width: int = 16, block: int = 8) -> Network:
    """`Q[queries, width]`, `K[width, keys]` and `V[keys, width]` to `out[queries, width]`."""
    build = Builder("online_attention")
    shapes = {"Q": (queries, width), "K": (width, keys), "V": (keys, width)}
    q, k, v = (build.input(name, shape) for name, shape in shapes.items())
    blocks = -(-keys // block)
    row, features = f"0 <= i < {queries}", f"0 <= d < {width}"
    pairs, steps = f"{row} and 0 <= j < {keys}", f"{row} and 0 <= u < {blocks}"
    inside = f"{block}u <= j < {block}u + {block}"
    s, p = Tensor("S", (queries, keys)), Tensor("P", (queries, keys))
    t, m, f, g, l = (Tensor(name, (queries, blocks)) for name in "TMFGL")  # noqa: E741
    b, a = Tensor("B", (queries, blocks, width)), Tensor("A", (queries, blocks, width))

    def layer(name: str, output: Tensor, domain: str, expression: str, init: str | None, reads: Reads) -> None:
        """`reads` are operands: a tensor and the index of its element, with its condition."""
        index = domain.split(" :")[0]
        relations = {x: (tensor, f"{{ S{index} -> {tensor.name}{at} }}") for x, (tensor, at) in reads.items()}
        build.add(
            statement_layer(
                name, domain=f"{{ S{domain} }}", output=output, reads=relations, expression=expression, init=init
            )
        )

    here, before = "[i, u]", "[i, u - 1] : u >= 1"
    score, share = (s, "[i, j]"), (p, "[i, j]")
    layer("scores", s, f"[i, j, d] : {pairs} and {features}", f"acc + q * k * {width**-0.5!r}", "0.0",
          {"q": (q, "[i, d]"), "k": (k, "[d, j]")})  # fmt: skip
    layer("top", t, f"[i, u, j] : {steps} and {inside} and {pairs}", "maximum(acc, s)", "-1e30", {"s": score})
    layer("most", m, f"[i, u] : {steps}", "maximum(b, t)", "t", {"b": (m, before), "t": (t, here)})
    layer("factors", f, f"[i, u] : {steps}", "expf(b - m)", "0.0", {"b": (m, before), "m": (m, here)})
    layer("shares", p, f"[i, j] : {pairs}", "expf(s - m)", None,
          {"s": score, "m": (m, f"[i, floor(j / {block})]")})  # fmt: skip
    layer("part", g, f"[i, u, j] : {steps} and {inside} and {pairs}", "acc + p", "0.0", {"p": share})
    layer("total", l, f"[i, u] : {steps}", "l * f + g", "g", {"l": (l, before), "f": (f, here), "g": (g, here)})
    layer("weighted", b, f"[i, u, d, j] : {steps} and {features} and {inside} and {pairs}", "acc + p * v", "0.0",
          {"p": share, "v": (v, "[j, d]")})  # fmt: skip
    layer("summed", a, f"[i, u, d] : {steps} and {features}", "a * f + b", "b",
          {"a": (a, "[i, u - 1, d] : u >= 1"), "f": (f, here), "b": (b, "[i, u, d]")})  # fmt: skip
    out, last = Tensor("out", (queries, width)), blocks - 1
    layer("out", out, f"[i, d] : {row} and {features}", "a / l", None,
          {"a": (a, f"[i, {last}, d]"), "l": (l, f"[i, {last}]")})  # fmt: skip
    return build.network(out)
