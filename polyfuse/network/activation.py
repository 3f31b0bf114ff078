"""Activations: functions of one element that a layer may end in, as an expression and in numpy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import erf

import numpy as np

from polyfuse.errors import InvalidInput
from polyfuse.network.dtypes import Array

Spec = str | Sequence[object]
"""An activation as a user names it: `"relu"`, `("clip", 0, 6)`, …"""


def _erf(x: Array) -> Array:
    return np.asarray(np.vectorize(erf, otypes=[np.float64])(x), dtype=np.float64)


def _sigmoid(x: Array) -> Array:
    return np.asarray(1.0 / (1.0 + np.exp(-x)), dtype=np.float64)


ACTIVATIONS: dict[str, tuple[str, Callable[..., Array], int]] = {
    "relu": ("maximum({0}, 0)", lambda x: np.maximum(x, 0.0), 0),
    "relu6": ("minimum(maximum({0}, 0), 6)", lambda x: np.clip(x, 0.0, 6.0), 0),
    "clip": ("minimum(maximum({0}, {1}), {2})", np.clip, 2),
    "at_least": ("maximum({0}, {1})", np.maximum, 1),
    "at_most": ("minimum({0}, {1})", np.minimum, 1),
    "leaky_relu": (
        "maximum({0}, 0) + {1} * minimum({0}, 0)",
        lambda x, slope: np.maximum(x, 0.0) + slope * np.minimum(x, 0.0),
        1,
    ),
    "sigmoid": ("1 / (1 + expf(-{0}))", _sigmoid, 0),
    "tanh": ("tanhf({0})", np.tanh, 0),
    "silu": ("{0} / (1 + expf(-{0}))", lambda x: x * _sigmoid(x), 0),
    "hard_sigmoid": (
        "minimum(maximum({1} * {0} + {2}, 0), 1)",
        lambda x, slope, offset: np.clip(slope * x + offset, 0.0, 1.0),
        2,
    ),
    "hard_swish": (
        "{0} * minimum(maximum({0} / 6 + 0.5, 0), 1)",
        lambda x: x * np.clip(x / 6.0 + 0.5, 0.0, 1.0),
        0,
    ),
    "elu": (
        "maximum({0}, 0) + {1} * (expf(minimum({0}, 0)) - 1)",
        lambda x, scale: np.maximum(x, 0.0) + scale * np.expm1(np.minimum(x, 0.0)),
        1,
    ),
    "softplus": (
        "maximum({0}, 0) + log1pf(expf(-fabsf({0})))",
        lambda x: np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x))),
        0,
    ),
    "gelu": ("0.5 * {0} * (1 + erff({0} * 0.7071067811865476))", lambda x: 0.5 * x * (1.0 + _erf(x * 0.5**0.5)), 0),
    "gelu_tanh": (
        "0.5 * {0} * (1 + tanhf(0.7978845608028654 * ({0} + 0.044715 * {0} * {0} * {0})))",
        lambda x: 0.5 * x * (1.0 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))),
        0,
    ),
    "abs": ("fabsf({0})", np.abs, 0),
    "neg": ("-{0}", np.negative, 0),
    "exp": ("expf({0})", np.exp, 0),
    "sqrt": ("sqrtf({0})", np.sqrt, 0),
    "log": ("logf({0})", np.log, 0),
    "erf": ("erff({0})", _erf, 0),
    "reciprocal": ("1 / {0}", np.reciprocal, 0),
}
"""Each activation: its expression over {0} and its arguments {1}…, its numpy form, how many arguments it takes."""


@dataclass(frozen=True)
class Activation:
    """A function of ACTIVATIONS and the numbers that it takes.

    Errors: InvalidInput for an unknown one, and for other numbers than it takes.

    >>> Activation.of(("clip", 0, 6)).text("acc")
    'minimum(maximum(acc, (0.0)), (6.0))'
    """

    name: str
    arguments: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.name not in ACTIVATIONS:
            raise InvalidInput(f"activation {self.name!r}: expected one of {', '.join(sorted(ACTIVATIONS))}")
        wanted = ACTIVATIONS[self.name][2]
        if len(self.arguments) != wanted or not all(map(np.isfinite, self.arguments)):
            raise InvalidInput(
                f"activation {self.name!r}: expected {wanted} finite numbers, got {list(self.arguments)}"
            )

    @staticmethod
    def of(spec: Spec) -> "Activation":
        """The activation that a user names. Errors: InvalidInput for one that there is not."""
        name, *arguments = (spec,) if isinstance(spec, str) else tuple(spec) or (None,)
        if not isinstance(name, str):
            raise InvalidInput(f"activation {name!r}: expected one of {', '.join(sorted(ACTIVATIONS))}")
        numbers = [float(number) for number in arguments if isinstance(number, int | float)]
        if len(numbers) < len(arguments):
            raise InvalidInput(f"activation {name!r}: expected finite numbers, got {arguments}")
        return Activation(name, tuple(numbers))

    @property
    def spec(self) -> Spec:
        """The activation as a user names it."""
        return (self.name, *self.arguments) if self.arguments else self.name

    @property
    def clips(self) -> tuple[float, float] | None:
        """The bounds between which values stay what they are, where it does nothing but clip to them; None else."""
        first, last = (self.arguments or (0.0,))[0], (self.arguments or (0.0,))[-1]
        known = {
            "relu": (0.0, np.inf),
            "relu6": (0.0, 6.0),
            "clip": (first, last),
            "at_least": (first, np.inf),
            "at_most": (-np.inf, last),
        }
        return known.get(self.name)

    def text(self, operand: str) -> str:
        """The expression that applies it."""
        return ACTIVATIONS[self.name][0].format(operand, *(f"({a!r})" for a in self.arguments))

    def __call__(self, x: Array) -> Array:
        return np.asarray(ACTIVATIONS[self.name][1](x, *self.arguments), dtype=np.float64)
