"""Names, networks and the builder."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyfuse.errors import InvalidInput
from polyfuse.network.layers import pointwise
from polyfuse.network.layers.convolution import convolution
from polyfuse.network.network import Builder, Network
from polyfuse.network.tensor import Tensor, checked_name, safe_name
from polyfuse.network.window import Window


def diamond() -> Network:
    build = Builder("diamond")
    x = build.input("x", (1, 2, 8, 8))
    a = build.conv("a", x, 2, kernel=3, padding=1)
    b, c = build.activation("b", a, "relu"), build.activation("c", a, "neg")
    d = build.arithmetic("d", "add", b, c)
    return build.network(build.max_pool("e", d, kernel=2))


@given(st.text(max_size=80), st.sets(st.text(alphabet="ab_", max_size=3), max_size=5))
def test_safe_names_are_valid_and_new(text: str, taken: set[str]) -> None:
    name = safe_name(text, taken)
    assert checked_name(name) == name and name not in taken
    again = safe_name(text, taken | {name})
    assert checked_name(again) == again and again != name


def test_safe_names_stay_valid_where_they_are_cut() -> None:
    cut = safe_name("a" * 47 + "/b")
    assert cut == "a" * 47 and safe_name("a" * 47 + "/c", {cut}) == f"{cut}_2"


@pytest.mark.parametrize("name", ["", "1a", "a b", "a__b", "int", "lambda", "a" * 64, "acc", "_a", "é", "min"])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="safe_name"):
        checked_name(name)


def test_parts_of_a_network() -> None:
    net = diamond()
    middle = net.between("a", "d")
    assert [layer.name for layer in middle.layers] == ["a", "b", "c", "d"] and middle.outputs[0].name == "d_out"
    assert set(middle.weights) == {"a_weight", "a_bias"}
    path = net.between("b", "d")
    assert [layer.name for layer in path.layers] == ["b", "d"] and {t.name for t in path.inputs} == {"a_out", "c_out"}
    first = net.between(None, "b")
    assert [layer.name for layer in first.layers] == ["a", "b"] and {t.name for t in first.outputs} == {
        "a_out",
        "b_out",
    }
    assert [layer.name for layer in net.between("d", None).layers] == ["d", "e"]
    assert net.readers(net.layer("a").output) == (net.layer("b"), net.layer("c"))
    with pytest.raises(InvalidInput, match="no path leads from layer 'b' to layer 'c'"):
        net.between("b", "c")
    with pytest.raises(InvalidInput, match="has no layer 'f'; it has a, b, c, d, e"):
        net.select(["f"])


def test_networks_that_are_refused() -> None:
    x = Tensor("x", (1, 1, 4, 4))
    act = pointwise.activation("act", x, "relu")
    after = pointwise.activation("after", act.output, "neg")
    refusals = [
        (((x,), (after, act), (after.output,), {}), "before any layer makes it"),
        (((x,), (act,), (), {}), "at least one layer and one output"),
        (((x,), (act,), (x,), {}), "no layer makes the output"),
        (((x, x), (act,), (act.output,), {}), "share a name"),
        (((x, Tensor("act", (1,))), (act,), (act.output,), {}), "the name 'act' is taken"),
        (((Tensor("x", (1, 1, 4, 5)),), (act,), (act.output,), {}), r"reads x\[1, 1, 4, 4\], which is x\[1, 1, 4, 5\]"),
    ]
    for arguments, why in refusals:
        with pytest.raises(InvalidInput, match=why):
            Network("net", *arguments)  # type: ignore[arg-type]
    conv = convolution("conv", x, Tensor("w", (1, 1, 1, 1)))
    for value in ({}, {"w": np.zeros((1, 1), np.float32)}, {"w": np.zeros((1, 1, 1, 1))}):
        with pytest.raises(InvalidInput, match="expected float32 values for the weight w"):
            Network("net", (x,), (conv,), (conv.output,), value)


def test_the_builder_refuses_what_does_not_fit() -> None:
    build = Builder("net")
    x = build.input("x", (1, 4, 8, 8))
    with pytest.raises(InvalidInput, match="expected 1 to 4 groups, got 0"):
        build.conv("conv", x, 4, kernel=3, groups=0)
    with pytest.raises(InvalidInput, match="expected shape"):
        build.conv("conv", x, 4, kernel=3, weight=np.zeros((4, 4, 2, 2), np.float32))
    with pytest.raises(InvalidInput, match="a number of channels"):
        build.depthwise("conv", build.input("s", (1, "C", 8, 8)), kernel=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel": 0}, "whole sizes of at least 1"),
        ({"kernel": 1.5}, "expected a whole number, or 2 of them, got 1.5"),
        ({"kernel": (3, 3, 3)}, r"or 2 of them, got \(3, 3, 3\)"),
        ({"kernel": "33"}, "or 2 of them, got '33'"),
        ({"kernel": 3, "stride": 0}, "stride and dilation of at least 1"),
        ({"kernel": 3, "padding": (1, 1, 1)}, r"or 2 or 4 of them, got \(1, 1, 1\)"),
        ({"kernel": 3, "dilation": None}, "got None"),
    ],
)
def test_windows_that_are_no_numbers_are_refused(options: dict[str, Any], message: str) -> None:
    build = Builder("net")
    with pytest.raises(InvalidInput, match=message):
        build.conv("conv", build.input("x", (1, 4, 8, 8)), 4, **options)


@pytest.mark.parametrize("size", [1.5, 8.0, 0, -1, None])
def test_sizes_that_are_not_whole_are_refused(size: Any) -> None:
    with pytest.raises(InvalidInput, match="tensor 'x': expected whole sizes of at least 1, got"):
        Tensor("x", (1, 1, size, 8))


def test_sizes_of_numpy_are_numbers() -> None:
    build = Builder("net")
    x = build.input("x", (1, 1, np.int64(8), 8))
    y = build.conv("conv", x, 1, kernel=np.int64(3), padding=(np.int64(1), 0))
    assert (x.shape, y.shape) == ((1, 1, 8, 8), (1, 1, 8, 6))


def test_weights_follow_the_seed_and_the_name() -> None:
    def weight(seed: int, name: str) -> np.ndarray:
        build = Builder("net", seed)
        build.conv(name, build.input("x", (1, 4, 8, 8)), 4, kernel=3)
        return build.weights[f"{name}_weight"]

    assert np.array_equal(weight(1, "a"), weight(1, "a"))
    assert not np.array_equal(weight(1, "a"), weight(2, "a")) and not np.array_equal(weight(1, "a"), weight(1, "b"))


def test_updates_read_only_where_they_exist() -> None:
    x, w = Tensor("x", (1, 1, 1, 1)), Tensor("w", (1, 1, 3, 3))
    layer = convolution("conv", x, w, window=Window((3, 3), padding=(1, 1, 1, 1)))
    assert layer.reads(w).wrap().count_val().to_python() == 1
    assert layer.macs[0].domain.count_val().to_python() == 1
