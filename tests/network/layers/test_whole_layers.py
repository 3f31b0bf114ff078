"""Copies, products, reductions, normalisation, instance by instance, agree with numpy; what does not fit is refused."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyfuse.errors import InvalidInput
from polyfuse.network.activated import with_activation
from polyfuse.network.instances import interpret
from polyfuse.network.layer import Layer
from polyfuse.network.layers import copies, matrices, normalisation, pointwise, reductions
from polyfuse.network.layers.deconvolution import conv_transpose
from polyfuse.network.layers.resizing import resize
from polyfuse.network.reference import max_relative_error
from polyfuse.network.resampling import COORDINATES, Resampling
from polyfuse.network.tensor import Tensor
from polyfuse.network.window import Window
from tests.network.test_instances import agrees


def x(*shape: int) -> Tensor:
    return Tensor("x", shape)


def y(*shape: int) -> Tensor:
    return Tensor("y", shape)


RESHAPES = [
    ((1, 12, 5, 6), (1, 3, 4, 5, 6)),
    ((1, 3, 4, 5, 6), (1, 12, 5, 6)),
    ((2, 12, 2, 3), (2, 72)),
    ((2, 72), (2, 12, 2, 3)),
    ((4, 6), (3, 8)),
    ((2, 3, 4), (24,)),
    ((1, 1), (1,)),
    ((6,), (1, 2, 1, 3)),
    ((2, 3, 1, 4), (3, 2, 4)),
]


@pytest.mark.parametrize(("old", "new"), RESHAPES)
def test_reshape(old: tuple[int, ...], new: tuple[int, ...]) -> None:
    assert agrees(copies.reshape("r", x(*old), new))


@settings(max_examples=40, deadline=None)
@given(st.permutations([2, 2, 3, 1, 5]), st.integers(0, 4), st.integers(0, 4), st.integers(1, 5))
def test_reshape_of_any_runs(sizes: list[int], first: int, second: int, rank: int) -> None:
    old = [*sizes[:first], int(np.prod(sizes[first:]))]
    new = [int(np.prod(sizes[:second])), *sizes[second:]][:rank]
    new[-1] = 60 // int(np.prod(new[:-1]))
    assert agrees(copies.reshape("r", x(*old), new))


LAYERS: dict[str, Callable[[], Layer]] = {
    "transpose": lambda: copies.transpose("l", x(2, 3, 4, 5), (3, 1, 0, 2)),
    "transpose of three axes": lambda: copies.transpose("l", x(2, 3, 4), (1, 2, 0)),
    "slice": lambda: copies.slice_of("l", x(2, 9, 4), (1, 8, 0), (1, 4, 4), (1, -2, 1)),
    "slice to the first element": lambda: copies.slice_of("l", x(5, 3), (4, 0), (5, 3), (-1, 1)),
    "split": lambda: copies.split("l", x(2, 9, 4, 4), -3, 2, 5),
    "gather": lambda: copies.gather("l", x(2, 9, 3), 1, (4, 1, 1, 8)),
    "gather of every second": lambda: copies.gather("l", x(9, 3), 0, range(0, 9, 2)),
    "expand": lambda: copies.expand("l", x(3, 1), (2, 3, 4)),
    "depth_to_space": lambda: copies.depth_to_space("l", x(2, 12, 2, 3), 2),
    "depth_to_space, columns first": lambda: copies.depth_to_space("l", x(2, 12, 2, 3), 2, "CRD"),
    "space_to_depth": lambda: copies.space_to_depth("l", x(2, 3, 4, 6), 2),
    "space_to_depth, columns first": lambda: copies.space_to_depth("l", x(2, 3, 4, 6), 2, "CRD"),
    "concat of rows": lambda: copies.concat("l", [x(2, 3, 5), y(4, 3, 5)], 0),
    "concat of vectors": lambda: copies.concat("l", [x(2), y(3), x(2)], -1),
    "concat with a weight": lambda: copies.concat("l", [y(2, 3), x(2, 4)], 1, [y(2, 3)]),
    "broadcast ranks": lambda: pointwise.arithmetic("l", "mul", x(2, 3, 4, 5), y(4, 1)),
    "broadcast vectors": lambda: with_activation(pointwise.arithmetic("l", "max", x(3, 1), y(4)), "relu"),
    "mean of three": lambda: pointwise.variadic("l", "mean", [x(2, 3), y(3), Tensor("z", (2, 1))]),
    "min of three": lambda: with_activation(pointwise.variadic("l", "min", [x(2, 3), y(3), x(2, 3)]), "sigmoid"),
    "affine": lambda: with_activation(pointwise.affine("l", x(2, 3), y(1, 3), Tensor("z", (1, 3))), "relu"),
    "gemm": lambda: with_activation(matrices.gemm("l", x(2, 5), y(3, 5), Tensor("z", (3,))), "relu"),
    "gemm without a bias": lambda: matrices.gemm("l", x(2, 5), y(3, 5)),
    "gemm with a bias of rows": lambda: matrices.gemm("l", x(2, 5), y(3, 5), Tensor("z", (2, 1))),
    "variance": lambda: reductions.variance("l", x(2, 3, 4, 5), y(2, 3, 1, 1), (2, 3)),
    "lrn": lambda: normalisation.lrn("l", x(2, 7, 3, 4), 5, alpha=0.3),
    "lrn of an even size": lambda: normalisation.lrn("l", x(2, 7, 4), 4, alpha=0.3, bias=2.0),
}


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_layer(name: str) -> None:
    assert agrees(LAYERS[name]())


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(*[st.integers(1, 3)] * 2),
    st.tuples(*[st.integers(1, 3)] * 2),
    st.tuples(*[st.integers(1, 2)] * 2),
    st.tuples(*[st.integers(0, 1)] * 4),
    st.tuples(*[st.integers(0, 2)] * 2),
    st.sampled_from([(1, 2, 1), (2, 1, 1), (2, 1, 2)]),
)
def test_transposed_convolution(kernel, stride, dilation, padding, more, channels):  # type: ignore[no-untyped-def]
    groups, in_group, per_group = channels
    w, b = Tensor("w", (groups * in_group, per_group, *kernel)), Tensor("b", (groups * per_group,))
    window = Window(kernel, stride, dilation, padding)
    layer = conv_transpose("l", x(1, groups * in_group, 3, 4), w, b, window, groups, more)
    assert agrees(with_activation(layer, "tanh"))


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("coordinates", sorted(COORDINATES))
@pytest.mark.parametrize("sizes", [(1, 2, 8, 6), (1, 2, 3, 4), (1, 3, 5, 9)])
def test_resize(mode: str, coordinates: str, sizes: tuple[int, ...]) -> None:
    how = Resampling(mode, coordinates)
    layer, weights = resize("l", x(1, 2, 4, 3), sizes, how=how)
    given = {t.name: weights[t.name].astype(np.float64) for t in layer.weights}
    given["x"] = np.random.default_rng(0).standard_normal((1, 2, 4, 3))
    assert layer.reference is not None
    expected = layer.reference(given["x"], *(given[t.name] for t in layer.weights))
    assert max_relative_error(interpret(layer, given), expected) <= 1e-12


@pytest.mark.parametrize("mode", copies.PAD_MODES)
@pytest.mark.parametrize(
    ("shape", "before", "after"),
    [((1, 3, 5, 6), (0, 0, 2, 1), (0, 1, 1, 3)), ((5, 6), (2, -1), (1, -2)), ((4,), (3,), (0,))],
)
def test_pad(mode: str, shape: tuple[int, ...], before: tuple[int, ...], after: tuple[int, ...]) -> None:
    assert agrees(copies.pad("l", x(*shape), before, after, mode, 1.5))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((2, 3), (3, 4)),
        ((3,), (3,)),
        ((3,), (3, 4)),
        ((2, 3), (3,)),
        ((5, 2, 3), (3, 4)),
        ((5, 1, 2, 3), (4, 3, 2)),
        ((2, 3, 4, 5), (2, 3, 5, 2)),
        ((3,), (2, 3, 4)),
    ],
)
def test_matmul(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    assert agrees(matrices.matmul("l", x(*a), y(*b)))
    assert agrees(matrices.matmul("l", x(*a), y(*b), [x(*a)]))


@pytest.mark.parametrize("kind", sorted(reductions.REDUCTIONS))
def test_reductions(kind: str) -> None:
    assert agrees(reductions.reduce("l", kind, x(2, 3, 4, 5), (2, -1), keepdims=False))
    assert agrees(with_activation(reductions.reduce("l", kind, x(2, 3, 4, 5), (1,)), "tanh"))
    assert agrees(reductions.reduce("l", kind, x(3, 4), (0, 1), keepdims=False))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: copies.reshape("l", x(2, 3), (7,)), "expected a shape of 6 elements"),
        (lambda: copies.transpose("l", x(2, 3), (0, 0)), "expected a permutation of the 2 axes"),
        (lambda: copies.slice_of("l", x(4), (3,), (2,)), "expected a part of"),
        (lambda: copies.slice_of("l", x(4), (3,), (2,), (0,)), "a step other than 0"),
        (lambda: copies.split("l", x(4), 1, 0, 1), "expected an axis of"),
        (lambda: copies.gather("l", x(4), 0, (1, 4)), "expected indices from 0 to 3"),
        (lambda: copies.expand("l", x(4), (3,)), "a shape that x"),
        (lambda: copies.depth_to_space("l", x(1, 6, 2, 2), 2), "square divides 6 channels"),
        (lambda: copies.space_to_depth("l", x(1, 6, 3, 2), 2), "a block that divides 3 rows"),
        (lambda: copies.space_to_depth("l", x(6, 2), 2), r"expected an input \[n, c, h, w\]"),
        (lambda: copies.pad("l", x(4), (0,), (0,), "mirror"), "expected a mode of constant"),
        (lambda: copies.pad("l", x(4), (-4,), (0,)), "leaves some of"),
        (lambda: copies.pad("l", x(1), (2,), (-1,)), "only padding"),
        (lambda: copies.pad("l", x(20, 20), (99, 99), (99, 99), "wrap"), "at most 64 even parts"),
        (lambda: copies.concat("l", [x(2, 3), y(3, 3)], 1), "differ only along axis 1"),
        (lambda: pointwise.variadic("l", "median", [x(2)]), "expected operands of one of sum"),
        (lambda: matrices.gemm("l", x(2, 3), y(2, 4)), r"expected an input \[n, k\]"),
        (lambda: matrices.gemm("l", x(2, 3), y(2, 3), Tensor("z", (3,))), "cannot broadcast"),
        (lambda: matrices.gemm("l", x(1, 3), y(2, 3), Tensor("z", (4, 1))), "expected a bias"),
        (lambda: matrices.matmul("l", x(2, 3), y(2, 4)), r"expected operands \[.., i, k\]"),
        (lambda: reductions.reduce("l", "sum", x(2, 3), (0, 0)), "along different axes"),
        (lambda: reductions.reduce("l", "median", x(2, 3), (0,)), "expected one of sum"),
        (lambda: normalisation.lrn("l", x(2, 3), 0), "a size of at least 1"),
        (lambda: resize("l", x(2, 3), (2, 3, 4))[0], "a size of at least 1 for each axis"),
        (lambda: resize("l", x(2, 3), (2, 4), how=Resampling("lanczos"))[0], "expected one of nearest"),
        (lambda: conv_transpose("l", x(1, 3, 4, 4), y(4, 2, 3, 3)), "expect 4 input channels"),
        (lambda: conv_transpose("l", x(1, 4, 4, 4), y(4, 2, 3, 3), Tensor("z", (3,))), "a bias of shape"),
        (lambda: conv_transpose("l", x(4, 4), y(4, 2, 3, 3)), "expected an input .n, c, h, w."),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(make: Callable[[], Layer], why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        make()
