"""Copies that rewriting joins, as torch computes them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyfuse.bench.peers.torch_layers import digits, moved
from polyfuse.network.layers import copies
from polyfuse.network.network import Builder, Network
from polyfuse.network.operator import Operator, Shuffle, View
from polyfuse.network.tensor import Tensor
from polyfuse.rewrite.rewriting import rewrite
from tests.bench.test_peers import MOST_ERROR
from tests.bench.test_torch_layers import error

torch = pytest.importorskip("torch")


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.data())
@settings(max_examples=200, deadline=None)
def test_digits_of_a_permuted_tensor_say_where_each_element_was(sizes: list[int], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(sizes))))
    indices = np.arange(math.prod(sizes)).reshape(sizes).transpose(order).ravel()
    found, steps = digits(indices)
    assert math.prod(found) == len(indices)
    places = sum((s * axis for s, axis in zip(steps, np.indices(found), strict=True)), np.zeros(found, int))
    assert np.array_equal(places.ravel(), indices)


@given(st.lists(st.integers(0, 20), min_size=2, max_size=12))
@settings(max_examples=200, deadline=None)
def test_digits_never_say_what_is_not_so(indices: list[int]) -> None:
    found, steps = digits(np.array(indices))
    if found:
        places = sum((s * axis for s, axis in zip(steps, np.indices(found), strict=True)), np.zeros(found, int))
        assert (places.ravel() + indices[0]).tolist() == indices


def shuffled(build: Builder, x: Tensor) -> Tensor:
    n, c, h, w = x.concrete_shape
    x = build.add(copies.reshape("apart", x, (n, 3, c // 3, h, w)))
    x = build.add(copies.transpose("turned", x, (0, 2, 1, 3, 4)))
    return build.add(copies.reshape("joined", x, (n, c, h, w)))


def shifted(build: Builder, x: Tensor) -> Tensor:
    x = build.add(copies.transpose("turned", x, (0, 1, 3, 2)))
    return build.add(copies.slice_of("part", x, (0, 1, 1, 0), (1, 4, 4, 3), (1, 2, 1, 2)))


def joined(operator: Operator) -> Network:
    build = Builder("joined")
    x = build.conv("a", build.input("x", (1, 4, 6, 5)), 12, kernel=1)
    y = shuffled(build, x) if operator == Shuffle() else shifted(build, x)
    network = rewrite(build.network(build.conv("b", y, 2, kernel=1))).network
    assert operator in [layer.operator for layer in network.layers]
    return network


@pytest.mark.parametrize("operator", [Shuffle(), View()])
def test_joined_copies_are_computed(operator: Operator) -> None:
    assert error(joined(operator)) < MOST_ERROR / 10


def test_a_shuffle_of_channels_is_two_views_and_a_permutation() -> None:
    layer = next(layer for layer in joined(Shuffle()).layers if layer.operator == Shuffle())
    x = torch.arange(layer.inputs[0].elements, dtype=torch.float32).reshape(layer.inputs[0].concrete_shape)
    made = moved(torch, layer, layer.operator)({layer.inputs[0].name: x})
    n, c, h, w = x.shape
    assert torch.equal(made, x.view(n, 3, c // 3, h, w).transpose(1, 2).reshape(n, c, h, w))
