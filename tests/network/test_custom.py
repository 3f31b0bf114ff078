"""Layers made from text: equal to the built-in ones where both exist, and refused in one line otherwise."""

from typing import Any

import islpy as isl
import numpy as np
import pytest

from polyfuse.errors import InvalidInput
from polyfuse.network.custom import statement_layer
from polyfuse.network.layers.convolution import convolution
from polyfuse.network.network import Builder
from polyfuse.network.reference import max_relative_error, run
from polyfuse.network.tensor import Tensor
from polyfuse.network.window import Window
from tests.network.onnx.models import values

X = Tensor("x", (1, 2, 6, 7))
W = Tensor("w", (3, 2, 3, 3))
WINDOW = Window((3, 3), padding=(1, 1, 1, 1))
B = Tensor("b", (3,))
OUT = Tensor("conv_out", (1, 3, 6, 7))
CONVOLUTION: dict[str, Any] = {
    "domain": "{ S[n,c,h,w_,ic,kh,kw] : n = 0 and 0<=c<3 and 0<=h<6 and 0<=w_<7 and 0<=ic<2 and 0<=kh<3 and 0<=kw<3 }",
    "output": OUT,
    "reads": {
        "x": (X, "{ S[n,c,h,v,ic,kh,kw] -> x[n,ic,h+kh-1,v+kw-1] : 0 <= h+kh-1 < 6 and 0 <= v+kw-1 < 7 }"),
        "weight": (W, "{ S[n,c,h,v,ic,kh,kw] -> w[c,ic,kh,kw] }"),
        "bias": (B, "{ S[n,c,h,v,ic,kh,kw] -> b[c] }"),
    },
    "expression": "acc + weight * x",
    "init": "bias",
    "weights": ["weight", "bias"],
    "macs": 1,
}


def test_convolution_by_text_equals_the_built_in_one() -> None:
    mine = statement_layer("conv", **CONVOLUTION)
    theirs = convolution("conv", X, W, B, WINDOW)
    assert [s.name for s in mine.statements] == [s.name for s in theirs.statements]
    for a, b in zip(mine.statements, theirs.statements, strict=True):
        assert a.domain == b.domain and a.macs == b.macs and set(a.operands) == set(b.operands)
        for operand in a.operands:
            assert a.operands[operand].relation == b.operands[operand].relation
    assert mine.inputs == theirs.inputs and mine.weights == theirs.weights
    arrays = [values(t.concrete_shape, k).astype(np.float64) for k, t in enumerate((X, W, B))]
    assert mine.reference is not None and theirs.reference is not None
    assert max_relative_error(mine.reference(*arrays), theirs.reference(*arrays)) <= 1e-12


def test_extended_access_drops_the_borders_and_keeps_the_reduction() -> None:
    access = statement_layer("conv", **CONVOLUTION).statements[1].operands["x"]
    built_in = convolution("conv", X, W, B, WINDOW).statements[1].operands["x"]
    inside = built_in.extended.domain()
    assert access.extended.intersect_domain(inside) == built_in.extended
    taps = isl.Set("{ conv_update[n,c,h,v,ic,kh,kw] : 0 <= ic < 2 and 0 <= kh < 3 and 0 <= kw < 3 }")
    assert access.extended.domain() == taps
    assert (access.extended.intersect_domain(access.relation.domain()).intersect_range(X.box)) == access.relation


def test_any_rank_runs_in_a_network() -> None:
    build = Builder("prefix")
    x = build.input("x", (6,))
    layer = statement_layer(
        "sum", domain="{ S[i, k] : 0 <= k <= i < 6 }", output=Tensor("y", (6,)),
        reads={"x": (x, "{ S[i, k] -> x[k] }")}, expression="acc + x * (k + 1)", init="0.0",
    )  # fmt: skip
    net = build.network(build.add(layer))
    given = np.arange(6.0)
    assert np.array_equal(run(net, {"x": given})["y"], np.cumsum(given * np.arange(1, 7)))


def test_a_given_reference_gets_arrays_in_the_order_of_reads() -> None:
    a, b = Tensor("a", (4,)), Tensor("b", (4,))
    layer = statement_layer(
        "sub", domain="{ S[i] : 0 <= i < 4 }", output=Tensor("y", (4,)),
        reads={"p": (b, "{ S[i] -> b[i] }"), "q": (a, "{ S[i] -> a[3 - i] }")}, expression="p - q", weights=["p"],
        reference=lambda p, q: p - q[::-1],
    )  # fmt: skip
    assert layer.inputs == (a,) and layer.weights == (b,) and layer.statements[0].name == "sub_final"
    build = Builder("one")
    build.input("a", (4,))
    net = build.network(build.add(layer, {"b": np.arange(4, dtype=np.float32)}))
    assert np.array_equal(run(net, {"a": [1, 2, 3, 4]})["y"], [-4, -2, 0, 2])


