"""Signatures by hand: what enters, what leaves, and what does not fit a network."""

from dataclasses import replace

import numpy as np
import pytest

from polyfuse.errors import InvalidInput
from polyfuse.network.network import Builder, Network
from polyfuse.network.signature import Input, Output, Signature, shown


def network() -> Network:
    build = Builder("net")
    a, b = build.input("a", (1, 1, 2, 2)), build.input("b", (1, 1, 2, 2))
    return build.network(build.arithmetic("s", "sub", a, b), build.arithmetic("t", "add", a, b))


SIGNATURE = Signature(
    (Input("second", 1), Input("unused", None, "int64", (None,)), Input("first", 0), Input("mask", None, "bool", (2,))),
    (Output("twice", 1), Output("again", 1), Output("one", 0), Output("c", value=np.int64([1])), Output("m", given=3)),
)


def test_arrays_enter_and_leave_by_the_names_of_the_model() -> None:
    net = replace(network(), signature=SIGNATURE)
    mask = [True, False]
    bound = net.ends.bound("net", (1.0,), {"first": 2.0, "mask": mask})
    assert bound == (1.0, None, 2.0, mask) and net.ends.entering(bound, net.inputs) == {"b": 1.0, "a": 2.0}
    made = {"s_out": np.float32([1, 2]), "t_out": np.float32([3, 4])}
    found = net.ends.leaving(made, net.outputs, bound)
    assert list(found) == ["twice", "again", "one", "c", "m"]
    assert found["twice"].tolist() == found["again"].tolist() == [3, 4] and found["one"].tolist() == [1, 2]
    assert not np.shares_memory(found["twice"], found["again"])
    assert (found["c"].dtype, found["m"].dtype) == (np.int64, np.bool_)
    found["c"][0] = 7
    assert net.ends.outputs[3].value is not None and net.ends.outputs[3].value.tolist() == [1]


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ((Input("a", 0),), (Output("s", 0), Output("t", 1))),
        ((Input("a", 0), Input("b", 0)), (Output("s", 0), Output("t", 1))),
        ((Input("a", 0), Input("a", 1)), (Output("s", 0), Output("t", 1))),
        ((Input("a", 0), Input("b", 1)), (Output("s", 0),)),
        ((Input("a", 0), Input("b", 1)), (Output("s", 0), Output("t", 2))),
    ],
)
def test_signatures_that_are_not_the_networks_are_refused(
    inputs: tuple[Input, ...], outputs: tuple[Output, ...]
) -> None:
    with pytest.raises(InvalidInput, match="expected a signature with each of 2 inputs once and each of 2 outputs"):
        replace(network(), signature=Signature(inputs, outputs))


@pytest.mark.parametrize("named", [{}, {"second": 1, "first": 2}, {"second": 1, "mask": 0, "first": 2, "other": 3}])
def test_inputs_that_do_not_fit_are_refused(named: dict[str, float]) -> None:
    with pytest.raises(InvalidInput, match="net: expected the inputs second, unused, first, mask, each once, got 0"):
        SIGNATURE.bound("net", (), named)


def test_names_are_shown_on_one_line() -> None:
    assert (shown("data/0"), shown("a\nb"), shown(" "), shown("")) == ("data/0", r"'a\nb'", "' '", "''")
