"""Random nodes that move elements, resize, quantise, and nodes that make constants."""

import numpy as np
from onnx import TensorProto

from tests.fuzz.draft import Draft, Value
from tests.fuzz.operators import BASIC, BYTES, FLOATS, Draw, Made, image, source, window

FAR = 2**31 - 1


def slicing(d: Draft, x: Value | None) -> Made:
    read = source(d, x, dtypes=BYTES)
    axes = d.axes(len(read.shape))
    starts, ends, steps = [], [], []
    for axis in axes:
        size = read.shape[axis]
        step = d.rng.choice((1, 1, 1, 2, -1, -2)) if d.opset >= 10 else 1
        low = d.rng.randrange(size)
        high = d.rng.randint(low + 1, size) if d.rng.random() < 0.97 else low
        first, last = (low, high) if step > 0 else (high - 1, low - 1)
        starts.append(d.rng.choice((first, first - size)) if first < size else first)
        ends.append(d.rng.choice((last, FAR)) if step > 0 else d.rng.choice((last, -FAR)) if last >= 0 else -FAR)
        steps.append(step)
    if d.opset < 10:
        return d.node("Slice", [read], starts=starts, ends=ends, axes=axes)
    more = [d.constant(np.array(each, d.rng.choice((np.int32, np.int64)))) for each in (starts, ends)]
    kind = more[0].dtype
    more[1] = d.constant(np.array(ends, kind))
    plain = axes == sorted(axes) == list(range(len(axes)))
    along = None if plain and d.rng.random() < 0.5 else d.constant(np.array(axes, kind))
    strides = None if set(steps) == {1} and d.rng.random() < 0.5 else d.constant(np.array(steps, kind))
    return d.node("Slice", [read, *more, along, strides])


def splitting(d: Draft, x: Value | None) -> Made:
    read = source(d, x, dtypes=BYTES)
    axis = d.axis(len(read.shape))
    size = read.shape[axis]
    count = d.rng.randint(1, min(3, size))
    along = d.maybe(axis, 0.9)
    if d.rng.random() < 0.5:
        cuts = sorted(d.rng.sample(range(1, size), count - 1))
        sizes = [b - a for a, b in zip([0, *cuts], [*cuts, size], strict=True)]
        if d.opset < 13:
            made = d.node("Split", [read], count, axis=along, split=sizes)
        else:
            made = d.node("Split", [read, d.constant(np.array(sizes, np.int64))], count, axis=along)
    else:
        made = d.node("Split", [read], count, axis=along, num_outputs=count if d.opset >= 18 else None)
    return d.rng.sample(made, d.rng.randint(1, count))


def shaping(d: Draft, x: Value | None) -> Made:
    read = source(d, x, dtypes=BYTES)
    rank = len(read.shape)
    operator = d.rng.choice(("Squeeze", "Unsqueeze", "Flatten", "Transpose", "Reshape", "Expand"))
    if operator == "Squeeze":
        ones = [a - d.rng.randint(0, 1) * rank for a, size in enumerate(read.shape) if size == 1]
        return d.listed(operator, [read], 13, axes=d.maybe(ones, 0.7) or None)
    if operator == "Unsqueeze":
        return d.listed(operator, [read], 13, axes=d.axes(rank + d.rng.randint(1, 2))[:2])
    if operator == "Flatten":
        return d.node(operator, [read], axis=d.maybe(d.axis(rank, 1), 0.8))
    if operator == "Transpose":
        return d.node(operator, [read], perm=d.maybe(d.rng.sample(range(rank), rank), 0.8))
    if operator == "Expand":
        front = [d.size()] if d.rng.random() < 0.3 else []
        sizes = [d.size() if size == 1 else d.rng.choice((1, size)) for size in read.shape]
        return d.node(operator, [read, d.constant(np.array([*front, *sizes], np.int64))])
    sizes = list(read.shape)
    d.rng.shuffle(sizes)
    if len(sizes) > 1 and d.rng.random() < 0.5:
        sizes[:2] = [sizes[0] * sizes[1]]
    if d.rng.random() < 0.5:
        sizes[d.rng.randrange(len(sizes))] = d.rng.choice((-1, -1, 0))
    allow = d.maybe(d.rng.randint(0, 1), 0.3) if d.opset >= 14 else None
    return d.node(operator, [read, d.constant(np.array(sizes, np.int64))], allowzero=allow)


