"""Types of elements in C, and how values are read from them and put into them."""

from collections.abc import Iterable
from dataclasses import dataclass

from polyfuse.network.dtypes import COMPUTED, is_whole


@dataclass(frozen=True)
class Element:
    """A type of elements in C: its name and bytes; `whole` says that values are int and not floats.

    `value` reads a value, `put` rounds one; `definition` is the C of the type and of these, where C has no such type.
    """

    name: str
    bytes: int
    whole: bool = False
    value: str = "{}"
    put: str = "{}"
    definition: str = ""

    @property
    def computed(self) -> str:
        """The C type of a value."""
        return "int" if self.whole else self.name if self.bytes == 8 else "float"

    @property
    def loose(self) -> str:
        """The C type of elements that may begin at any byte."""
        return self.name if self.bytes == 1 else f"loose_{self.name}"


_BFLOAT = """\
typedef unsigned short bfloat;
HELPER float from_bfloat(bfloat x) {
  union { unsigned bits; float value; } u = {(unsigned)x << 16};
  return u.value;
}
HELPER bfloat to_bfloat(float x) {
  union { float value; unsigned bits; } u = {x};
  return (bfloat)(x != x ? u.bits >> 16 | 0x40 : (u.bits + 0x7FFF + (u.bits >> 16 & 1)) >> 16);
}
"""
FLOAT = Element("float", 4)
ELEMENTS = {
    "float32": FLOAT,
    "float64": Element("double", 8),
    "float16": Element("half", 2, False, "(float){}", "(half)({})", "typedef _Float16 half;\n"),
    "bfloat16": Element("bfloat", 2, False, "from_bfloat({})", "to_bfloat({})", _BFLOAT),
    "bool": Element("unsigned char", 1, True),
} | {
    f"{sign}int{bits}": Element(f"{sign}int{bits}_t", bits // 8, True, "(int){}", f"({sign}int{bits}_t)({{}})")
    for sign in ("", "u")
    for bits in (8, 16, 32, 64)
}
"""By the name of the type: those of tensors, and of constants that are given as they are.

Narrower floats are rounded to the nearest, ties to even. Whole numbers that are computed with have at most 32 bits.
"""


def accumulator(dtype: str) -> Element:
    """The type in which elements are summed up.

    >>> accumulator("int8").name, accumulator("bfloat16").name, accumulator("float64").name
    ('int32_t', 'float', 'double')
    """
    return ELEMENTS["int32"] if is_whole(dtype) else ELEMENTS[dtype] if dtype in COMPUTED else FLOAT


def definitions(elements: Iterable[Element]) -> str:
    """The C that some types need, each with the type of its elements at any byte."""
    chosen = sorted(set(elements), key=lambda each: each.name)
    loose = "".join(f"typedef {e.name} {e.loose} __attribute__((aligned(1)));\n" for e in chosen if e.bytes > 1)
    return "#include <stdint.h>\n" + "".join(each.definition for each in chosen) + loose
