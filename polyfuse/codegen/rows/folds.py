"""Long sums of row kernels in blocks: what rounding adds up to stays small however many terms there are.

    accumulators ──Folds.at()──> C that adds them to sums in memory, and clears them, every so many steps of a loop

One accumulator for n terms may be off by n units of rounding (2^-24), relative to the sum of the terms' magnitudes. In
blocks of at most MOST terms it is MOST + n / MOST of them: see `error_bound`. Kernels of at most MOST terms have none
of this, and the others lose less than a hundredth of their time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from polyfuse.codegen.c.text import braces

MOST = 512
"""The most terms that are added up one by one."""
UNIT = 2.0**-24
"""What rounding a float32 may change, relative to it."""


def error_bound(terms: int) -> float:
    """What a sum of so many terms may be off by, relative to the sum of their magnitudes, products not counted.

    Blocks are whole steps of a loop, and may be half as long as they could be.

    >>> round(error_bound(288) / UNIT), round(error_bound(18_432) / UNIT)
    (288, 585)
    """
    return UNIT * (terms if terms <= MOST else MOST + 2 * -(-terms // MOST) + 1)


@dataclass(frozen=True)
class Folds:
    """The accumulators of a chunk, each a vector of `floats` and a sum of `terms` products."""

    accumulators: Sequence[str]
    floats: int
    terms: int

    def around(self, lines: Sequence[str]) -> list[str]:
        """The loops of a sum, with its sums in memory before them, and what they come to after them."""
        if self.terms <= MOST:
            return list(lines)
        v = self.floats
        size = len(self.accumulators) * v
        clear = f"for (int k = 0; k < {size}; k += {v}) PUT{v}(sums, k, SPLAT{v}(0.0f));"
        totals = (f"{name} += GET{v}(sums, {k * v});" for k, name in enumerate(self.accumulators))
        return [f"float sums[{size}];", clear, *lines, *totals]

    def at(self, step: str, terms: int, nested: bool = False) -> list[str]:
        """What comes first in a loop over `step`, from 0 on, of which each adds so many terms to every accumulator.

        A loop that is `nested` in others of the sum begins with what the one before it has left.
        """
        if self.terms <= MOST:
            return []
        every = max(1, MOST // terms)
        v = self.floats
        folds = [
            f"PUT{v}(sums, {k * v}, GET{v}(sums, {k * v}) + {name}); {name} = SPLAT{v}(0.0f);"
            for k, name in enumerate(self.accumulators)
        ]
        return braces(f"if ({step} % {every} == {0 if nested else every - 1})", folds) if every > 1 else folds
