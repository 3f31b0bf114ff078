"""The built-in layers that most networks have: convolution, pooling and pointwise arithmetic, as sets and relations.

Sizes of tensors enter, as numbers or parameters; a `Layer` leaves. Windows move over images `[n, c, h, w]`; what is
pointwise takes tensors of any rank.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce

import numpy as np

from polyfuse.errors import InvalidInput
from polyfuse.network import operators
from polyfuse.network.activated import with_activation
from polyfuse.network.activation import Activation, Spec
from polyfuse.network.dtypes import bounds, is_whole
from polyfuse.network.layer import Layer, Statement
from polyfuse.network.operator import Activate, Affine, Arithmetic, Conv, GlobalPool, Operator, Pointwise, Pool, Prelu
from polyfuse.network.statements import point_dims, point_statement, window_statement
from polyfuse.network.tensor import Size, Tensor, check_float32
from polyfuse.network.window import Window


def _check_channels(name: str, x: Tensor, w: Tensor, bias: Tensor | None, groups: int) -> None:
    out_channels, in_group = w.concrete_shape[:2]
    if groups < 1 or x.shape[1] != in_group * groups or out_channels % groups:
        raise InvalidInput(
            f"layer {name!r}: {groups} groups of weights {w} expect {in_group * groups} input channels and a multiple "
            f"of {groups} output channels, got input {x}"
        )
    if bias is not None and bias.shape != (out_channels,):
        raise InvalidInput(f"layer {name!r}: expected a bias of shape ({out_channels},), got {bias}")


def _channel_read(out_channels: int, in_group: int, groups: int) -> str:
    """The input channel that output channel `c` reads at step `ic` of its group, as isl text."""
    per_group = out_channels // groups
    if groups == 1:
        return "ic"
    group = "c" if per_group == 1 else f"floor(c / {per_group})"
    return group if in_group == 1 else f"{in_group} * {group} + ic"


def convolution(
    name: str, x: Tensor, w: Tensor, bias: Tensor | None = None, window: Window | None = None, groups: int = 1
) -> Layer:
    """Convolution `x[n, ic, h, w] * w[oc, ic/groups, kh, kw] + bias[oc]`; depthwise is `groups = ic` (ONNX Conv).

    The window is that of the weights with stride 1 and no padding unless given.
    Errors: InvalidInput where shapes do not fit together.
    """
    check_float32(name, x, w, *([] if bias is None else [bias]))
    sums = convolution_sums(name, x, w, bias, window, groups, dtype="float32")
    weights = (w,) if bias is None else (w, bias)
    return Layer(name, sums.operator, sums.out, sums.statements, (x,), weights, sums.computed)


@dataclass(frozen=True, eq=False)
class Sums:
    """The sums of products that a layer makes of its output: two statements, and in numpy."""

    operator: Operator
    out: Tensor
    statements: tuple[Statement, Statement]
    computed: Callable[..., operators.Array]


def convolution_sums(
    name: str,
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    given: Window | None,
    groups: int,
    *,
    dtype: str,
    update: str = "acc + weight * x",
    zero: str = "0.0",
    more: Mapping[str, Tensor] | None = None,
) -> Sums:
    """What a convolution adds to its bias, or to zero, at each point of an output of some type.

    `more` are further operands of the update, with an element for each output channel.
    Errors: InvalidInput where shapes do not fit together.
    """
    out_channels, in_group, *_ = w.concrete_shape
    window = kernel_window(name, w, given)
    window.check(name, x)
    _check_channels(name, x, w, bias, groups)
    out = Tensor(f"{name}_out", (x.shape[0], out_channels, *window.outputs(x)), dtype)
    operands = {
        "x": (x, f"n, {_channel_read(out_channels, in_group, groups)}, {window.index}"),
        "weight": (w, "c, ic, kh, kw"),
        **{operand: (tensor, "c") for operand, tensor in (more or {}).items()},
    }
    sizes = {"ic": in_group, "kh": window.kernel[0], "kw": window.kernel[1]}
    taken = window_statement(f"{name}_update", out, sizes, operands, "x", update, macs=1)
    reads = {} if bias is None else {"bias": (bias, "c")}
    start = point_statement(f"{name}_init", out, reads, "bias" if bias is not None else zero)
    computed = partial(operators.convolution, window, groups)
    return Sums(Conv(window, groups), out, (start, taken), computed)


def kernel_window(name: str, w: Tensor, given: Window | None) -> Window:
    """The window of weights `[.., .., kh, kw]`: the one given, whose kernel has to be theirs, or a plain one.

    Errors: InvalidInput.
    """
    *_, rows, columns = w.concrete_shape
    if given is not None and given.kernel != (rows, columns):
        raise InvalidInput(f"layer {name!r}: expected a window of the {rows}x{columns} weights {w}, got {given.kernel}")
    return given or Window((rows, columns))


def pool_output(name: str, x: Tensor, window: Window, ceil: bool = False) -> Tensor:
    """What pooling makes of a tensor, of the same type.

    Errors: InvalidInput where shapes do not fit together.
    """
    window.check(name, x)
    if any(window.padding[d] >= window.reach[d % 2] for d in range(4)):
        raise InvalidInput(
            f"layer {name!r}: expected padding smaller than the window {window.kernel}, got {window.padding}"
        )
    return Tensor(f"{name}_out", (x.shape[0], x.shape[1], *window.outputs(x, ceil)), x.dtype)


def pool_update(name: str, x: Tensor, out: Tensor, window: Window, expression: str) -> Statement:
    """The statement that takes in the elements of a window."""
    sizes, reads = {"kh": window.kernel[0], "kw": window.kernel[1]}, {"x": (x, f"n, c, {window.index}")}
    return window_statement(f"{name}_update", out, sizes, reads, "x", expression, macs=0)


def max_pool(name: str, x: Tensor, window: Window, ceil: bool = False) -> Layer:
    """The largest element of each window, of any type (ONNX MaxPool); padding is never the largest."""
    out = pool_output(name, x, window, ceil)
    start, larger = "-INFINITY", "maximum(acc, x)"
    if is_whole(x.dtype):
        start, larger = str(bounds(x.dtype)[0]), "max(acc, x)"
    statements = (point_statement(f"{name}_init", out, {}, start), pool_update(name, x, out, window, larger))
    reference = partial(operators.max_pool, window.grown(x, out))
    return Layer(name, Pool("max", window, ceil), out, statements, (x,), (), reference)


def average_pool(name: str, x: Tensor, window: Window, ceil: bool = False, counts_padding: bool = False) -> Layer:
    """The mean of each window (ONNX AveragePool): over the image, or over the image and its padding."""
    check_float32(name, x)
    out = pool_output(name, x, window, ceil)
    counted = window.padding if counts_padding else (0, 0, 0, 0)
    statements = (
        point_statement(f"{name}_init", out, {}, "0.0"),
        pool_update(name, x, out, window, "acc + x"),
        point_statement(f"{name}_final", out, {}, f"acc / ({window.divisor(x, counted)})"),
    )
    reference = partial(operators.average_pool, window.grown(x, out), counted)
    return Layer(name, Pool("average", window, ceil, counts_padding), out, statements, (x,), (), reference)


def global_average_pool(name: str, x: Tensor) -> Layer:
    """The mean of each channel (ONNX GlobalAveragePool)."""
    rows, columns = x.concrete_shape[2:]
    window = Window((rows, columns))
    return replace(average_pool(name, x, window), operator=GlobalPool(window))


def broadcast(name: str, tensors: Sequence[Tensor]) -> tuple[Size, ...]:
    """The shape that numpy broadcasts tensors to: axes aligned at the last, sizes that agree or are 1.

    Errors: InvalidInput where they do not fit together.
    """
    rank = max(len(tensor.shape) for tensor in tensors)
    sizes: list[Size] = []
    for axis in zip(*((1,) * (rank - len(tensor.shape)) + tensor.shape for tensor in tensors), strict=True):
        wide = {size for size in axis if size != 1}
        if len(wide) > 1:
            raise InvalidInput(
                f"layer {name!r}: cannot broadcast {', '.join(map(str, tensors))}; sizes must agree or be 1"
            )
        sizes.append(wide.pop() if wide else 1)
    return tuple(sizes)


def broadcast_index(tensor: Tensor, shape: Sequence[Size], dims: Sequence[str]) -> str:
    """Which element of a tensor a point of the broadcast shape reads, as isl text."""
    axes = zip(tensor.shape[::-1], shape[::-1], dims[::-1], strict=False)
    return ", ".join(["0" if read == 1 and size != 1 else d for read, size, d in axes][::-1])


def pointwise(
    name: str,
    operands: Mapping[str, Tensor],
    expression: str,
    reference: Callable[..., operators.Array],
    *,
    operator: Operator = Pointwise(),  # noqa: B008  (frozen)
    constants: Sequence[str] = (),
    dtype: str | None = None,
) -> Layer:
    """`out[p] = expression` over operands of any rank that are broadcast as numpy does.

    `constants` names the operands that are weights. `reference` takes the arrays in the order of `operands`. The
    expression is what the layer computes, and so has to be what the operator does. With `dtype`, operands may be of any
    type and the output is of that one.
    """
    if dtype is None:
        check_float32(name, *operands.values())
    out = Tensor(f"{name}_out", broadcast(name, tuple(operands.values())), dtype or "float32")
    dims = point_dims(len(out.shape))
    reads = {operand: (tensor, broadcast_index(tensor, out.shape, dims)) for operand, tensor in operands.items()}
    inputs = tuple(dict.fromkeys(t for o, t in operands.items() if o not in constants))
    weights = tuple(dict.fromkeys(operands[o] for o in constants))
    order = [(*inputs, *weights).index(t) for t in operands.values()]
    return Layer(
        name,
        operator,
        out,
        (point_statement(f"{name}_final", out, reads, expression),),
        inputs,
        weights,
        partial(operators.ordered, reference, order),
    )


def activation(name: str, x: Tensor, spec: Activation | Spec) -> Layer:
    """An activation as a layer of its own."""
    return with_activation(pointwise(name, {"x": x}, "x", np.asarray, operator=Activate()), spec)


def is_activation(layer: Layer) -> bool:
    """Whether a layer is an activation and nothing else, as `activation` makes it.

    >>> from polyfuse.network.network import Builder
    >>> build = Builder("two")
    >>> x = build.input("x", (1, 1, 4, 4))
    >>> y = build.arithmetic("sum", "add", build.activation("act", x, "relu"), x, activation="relu")
    >>> [is_activation(layer) for layer in build.network(y).layers]
    [True, False]
    """
    return layer.operator == Activate()


def affine(name: str, x: Tensor, scale: Tensor, shift: Tensor) -> Layer:
    """`x * scale + shift` with weights that are broadcast."""
    operands = {"x": x, "scale": scale, "shift": shift}
    constants = ("scale", "shift")
    return pointwise(name, operands, "x * scale + shift", operators.scaled, operator=Affine(), constants=constants)


def prelu(name: str, x: Tensor, slope: Tensor) -> Layer:
    """`x` where it is positive and `slope * x` elsewhere; the slope is a weight that is broadcast (ONNX PRelu)."""
    text = "maximum(x, 0) + slope * minimum(x, 0)"
    operands = {"x": x, "slope": slope}
    return pointwise(name, operands, text, operators.sloped, operator=Prelu(), constants=("slope",))


ARITHMETIC: dict[str, tuple[str, Callable[..., operators.Array]]] = {
    "add": ("a + b", np.add),
    "sub": ("a - b", np.subtract),
    "mul": ("a * b", np.multiply),
    "div": ("a / b", np.divide),
    "max": ("maximum(a, b)", np.maximum),
    "min": ("minimum(a, b)", np.minimum),
    "pow": ("powf(a, b)", np.power),
}
"""Functions of two operands: as an expression, and in numpy."""


def arithmetic(name: str, how: str, a: Tensor, b: Tensor, *, constants: Sequence[str] = ()) -> Layer:
    """A function of two operands that are broadcast, one of ARITHMETIC."""
    if how not in ARITHMETIC:
        raise InvalidInput(f"layer {name!r}: expected one of {', '.join(ARITHMETIC)}, got {how!r}")
    text, function = ARITHMETIC[how]
    return pointwise(name, {"a": a, "b": b}, text, function, operator=Arithmetic(how), constants=constants)


VARIADIC: dict[str, tuple[str, str, Callable[..., operators.Array]]] = {
    "sum": ("{} + {}", "{}", operators.total),
    "mean": ("{} + {}", "({}) / {}", operators.mean),
    "max": ("maximum({}, {})", "{}", operators.largest),
    "min": ("minimum({}, {})", "{}", operators.smallest),
}
"""Functions of any number of operands: how two are joined, what is made of all and their number, and in numpy."""


def variadic(name: str, how: str, tensors: Sequence[Tensor], *, constants: Sequence[Tensor] = ()) -> Layer:
    """A function of several operands that are broadcast, one of VARIADIC (ONNX Sum, Mean, Max and Min)."""
    if how not in VARIADIC or not tensors:
        raise InvalidInput(f"layer {name!r}: expected operands of one of {', '.join(VARIADIC)}, got {how!r}")
    join, finish, function = VARIADIC[how]
    operands = {f"x{k}": tensor for k, tensor in enumerate(tensors)}
    text = finish.format(reduce(join.format, operands), len(tensors))
    weights = [operand for operand, tensor in operands.items() if tensor in constants]
    return pointwise(name, operands, text, function, operator=Arithmetic(how), constants=weights)
