"""For each rule, networks to which it applies; weights are small multiples of 1/8, so that folding them is exact."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from polyfuse.network.activated import with_activation
from polyfuse.network.dtypes import Values
from polyfuse.network.layers import copies, normalisation, pointwise
from polyfuse.network.layers.convolution import convolution
from polyfuse.network.layers.deconvolution import conv_transpose
from polyfuse.network.layers.matrices import gemm
from polyfuse.network.layers.reductions import reduce
from polyfuse.network.network import Builder, Network
from polyfuse.network.operator import Copy
from polyfuse.network.quantised import elements, sums
from polyfuse.network.quantised.scheme import Dequantised, Quantisation
from polyfuse.network.tensor import Tensor
from polyfuse.network.window import Window


class Draw:
    """A builder with random sizes and dyadic weights."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.build = Builder("example")
        self.channels = 2 * int(self.random.integers(1, 4))
        self.size = int(self.random.integers(5, 9))

    def dyadic(self, *shape: int) -> Values:
        """Values that float32 products and sums of a few keep exactly; no scale of zero."""
        values = self.random.integers(1, 16, shape) * self.random.choice([-1, 1], shape) / 8
        return values.astype(np.float32)

    def input(self, name: str = "x") -> Tensor:
        return self.build.input(name, (1, self.channels, self.size, self.size + 1))

    def conv(self, name: str, x: Tensor, channels: int = 4, **options: object) -> Tensor:
        kernel = int(options.pop("kernel", 3))  # type: ignore[call-overload]
        groups = int(options.get("groups", 1))  # type: ignore[call-overload]
        weight = self.dyadic(channels, int(x.shape[1]) // groups, kernel, kernel)
        bias = self.dyadic(channels) if options.pop("bias", True) else None
        return self.build.conv(name, x, channels, kernel=kernel, weight=weight, bias=bias, **options)  # type: ignore[arg-type]

    def weight(self, name: str, *shape: int) -> Tensor:
        return self.build.weight(name, shape, 1, self.dyadic(*shape))

    def affine(self, name: str, x: Tensor, activation: str | None = None) -> Tensor:
        """As batch normalisation becomes."""
        shape = (1, int(x.shape[1]), 1, 1)
        operands = self.weight(f"{name}_scale", *shape), self.weight(f"{name}_shift", *shape)
        return self.build.add(with_activation(pointwise.affine(name, x, *operands), activation))

    def with_weight(self, name: str, kind: str, x: Tensor, *shape: int, first: bool = False) -> Tensor:
        """Arithmetic of a tensor and a weight."""
        w = self.weight(f"{name}_constant", *shape)
        a, b = (w, x) if first else (x, w)
        return self.build.add(pointwise.arithmetic(name, kind, a, b, constants=["a" if first else "b"]))


def scaling_into_conv_before(seed: int) -> Network:
    draw = Draw(seed)
    groups = int(draw.random.choice([1, 2]))
    bias, padding = bool(draw.random.integers(2)), int(draw.random.integers(3))
    x = draw.input()
    if seed < 4:
        y = draw.conv("conv", x, groups=groups, bias=bias, padding=padding)
    else:
        w, b = draw.weight("w", draw.channels, 4 // groups, 3, 3), draw.weight("b", 4) if bias else None
        window = Window((3, 3), stride=(2, 1), padding=(padding, 0, 1, 1))
        y = draw.build.add(conv_transpose("conv", x, w, b, window, groups, (1, 0)))
    match seed % 4:
        case 0:
            y = draw.affine("bn", y)
        case 1:
            y = draw.with_weight("scaled", "mul", y, 1, 4, 1, 1)
        case 2:
            y = draw.with_weight("shifted", "sub", y, 1, 1, 1, 1, first=True)
        case 3:
            y = draw.with_weight("shifted", "add", y, 1, 4, 1, 1)
    return draw.build.network(y)


def scaling_into_conv_after(seed: int) -> Network:
    draw = Draw(seed)
    groups, bias = int(draw.random.choice([1, 2])), bool(draw.random.integers(2))
    x = draw.input()
    if seed % 2:
        return draw.build.network(draw.conv("conv", draw.affine("bn", x), groups=groups, bias=bias))
    scaled = draw.with_weight("scaled", "mul", x, 1, draw.channels, 1, 1)
    return draw.build.network(draw.conv("conv", scaled, groups=groups, bias=bias, padding=1))


def scaling_chain(seed: int) -> Network:
    draw = Draw(seed)
    y = draw.affine("first", draw.input())
    match seed % 3:
        case 0:
            y = draw.affine("second", y, activation="relu")
        case 1:
            y = draw.with_weight("second", "mul", y, 1, 1, 1, 1)
        case 2:
            y = draw.with_weight("second", "sub", y, 1, draw.channels, 1, 1, first=True)
    return draw.build.network(y)


def activation_into_producer(seed: int) -> Network:
    draw = Draw(seed)
    x = draw.input()
    spec = [("clip", -0.5, 1.5), "relu", "silu", ("leaky_relu", 0.125)][seed // 4 % 4]
    match seed % 4:
        case 0:
            y = draw.conv("conv", x)
        case 1:
            y = draw.affine("bn", x)
        case 2:
            y = draw.with_weight("scaled", "div", x, 1, draw.channels, 1, 1, first=True)
        case 3:
            y = draw.build.arithmetic("sum", "add", x, draw.input("z"))
    return draw.build.network(draw.build.activation("act", y, spec))


def silu(seed: int) -> Network:
    draw = Draw(seed)
    x = draw.input()
    factors = [x, draw.build.activation("gate", x, "sigmoid")]
    return draw.build.network(draw.build.arithmetic("product", "mul", *factors[:: (-1) ** seed]))


def hard_swish(seed: int) -> Network:
    draw = Draw(seed)
    x = draw.input()
    if seed % 2:
        gate = draw.build.activation("gate", x, ("hard_sigmoid", 1 / 6, 0.5))
        return draw.build.network(draw.build.arithmetic("product", "mul", gate, x))
    three = draw.build.weight("three", (1, 1, 1, 1), 1, np.full((1, 1, 1, 1), 3, np.float32))
    moved = with_activation(pointwise.arithmetic("gate", "add", x, three, constants=["b"]), ("clip", 0.0, 6.0))
    product = draw.build.arithmetic("product", "mul", x, draw.build.add(moved))
    six = draw.build.weight("six", (1, 1, 1, 1), 1, np.full((1, 1, 1, 1), 6, np.float32))
    return draw.build.network(draw.build.add(pointwise.arithmetic("sixth", "div", product, six, constants=["b"])))


def identity(seed: int) -> Network:
    draw = Draw(seed)
    x = draw.conv("conv", draw.input())
    match seed % 3:
        case 0:
            y = draw.build.add(pointwise.pointwise("nothing", {"x": x}, "x", np.asarray, operator=Copy()))
        case 1:
            one = draw.build.weight("one", (1, 1, 1, 1), 1, np.ones((1, 1, 1, 1), np.float32))
            y = draw.build.add(pointwise.arithmetic("nothing", "mul", x, one, constants=["b"]))
        case 2:
            zero = draw.build.weight("zero", (1, 4, 1, 1), 1, np.zeros((1, 4, 1, 1), np.float32))
            y = draw.build.add(pointwise.arithmetic("nothing", "sub", x, zero, constants=["b"]))
    return draw.build.network(draw.build.max_pool("pool", y, kernel=2))


def shared_factor(seed: int) -> Network:
    draw = Draw(seed)
    a, b, c = (draw.input(name) for name in "abc")
    if seed % 3 == 2:
        first = draw.with_weight("left", "mul", c, 1, draw.channels, 1, 1)
        second = draw.with_weight("right", "mul", c, 1, draw.channels, 1, 1, first=True)
    else:
        first, second = draw.build.arithmetic("left", "mul", a, c), draw.build.arithmetic("right", "mul", c, b)
    return draw.build.network(draw.build.arithmetic("sum", ["add", "sub"][seed % 2], first, second))


def sum_of_convolutions(seed: int) -> Network:
    draw = Draw(seed)
    x, groups = draw.input(), int(draw.random.choice([1, 2]))
    first = draw.conv("left", x, groups=groups, bias=bool(draw.random.integers(2)), padding=1)
    second = draw.conv("right", x, groups=groups, bias=bool(draw.random.integers(2)), padding=1)
    return draw.build.network(draw.build.arithmetic("sum", ["add", "sub"][seed % 2], first, second, activation="relu"))


def constant(seed: int) -> Network:
    draw = Draw(seed)
    x = draw.input()
    a, b = draw.weight("a", 1, draw.channels, 1, 1), draw.weight("b", 1, 1, 1, draw.size + 1)
    product = draw.build.add(pointwise.arithmetic("product", "mul", a, b, constants=["a", "b"]))
    return draw.build.network(draw.build.arithmetic("sum", "add", x, product))


def instance_norm(draw: Draw, x: Tensor, activation: str | None = None) -> Tensor:
    weights = [draw.weight(f"norm_{part}", 1, draw.channels, 1, 1) for part in ("scale", "shift")]
    *moments, norm = normalisation.instance_norm("norm", x, *weights, epsilon=1e-3)
    parts = (*moments, with_activation(norm, activation))
    return [draw.build.add(part) for part in parts][-1]


def norm_then_scaling(seed: int) -> Network:
    draw = Draw(seed)
    y = instance_norm(draw, draw.input())
    return draw.build.network(draw.affine("after", y, activation=[None, "relu"][seed % 2]))


def scaling_then_norm(seed: int) -> Network:
    draw = Draw(seed)
    signs = draw.random.choice([-1, 1], (1, draw.channels, 1, 1)).astype(np.float32)
    scale, shift = draw.build.weight("signs", signs.shape, 1, signs), draw.weight("shift", 1, draw.channels, 1, 1)
    y = draw.build.add(pointwise.affine("before", draw.input(), scale, shift))
    return draw.build.network(instance_norm(draw, y, [None, "relu"][seed % 2]))


def scaling_then_norm_with_epsilon(seed: int) -> Network:
    draw = Draw(seed)
    scaled = draw.with_weight("before", "mul", draw.input(), 1, 1, 1, 1)
    return draw.build.network(instance_norm(draw, scaled))


def flattened_product(seed: int) -> Network:
    draw = Draw(seed)
    x = draw.build.input("x", (1 + seed % 3, 3, 4, 2))
    if seed % 2:
        x = draw.build.add(copies.transpose("moved", x, (0, 2, 3, 1)))
    flat = draw.build.add(copies.reshape("flat", x, (1 + seed % 3, 24)))
    w, b = draw.weight("w", 5, 24), [None, draw.weight("b", 5)][seed // 2 % 2]
    return draw.build.network(draw.build.add(with_activation(gemm("product", flat, w, b), [None, "relu"][seed // 4])))


def product_of_rows(seed: int) -> Network:
    draw = Draw(seed)
    x = draw.build.input("x", (1 + seed % 3, 12))
    w, b = draw.weight("w", 5, 12), [None, draw.weight("b", 1, 5)][seed // 2 % 2]
    return draw.build.network(draw.build.add(with_activation(gemm("product", x, w, b), [None, "relu"][seed // 4])))


def mean_of_image(seed: int) -> Network:
    draw = Draw(seed)
    mean = reduce("mean", "mean", draw.input(), (2, 3), keepdims=bool(seed % 2))
    return draw.build.network(draw.build.add(mean))


def reshape_chain(seed: int) -> Network:
    draw = Draw(seed)
    x = draw.build.input("x", (1, 4, 3, 6))
    y = draw.build.add(copies.reshape("first", x, [(1, 12, 6), (2, 2, 18), (72,)][seed % 3]))
    return draw.build.network(draw.build.add(copies.reshape("second", y, [(4, 18), (1, 8, 3, 3)][seed % 2])))


def transpose_chain(seed: int) -> Network:
    draw = Draw(seed)
    y = draw.build.add(copies.transpose("first", draw.input(), draw.random.permutation(4).tolist()))
    return draw.build.network(draw.build.add(copies.transpose("second", y, draw.random.permutation(4).tolist())))


def copy_as_reshape(seed: int) -> Network:
    draw = Draw(seed)
    if seed % 2:
        x = draw.build.input("x", (1, 4, 1, 6))
        return draw.build.network(draw.build.add(copies.transpose("moved", x, (0, 2, 1, 3))))
    x = draw.build.input("x", (2, 6, 1, 1))
    return draw.build.network(draw.build.add(copies.transpose("moved", x, (2, 0, 3, 1))))


def copy_chain(seed: int) -> Network:
    """Shuffles of channels, depth to space in pieces, slices of what was moved, and what is repeated."""
    draw = Draw(seed)
    x = draw.build.input("x", (1, 12, 4, 6))
    match seed % 4:
        case 0:
            y = draw.build.add(copies.reshape("first", x, (1, 3, 4, 4, 6)))
            z = copies.transpose("second", y, (0, 2, 1, 3, 4))
        case 1:
            y = draw.build.add(copies.depth_to_space("first", x, 2))
            z = copies.reshape("second", y, (3, 8, 3, 4))
        case 2:
            y = draw.build.add(copies.transpose("first", x, (0, 3, 1, 2)))
            z = copies.slice_of("second", y, (0, 4, 1, 0), (1, 3, 5, 4), (1, -2, 2, 1))
        case _:
            y = draw.build.add(copies.slice_of("first", x, (0, 3, 0, 0), (1, 1, 4, 6)))
            z = copies.expand("second", y, (2, 5, 4, 6))
    return draw.build.network(draw.build.add(z))


def activation_before_copy(seed: int) -> Network:
    draw = Draw(seed)
    y = draw.conv("conv", draw.input())
    if seed % 2:
        y = draw.build.add(copies.transpose("moved", y, (0, 2, 3, 1)))
    else:
        y = draw.build.add(copies.reshape("moved", y, (y.concrete_shape[1], y.elements // y.concrete_shape[1])))
    return draw.build.network(draw.build.activation("act", y, ["relu", "sigmoid"][seed // 2 % 2]))


class Whole(Draw):
    """Networks that read whole numbers, whose scales are powers of two and whose zero points are even."""

    def scale(self, zero: bool = True) -> Quantisation:
        point = 2 * int(self.random.integers(-20, 20)) if zero else 0
        return Quantisation(2.0 ** int(self.random.integers(-5, -2)), point, "int8")

    def whole(self, name: str, scale: Quantisation) -> Tensor:
        x = self.build.input(name, (1, self.channels, self.size, self.size + 1), "int8")
        return self.made(elements.dequantize(f"{name}_real", x, scale))

    def made(self, pair: elements.Made) -> Tensor:
        return self.build.add(*pair)

    def network(self, y: Tensor, scale: Quantisation) -> Network:
        return self.build.network(self.made(elements.quantize("last", y, scale)))

    def known(self, name: str, shape: tuple[int, ...], scale: Quantisation) -> tuple[Tensor, Dequantised]:
        """A float weight and the whole numbers that it is made of."""
        low, high = (-127, 128) if scale.dtype == "int8" else (-999, 1000)
        found = Dequantised(self.random.integers(low, high, shape), scale, 0)
        return self.build.constant(name, found.reals), found


def quantised_sums(seed: int) -> Network:
    draw = Whole(seed)
    x_scale, y_scale = draw.scale(zero=False), Quantisation(0.5, 3)
    x = draw.whole("x", x_scale)
    numbers = tuple(2.0 ** int(k) for k in draw.random.integers(-8, -5, 4))
    w_scale = Quantisation(numbers if seed % 2 else numbers[0])
    units = tuple(float(x_scale.scales[0]) * number for number in numbers)
    b_scale = Quantisation(units if seed % 2 else units[0], 0, "int32")
    w, whole = draw.known("w", (4, draw.channels, 3, 3), w_scale)
    b, biases = draw.known("b", (4,), b_scale)
    spec: Any = [None, "relu", "relu6", ("clip", -2, 9)][seed % 4]
    layer = with_activation(convolution("conv", x, w, b, Window((3, 3), padding=(1, 0, 1, 1))), spec)
    known = {"w": whole, "b": biases}
    return draw.network(draw.build.add(replace(layer, dequantised=known)), y_scale)


def quantised_arithmetic(seed: int) -> Network:
    draw = Whole(seed)
    a, b = draw.whole("a", draw.scale()), draw.whole("b", draw.scale())
    spec = "relu" if seed % 3 == 0 else None
    return draw.network(draw.build.arithmetic("sum", "add" if seed % 2 else "mul", a, b, activation=spec), draw.scale())


def quantised_means(seed: int) -> Network:
    draw = Whole(seed)
    x = draw.whole("x", draw.scale())
    if seed % 2:
        return draw.network(draw.build.average_pool("mean", x, kernel=2, stride=1), draw.scale())
    return draw.network(draw.build.global_average_pool("mean", x), draw.scale())


def quantised_copy(seed: int) -> Network:
    draw = Whole(seed)
    scale = draw.scale()
    x, y_scale = draw.whole("x", scale), draw.scale() if seed % 3 else scale
    match seed % 5:
        case 0:
            y = draw.build.max_pool("pool", x, kernel=3, stride=2, padding=1)
        case 1:
            y = draw.build.concat("cat", x, draw.whole("z", draw.scale()))
        case 2:
            y = draw.build.add(copies.pad("pad", x, (0, 0, 1, 2), (0, 0, 2, 0)))
        case 3:
            y = draw.build.add(copies.transpose("turn", x, (0, 2, 3, 1)))
        case _:
            y = draw.build.resize("up", x, 2)
    return draw.network(y, y_scale)


def quantised_function(seed: int) -> Network:
    draw = Whole(seed)
    scale = draw.scale()
    x = draw.whole("x", scale)
    spec = ["relu", ("leaky_relu", 0.25), "relu6", "hard_swish", ("clip", -1, 2), "abs", "sigmoid", "neg"][seed % 8]
    y = draw.build.activation("act", x, spec) if seed != 7 else draw.with_weight("act", "mul", x, 1, 1, 1, 1)
    return draw.network(y, scale if seed % 3 else draw.scale())


def quantised_pair(seed: int) -> Network:
    draw = Whole(seed)
    scale = draw.scale()
    first = draw.whole("x", scale)
    again = draw.made(elements.quantize("again", first, scale if seed % 2 else draw.scale()))
    return draw.build.network(draw.build.max_pool("pool", again, kernel=2))


def clamp_into_producer(seed: int) -> Network:
    draw = Whole(seed)
    x_scale, y_scale = draw.scale(), draw.scale()
    x = draw.build.input("x", (1, draw.channels, draw.size, draw.size + 1), "int8")
    low = int(draw.random.integers(-20, 0))
    match seed % 5:
        case 0:
            z = draw.build.input("z", x.concrete_shape, "int8")
            y = draw.build.add(elements.arithmetic("sum", "add", x, z, scales=(x_scale, y_scale, y_scale)))
        case 1:
            scales = (x_scale, x_scale, y_scale)
            z = draw.build.constant("z", draw.random.integers(-9, 9, (1, draw.channels, 1, 1)), "int8")
            y = draw.build.add(elements.arithmetic("product", "mul", x, z, scales, constants=["b"], limits=(-50, 3)))
        case 2:
            scales = (x_scale, Quantisation((0.25, 0.125)), y_scale)
            z = draw.build.constant("z", draw.random.integers(-9, 9, (draw.size + 1, 2)), "int8")
            y = draw.made(sums.matmul("product", x, z, [z], scales=scales))
        case _:
            numbers = tuple(2.0 ** int(k) for k in draw.random.integers(-8, -5, 4))
            w = draw.build.constant("w", draw.random.integers(-127, 128, (4, draw.channels, 2, 3)), "int8")
            bias = draw.build.constant("b", draw.random.integers(-99, 99, 4), "int32") if seed % 2 else None
            w_scale = Quantisation(numbers if seed % 3 else numbers[0])
            scales = (x_scale, w_scale, y_scale)
            y = draw.made(
                sums.convolution("conv", x, w, bias, Window((2, 3), (2, 1), padding=(1, 0, 0, 1)), scales=scales)
            )
    return draw.build.network(draw.build.add(elements.clamp("clamp", y, low, low + 25)))


EXAMPLES: dict[str, Callable[[int], Network]] = {
    "scaling-into-conv-before": scaling_into_conv_before,
    "scaling-into-conv-after": scaling_into_conv_after,
    "scaling-chain": scaling_chain,
    "activation-into-producer": activation_into_producer,
    "silu": silu,
    "hard-swish": hard_swish,
    "identity": identity,
    "shared-factor": shared_factor,
    "sum-of-convolutions": sum_of_convolutions,
    "constant": constant,
    "instance-norm-then-scaling": norm_then_scaling,
    "scaling-then-instance-norm": scaling_then_norm,
    "scaling-then-instance-norm-with-epsilon": scaling_then_norm_with_epsilon,
    "flattened-product": flattened_product,
    "product-of-rows": product_of_rows,
    "mean-of-image": mean_of_image,
    "reshape-chain": reshape_chain,
    "transpose-chain": transpose_chain,
    "copy-as-reshape": copy_as_reshape,
    "copy-chain": copy_chain,
    "activation-before-copy": activation_before_copy,
    "quantised-sums": quantised_sums,
    "quantised-arithmetic": quantised_arithmetic,
    "quantised-means": quantised_means,
    "quantised-copy": quantised_copy,
    "quantised-function": quantised_function,
    "quantised-pair": quantised_pair,
    "clamp-into-producer": clamp_into_producer,
}
