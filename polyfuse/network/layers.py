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
from polyfuse.network.dtypes import bounds, is_whole
from polyfuse.network.layer import Layer, Statement
from polyfuse.network.operators import Padding, Pair
from polyfuse.network.statements import Activation, point_dims, point_statement, window_statement
from polyfuse.network.tensor import Size, Tensor, check_float32
from polyfuse.network.windows import ceil_padding, check_window, spatial, taps


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
    name: str,
    x: Tensor,
    w: Tensor,
    bias: Tensor | None = None,
    *,
    stride: Pair = (1, 1),
    padding: Padding = (0, 0, 0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    activation: str | Sequence[object] | None = None,
) -> Layer:
    """Convolution `x[n, ic, h, w] * w[oc, ic/groups, kh, kw] + bias[oc]`; depthwise is `groups = ic` (ONNX Conv).

    Errors: InvalidInput where shapes do not fit together.
    """
    check_float32(name, x, w, *([] if bias is None else [bias]))
    sums = convolution_sums(
        name, x, w, bias, stride=stride, padding=padding, dilation=dilation, groups=groups, dtype="float32"
    )
    act = Activation(activation) if activation is not None else None
    final = [] if act is None else [point_statement(f"{name}_final", sums.out, {}, act.text("acc"))]
    return Layer(
        name,
        "conv",
        sums.out,
        (*sums.statements, *final),
        (x,),
        (w,) if bias is None else (w, bias),
        partial(operators.activated, act, sums.computed),
        {**sums.attributes, "activation": activation},
    )


@dataclass(frozen=True, eq=False)
class Sums:
    """The sums of products that a layer makes of its output: two statements, and in numpy."""

    out: Tensor
    statements: tuple[Statement, Statement]
    computed: Callable[..., operators.Array]
    attributes: Mapping[str, object]


def convolution_sums(
    name: str,
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    *,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
    dtype: str,
    update: str = "acc + weight * x",
    zero: str = "0.0",
    more: Mapping[str, Tensor] | None = None,
) -> Sums:
    """What a convolution adds to its bias, or to zero, at each point of an output of some type.

    `more` are further operands of the update, with an element for each output channel.
    Errors: InvalidInput where shapes do not fit together.
    """
    out_channels, in_group, kh, kw = w.concrete_shape
    kernel = (kh, kw)
    check_window(name, x, kernel, stride, dilation, padding)
    _check_channels(name, x, w, bias, groups)
    out = Tensor(f"{name}_out", (x.shape[0], out_channels, *spatial(x, kernel, stride, dilation, padding)), dtype)
    rows = f"{stride[0]} * h + {dilation[0]} * kh - {padding[0]}"
    columns = f"{stride[1]} * w + {dilation[1]} * kw - {padding[1]}"
    operands = {
        "x": (x, f"n, {_channel_read(out_channels, in_group, groups)}, {rows}, {columns}"),
        "weight": (w, "c, ic, kh, kw"),
        **{operand: (tensor, "c") for operand, tensor in (more or {}).items()},
    }
    taken = window_statement(f"{name}_update", out, {"ic": in_group, "kh": kh, "kw": kw}, operands, "x", update, macs=1)
    reads = {} if bias is None else {"bias": (bias, "c")}
    start = point_statement(f"{name}_init", out, reads, "bias" if bias is not None else zero)
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    computed = partial(operators.convolution, **geometry)  # type: ignore[arg-type]
    return Sums(out, (start, taken), computed, {"kernel": kernel, **geometry})


def pool_output(
    name: str, x: Tensor, kernel: Pair, stride: Pair, padding: Padding, dilation: Pair, ceil: bool
) -> Tensor:
    """What pooling makes of a tensor, of the same type.

    Errors: InvalidInput where shapes do not fit together.
    """
    check_window(name, x, kernel, stride, dilation, padding)
    if any(padding[d] >= (kernel[d % 2] - 1) * dilation[d % 2] + 1 for d in range(4)):
        raise InvalidInput(f"layer {name!r}: expected padding smaller than the window {kernel}, got {padding}")
    shape = (x.shape[0], x.shape[1], *spatial(x, kernel, stride, dilation, padding, ceil))
    return Tensor(f"{name}_out", shape, x.dtype)


