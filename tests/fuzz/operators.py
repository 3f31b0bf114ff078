"""Random nodes of every operator that polyfuse imports: attributes, types, axes from the end, inputs left out.

A `Draft` and, in a chain, the tensor that is read enter; the names of what was made leave. What is drawn need not be
valid: onnxruntime says.
"""

from collections.abc import Callable, Sequence

import numpy as np
from onnx import TensorProto

from tests.fuzz.draft import Draft, Value

Made = list[str]
Draw = Callable[[Draft, Value | None], Made]
PADS = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")


def source(d: Draft, x: Value | None, low: int = 1, high: int = 5, dtypes: Sequence[str] = ("float32",)) -> Value:
    """What a node reads: the tensor of a chain where it fits, or an input."""
    if x is not None and low <= len(x.shape) <= high and x.dtype in dtypes:
        return x
    return d.input(d.shape(low, high), d.rng.choice(dtypes))


def image(d: Draft, x: Value | None, dtypes: Sequence[str] = ("float32",)) -> Value:
    """A tensor of rows and columns that several windows fit in."""
    if x is not None and len(x.shape) == 4 and x.dtype in dtypes and min(x.shape[2:]) > 3:
        return x
    shape = (d.rng.choice((1, 1, 2)), d.rng.choice((1, 2, 3, 4, 6)), d.rng.randint(3, 9), d.rng.randint(3, 9))
    return d.input(shape, d.rng.choice(dtypes))


FLOATS = ("float32", "float32", "float32")
BYTES = (*FLOATS, "int8", "uint8")
PLAIN = ("Relu", "Sigmoid", "Tanh", "Softplus", "Abs", "Neg", "Exp", "Sqrt", "Erf", "Log", "Reciprocal", "HardSwish")
MAGNIFYING = ("Div", "InstanceNormalization", "Pow", "Reciprocal", "Log", "Sqrt")
"""Operators that make a small error large: they read inputs, not what was computed in float32 before."""
KINDS = ("Sum", "Mean", "Max", "Min", "Prod", "SumSquare", "L1", "L2", "LogSum", "LogSumExp")


def unary(d: Draft, x: Value | None) -> Made:
    operator = d.rng.choice((*PLAIN, "Identity"))
    x = None if operator in MAGNIFYING else x
    return d.node(operator, [source(d, x, dtypes=BYTES if operator in ("Relu", "Identity") else FLOATS)])


def numbered(d: Draft, x: Value | None) -> Made:
    operator = d.rng.choice(["LeakyRelu", "Elu", "HardSigmoid", "Gelu", "Cast", "Dropout"])
    read = source(d, x)
    alpha = d.maybe(d.rng.choice((0.3, 1.5, 0.0, -0.2)))
    if operator == "HardSigmoid":
        return d.node(operator, [read], alpha=alpha, beta=d.maybe(0.4))
    if operator == "Gelu":
        return d.node(operator, [read], approximate=d.maybe(d.rng.choice(("none", "tanh"))))
    if operator == "Cast":
        return d.node(operator, [read], to=d.rng.choice((TensorProto.FLOAT,) * 3 + (TensorProto.INT64,)))
    if operator == "Dropout" and d.opset < 12:
        return d.node(operator, [read], d.rng.randint(1, 2), ratio=d.maybe(0.4))[:1]
    if operator == "Dropout":
        ratio, training = d.maybe(d.constant(np.float32(0.3))), d.maybe(d.constant(np.array(d.rng.random() < 0.2)))
        return d.node(operator, [read, ratio, training], d.rng.randint(1, 2), seed=d.maybe(3))[:1]
    return d.node(operator, [read], alpha=alpha)


def clip(d: Draft, x: Value | None) -> Made:
    read = source(d, x, dtypes=BYTES)
    low, high = d.maybe(d.rng.choice((-1.0, 0.0, 0.5))), d.maybe(d.rng.choice((6.0, 0.7, -0.5)))
    if d.opset < 11:
        return d.node("Clip", [read], min=low, max=high)
    if read.dtype != "float32":
        low, high = d.maybe(3), d.maybe(90)
    bounds = [None if each is None else d.constant(np.array(each, read.dtype)) for each in (low, high)]
    return d.node("Clip", [read, *bounds])