def test_names_of_dims_and_tuples_change_nothing() -> None:
    renamed = dict(CONVOLUTION)
    for old, new in (("S[", "Other["), ("kh", "r"), ("kw", "q")):
        renamed["domain"] = renamed["domain"].replace(old, new)
        renamed["reads"] = {o: (t, text.replace(old, new)) for o, (t, text) in renamed["reads"].items()}
    a, b = statement_layer("conv", **CONVOLUTION), statement_layer("conv", **renamed)
    assert a.reads(X) == b.reads(X) and a.statements[1].domain == b.statements[1].domain


READS = {"x": (Tensor("x", (8,)), "{ S[i, k] -> x[i + k] }")}
SUM: dict[str, Any] = {
    "domain": "{ S[i, k] : 0 <= i < 6 and 0 <= k < 3 }",
    "output": Tensor("y", (6,)),
    "reads": READS,
    "expression": "acc + x",
    "init": "0.0",
}


def reading(text: str) -> dict[str, Any]:
    return {"reads": {"x": (READS["x"][0], text)}}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"domain": "{ S[i, k : 0 <= i < 6 }"}, "isl cannot read .* such as { S"),
        ({"domain": "{ S[i]; T[j] }"}, "isl cannot read"),
        ({"domain": "[N] -> { : }"}, "one named tuple"),
        ({"domain": "{ [i, k] : 0 <= i < 6 and 0 <= k < 3 }"}, "one named tuple"),
        ({"domain": "{ S[0, k] : 0 <= k < 3 }"}, "a different name for each dim"),
        ({"domain": "{ S[i, k] : 0 <= i < 6 }"}, "unbounded"),
        ({"domain": "{ S[i, k] : 0 <= i < 0 and 0 <= k < 3 }"}, "empty"),
        ({"domain": "{ S[x, k] : 0 <= x < 6 and 0 <= k < 3 }"}, "a dim and an operand"),
        ({"domain": "{ S[i, acc] : 0 <= i < 6 and 0 <= acc < 3 }"}, "name 'acc'"),
        ({"domain": "{ S[i, k] : 0 <= i < 7 and 0 <= k < 2 }"}, r"makes y\[6\], which is outside of y\[6\]"),
        ({"output": Tensor("y", (2, 3, 4))}, "expected at least 3 dims"),
        (reading("{ S[i, k] -> x[i + k }"), "the read 'x': isl cannot read"),
        (reading("{ R[i, k] -> x[i + k] }"), r"expected S\[2 dims\] -> x\[1 dims\], got R\[2 dims\]"),
        (reading("{ S[i, k] -> z[i + k] }"), r"got S\[2 dims\] -> z"),
        (reading("{ S[i, k] -> x[i, k] }"), r"got .* -> x\[2 dims\]"),
        (reading("{ S[i, k] -> x[i + k + 1] }"), r"S\[5, 2\] reads x\[8\], which is outside of x\[8\]"),
        (reading("{ S[i, k] -> x[a] : i <= a < i + 2 }"), "several elements"),
        ({"init": None}, "are a reduction; expected init"),
        ({"init": "acc + 1"}, "before anything is written"),
        ({"init": "x", "expression": "acc + 1"}, "no one element for every point"),
        ({"expression": "acc + 1"}, "no expression uses the operand 'x'"),
        ({"expression": "acc + x ** 2"}, "neither arithmetic"),
        ({"weights": ["w"]}, "the weight 'w' is not one of the reads x"),
        (
            {"output": READS["x"][0], "domain": "{ S[i, k] : 0 <= i < 8 and k = 0 }"},
            r"point sum\[\d\] reads x\[\d\] of its own output",
        ),
        (
            {"domain": "{ S[i] : 0 <= i < 5 }", "init": None, "expression": "x"} | reading("{ S[i] -> x[i] }"),
            r"nothing makes y\[5\] of y\[6\]",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(change: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidInput, match=why) as error:
        statement_layer("sum", **(SUM | change))
    assert "\n" not in str(error.value)
