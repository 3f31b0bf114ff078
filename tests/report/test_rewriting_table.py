"""An explanation on the terminal."""

import io

from rich.console import Console

from polyfuse.report.rewriting import print_explanation
from polyfuse.rewrite.explain import Explanation, Group, Sizes
from polyfuse.rewrite.rewriting import Applied, NearMiss

EXAMPLE = Explanation(
    "example",
    32768,
    Sizes(5, 1234567, 4, 3),
    Sizes(3, 1230000, 3, 3),
    (
        Applied("silu", "x * sigmoid(x)  ->  silu(x)", ("gate", "product"), ("product",), ("...",), 50, 40),
        Applied("silu", "x * sigmoid(x)  ->  silu(x)", ("gate2", "product2"), ("product2",), ("...",), 50, 40),
        Applied("identity", "x, 1 * x + 0  ->  x", ("dropout",), (), ("...",), 0, 0),
    ),
    (NearMiss("scaling-into-conv-after", ("bn", "conv"), "there is no padding", "padding adds zeros", "2 is not 3"),),
    3,
    (
        Group(("conv", "product"), ("conv", "silu"), ("M-M", "1-1"), "M-M", 1, 20480, 10240),
        Group(("a", "b", "c"), ("relu", "relu", "conv"), ("1-1", "1-1", "M-M"), "M-M", 2, 4096, 1024),
    ),
)
GOLDEN = """
example
                                 groups,     groups,     groups,  groups,
network    layers  operations  Y refused  Y accepted  as decided   joined
─────────────────────────────────────────────────────────────────────────
as it is        5     1.235 M          4           3
rewritten       3      1.23 M          3           3           3        2

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
group  layers                      type  blocks    KiB       KiB
────────────────────────────────────────────────────────────────
    0  conv to product: conv silu  M-M        1     20        10
    1  a to c: 2 relu conv         M-M        2      4         1
bytes: moved off-chip by the layers one by one, and by the group in rows with 32
KiB on chip; types as DNNFusion names them
"""


def test_table_is_what_people_saw_last() -> None:
    file = io.StringIO()
    print_explanation(EXAMPLE, Console(file=file, width=80))
    assert "\n" + "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines()) == GOLDEN