def gathering(d: Draft, x: Value | None) -> Made:
    read = source(d, x, dtypes=BYTES)
    axis = d.axis(len(read.shape))
    size = read.shape[axis]
    shape = d.rng.choice(((), (1,), (2,), (2, 2), (3,)))
    indices = d.numbers.integers(-size, size, shape).astype(d.rng.choice((np.int32, np.int64)))
    return d.node("Gather", [read, d.constant(indices)], axis=d.maybe(axis, 0.8))


def joining(d: Draft, x: Value | None) -> Made:
    read = source(d, x, dtypes=BYTES)
    axis = d.axis(len(read.shape))
    parts = [read]
    for _ in range(d.rng.randint(0, 2)):
        shape = [d.size() if k == axis % len(read.shape) else size for k, size in enumerate(read.shape)]
        parts.append(d.operand(*shape) if read.dtype == "float32" else d.input(shape, read.dtype))
    d.rng.shuffle(parts)
    return d.node("Concat", parts, axis=axis)


def padding(d: Draft, x: Value | None) -> Made:
    read = source(d, x, dtypes=BYTES)
    rank, mode = len(read.shape), d.maybe(d.rng.choice(("constant", "reflect", "edge", "wrap", "constant")), 0.7)
    axes = d.axes(rank) if d.opset >= 18 and d.rng.random() < 0.4 else None
    named = list(range(rank)) if axes is None else axes
    most = [read.shape[axis] - 1 if mode == "reflect" else 2 for axis in named]
    pads = [d.rng.randint(0, min(2, each)) for each in [*most, *most]]
    if d.rng.random() < 0.2 and mode in (None, "constant", "edge"):
        pads[0] = -1
    if d.opset < 11:
        return d.node("Pad", [read], pads=pads, mode=mode, value=d.maybe(1.5))
    value = d.maybe(d.constant(np.array(2, read.dtype)))
    last = None if axes is None else d.constant(np.array(axes, np.int64))
    return d.node("Pad", [read, d.constant(np.array(pads, np.int64)), value, last], mode=mode)


def blocks(d: Draft, x: Value | None) -> Made:
    block = d.rng.choice((1, 2, 2))
    if d.rng.random() < 0.5:
        read = d.input((1, d.rng.randint(1, 3) * block**2, d.size(), d.size()))
        mode = d.maybe(d.rng.choice(("DCR", "CRD"))) if d.opset >= 11 else None
        return d.node("DepthToSpace", [read], blocksize=block, mode=mode)
    return d.node("SpaceToDepth", [d.input((1, d.size(), 2 * block, 3 * block))], blocksize=block)


SCALES = (0.5, 2.0, 1.5, 1.0, 0.75, 3.0, 1.25)
COORDINATES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric")


