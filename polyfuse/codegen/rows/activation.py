"""What happens to a finished value: bias is in it already; residual and activation, in registers where that pays.

`relu`, clips and what is made of them run on vectors, one instruction a bound, and so does what is made of `exp`; the
others element by element on the row just stored. Both keep NaN as the reference does: a bound is taken only where it
compares greater (or less).
"""

from collections.abc import Mapping

from polyfuse.codegen.c.expression import to_c
from polyfuse.codegen.c.text import braces, scope
from polyfuse.codegen.rows.shape import PRELU, RowShape, block_sizes
from polyfuse.network.activation import Activation

SLOPED = ("vec{v} n = {t};", "AT_MOST{v}(n, SPLAT{v}(0.0f));", "AT_LEAST{v}({t}, SPLAT{v}(0.0f));", "{t} += {0} * n;")
"""max(t, 0) + slope * min(t, 0)"""
OVER_ONE_AND_EXP = ("ONE_AND_EXP{v}(e);", "{t} = {t} / e;")
"""t = t / (1 + exp(e)); NaN is that of the numerator."""
ON_VECTORS: Mapping[str, tuple[str, ...]] = {
    "relu": ("AT_LEAST{v}({t}, SPLAT{v}(0.0f));",),
    "relu6": ("AT_LEAST{v}({t}, SPLAT{v}(0.0f));", "AT_MOST{v}({t}, SPLAT{v}(6.0f));"),
    "clip": ("AT_LEAST{v}({t}, SPLAT{v}({0}));", "AT_MOST{v}({t}, SPLAT{v}({1}));"),
    "at_least": ("AT_LEAST{v}({t}, SPLAT{v}({0}));",),
    "at_most": ("AT_MOST{v}({t}, SPLAT{v}({0}));",),
    "leaky_relu": SLOPED,
    PRELU: SLOPED,
    "hard_sigmoid": ("{t} = {0} * {t} + {1};", "AT_LEAST{v}({t}, SPLAT{v}(0.0f));", "AT_MOST{v}({t}, SPLAT{v}(1.0f));"),
    "hard_swish": (
        "vec{v} g = {t} / 6.0f + 0.5f;",
        "AT_LEAST{v}(g, SPLAT{v}(0.0f));",
        "AT_MOST{v}(g, SPLAT{v}(1.0f));",
        "{t} *= g;",
    ),
    "neg": ("{t} = -{t};",),
    "exp": ("EXP{v}({t});",),
    "sigmoid": ("vec{v} e = -{t};", "EXP{v}(e);", "{t} = SPLAT{v}(1.0f) / (e + 1.0f);"),
    "silu": ("vec{v} e = -{t};", *OVER_ONE_AND_EXP),
    "gelu_tanh": (  # t / 2 * (1 + tanh(u)) = t / (1 + exp(-2 u))
        "vec{v} e = -1.5957691216057308f * ({t} + 0.044715f * {t} * {t} * {t});",
        *OVER_ONE_AND_EXP,
    ),
    "elu": (  # max(t, 0) + scale * (exp(min(t, 0)) - 1)
        "vec{v} e = {t};",
        "AT_MOST{v}(e, SPLAT{v}(0.0f));",
        "EXP{v}(e);",
        "AT_LEAST{v}({t}, SPLAT{v}(0.0f));",
        "{t} += {0} * (e - 1.0f);",
    ),
    "tanh": (  # Cephes' tanhf: a polynomial where |t| < 0.625, else 1 - 2 / (exp(2 |t|) + 1) with the sign of t
        "const mask{v} sign = (mask{v}){t} & (mask{v})SPLAT{v}(-0.0f);",
        "const vec{v} m = (vec{v})((mask{v}){t} ^ sign), z = {t} * {t};",
        "vec{v} p = -5.70498872745e-3f * z + 2.06390887954e-2f;",
        "p = p * z - 5.37397155531e-2f;",
        "p = p * z + 1.33314422036e-1f;",
        "p = p * z - 3.33332819422e-1f;",
        "vec{v} e = m + m;",
        "EXP{v}(e);",
        "e = 1.0f - 2.0f / (e + 1.0f);",
        "e = (vec{v})((mask{v})e | sign);",
        "{t} = SELECT{v}(m < 0.625f, {t} * z * p + {t}, e);",
    ),
}
"""The C that applies each activation to a vector `t` of V floats; its arguments are numbered."""


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
        numbers = ["slope"] if shape.has_slopes else [f"{x!r}f" for x in Activation.of(shape.activation).arguments]
        done = [line.format(*numbers, t=value, v=floats) for line in ON_VECTORS[activation_name(shape)]]
        lines += scope(done) if done[0].startswith(("vec", "const")) else done
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
