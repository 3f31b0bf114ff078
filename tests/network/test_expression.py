"""Expressions: what is refused, and that Python and compiled C agree."""

import ctypes
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from polyfuse.codegen.c.expression import parenthesised, to_c
from polyfuse.errors import InvalidInput
from polyfuse.network.expression import (
    FLOAT_FUNCTIONS,
    Given,
    check_expression,
    evaluator,
    names_in,
    tables_in,
)


def evaluate(expression: str, names: Mapping[str, Given]) -> float:
    """The value of an expression; names given as `int` are whole."""
    return evaluator(expression)(names)


PRELUDE = """
#include <math.h>
static inline float maximum(float a, float b) { return a > b || a != a ? a : b; }
static inline float minimum(float a, float b) { return a < b || a != a ? a : b; }
static inline int min(int a, int b) { return a < b ? a : b; }
static inline int max(int a, int b) { return a > b ? a : b; }
"""
FLOATS = ("acc", "x", "y")
INDICES = ("h", "w")
SAMPLES = [
    dict(zip((*FLOATS, *INDICES), values, strict=True))
    for values in [(0.5, -1.25, 3.0, 2, 7), (-2.0, 0.75, -0.5, 0, 1), (1.5, 0.0, 0.125, 5, 0)]
]


@pytest.mark.parametrize(
    ("expression", "c"),
    [
        ("acc + w * x", "acc + W * X[0]"),
        ("maximum(acc, 0)", "maximum(acc, 0.0f)"),
        ("acc / (min(2 * h + 3, 20) - max(2 * h, 0))", "acc / (float)(min(2 * h + 3, 20) - max(2 * h, 0))"),
        ("h / 2", "(float)h / 2.0f"),
        ("(h + x) * x", "((float)h + X[0]) * X[0]"),
        ("x - (x - 1)", "X[0] - (X[0] - 1.0f)"),
        ("x - x - 1", "X[0] - X[0] - 1.0f"),
        ("x * (x / 2)", "X[0] * (X[0] / 2.0f)"),
        ("-(-x)", "-(-X[0])"),
        ("-INFINITY", "-INFINITY"),
        ("0.1 * x", "0.1f * X[0]"),
        ("1e20 * x", "1e+20f * X[0]"),
        ("-(h + 1) * x", "(float)(-(h + 1)) * X[0]"),
        ("h", "(float)h"),
        ("3", "3.0f"),
    ],
)
def test_c_of_an_expression(expression: str, c: str) -> None:
    assert to_c(expression, {"x": "X[0]", "w": "W"}) == c


def test_indices_and_operands_are_parenthesised_where_needed() -> None:
    assert to_c("x * h", {"x": "a + b"}, {"h": "8 * t + y"}) == "(a + b) * (float)(8 * t + y)"
    assert [parenthesised(text) for text in ("f(a)[1]", "(a)b", "-a", "a.b")] == ["f(a)[1]", "((a)b)", "(-a)", "(a.b)"]


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("x if x else 1", "neither arithmetic"),
        ("__import__('os')", "neither arithmetic"),
        ("x.real", "neither arithmetic"),
        ("x ** 2", "neither arithmetic"),
        ("x; y", "cannot read"),
        ("True + x", "neither arithmetic"),
        ("None", "neither arithmetic"),
        ("...", "neither arithmetic"),
        ("'a' + x", "neither arithmetic"),
        ("[x][0]", "neither arithmetic"),
        ("(lambda: 0)()", "neither arithmetic"),
        ("expf(*x)", "neither arithmetic"),
        ("expf(x, a=1)", "neither arithmetic"),
        ("expf(x, x)", "takes 1, got 2"),
        ("maximum(x)", "takes 2, got 1"),
        ("max(x, 1)", "use maximum for floats"),
        ("min(h / 2, 1)", "use minimum for floats"),
        ("unknown + 1", "'unknown'"),
        ("1e39 * x", "passes the largest float"),
        ("1e999", "use INFINITY"),
        ("3000000000 * x", "write it as a float"),
        ("x +", "cannot read"),
        ("", "cannot read"),
        ("x" + " + x" * 500, "nested deeper"),
        ("(" * 5000 + "x" + ")" * 5000, "cannot read"),
        ("x\0", "cannot read"),
    ],
)
def test_other_text_is_refused_in_one_line(expression: str, why: str) -> None:
    with pytest.raises(InvalidInput, match="statement 's'") as error:
        check_expression("s", expression, {"x", "h"}, ["h"])
    assert why in str(error.value) and "\n" not in str(error.value)


def test_names_that_c_cannot_use_are_refused() -> None:
    with pytest.raises(InvalidInput, match="'int'"):
        to_c("int + x", {"x": "x"})
    with pytest.raises(InvalidInput, match="no value for y"):
        evaluate("x + y", {"x": 1.0})


def test_floats_follow_ieee() -> None:
    nan, inf = float("nan"), float("inf")
    assert evaluate("x / 0", {"x": 1.0}) == inf
    assert evaluate("1 / 0 - 1 / 0", {}) != evaluate("1 / 0 - 1 / 0", {})
    assert evaluate("expf(x)", {"x": 1e6}) == inf
    assert np.isnan(evaluate("maximum(x, 0)", {"x": nan})) and np.isnan(evaluate("minimum(0, x)", {"x": nan}))
    assert np.isnan(evaluate("sqrtf(x)", {"x": -1.0})) and evaluate("logf(x)", {"x": 0.0}) == -inf
    assert evaluate("minimum(INFINITY, x)", {"x": 3.0}) == 3.0
    assert evaluate("h / 2", {"h": 3}) == 1.5