def resizing(d: Draft, x: Value | None) -> Made:
    read = image(d, x, FLOATS)
    if d.opset < 11:
        operator = "Upsample" if d.opset < 10 else "Resize"
        known = (0.5, 0.7, 1.0) if d.opset == 10 and d.rng.random() < 0.5 else (1.0, 2.0, 3.0)
        scales = [1.0, 1.0, *(d.rng.choice(known) for _ in range(2))]
        mode = d.maybe(d.rng.choice(("nearest", "linear")))
        if d.opset < 9:
            return d.node(operator, [read], scales=scales, mode=mode)
        return d.node(operator, [read, d.constant(np.array(scales, np.float32))], mode=mode)
    mode = d.rng.choice(("nearest", "nearest", "linear", "cubic"))
    known = COORDINATES if d.opset >= 19 else COORDINATES[:4]
    options: dict[str, object] = {
        "mode": d.maybe(mode, 0.9) if mode == "nearest" else mode,
        "coordinate_transformation_mode": d.maybe(d.rng.choice(known), 0.8),
        "nearest_mode": d.maybe(d.rng.choice(("round_prefer_floor", "round_prefer_ceil"))),
        "cubic_coeff_a": d.maybe(-0.5, 0.3),
        "exclude_outside": d.maybe(d.rng.randint(0, 1), 0.3) if mode == "cubic" else None,
        "extrapolation_value": d.maybe(2.0, 0.1),
    }
    axes, some = [0, 1, 2, 3], d.opset >= 18 and d.rng.random() < 0.4
    if some:
        axes = [2 - 4 * d.rng.randint(0, 1), 3 - 4 * d.rng.randint(0, 1)]
        options["axes"] = axes
    if d.opset >= 18:
        options["antialias"] = d.maybe(d.rng.randint(0, 1), 0.1)
    moved = [axis % 4 > 1 for axis in axes]
    if d.rng.random() < 0.5:
        scales = [d.rng.choice(SCALES) if each else 1.0 for each in moved]
        return d.node("Resize", [read, None, d.constant(np.array(scales, np.float32))], **options)
    sizes = [d.rng.randint(1, 14) if each else read.shape[axis] for axis, each in zip(axes, moved, strict=True)]
    if axes == [2, 3]:
        options["keep_aspect_ratio_policy"] = d.maybe(d.rng.choice(("stretch", "not_larger", "not_smaller")))
    return d.node("Resize", [read, None, None, d.constant(np.array(sizes, np.int64))], **options)


def scale_of(d: Draft, dtype: str, channels: int | None = 0) -> tuple[Value, Value]:
    """A scale and a zero point, or one for each of some channels; None for numbers of rank 0."""
    shape = (channels,) if channels else () if channels is None else d.rng.choice(((), (), (1,)))
    scale = d.numbers.uniform(0.01, 0.2, shape).astype(np.float32)
    low = -3 if dtype == "int8" else 120
    return d.constant(scale), d.constant(d.numbers.integers(low, low + 7, shape).astype(dtype))


def scaling(d: Draft, x: Value | None) -> Made:
    operator = d.rng.choice(("QuantizeLinear", "DequantizeLinear"))
    dtype = d.rng.choice(("int8", "uint8"))
    read = source(d, x, dtypes=FLOATS if operator == "QuantizeLinear" else (dtype,))
    axis = d.axis(len(read.shape)) if d.opset >= 13 else None
    channels = read.shape[axis] if axis is not None and d.rng.random() < 0.5 else 0
    scale, zero = scale_of(d, dtype, channels)
    given = d.maybe(zero, 0.7)
    options: dict[str, object] = {"axis": axis if channels or d.rng.random() < 0.3 else None}
    if operator == "QuantizeLinear":
        wanted = TensorProto.INT8 if dtype == "int8" else TensorProto.UINT8
        options["output_dtype"] = d.maybe(wanted) if d.opset >= 21 else None
        options["saturate"] = d.maybe(d.rng.randint(0, 1), 0.2) if d.opset >= 19 else None
        options["precision"] = d.maybe(TensorProto.FLOAT, 0.3) if d.opset >= 23 else None
    elif d.opset >= 23:
        options["output_dtype"] = d.maybe(
            d.rng.choice((TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.FLOAT16)), 0.3
        )
    domain = d.rng.choice(("", "", "", "com.microsoft"))
    if domain:
        options = {"axis": options["axis"]}
    return d.node(operator, [read, scale, given], domain=domain, **options)