def pool_update(
    name: str, x: Tensor, out: Tensor, kernel: Pair, stride: Pair, padding: Padding, dilation: Pair, expression: str
) -> Statement:
    """The statement that takes in the elements of a window."""
    rows = f"{stride[0]} * h + {dilation[0]} * kh - {padding[0]}"
    columns = f"{stride[1]} * w + {dilation[1]} * kw - {padding[1]}"
    reads = {"x": (x, f"n, c, {rows}, {columns}")}
    return window_statement(f"{name}_update", out, {"kh": kernel[0], "kw": kernel[1]}, reads, "x", expression, macs=0)


def max_pool(
    name: str,
    x: Tensor,
    *,
    kernel: Pair,
    stride: Pair | None = None,
    padding: Padding = (0, 0, 0, 0),
    dilation: Pair = (1, 1),
    ceil: bool = False,
) -> Layer:
    """The largest element of each window, of any type (ONNX MaxPool); padding is never the largest."""
    step = stride or kernel
    out = pool_output(name, x, kernel, step, padding, dilation, ceil)
    grown = ceil_padding(x, out, kernel, step, dilation, padding)
    start, larger = "-INFINITY", "maximum(acc, x)"
    if is_whole(x.dtype):
        start, larger = str(bounds(x.dtype)[0]), "max(acc, x)"
    update = pool_update(name, x, out, kernel, step, padding, dilation, larger)
    return Layer(
        name,
        "max_pool",
        out,
        (point_statement(f"{name}_init", out, {}, start), update),
        (x,),
        (),
        partial(operators.max_pool, kernel=kernel, stride=step, dilation=dilation, padding=grown),
        {"kernel": kernel, "stride": step, "padding": padding, "dilation": dilation, "ceil": ceil},
    )


def average_pool(
    name: str,
    x: Tensor,
    *,
    kernel: Pair,
    stride: Pair | None = None,
    padding: Padding = (0, 0, 0, 0),
    dilation: Pair = (1, 1),
    ceil: bool = False,
    count_include_pad: bool = False,
) -> Layer:
    """The mean of each window (ONNX AveragePool): over the image, or over the image and its padding."""
    check_float32(name, x)
    step = stride or kernel
    out = pool_output(name, x, kernel, step, padding, dilation, ceil)
    grown = ceil_padding(x, out, kernel, step, dilation, padding)
    counted = padding if count_include_pad else (0, 0, 0, 0)
    update = pool_update(name, x, out, kernel, step, padding, dilation, "acc + x")
    divisor = pool_divisor(x, kernel, step, padding, dilation, counted)
    final = point_statement(f"{name}_final", out, {}, f"acc / ({divisor})")
    return Layer(
        name,
        "average_pool",
        out,
        (point_statement(f"{name}_init", out, {}, "0.0"), update, final),
        (x,),
        (),
        partial(operators.average_pool, kernel=kernel, stride=step, dilation=dilation, padding=grown, counted=counted),
        {
            "kernel": kernel,
            "stride": step,
            "padding": padding,
            "dilation": dilation,
            "ceil": ceil,
            "count_include_pad": count_include_pad,
        },
    )


def pool_divisor(x: Tensor, kernel: Pair, stride: Pair, padding: Padding, dilation: Pair, counted: Padding) -> str:
    """How many taps of a window count, the `counted` part of the padding among them: an expression of the point."""
    return " * ".join(
        taps("hw"[d], x.shape[2 + d], kernel[d], stride[d], dilation[d], padding[d], counted[d], counted[2 + d])
        for d in range(2)
    )