def test_whole_operands_stay_whole() -> None:
    whole = {"x": "X[i]", "w": "W[j]", "acc": "acc"}
    assert to_c("acc + (w - 2) * (x + 3)", {}, whole, whole=True) == "acc + (W[j] - 2) * (X[i] + 3)"
    assert to_c("min(max(x, -3), 7)", {}, whole, whole=True) == "min(max(X[i], -3), 7)"
    assert to_c("rintf(acc * 0.5) + 3", {}, whole, whole=True) == "rintf((float)acc * 0.5f) + 3.0f"
    assert evaluate("acc + (w - 2) * (x + 3)", {"acc": 2**40, "w": 127, "x": 255}) == 2**40 + 125 * 258


def test_floats_are_rounded_to_float32_where_asked() -> None:
    names = {"x": 0.1, "n": 16_777_217}
    assert evaluator("x * 3", single=True)(names) == float(np.float32(0.1) * np.float32(3))
    assert evaluator("n * 1.0", single=True)(names) == 16_777_216.0
    assert evaluator("n * 1.0")(names) == 16_777_217.0
    assert evaluator("rintf(x)", single=True)({"x": 2.5}) == 2.0


def test_tables_are_read_at_whole_numbers() -> None:
    assert evaluate("table[x + 2]", {"table": np.array([4, 5, 6]), "x": -1}) == 5.0
    assert tables_in("table[x] + other[h]") == {"table", "other"}
    with pytest.raises(InvalidInput, match="expected an index from 0 to 2 of the table, got 3"):
        evaluate("table[x]", {"table": np.array([4, 5, 6]), "x": 3})
    with pytest.raises(InvalidInput, match="expected an index of whole numbers, dims and integer operands"):
        check_expression("s", "table[x]", {"table", "x"}, ["table"])
    with pytest.raises(InvalidInput, match="table is a table in 'table\\[h\\]' and an element elsewhere"):
        check_expression("s", "table[h] + table", {"table", "h"}, ["h"])
    with pytest.raises(InvalidInput, match="is neither arithmetic"):
        check_expression("s", "acc[0]", {"acc"})


UNARY = [name for name, (count, _) in FLOAT_FUNCTIONS.items() if count == 1]

indices = st.recursive(
    st.sampled_from(INDICES) | st.integers(0, 9).map(str),
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from("+-*"), inner),
        st.builds("{}({}, {})".format, st.sampled_from(["min", "max"]), inner, inner),
        st.builds("-{}".format, inner),
    ),
    max_leaves=5,
)
floats = st.recursive(
    st.sampled_from(FLOATS) | indices | st.sampled_from(["0.1", "2.5", "INFINITY", "1e-3"]),
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from("+-*/"), inner),
        st.builds("{} {} {}".format, inner, st.sampled_from("+-*/"), inner),
        st.builds("{}({}, {})".format, st.sampled_from(["maximum", "minimum"]), inner, inner),
        st.builds("{}({})".format, st.sampled_from(UNARY), inner),
        st.builds("-({})".format, inner),
    ),
    max_leaves=8,
)


def compiled(expressions: Sequence[str], folder: Path) -> ctypes.CDLL:
    """A library of `double f<k>(acc, x, y, h, w)`: all floats are doubles here, so that only meaning is compared."""
    texts = [re.sub(r"(?<=[0-9])f\b", "", to_c(e, {"x": "x", "y": "y"})) for e in expressions]
    arguments = "float acc, float x, float y, int h, int w"
    functions = [f"float f{k}({arguments}) {{ return {text}; }}" for k, text in enumerate(texts)]
    in_double = ["#define float double", *(f"#define {name} {name[:-1]}" for name in UNARY)]
    source, library = folder / "e.c", folder / "e.so"
    source.write_text("\n".join(["#include <math.h>", *in_double, PRELUDE, *functions]))
    command = ["gcc", "-std=c11", "-O0", "-w", "-fPIC", "-shared", "-ffp-contract=off", str(source)]
    subprocess.run([*command, "-o", str(library), "-lm"], check=True)
    return ctypes.CDLL(str(library))


@settings(max_examples=6, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(st.lists(floats, min_size=80, max_size=80))
def test_python_and_c_agree(tmp_path_factory: pytest.TempPathFactory, expressions: list[str]) -> None:
    library = compiled(expressions, tmp_path_factory.mktemp("c"))
    for k, expression in enumerate(expressions):
        function = library[f"f{k}"]
        function.restype = ctypes.c_double
        function.argtypes = [ctypes.c_double] * 3 + [ctypes.c_int] * 2
        for values in SAMPLES:
            in_c, in_python = function(*values.values()), evaluate(expression, values)
            np.testing.assert_allclose(in_c, in_python, rtol=1e-9, err_msg=f"{expression} at {values}")


@given(floats)
@settings(max_examples=60, deadline=None)
def test_names_are_those_of_the_text(expression: str) -> None:
    assert names_in(expression) <= {*FLOATS, *INDICES, "INFINITY"}