def integers(d: Draft, x: Value | None) -> Made:
    """Operators of integers."""
    dtype = d.rng.choice(("int8", "uint8"))
    (xs, xz), (ys, yz) = scale_of(d, dtype, None), scale_of(d, dtype, None)
    kind = d.rng.choice(("conv", "matmul", "gemm", "binary", "pool", "global", "function", "concat"))
    if kind == "conv":
        read = image(d, x, (dtype,))
        kernel, channels = (d.rng.randint(1, 3), d.rng.randint(1, 3)), d.rng.randint(1, 3)
        w = d.constant(d.numbers.integers(-20, 20, (channels, read.shape[1], *kernel)), "int8")
        per = channels if d.rng.random() < 0.5 else 0
        ws = d.constant(d.numbers.uniform(0.01, 0.1, (per,) if per else ()).astype(np.float32))
        wz = d.constant(np.zeros((per,) if per else (), np.int8))
        bias = d.maybe(d.constant(d.numbers.integers(-200, 200, (channels,)), "int32"))
        return d.node("QLinearConv", [read, xs, xz, w, ws, wz, ys, yz, bias], **window(d, kernel, True))
    if kind in ("matmul", "gemm"):
        read = source(d, x, 2, 2, (dtype,))
        w = d.constant(d.array((read.shape[1], d.size()), "int8"))
        per = w.shape[1] if d.rng.random() < 0.4 else 0
        ws = d.constant(d.numbers.uniform(0.01, 0.1, (per,) if per else ()).astype(np.float32))
        wz = d.constant(d.numbers.integers(-9, 9, (per,) if per else ()), "int8")
        if kind == "matmul":
            return d.node("QLinearMatMul", [read, xs, xz, w, ws, wz, ys, yz])
        bias = d.maybe(d.constant(d.numbers.integers(-200, 200, (w.shape[1],)), "int32"))
        return d.node("QGemm", [read, xs, xz, w, ws, wz, bias, ys, yz], domain="com.microsoft", alpha=d.maybe(1.0))
    if kind == "pool":
        read, kernel = image(d, x, (dtype,)), (d.rng.randint(1, 3), d.rng.randint(1, 3))
        options = window(d, kernel, False)
        return d.node(
            "QLinearAveragePool", [read, xs, xz, ys, yz], domain="com.microsoft", kernel_shape=list(kernel),
            count_include_pad=d.maybe(d.rng.randint(0, 1)), ceil_mode=d.maybe(d.rng.randint(0, 1)), **options,
        )  # fmt: skip
    if kind == "global":
        read = image(d, x, (dtype,))
        return d.node(
            "QLinearGlobalAveragePool", [read, xs, xz, ys, yz], domain="com.microsoft", channels_last=d.maybe(0)
        )
    read = source(d, x, dtypes=(dtype,))
    if kind == "function":
        operator = d.rng.choice(("QLinearSigmoid", "QLinearLeakyRelu"))
        alpha = d.maybe(0.2) if operator == "QLinearLeakyRelu" else None
        return d.node(operator, [read, xs, xz, ys, yz], domain="com.microsoft", alpha=alpha)
    other = d.input(read.shape, dtype)
    zs, zz = scale_of(d, dtype, None)
    if kind == "concat":
        axis = d.axis(len(read.shape))
        return d.node("QLinearConcat", [ys, yz, read, xs, xz, other, zs, zz], domain="com.microsoft", axis=axis)
    operator = d.rng.choice(("QLinearAdd", "QLinearMul"))
    return d.node(operator, [read, xs, xz, other, zs, zz, ys, yz], domain="com.microsoft")


POINTWISE = [
    "Abs",
    "Ceil",
    "Exp",
    "Floor",
    "Log",
    "Neg",
    "Reciprocal",
    "Relu",
    "Round",
    "Sigmoid",
    "Sign",
    "Sqrt",
    "Tanh",
]
PAIRS = [
    "Add",
    "Div",
    "Max",
    "Mean",
    "Min",
    "Mod",
    "Mul",
    "Pow",
    "Sub",
    "Sum",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
]


