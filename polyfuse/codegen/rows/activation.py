"""What happens to a finished value: bias is in it already; residual and activation, in registers where that pays.

`relu`, clips and what is made of them run on vectors, one instruction a bound, and so does what is made of `exp`; the
others element by element on the row just stored. Both keep NaN as the reference does: a bound is taken only where it
compares greater (or less).
"""

from collections.abc import Callable, Mapping

from polyfuse.codegen.c.text import braces
from polyfuse.codegen.rows.shape import PRELU, RowShape, block_sizes
from polyfuse.network.activation import Activation
from polyfuse.network.expression import to_c

Vectors = Callable[[str, int, tuple[float, ...]], list[str]]


def _number(value: float) -> str:
    return f"{value!r}f"


def _clip(t: str, v: int, bounds: tuple[float, ...]) -> list[str]:
    low, high = bounds
    return [*_at_least(t, v, (low,)), *_at_most(t, v, (high,))]


def _at_least(t: str, v: int, bounds: tuple[float, ...]) -> list[str]:
    return [f"AT_LEAST{v}({t}, {_splat(v, bounds[0])});"]


def _at_most(t: str, v: int, bounds: tuple[float, ...]) -> list[str]:
    return [f"AT_MOST{v}({t}, {_splat(v, bounds[0])});"]


def _leaky(t: str, v: int, slope: tuple[float, ...]) -> list[str]:
    """max(t, 0) + slope * min(t, 0)"""
    return _sloped(t, v, _number(slope[0]))


def _sloped(t: str, v: int, slope: str) -> list[str]:
    negative = f"vec{v} n = {t};"
    return ["{", f"  {negative}", f"  AT_MOST{v}(n, {_splat(v, 0.0)});", f"  AT_LEAST{v}({t}, {_splat(v, 0.0)});",
            f"  {t} += {slope} * n;", "}"]  # fmt: skip


def _hard_sigmoid(t: str, v: int, line: tuple[float, ...]) -> list[str]:
    return [f"{t} = {_number(line[0])} * {t} + {_number(line[1])};", *_clip(t, v, (0.0, 1.0))]


def _hard_swish(t: str, v: int, _: tuple[float, ...]) -> list[str]:
    gate = [f"vec{v} g = {t} / 6.0f + 0.5f;", *_clip("g", v, (0.0, 1.0)), f"{t} *= g;"]
    return ["{", *(f"  {line}" for line in gate), "}"]


def _exp(t: str, v: int, _: tuple[float, ...]) -> list[str]:
    return [f"EXP{v}({t});"]


def _over_one_and_exp(t: str, v: int, exponent: str) -> list[str]:
    """t = t / (1 + exp(exponent)); NaN is that of the numerator."""
    return ["{", f"  vec{v} e = {exponent};", f"  ONE_AND_EXP{v}(e);", f"  {t} = {t} / e;", "}"]


def _sigmoid(t: str, v: int, _: tuple[float, ...]) -> list[str]:
    return ["{", f"  vec{v} e = -{t};", f"  EXP{v}(e);", f"  {t} = {_splat(v, 1.0)} / (e + 1.0f);", "}"]


def _silu(t: str, v: int, _: tuple[float, ...]) -> list[str]:
    return _over_one_and_exp(t, v, f"-{t}")


def _gelu_tanh(t: str, v: int, _: tuple[float, ...]) -> list[str]:
    """t / 2 * (1 + tanh(u)) = t / (1 + exp(-2 u))"""
    return _over_one_and_exp(t, v, f"-1.5957691216057308f * ({t} + 0.044715f * {t} * {t} * {t})")


def _elu(t: str, v: int, scale: tuple[float, ...]) -> list[str]:
    """max(t, 0) + scale * (exp(min(t, 0)) - 1)"""
    zero = _splat(v, 0.0)
    lines = [f"vec{v} e = {t};", f"AT_MOST{v}(e, {zero});", f"EXP{v}(e);", f"AT_LEAST{v}({t}, {zero});",
             f"{t} += {_number(scale[0])} * (e - 1.0f);"]  # fmt: skip
    return ["{", *(f"  {line}" for line in lines), "}"]


def _tanh(t: str, v: int, _: tuple[float, ...]) -> list[str]:
    """Cephes' tanhf: a polynomial where |t| < 0.625, and 1 - 2 / (exp(2 |t|) + 1) with the sign of t elsewhere."""
    lines = [
        f"const mask{v} sign = (mask{v}){t} & (mask{v}){_splat(v, -0.0)};",
        f"const vec{v} m = (vec{v})((mask{v}){t} ^ sign), z = {t} * {t};",
        f"vec{v} p = -5.70498872745e-3f * z + 2.06390887954e-2f;",
        "p = p * z - 5.37397155531e-2f;",
        "p = p * z + 1.33314422036e-1f;",
        "p = p * z - 3.33332819422e-1f;",
        f"vec{v} e = m + m;",
        f"EXP{v}(e);",
        "e = 1.0f - 2.0f / (e + 1.0f);",
        f"e = (vec{v})((mask{v})e | sign);",
        f"{t} = SELECT{v}(m < 0.625f, {t} * z * p + {t}, e);",
    ]
    return ["{", *(f"  {line}" for line in lines), "}"]


