"""Tensors and the names they may have."""

import keyword
import re
from dataclasses import dataclass
from functools import cached_property
from math import prod
from operator import index

import islpy as isl

from polyfuse.errors import InvalidInput
from polyfuse.network.dtypes import TYPES, element_type
from polyfuse.sets.pickling import OfFields
from polyfuse.whole import is_whole_number

Size = int | str
"""A number, or a quasi-affine expression of parameters in isl's notation, such as `H` or `floor((H - 3)/2) + 1`."""

IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")
WORDS = (
    "auto break case char const continue default do double else enum extern float for goto if inline int long main "
    "register restrict return short signed sizeof static struct switch typedef union unsigned void volatile while "
    "exists and or not mod floor ceil floord min max counts threads chips kept inputs weights outputs scratch arena "
    "constants memory acc INFINITY maximum minimum expf tanhf log1pf logf sqrtf powf fabsf erff rintf fmaf NULL MOD "
    "INSIDE row_in row_out row_add row_k row_c row_workspace unknown"
)
RESERVED = frozenset(WORDS.split())
"""Words of C, of isl's notation and of generated code."""
PREFIXES = re.compile(r"(chip|kept|packed|load|store|preload|polyfuse)_|(group|row|wrap)\d|\w{1,6}_loop$")
"""How names made by polyfuse begin, and all of the names that loops have where a tensor has theirs."""


def checked_name(name: str) -> str:
    """The name itself, if isl, C and Python can all use it.

    >>> checked_name("conv1")
    'conv1'
    """
    if not IDENTIFIER.fullmatch(name) or is_taken(name) or "__" in name:
        raise InvalidInput(
            f"name {name!r}: expected a letter followed by at most 62 letters, digits or single underscores, "
            "and no word or prefix that generated code uses; use safe_name() to make one"
        )
    return name


def is_taken(name: str) -> bool:
    """The name means something to C, isl, Python or generated code."""
    return name in RESERVED or keyword.iskeyword(name) or bool(PREFIXES.match(name))


def safe_name(text: str, taken: set[str] | frozenset[str] = frozenset()) -> str:
    """A name made from any text, different from those taken.

    >>> safe_name("data/conv 1", {"data_conv_1"})
    'data_conv_1_2'
    """
    name = re.sub(r"_+", "_", re.sub(r"[^A-Za-z0-9]", "_", text)).strip("_")[:48].rstrip("_") or "t"
    if not name[0].isalpha() or is_taken(name) or is_taken(f"{name}_2"):
        name = f"t{name}" if name[0].isdigit() else f"t_{name}"
    unique, k = name, 1
    while unique in taken:
        k += 1
        unique = f"{name}_{k}"
    return unique


@dataclass(frozen=True)
class Tensor(OfFields):
    """A named array, row-major; `shape` counts elements and may name parameters, `dtype` is a name of TYPES.

    >>> Tensor("x", (1, 3, 8, 8), "int8").element_bytes
    1
    """

    name: str
    shape: tuple[Size, ...]
    dtype: str = "float32"

    def __post_init__(self) -> None:
        checked_name(self.name)
        element_type(self.dtype, f"tensor {self.name!r}")
        for size in self.shape:
            if isinstance(size, str):
                check_size(self.name, size)
            elif not is_whole_number(size) or index(size) < 1:
                raise InvalidInput(f"tensor {self.name!r}: expected whole sizes of at least 1, got {self.shape}")
        sizes = tuple(size if isinstance(size, str) else index(size) for size in self.shape)
        object.__setattr__(self, "shape", sizes)

    @property
    def concrete_shape(self) -> tuple[int, ...]:
        """The shape as numbers; an error where a size is a parameter."""
        sizes = tuple(size for size in self.shape if isinstance(size, int))
        if len(sizes) != len(self.shape):
            raise InvalidInput(f"tensor {self.name!r}: expected concrete sizes, got {self.shape}; fix the parameters")
        return sizes

    @property
    def element_bytes(self) -> int:
        """The bytes of an element."""
        return TYPES[self.dtype].bytes

    @property
    def elements(self) -> int:
        """The number of elements."""
        return prod(self.concrete_shape)

    @cached_property
    def box(self) -> isl.Set:
        """All elements: `{ A[a0, a1, …] : 0 <= a_d < shape_d }`."""
        return box(self.name, tuple(f"a{d}" for d in range(len(self.shape))), self.shape)

    def __str__(self) -> str:
        kind = "" if self.dtype == "float32" else f" {self.dtype}"
        return f"{self.name}[{', '.join(map(str, self.shape))}]{kind}"


def check_float32(where: str, *tensors: Tensor) -> None:
    """Refuse operands of other types than float32, where a layer computes in that.

    Errors: InvalidInput.
    """
    for tensor in tensors:
        if tensor.dtype != "float32":
            raise InvalidInput(
                f"layer {where!r}: computes in float32, got {tensor}; dequantize it, or take a layer of "
                "network.quantised"
            )


def box(name: str, dims: tuple[str, ...], sizes: tuple[Size, ...]) -> isl.Set:
    """`[parameters] -> { name[dims] : 0 <= dim < size }`."""
    bounds = " and ".join(f"0 <= {dim} < {size}" for dim, size in zip(dims, sizes, strict=True)) or "true"
    return isl.Set(f"{parameters(sizes)} {{ {name}[{', '.join(dims)}] : {bounds} }}")


def parameters(sizes: tuple[Size, ...]) -> str:
    """The parameter tuple that the sizes need, as isl text; empty text where none is needed.

    >>> parameters((1, "H", "floor((W - 1)/2)", "H"))
    '[H, W] ->'
    """
    names = sorted({name for size in sizes if isinstance(size, str) for name in parameters_of(size)})
    return f"[{', '.join(names)}] ->" if names else ""


def parameters_of(size: str) -> set[str]:
    """The parameters a symbolic size mentions."""
    return set(re.findall(r"[A-Za-z_]\w*", size)) - {"floor"}


def check_size(where: str, size: str) -> None:
    """Refuse text that is not one quasi-affine expression of named parameters."""
    allowed = re.fullmatch(r"[\w\s+*/()-]+", size) and parameters_of(size)
    try:
        if not allowed:
            raise isl.Error("not an expression of parameters")
        isl.PwAff(f"[{', '.join(checked_name(name) for name in sorted(parameters_of(size)))}] -> {{ [({size})] }}")
    except isl.Error:
        raise InvalidInput(
            f"tensor {where!r}: expected a size such as 'H' or 'floor((H - 3)/2) + 1', got {size!r}"
        ) from None


def plus(size: Size, offset: int) -> Size:
    """A size and a number, in the shortest form.

    >>> plus("H - 2", -2), plus("H - 2", 2), plus(5, 1)
    ('H - 4', 'H', 6)
    """
    if isinstance(size, int):
        return size + offset
    ending = re.fullmatch(r"(.*) ([+-]) (\d+)", size)
    if ending:
        size, offset = ending[1], offset + int(ending[2] + ending[3])
    return size if offset == 0 else f"{size} {'+' if offset > 0 else '-'} {abs(offset)}"
