"""Small networks, each with a place for one rule, that the rule is proved on (tests/rewrite/symbolic.py).

Weights are symbols there, but for those that a rule asks for the values of.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from polyfuse.network.activated import with_activation
from polyfuse.network.activation import Spec
from polyfuse.network.layer import Layer
from polyfuse.network.layers import copies, normalisation, pointwise
from polyfuse.network.layers.deconvolution import conv_transpose
from polyfuse.network.layers.matrices import gemm, matmul
from polyfuse.network.layers.reductions import reduce
from polyfuse.network.network import Builder, Network
from polyfuse.network.operator import BinaryFunction
from polyfuse.network.quantised import elements
from polyfuse.network.quantised.scheme import Quantisation
from polyfuse.network.tensor import Tensor

EPSILON = 2.0**-10
SCALE, FINER = Quantisation(0.5, 6), Quantisation(0.25, -2)


@dataclass(frozen=True)
class Instance:
    """A small network to which a rule applies; `numbers` are weights that keep their values, others become symbols."""

    network: Network
    numbers: frozenset[str] = frozenset()


def _start(*shape: int) -> tuple[Builder, Tensor]:
    build = Builder("instance", seed=1)
    return build, build.input("x", shape or (1, 2, 2, 2))


def _affine(build: Builder, name: str, x: Tensor, channels: int = 2) -> Tensor:
    weights = [build.weight(f"{name}_{part}", (1, channels, 1, 1), 1) for part in ("scale", "shift")]
    return build.add(pointwise.affine(name, x, *weights))


def _numbers(build: Builder, name: str, *values: float) -> Tensor:
    """Numbers, one for each channel."""
    shape = (1, len(values), 1, 1)
    return build.weight(name, shape, 1, np.array(values, np.float32).reshape(shape))


def conv_then_scaling(groups: int = 1, bias: bool = True) -> Instance:
    build, x = _start()
    y = build.conv("conv", x, 2, kernel=2, padding=1, stride=2, groups=groups, bias=bias)
    return Instance(build.network(_affine(build, "after", y)))


def transposed_then_scaling() -> Instance:
    build, x = _start(1, 2, 2, 1)
    w, b = build.weight("w", (2, 1, 2, 1), 2), build.weight("b", (2,), 1)
    return Instance(build.network(_affine(build, "after", build.add(conv_transpose("conv", x, w, b, groups=2)))))


def scaling_then_conv(groups: int = 1) -> Instance:
    build, x = _start()
    return Instance(build.network(build.conv("conv", _affine(build, "before", x), 2, kernel=2, groups=groups)))


def factor_then_padded_conv() -> Instance:
    build, x = _start()
    w = build.weight("w", (1, 2, 1, 1), 1)
    y = build.add(pointwise.arithmetic("before", "mul", x, w, constants=["b"]))
    return Instance(build.network(build.conv("conv", y, 2, kernel=2, padding=1)))


def two_scalings() -> Instance:
    build, x = _start()
    return Instance(build.network(_affine(build, "second", _affine(build, "first", x))))


def two_convolutions(kind: BinaryFunction) -> Instance:
    build, x = _start()
    terms = [build.conv(name, x, 2, kernel=2, padding=1, bias=name == "left") for name in ("left", "right")]
    return Instance(build.network(build.arithmetic("sum", kind, *terms)))


def two_products(kind: BinaryFunction) -> Instance:
    build, a = _start()
    b, c = build.input("b", (1, 2, 2, 2)), build.input("c", (1, 2, 2, 2))
    terms = build.arithmetic("left", "mul", a, c), build.arithmetic("right", "mul", c, b)
    return Instance(build.network(build.arithmetic("sum", kind, *terms)))


def _normalised(build: Builder, x: Tensor) -> Tensor:
    weights = [build.weight(f"norm_{part}", (1, 2, 1, 1), 1) for part in ("scale", "shift")]
    return [build.add(part) for part in normalisation.instance_norm("norm", x, *weights, epsilon=EPSILON)][-1]


def norm_then_scaling() -> Instance:
    build, x = _start(1, 2, 1, 2)
    return Instance(build.network(_affine(build, "after", _normalised(build, x))))


def scaling_then_norm(*scales: float) -> Instance:
    build, x = _start(1, 2, 1, 2)
    weights = _numbers(build, "numbers", *scales), build.weight("shift", (1, 2, 1, 1), 1)
    y = _normalised(build, build.add(pointwise.affine("before", x, *weights)))
    return Instance(build.network(y), frozenset(["numbers"]))


def gated(spec: Spec) -> Instance:
    """x times an activation of x."""
    build, x = _start(1, 1, 1, 1)
    return Instance(build.network(build.arithmetic("product", "mul", x, build.activation("gate", x, spec))))


def gated_by_clip(most: float) -> Instance:
    """x times `clip(k x / 6 + k / 2, 0, k)`."""
    build, x = _start(1, 1, 1, 1)
    weights = _numbers(build, "slope", most / 6), _numbers(build, "half", most / 2)
    gate = build.add(with_activation(pointwise.affine("gate", x, *weights), ("clip", 0.0, most)))
    return Instance(build.network(build.arithmetic("product", "mul", x, gate)), frozenset(["slope", "half"]))


def nothing_done() -> Instance:
    build, x = _start()
    y = build.add(pointwise.affine("nothing", build.max_pool("before", x, kernel=1), *_ones_and_zeros(build)))
    return Instance(build.network(build.max_pool("pool", y, kernel=1)), frozenset(["one", "zero"]))


def _ones_and_zeros(build: Builder) -> tuple[Tensor, Tensor]:
    return _numbers(build, "one", 1.0, 1.0), _numbers(build, "zero", 0.0, 0.0)


def producer_then(spec: Spec, kind: str = "conv") -> Instance:
    """A layer, and an activation of what it makes."""
    build, x = _start()
    made = build.conv("producer", x, 2, kernel=2) if kind == "conv" else _affine(build, "producer", x)
    return Instance(build.network(build.activation("activation", made, spec)))


def copies_in_turn(*parts: Callable[[str, Tensor], Layer]) -> Instance:
    """Copies, one after the other."""
    build, x = _start(1, 2, 2, 3)
    for index, part in enumerate(parts):
        x = build.add(part(f"copy{index}", x))
    return Instance(build.network(x))


def reshaped(*shape: int) -> Callable[[str, Tensor], Layer]:
    return lambda name, x: copies.reshape(name, x, shape)


def transposed(*order: int) -> Callable[[str, Tensor], Layer]:
    return lambda name, x: copies.transpose(name, x, order)


def copied_then(spec: str) -> Instance:
    """A convolution, a transpose and an activation."""
    build, x = _start()
    moved = build.add(copies.transpose("moved", build.conv("conv", x, 2, kernel=2), (0, 2, 3, 1)))
    return Instance(build.network(build.activation("activation", moved, spec)))


def flat_product(moved: bool) -> Instance:
    build, x = _start(2, 2, 1, 2)
    y = build.add(copies.transpose("moved", x, (0, 2, 3, 1))) if moved else x
    flat = build.add(copies.reshape("flat", y, (2, 4)))
    w, b = build.weight("w", (2, 4), 4), build.weight("b", (2,), 1)
    return Instance(build.network(build.add(gemm("product", flat, w, b))))


def product_of_rows() -> Instance:
    build, x = _start(2, 3)
    w, b = build.weight("w", (2, 3), 3), build.weight("b", (1, 2), 1)
    return Instance(build.network(build.add(gemm("product", x, w, b))))


def mean_of_image(keepdims: bool) -> Instance:
    build, x = _start()
    return Instance(build.network(build.add(reduce("mean", "mean", x, (2, 3), keepdims=keepdims))))


def _real(build: Builder, x: Tensor, scale: Quantisation) -> Tensor:
    return build.add(*elements.dequantize(f"{x.name}_real", x, scale))


def _quantised(build: Builder, y: Tensor, scale: Quantisation) -> Instance:
    return Instance(build.network(build.add(*elements.quantize("last", y, scale))))


def whole_matrices() -> Instance:
    """A product of two computed matrices of whole numbers."""
    build = Builder("instance")
    a, b = build.input("a", (2, 3), "int8"), build.input("b", (3, 2), "int8")
    made = matmul("product", _real(build, a, SCALE), _real(build, b, FINER))
    return _quantised(build, build.add(made), SCALE)


def whole_pair(kind: BinaryFunction, activation: str | None = None) -> Instance:
    build = Builder("instance")
    a, b = (build.input(name, (1, 1, 1, 2), "int8") for name in "ab")
    reals = _real(build, a, SCALE), _real(build, b, FINER)
    return _quantised(build, build.arithmetic("pair", kind, *reals, activation=activation), SCALE)


def whole_mean(everywhere: bool) -> Instance:
    build = Builder("instance")
    x = _real(build, build.input("x", (1, 1, 2, 2), "int8"), FINER)
    mean = build.global_average_pool("mean", x) if everywhere else build.average_pool("mean", x, kernel=2)
    return _quantised(build, mean, SCALE)


def clamped_sum(low: int, high: int) -> Instance:
    build = Builder("instance")
    a, b = (build.input(name, (1, 1, 1, 2), "int8") for name in "ab")
    y = build.add(elements.arithmetic("sum", "add", a, b, scales=(FINER, SCALE, SCALE), limits=(-50, 60)))
    return Instance(build.network(build.add(elements.clamp("clamp", y, low, high))))


INSTANCES: dict[str, tuple[Callable[[], Instance], ...]] = {
    "shared-factor": tuple(partial(two_products, kind) for kind in ("add", "sub")),
    "sum-of-convolutions": tuple(partial(two_convolutions, kind) for kind in ("add", "sub")),
    "reshape-chain": (partial(copies_in_turn, reshaped(3, 4), reshaped(1, 6, 2)),),
    "transpose-chain": (partial(copies_in_turn, transposed(3, 1, 0, 2), transposed(0, 2, 3, 1)),),
    "copy-as-reshape": (partial(copies_in_turn, transposed(1, 0, 2, 3)),),
    "copy-chain": (partial(copies_in_turn, reshaped(2, 3, 2), transposed(1, 0, 2)),),
    "activation-before-copy": (partial(copied_then, "relu"), partial(copied_then, "sigmoid")),
    "flattened-product": (partial(flat_product, False), partial(flat_product, True)),
    "product-of-rows": (product_of_rows,),
    "mean-of-image": (partial(mean_of_image, False), partial(mean_of_image, True)),
    "instance-norm-then-scaling": (norm_then_scaling,),
    "scaling-then-instance-norm": (partial(scaling_then_norm, 1.0, -1.0),),
    "scaling-then-instance-norm-with-epsilon": tuple(
        partial(scaling_then_norm, *pair) for pair in ((2.0, -2.0), (-0.5, -0.5))
    ),
    "activation-into-producer": (
        partial(producer_then, "sigmoid"),
        partial(producer_then, "relu6"),
        partial(producer_then, ("leaky_relu", 0.125), "affine"),
    ),
    "silu": (partial(gated, "sigmoid"),),
    "hard-swish": tuple(partial(gated_by_clip, k) for k in (1.5, 6.0, 24.0)),
    "identity": (nothing_done,),
    "quantised-sums": (whole_matrices,),
    "quantised-arithmetic": (
        partial(whole_pair, "add"),
        partial(whole_pair, "mul"),
        partial(whole_pair, "mul", "relu"),
    ),
    "quantised-means": (partial(whole_mean, False), partial(whole_mean, True)),
    "clamp-into-producer": (partial(clamped_sum, -9, 70), partial(clamped_sum, -70, -60)),
    "scaling-into-conv-before": (
        conv_then_scaling,
        partial(conv_then_scaling, groups=2, bias=False),
        transposed_then_scaling,
    ),
    "scaling-into-conv-after": (
        scaling_then_conv,
        partial(scaling_then_conv, groups=2),
        factor_then_padded_conv,
    ),
    "scaling-chain": (two_scalings,),
}
"""The small networks of each rule that is proved, by its name."""
UNPROVED = {
    "constant": "it computes the layer itself, once, by its reference",
    "quantised-copy": "it moves elements of eight bits, whose scale stays or is changed by a table",
    "quantised-function": "its table is what the layer's reference makes of each of the 256 elements",
    "quantised-pair": "its table is what both layers make of each of the 256 elements",
}
"""Why other rules are not proved."""