def _splat(v: int, value: float) -> str:
    return f"SPLAT{v}({_number(value)})"


ON_VECTORS: Mapping[str, Vectors] = {
    "relu": lambda t, v, _: _at_least(t, v, (0.0,)),
    "relu6": lambda t, v, _: _clip(t, v, (0.0, 6.0)),
    "clip": _clip,
    "at_least": _at_least,
    "at_most": _at_most,
    "leaky_relu": _leaky,
    "hard_sigmoid": _hard_sigmoid,
    "hard_swish": _hard_swish,
    PRELU: lambda t, v, _: _sloped(t, v, "slope"),
    "neg": lambda t, v, _: [f"{t} = -{t};"],
    "exp": _exp,
    "sigmoid": _sigmoid,
    "silu": _silu,
    "gelu_tanh": _gelu_tanh,
    "elu": _elu,
    "tanh": _tanh,
}


OF_EXP = frozenset(["exp", "sigmoid", "silu", "gelu_tanh", "elu", "tanh"])
EXP_VECTORS = 20
"""What an activation that is made of `exp` takes, in operations on vectors."""


def activation_vectors(shape: RowShape, floats: int) -> int:
    """The operations that the activation of one vector takes, where they are many: as many times V off vectors."""
    if shape.activation is None or activation_name(shape) in ON_VECTORS.keys() - OF_EXP:
        return 0
    return EXP_VECTORS * (1 if runs_on_vectors(shape) else floats)


def runs_on_vectors(shape: RowShape) -> bool:
    """Whether the activation of a shape is applied in registers."""
    return shape.activation is None or activation_name(shape) in ON_VECTORS


def activation_name(shape: RowShape) -> str:
    """The name of the activation that a shape has."""
    assert shape.activation is not None
    return PRELU if shape.has_slopes else Activation.of(shape.activation).name


def slopes(shape: RowShape, v: int, block: str) -> list[str]:
    """The slopes of an output block, for `finished`; none where the activation has none."""
    if not shape.has_slopes:
        return []
    return [f"const vec{v} slope = GET{v}(bias, ({block} + {len(block_sizes(shape.out_channels, v))}) * {v});"]


def finished(shape: RowShape, value: str, floats: int, at: str) -> list[str]:
    """Statements that finish the vector `value` and store it at the float offset `at` of `o`.

    They stand where `slopes` and the residual `r` are known.
    """
    put = "STREAM" if shape.stream and runs_on_vectors(shape) else "PUT"
    return [*applied(shape, value, floats, at), f"{put}{floats}(o, {at}, {value});"]


def applied(shape: RowShape, value: str, floats: int, at: str) -> list[str]:
    """Statements that finish the vector `value`, as far as that is done on vectors."""
    lines = []
    add = f"{value} += GET{floats}(r, {at});"
    vectors = runs_on_vectors(shape)
    if shape.residual == "before":
        lines.append(add)
    if vectors and shape.activation is not None:
        arguments = () if shape.has_slopes else Activation.of(shape.activation).arguments
        lines += ON_VECTORS[activation_name(shape)](value, floats, arguments)
    if shape.residual == "after" and vectors:
        lines.append(add)
    return lines


def finished_later(shape: RowShape, columns: int, floats: int) -> list[str]:
    """The loop over columns stored to `o` that applies what does not run on vectors; nothing otherwise."""
    if runs_on_vectors(shape):
        return []
    tail = " + r[i]" if shape.residual == "after" else ""
    body = [f"o[i] = {scalar(shape, 'o[i]')}{tail};"]
    if shape.apart == 1:
        return braces(f"for (int i = 0; i < {columns * floats}; i++)", body)
    column = braces(f"for (int i = first; i < first + {floats}; i++)", body)
    return braces(
        f"for (int first = 0; first < {columns * shape.apart * floats}; first += {shape.apart * floats})", column
    )


def scalar(shape: RowShape, value: str) -> str:
    """The activation of one float, as C text."""
    if shape.activation is None:
        return value
    text = to_c(Activation.of(shape.activation).text("acc"), {"acc": value})
    return text.replace("maximum(", "maximum_of(").replace("minimum(", "minimum_of(")