def folded(d: Draft, x: Value | None) -> Made:
    """What nodes make of constants, added to an input."""
    made = d.rng.choice((_folded_pair, _folded_other))(d)
    cast = d.node("Cast", [Value(made, ())], to=TensorProto.FLOAT)
    return d.node("Add", [d.input((1,)), Value(cast[0], ())])


def _folded_pair(d: Draft) -> str:
    dtype = d.rng.choice(("float32", "int64", "int32"))
    if d.rng.random() < 0.3:
        return d.node(d.rng.choice(POINTWISE), [d.weight(2, 3)])[0]
    shape = d.shape(1, 3)
    a, b = d.constant(d.array(shape, dtype)), d.constant(d.array(shape[d.rng.randrange(len(shape)) :], dtype))
    operator = d.rng.choice(PAIRS)
    if operator in ("Div", "Mod", "Pow") and dtype != "float32":
        assert b.array is not None
        b = d.constant(np.where(b.array == 0, 3, np.abs(b.array) % 4 + 1 if operator == "Pow" else b.array), dtype)
    fmod = 1 if dtype == "float32" else d.maybe(d.rng.randint(0, 1))
    return d.node(operator, [a, b], fmod=fmod if operator == "Mod" else None)[0]


def _folded_other(d: Draft) -> str:
    dtype = d.rng.choice(("float32", "int64"))
    x = d.constant(d.array(d.shape(1, 4), dtype))
    draw = d.rng.choice((slicing, splitting, shaping, gathering, reduction_of, _tiled, _shaped, _scaled, _chosen))
    return draw(d, x)[0]


def reduction_of(d: Draft, x: Value) -> Made:
    operator = "Reduce" + d.rng.choice(["Sum", "Mean", "Max", "Min", "Prod"])
    if operator == "ReduceProd":  # of whole numbers it soon passes the largest one
        x = d.weight(*x.shape)
    axes, keepdims = d.maybe(d.axes(len(x.shape)), 0.7), d.maybe(d.rng.randint(0, 1))
    if d.opset < (13 if operator == "ReduceSum" else 18):
        return d.node(operator, [x], axes=axes, keepdims=keepdims)
    given = None if axes is None else d.constant(np.array(axes, np.int64))
    noop = d.maybe(d.rng.randint(0, 1), 0.3)
    return d.node(operator, [x, given], keepdims=keepdims, noop_with_empty_axes=noop)


def _tiled(d: Draft, x: Value) -> Made:
    return d.node("Tile", [x, d.constant(np.array([d.rng.randint(1, 3) for _ in x.shape], np.int64))])


def _shaped(d: Draft, x: Value) -> Made:
    ends = {name: d.maybe(d.axis(len(x.shape), 1)) if d.opset >= 15 else None for name in ("start", "end")}
    return d.node("Shape", [x], **ends) if d.rng.random() < 0.7 else d.node("Size", [x])


def _scaled(d: Draft, x: Value) -> Made:
    return scaling(d, d.constant(d.array(x.shape, d.rng.choice(("float32", "int8", "uint8")))))


def _chosen(d: Draft, x: Value) -> Made:
    assert x.array is not None
    picks = d.constant(d.numbers.integers(-1, 1, x.shape).astype(np.int64))
    if d.rng.random() < 0.5:
        return d.node("GatherElements", [x, picks], axis=d.maybe(d.axis(len(x.shape))))
    return d.node("Where", [d.constant(x.array > 0), x, d.constant(-x.array)])


DRAWS: tuple[Draw, ...] = (
    *BASIC, slicing, splitting, shaping, gathering, joining, padding, blocks, resizing, resizing, scaling, integers,
    integers, folded,
)  # fmt: skip
"""What draws a node; some twice."""