def global_average_pool(name: str, x: Tensor) -> Layer:
    """The mean of each channel (ONNX GlobalAveragePool)."""
    rows, columns = x.concrete_shape[2:]
    layer = average_pool(name, x, kernel=(rows, columns), stride=(1, 1))
    return replace(layer, kind="global_average_pool")


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
    kind: str = "pointwise",
    constants: Sequence[str] = (),
    activation: str | Sequence[object] | None = None,
    dtype: str | None = None,
) -> Layer:
    """`out[p] = expression` over operands of any rank that are broadcast as numpy does.

    `constants` names the operands that are weights. `reference` takes the arrays in the order of `operands`. What
    `kind` and `activation` say is for those who know these words; the expression is what the layer computes. With
    `dtype`, operands may be of any type and the output is of that one.
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
        kind,
        out,
        (point_statement(f"{name}_final", out, reads, expression),),
        inputs,
        weights,
        partial(operators.ordered, reference, order),
        {"operands": tuple(tensor.name for tensor in operands.values()), "activation": activation},
    )


def activation(name: str, x: Tensor, spec: str | Sequence[object]) -> Layer:
    """An activation as a layer of its own."""
    act = Activation(spec)
    return pointwise(name, {"x": x}, act.text("x"), act, kind=act.name, activation=spec)


def is_activation(layer: Layer) -> bool:
    """Whether a layer is an activation and nothing else, as `activation` makes it.

    >>> from polyfuse.network.network import Builder
    >>> build = Builder("two")
    >>> x = build.input("x", (1, 1, 4, 4))
    >>> y = build.arithmetic("sum", "add", build.activation("act", x, "relu"), x, activation="relu")
    >>> [is_activation(layer) for layer in build.network(y).layers]
    [True, False]
    """
    spec = layer.attributes.get("activation")
    name = spec if isinstance(spec, str) else next(iter(spec), None) if isinstance(spec, Sequence) else None
    return name is not None and name == layer.kind


def affine(
    name: str, x: Tensor, scale: Tensor, shift: Tensor, *, activation: str | Sequence[object] | None = None
) -> Layer:
    """`x * scale + shift` with weights that are broadcast, and an activation of the result."""
    act = Activation(activation) if activation is not None else None

    return pointwise(
        name,
        {"x": x, "scale": scale, "shift": shift},
        act.text("(x * scale + shift)") if act is not None else "x * scale + shift",
        partial(operators.activated, act, operators.scaled),
        kind="affine",
        constants=("scale", "shift"),
        activation=activation,
    )


def prelu(name: str, x: Tensor, slope: Tensor) -> Layer:
    """`x` where it is positive and `slope * x` elsewhere; the slope is a weight that is broadcast (ONNX PRelu)."""
    return pointwise(
        name,
        {"x": x, "slope": slope},
        "maximum(x, 0) + slope * minimum(x, 0)",
        operators.sloped,
        kind="prelu",
        constants=("slope",),
    )


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


def arithmetic(
    name: str,
    kind: str,
    a: Tensor,
    b: Tensor,
    *,
    constants: Sequence[str] = (),
    activation: str | Sequence[object] | None = None,
) -> Layer:
    """A function of two operands that are broadcast, a kind of ARITHMETIC, and an activation of the result."""
    if kind not in ARITHMETIC:
        raise InvalidInput(f"layer {name!r}: expected one of {', '.join(ARITHMETIC)}, got {kind!r}")
    text, function = ARITHMETIC[kind]
    act = Activation(activation) if activation is not None else None
    return pointwise(
        name,
        {"a": a, "b": b},
        act.text(f"({text})") if act is not None else text,
        partial(operators.activated, act, function),
        kind=kind,
        constants=constants,
        activation=activation,
    )


VARIADIC: dict[str, tuple[str, str, Callable[..., operators.Array]]] = {
    "sum": ("{} + {}", "{}", operators.total),
    "mean": ("{} + {}", "({}) / {}", operators.mean),
    "max": ("maximum({}, {})", "{}", operators.largest),
    "min": ("minimum({}, {})", "{}", operators.smallest),
}
"""Functions of any number of operands: how two are joined, what is made of all and their number, and in numpy."""


def variadic(
    name: str,
    kind: str,
    tensors: Sequence[Tensor],
    *,
    constants: Sequence[Tensor] = (),
    activation: str | Sequence[object] | None = None,
) -> Layer:
    """A function of several operands that are broadcast, a kind of VARIADIC (ONNX Sum, Mean, Max and Min)."""
    if kind not in VARIADIC or not tensors:
        raise InvalidInput(f"layer {name!r}: expected operands of one of {', '.join(VARIADIC)}, got {kind!r}")
    join, finish, function = VARIADIC[kind]
    operands = {f"x{k}": tensor for k, tensor in enumerate(tensors)}
    text = finish.format(reduce(join.format, operands), len(tensors))
    act = Activation(activation) if activation is not None else None
    return pointwise(
        name,
        operands,
        act.text(f"({text})") if act is not None else text,
        partial(operators.activated, act, function),
        kind=kind,
        constants=[operand for operand, tensor in operands.items() if tensor in constants],
        activation=activation,
    )
