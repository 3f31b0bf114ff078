"""An explanation on the terminal."""

import io
import math

from rich.console import Console

from polyfuse.deploy.explain import ExplainedGroup, Explanation, NetworkSizes, Published
from polyfuse.report.rewriting import print_explanation
from polyfuse.rewrite.rewriting import Applied, NearMiss

EXAMPLE = Explanation(
    "example",
    NetworkSizes(5, 1234567, 4, 3),
    NetworkSizes(3, 1230000, 3, 3),
    (
        Applied("silu", "x * sigmoid(x)  ->  silu(x)", ("gate", "product"), ("product",), ("...",), 50, 40),
        Applied("silu", "x * sigmoid(x)  ->  silu(x)", ("gate2", "product2"), ("product2",), ("...",), 50, 40),
        Applied("identity", "x, 1 * x + 0  ->  x", ("dropout",), (), ("...",), 0, 0),
    ),
    (NearMiss("scaling-into-conv-after", ("bn", "conv"), "there is no padding", "padding adds zeros", "2 is not 3"),),
    (
        ExplainedGroup(
            ("conv", "product"),
            ("conv", "silu"),
            ("M-M", "1-1"),
            "M-M",
            (8,),
            ("local",),
            {},
            2e-5,
            {"8 recompute": 3e-5, "8 global": 2.1e-5, "8x4 local": math.inf},
            20480,
            10240,
            (0, 1),
        ),
        ExplainedGroup(("a",), ("relu",), ("1-1",), "1-1", None, (), {}, math.nan, {}, 4096, 4096, (2,)),
    ),
    (Published(("conv",), "M-M"), Published(("product",), "1-1"), Published(("a",), "1-1")),
    "",
)
GOLDEN = """
example
                               published,  published,  published,
network    layers  operations   Y refused  Y accepted  as decided  compiled
───────────────────────────────────────────────────────────────────────────
as it is        5     1.235 M           4           3
rewritten       3      1.23 M           3           3           3         2

                 operations
rule      times       saved  law; first applied to
────────────────────────────────────────────────────────
silu          2          20  x * sigmoid(x)  ->  silu(x)
                             gate, product -> product
identity      1           0  x, 1 * x + 0  ->  x
                             dropout -> nothing

near miss                times  condition; why not in the first place
─────────────────────────────────────────────────────────────────────
scaling-into-conv-after      1  there is no padding
                                bn, conv: padding adds zeros
                                2 is not 3

                                                                 apart  together
group  layers          type  blocks  strategy         predicted    KiB       KiB
────────────────────────────────────────────────────────────────────────────────
    0  conv to         M-M   0-1     8 local              20 µs     20        10
       product: conv                 8 global +5%
       silu                          8 recompute
                                     +50%
    1  a: relu         1-1   2       -                        -      4         4
the groups that polyfuse compile makes. blocks: those of DNNFusion's published
plan with layers in the group, and types as it names them; strategy: tile and
retention, then by how much the nearest and the farthest of the others lose;
apart, together: bytes moved off-chip by the layers one by one, and by the group
"""


def test_table_is_what_people_saw_last() -> None:
    file = io.StringIO()
    print_explanation(EXAMPLE, Console(file=file, width=80))
    assert "\n" + "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines()) == GOLDEN
