"""The expressions of integer layers, as text of the language of statements.

Operands, zero points, scales and bounds enter; text that C and Python evaluate to the same bits leaves.
"""

import numpy as np

from polyfuse.network.quantised.scheme import Quantisation


def number(value: float) -> str:
    """A float32 as text that is read as the same float32.

    >>> number(0.1)
    '0.10000000149011612'
    """
    return repr(float(np.float32(value)))


def less(operand: str, zero: int) -> str:
    """An operand without its zero point.

    >>> less("x", 3), less("x", -3), less("x", 0)
    ('(x - 3)', '(x + 3)', 'x')
    """
    return operand if zero == 0 else f"({operand} - {zero})" if zero > 0 else f"({operand} + {-zero})"


def more(text: str, zero: int) -> str:
    """A sum with a zero point.

    >>> more("a * b", 3), more("a * b", -3), more("a * b", 0)
    ('a * b + 3', 'a * b - 3', 'a * b')
    """
    return text if zero == 0 else f"{text} + {zero}" if zero > 0 else f"{text} - {-zero}"


def within(text: str, low: int, high: int) -> str:
    """A float between two bounds."""
    return f"minimum(maximum({text}, {low}), {high})"


def requantised(sums: str, multiplier: str, y: Quantisation, low: int, high: int) -> str:
    """A sum of products as an element of `y` from `low` to `high`: scaled, clamped, rounded, shifted.

    >>> requantised("acc", "m", Quantisation(0.5, 3), -128, 127)
    'rintf(minimum(maximum(acc * m, -131), 124)) + 3'
    """
    return more(f"rintf({within(f'{sums} * {multiplier}', low - y.zero, high - y.zero)})", y.zero)


def rounded(text: str, low: int, high: int) -> str:
    """A float that has the zero point in it as an element from `low` to `high`: rounded, then clamped."""
    return within(f"rintf({text})", low, high)
