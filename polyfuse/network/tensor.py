"""Tensors and the names they may have."""

import keyword
import re
from collections.abc import Container, Iterable
from dataclasses import dataclass
from functools import cached_property
from math import prod
from operator import index

import islpy as isl

from polyfuse.doors import public
from polyfuse.errors import InvalidInput
from polyfuse.network.dtypes import TYPES, element_type
from polyfuse.sets.pickling import OfFields
from polyfuse.whole import is_whole_number

Size = int | str
"""A number, or a quasi-affine expression of parameters in isl's notation, such as `H` or `floor((H - 3)/2) + 1`."""

IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
LONGEST = 63
"""The most characters of a name that C guarantees to distinguish; names made of it may be longer."""
CUT = 48
"""The length to which names made from any text are cut, for display."""
C_WORDS = (
    "alignas alignof asm auto bool break case char const constexpr continue default do double else enum extern false "
    "float for goto if inline int long main nullptr register restrict return short signed sizeof static static_assert "
    "struct switch thread_local true typedef typeof typeof_unqual union unsigned void volatile while i386 linux "
    "unix mips sparc sun vax PPC"
)
"""Keywords of C, and words that compilers define."""
CPP_WORDS = (
    "and_eq atomic_cancel atomic_commit atomic_noexcept bitand bitor catch char8_t char16_t char32_t class co_await "
    "co_return co_yield compl concept const_cast consteval constinit decltype delete dynamic_cast explicit export "
    "friend mutable namespace new noexcept not_eq operator or_eq private protected public reflexpr reinterpret_cast "
    "requires static_cast synchronized template this throw try typeid typename using virtual wchar_t xor xor_eq far "
    "near huge interface small I complex imaginary"
)
"""Keywords of C++ alone, and words that headers of some systems define."""
ISL_WORDS = "exists and or not mod floor ceil floord min max unknown"
GENERATED_WORDS = (
    "counts threads chips kept inputs weights outputs scratch arena constants memory acc maximum minimum MOD INSIDE "
    "row_in row_to row_add row_k row_ch row_workspace NOINLINE HELPER OMP ROW_KERNEL ROW_WORKSPACE ROW_PART ROW_HELPER "
    "KEEP STREAMED HELPERS clear_sums add_block sum_of sums minimum_of maximum_of smaller_of within workspace"
)
LIBRARY_WORDS = (
    "INFINITY NAN NULL HUGE_VAL HUGE_VALF HUGE_VALL MATH_ERRNO MATH_ERREXCEPT DOMAIN SING OVERFLOW UNDERFLOW PLOSS "
    "TLOSS MAXFLOAT EOF BUFSIZ stdin stdout stderr errno memcpy "
    "expf tanhf log1pf logf sqrtf powf fabsf erff rintf fmaf int8_t uint8_t int16_t uint16_t int32_t uint32_t int64_t "
    "uint64_t"
)
RESERVED = frozenset(f"{C_WORDS} {ISL_WORDS} {GENERATED_WORDS} {LIBRARY_WORDS}".split())
"""Words of C, of isl's notation and of generated code: no name may be one of them."""
AVOIDED = RESERVED | frozenset(CPP_WORDS.split())
"""Reserved words, and words that break headers; no name that polyfuse makes is one of them."""
PREFIXES = re.compile(r"(chip|kept|packed|load|store|preload|polyfuse|POLYFUSE)_|(group|row|wrap)\d")
"""The beginnings of names that polyfuse makes."""
MACROS = re.compile(
    r"U?INT(8|16|32|64|MAX|PTR|_FAST\d+|_LEAST\d+)_(MAX|MIN|C|WIDTH)|"
    r"(SIZE|PTRDIFF|SIG_ATOMIC|WCHAR|WINT|RAND|TMP|FILENAME|FOPEN|MB_CUR)_(MAX|MIN|WIDTH)|"
    r"M_(E|LOG2E|LOG10E|LN2|LN10|PI|PI_2|PI_4|1_PI|2_PI|2_SQRTPI|SQRT2|SQRT1_2)[fl]?|"
    r"FP_[A-Z0-9]+|L_(ctermid|cuserid|tmpnam)|P_tmpdir|SEEK_(SET|CUR|END|DATA|HOLE)|(BIG|LITTLE|PDP)_ENDIAN|BYTE_ORDER|math_errhandling"
)
"""Macros of the headers that generated code includes."""


def checked_name(name: str) -> str:
    """The name itself, if isl, C and Python can all use it.

    Errors: InvalidInput.

    >>> checked_name("conv1")
    'conv1'
    """
    if len(name) > LONGEST:
        raise InvalidInput(_expected(name))
    return usable_name(name)


def usable_name(name: str) -> str:
    """The name itself, of any length, as names inside of a network are made of others.

    Errors: InvalidInput.
    """
    if not IDENTIFIER.fullmatch(name) or is_taken(name) or "__" in name:
        raise InvalidInput(_expected(name))
    return name


def _expected(name: str) -> str:
    shown = name if len(name) <= LONGEST else f"{name[:LONGEST]}..."
    return (
        f"name {shown!r}: expected a letter followed by at most {LONGEST - 1} letters, digits or single underscores, "
        "and no word or prefix that generated code uses; use safe_name() to make one"
    )


def is_taken(name: str) -> bool:
    """The name means something to C, isl, Python or generated code."""
    taken = name in RESERVED or keyword.iskeyword(name)
    return taken or bool(PREFIXES.match(name)) or bool(MACROS.fullmatch(name))


def begins_taken(name: str) -> bool:
    """A name that continues this one after an underscore begins like those that polyfuse makes."""
    return bool(PREFIXES.match(f"{name}_"))


def safe_name(text: str, taken: set[str] | frozenset[str] = frozenset()) -> str:
    """A name made from any text, different from those taken; it is usable, and so is all that an ending makes of it.

    >>> safe_name("data/conv 1", {"data_conv_1"})
    'data_conv_1_2'
    """
    name = re.sub(r"_+", "_", re.sub(r"[^A-Za-z0-9]", "_", text)).strip("_")[:CUT].rstrip("_") or "t"
    if not name[0].isalpha() or name in AVOIDED or is_taken(name) or begins_taken(name):
        name = f"t{name}" if name[0].isdigit() else f"t_{name}"
    return distinct_name(name, taken)


def distinct_name(name: str, taken: Container[str]) -> str:
    """A name that is usable but for those taken, with a number behind it where it is one of these.

    >>> distinct_name("conv_weight", {"conv_weight"})
    'conv_weight_2'
    """
    unique, k = name, 1
    while unique in taken:
        k += 1
        unique = f"{name}_{k}"
    return unique


def distinct_names(wishes: Iterable[str], taken: Iterable[str]) -> list[str]:
    """A name for each wish, none of which is taken or another's.

    >>> distinct_names(["x_value", "x_value", "y_value"], ["y_value"])
    ['x_value', 'x_value_2', 'y_value_2']
    """
    found: list[str] = []
    for wish in wishes:
        found.append(distinct_name(wish, {*taken, *found}))
    return found


@public
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
        usable_name(self.name)
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
        """The shape as numbers. Errors: InvalidInput where a size is a parameter."""
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


def check_float32(where: str, *tensors: Tensor | None) -> None:
    """Refuse operands of other types than float32, where a layer computes in that; None is no operand.

    Errors: InvalidInput.
    """
    for tensor in tensors:
        if tensor is not None and tensor.dtype != "float32":
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
    """Refuse text that is not one quasi-affine expression of named parameters. Errors: InvalidInput."""
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
