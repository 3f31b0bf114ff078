"""Dialects of C: what a language of the family says in its own way, as a value of pieces of text.

What prints C takes these from the dialect of its target; the rest is the same text in every dialect.
"""

from dataclasses import dataclass

_STRICT = """\
#include <math.h>
#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error "NaN, infinities and the order of operations matter: compile without -ffast-math, -Ofast and -ffinite-math-only"
#endif
#define NOINLINE __attribute__((noinline))
"""


@dataclass(frozen=True)
class Share:
    """Several run one loop together: in C, the number of the one that runs it, and how many they are."""

    number: str
    count: str


@dataclass(frozen=True)
class WorkGroups:
    """How a device runs a kernel: work groups of work items, which share on-chip memory and wait for each other.

    groups    who shares the loop over tiles
    items     who shares a loop over points
    barrier   the statement at which the items of a group wait until all have come, and what they wrote can be read
    """

    groups: Share
    items: Share
    barrier: str


@dataclass(frozen=True)
class Dialect:
    """A language of the family of C.

    start      the lines that every file begins with: headers, flags that are refused
    function   how the function of a group begins, up to its name
    helper     how the functions begin that it calls
    offchip    what is written before the type of a parameter that is an off-chip array, such as an address space
    chip       the same for an on-chip buffer
    prefix     how the names of arrays begin, where the language has words of its own that a tensor may be called
    restrict   what is written before the first size of a parameter that no other overlaps
    known      those of `prelude.FUNCTIONS` that the language has itself
    renamed    functions of floats that it calls otherwise than C does, each with its name there
    device     how its kernels are run, where one processor does not run them from begin to end
    """

    name: str
    start: str
    function: str
    helper: str = "static inline"
    offchip: str = ""
    chip: str = ""
    prefix: str = ""
    restrict: str = "restrict "
    known: frozenset[str] = frozenset()
    renamed: tuple[tuple[str, str], ...] = ()
    device: WorkGroups | None = None


C11 = Dialect("C11", _STRICT, "static NOINLINE void")
"""What compilers of hosts take."""