def window(d: Draft, kernel: tuple[int, int], dilates: bool, pads: bool = True) -> dict[str, object]:
    """Strides, dilations and padding."""
    mode = d.maybe(d.rng.choice(PADS), 0.3)
    most = [k - 1 for k in kernel] * 2
    return {
        "strides": d.maybe([d.rng.choice((1, 2, 3)) for _ in range(2)]),
        "dilations": d.maybe([d.rng.choice((1, 1, 2)) for _ in range(2)]) if dilates else None,
        "auto_pad": mode,
        "pads": d.maybe([d.rng.randint(0, each) for each in most]) if pads and mode in (None, "NOTSET") else None,
    }


def convolution(d: Draft, x: Value | None) -> Made:
    read = image(d, x)
    groups = d.rng.choice([g for g in range(1, read.shape[1] + 1) if read.shape[1] % g == 0])
    kernel = d.rng.randint(1, 3), d.rng.randint(1, 3)
    channels = groups * d.rng.randint(1, 3)
    w, b = d.weight(channels, read.shape[1] // groups, *kernel), d.maybe(d.weight(channels))
    return d.node(
        "Conv", [read, w, b], group=d.maybe(groups) or (groups if groups > 1 else None),
        kernel_shape=d.maybe(list(kernel)), **window(d, kernel, True),
    )  # fmt: skip


def deconvolution(d: Draft, x: Value | None) -> Made:
    read = image(d, x)
    groups = d.rng.choice([g for g in range(1, read.shape[1] + 1) if read.shape[1] % g == 0])
    kernel, per = (d.rng.randint(1, 3), d.rng.randint(1, 3)), d.rng.randint(1, 2)
    w, b = d.weight(read.shape[1], per, *kernel), d.maybe(d.weight(groups * per))
    options = window(d, kernel, True)
    options["output_padding"] = d.maybe([d.rng.randint(0, 1) for _ in range(2)], 0.3)
    options["output_shape"] = d.maybe([d.rng.randint(4, 20) for _ in range(2)], 0.15)
    return d.node("ConvTranspose", [read, w, b], group=groups, kernel_shape=d.maybe(list(kernel)), **options)


def pool(d: Draft, x: Value | None) -> Made:
    operator = d.rng.choice(("MaxPool", "AveragePool"))
    read = image(d, x, BYTES if operator == "MaxPool" else FLOATS)
    kernel = d.rng.randint(1, 3), d.rng.randint(1, 3)
    options = window(d, kernel, d.opset >= (10 if operator == "MaxPool" else 19) and d.rng.random() < 0.5)
    options["ceil_mode"] = d.maybe(d.rng.randint(0, 1)) if d.opset >= 10 else None
    if read.dtype != "float32" and options["auto_pad"] in ("SAME_UPPER", "SAME_LOWER"):
        options["strides"] = None  # longer than a window they make onnxruntime read at negative padding
    if operator == "AveragePool":
        options["count_include_pad"] = d.maybe(d.rng.randint(0, 1))
        return d.node(operator, [read], kernel_shape=list(kernel), **options)
    options["storage_order"] = d.maybe(d.rng.randint(0, 1)) if d.opset >= 8 else None
    made = d.node(
        operator, [read], d.rng.choice((1, 1, 2)) if d.opset >= 8 else 1, kernel_shape=list(kernel), **options
    )
    return made if d.rng.random() < 0.2 else made[:1]


def global_pool(d: Draft, x: Value | None) -> Made:
    return d.node(d.rng.choice(("GlobalAveragePool", "GlobalMaxPool")), [source(d, x, 3, 5)])


def normalisation(d: Draft, x: Value | None) -> Made:
    operator = d.rng.choice(("BatchNormalization", "InstanceNormalization", "LRN", "PRelu"))
    if operator == "LRN":
        given = {name: d.maybe(value) for name, value in (("alpha", 0.01), ("beta", 0.5), ("bias", 2.0))}
        return d.node(operator, [image(d, x)], size=d.rng.choice((1, 3, 5)), **given)
    if operator == "PRelu":
        read = source(d, x)
        slope = [d.rng.choice((1, size)) for size in read.shape][d.rng.randrange(len(read.shape)) :]
        return d.node(operator, [read, d.weight(*slope)])
    read = source(d, None if operator in MAGNIFYING else x, 3, 5)
    scale, shift = d.weight(read.shape[1]), d.weight(read.shape[1])
    epsilon = d.maybe(d.rng.choice((1e-3, 0.1)))
    if operator == "InstanceNormalization":
        return d.node(operator, [read, scale, shift], epsilon=epsilon)
    mean, variance = d.weight(read.shape[1]), d.constant(np.abs(d.array((read.shape[1],))) + np.float32(0.1))
    training = d.rng.random() < 0.2
    outputs = (5 if d.opset < 14 else 3) if training else 1
    mode = int(training) if training or d.rng.random() < 0.3 else None
    return d.node(
        operator, [read, scale, shift, mean, variance], outputs, epsilon=epsilon, momentum=d.maybe(0.8),
        spatial=d.maybe(d.rng.choice((1, 1, 0)), 0.3) if d.opset < 9 else None,
        training_mode=mode if d.opset >= 14 else None,
    )[:1]  # fmt: skip


def products(d: Draft, x: Value | None) -> Made:
    if d.rng.random() < 0.5:
        a = source(d, x, 1, 4)
        shape = d.rng.choice([(a.shape[-1],), (a.shape[-1], d.size()), (*a.shape[:-2], a.shape[-1], d.size())])
        return d.node("MatMul", [a, d.operand(*shape)])
    a = source(d, x, 2, 2)
    turned = d.maybe(d.rng.randint(0, 1)), d.maybe(d.rng.randint(0, 1))
    rows, inner = a.shape[:: -1 if turned[0] else 1]
    columns = d.size()
    b = d.operand(*((columns, inner) if turned[1] else (inner, columns)))
    c = d.rng.choice(((), (columns,), (1, columns), (rows, 1), (rows, columns)))
    third = d.maybe(d.operand(*c), 0.7) if d.opset >= 11 else d.operand(*c)
    numbers = {name: d.maybe(d.rng.choice((0.5, 2.0, 1.0))) for name in ("alpha", "beta")}
    return d.node("Gemm", [a, b, third], transA=turned[0], transB=turned[1], **numbers)


def reduction(d: Draft, x: Value | None) -> Made:
    operator = "Reduce" + d.rng.choice(KINDS)
    read = source(d, x)
    axes = d.maybe(d.axes(len(read.shape)), 0.7)
    since = 13 if operator == "ReduceSum" else 18
    noop = d.maybe(d.rng.randint(0, 1), 0.3) if d.opset >= since else None
    keepdims = d.maybe(d.rng.randint(0, 1))
    if d.opset < since:
        return d.node(operator, [read], axes=axes, keepdims=keepdims)
    given = None if axes is None else d.constant(np.array(axes, np.int64))
    return d.node(operator, [read, given], keepdims=keepdims, noop_with_empty_axes=noop)


def softmax(d: Draft, x: Value | None) -> Made:
    read = source(d, x)
    return d.node(d.rng.choice(("Softmax", "LogSoftmax")), [read], axis=d.maybe(d.axis(len(read.shape)), 0.7))


def arithmetic(d: Draft, x: Value | None) -> Made:
    operator = d.rng.choice(["Add", "Sub", "Mul", "Div", "Pow", "Sum", "Max", "Min", "Mean"])
    read = source(d, None if operator in MAGNIFYING else x)
    count = 1 if operator in ("Add", "Sub", "Mul", "Div", "Pow") else d.rng.randint(0, 3)
    others = []
    for _ in range(count):
        low = d.rng.randrange(len(read.shape) + 1)
        shape = [size if d.rng.random() < 0.7 else 1 for size in read.shape[low:]]
        front = [d.size()] if low == 0 and d.rng.random() < 0.2 else []
        others.append(d.operand(*front, *shape))
    if operator == "Pow":
        exponent = d.constant(np.float32(d.rng.choice((2.0, 0.5, 1.0, 3.0, -1.0, 0.0))))
        return d.node(operator, [read, d.rng.choice([exponent, *others])])
    operands = [read, *others]
    if len(operands) == 2 and d.rng.random() < 0.3:
        operands.reverse()
    return d.node(operator, operands)


BASIC: tuple[Draw, ...] = (
    unary, numbered, clip, convolution, deconvolution, pool, global_pool, normalisation, products, reduction, softmax,
    arithmetic,
)  # fmt: skip
