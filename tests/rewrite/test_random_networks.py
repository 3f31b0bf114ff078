"""Random networks of every kind of layer that rules know: rewritten, each tensor that still exists has its value."""

from collections.abc import Callable

import numpy as np
import pytest

from polyfuse.network.layers import copies
from polyfuse.network.layers.matrices import gemm
from polyfuse.network.layers.reductions import reduce
from polyfuse.network.network import Network
from polyfuse.network.tensor import Tensor
from polyfuse.rewrite.rewriting import rewrite
from polyfuse.rewrite.rules.catalogue import ON_REQUEST, RULES
from tests.rewrite.rules.examples import Draw, instance_norm
from tests.rewrite.rules.test_rules import same_values

Step = Callable[[Draw, str, Tensor], Tensor]


def reshaped(draw: Draw, name: str, x: Tensor) -> Tensor:
    n, c, h, w = x.concrete_shape
    shapes = [(n, c * h, w), (n, c * h * w), (n * c, h, w), (n, w, c, h), (n, 1, c, h, w)]
    y = draw.build.add(copies.reshape(f"{name}_a", x, shapes[int(draw.random.integers(len(shapes)))]))
    return draw.build.add(copies.reshape(name, y, (n, h, w, c) if draw.random.integers(2) else (n, c, h, w)))


def turned(draw: Draw, name: str, x: Tensor) -> Tensor:
    return draw.build.add(copies.transpose(name, x, (0, *(1 + draw.random.permutation(3)).tolist())))


def parted(draw: Draw, name: str, x: Tensor) -> Tensor:
    axis = int(draw.random.integers(1, 4))
    size = x.concrete_shape[axis]
    return x if size < 2 else draw.build.add(copies.split(name, x, axis, size // 2, size - size // 2))


def convolved(draw: Draw, name: str, x: Tensor) -> Tensor:
    return draw.conv(name, x, kernel=int(draw.random.integers(1, 3)), padding=1, bias=bool(draw.random.integers(2)))


def scaled(draw: Draw, name: str, x: Tensor) -> Tensor:
    kind = ["mul", "add", "sub", "div"][int(draw.random.integers(4))]
    shape = [(1, x.concrete_shape[1], 1, 1), (1, 1, 1, 1), (1, 1, 1, x.concrete_shape[3])][int(draw.random.integers(3))]
    return draw.with_weight(name, kind, x, *shape, first=kind != "div" and bool(draw.random.integers(2)))


def active(draw: Draw, name: str, x: Tensor) -> Tensor:
    return draw.build.activation(name, x, ["relu", "sigmoid", "silu", ("clip", -1, 1)][int(draw.random.integers(4))])


def gated(draw: Draw, name: str, x: Tensor) -> Tensor:
    return draw.build.arithmetic(name, "mul", x, draw.build.activation(f"{name}_gate", x, "sigmoid"))


def branched(draw: Draw, name: str, x: Tensor) -> Tensor:
    sides = [STEPS[int(draw.random.integers(5, len(STEPS)))](draw, f"{name}_{side}", x) for side in "ab"]
    if sides[0].shape != sides[1].shape:
        return sides[0]
    return draw.build.arithmetic(name, ["add", "sub", "mul"][int(draw.random.integers(3))], *sides)


def normal(draw: Draw, name: str, x: Tensor) -> Tensor:
    if any(layer.name == "norm" for layer in draw.build.layers):
        return x
    draw.channels = x.concrete_shape[1]
    return instance_norm(draw, x)


def copied(draw: Draw, name: str, x: Tensor) -> Tensor:
    return draw.build.add(copies.copy(name, x))


STEPS: tuple[Step, ...] = (branched, normal, parted, turned, reshaped, convolved, scaled, active, gated, scaled, copied)


def drawn(seed: int) -> Network:
    """Six steps, with a head that flattens in some networks; some tensors in the middle are outputs, too."""
    draw = Draw(seed)
    x = draw.input()
    for k in range(6):
        x = STEPS[int(draw.random.integers(len(STEPS)))](draw, f"s{k}", x)
    if seed % 3 == 0:
        n, elements = x.concrete_shape[0], int(np.prod(x.concrete_shape[1:]))
        flat = draw.build.add(copies.reshape("flat", x, (n, elements)))
        x = draw.build.add(gemm("head", flat, draw.weight("head_w", 3, elements), draw.weight("head_b", 3)))
    if seed % 3 == 1:
        x = draw.build.add(reduce("mean", "mean", x, (2, 3), keepdims=bool(seed % 2)))
    if not draw.build.layers:
        x = draw.build.activation("only", x, "relu")
    made = [layer.output for layer in draw.build.layers]
    middle = made[int(draw.random.integers(len(made)))]
    return draw.build.network(*dict.fromkeys([x if x in made else made[-1], *([middle] if seed % 4 == 0 else [])]))


@pytest.mark.parametrize("seed", range(120))
def test_random_networks_keep_their_values(seed: int) -> None:
    network = drawn(seed)
    found = rewrite(network, (*RULES, *ON_REQUEST))
    inputs = {t.name: np.random.default_rng(seed).standard_normal(t.concrete_shape, np.float32) for t in network.inputs}
    assert same_values(found, inputs, 1e-5)
    assert [tensor.shape for tensor in found.network.outputs] == [tensor.shape for tensor in network.outputs]
    assert not rewrite(found.network, (*RULES, *ON_REQUEST)).applied
    assert all(miss.reason for miss in found.near_misses)
