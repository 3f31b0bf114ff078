"""Targets: what code is generated for.

A compiler and its flags enter `probe`; a `Target` leaves. Scalar C is a target without kinds of row kernels.
"""

from dataclasses import dataclass, field, replace
from functools import lru_cache

from polyfuse.choices import DEFAULT_FLAGS
from polyfuse.codegen.c.dialect import C11, Dialect
from polyfuse.codegen.c.elements import FLOAT, Element
from polyfuse.codegen.compiler import Compiler, Toolchain, find_compiler, target_macros
from polyfuse.codegen.rows.catalogue import VECTOR_KINDS
from polyfuse.codegen.rows.shape import Kind
from polyfuse.cost.seconds import SCALAR_COST
from polyfuse.errors import InvalidInput


@dataclass(frozen=True)
class Target:
    """What code is generated for.

    floats, registers   elements in a vector, and registers that hold one; 1 without vectors
    kinds               kinds of row kernels, which are offered each layer in their order: see `Kind.claim`
    dialect             the language of the text
    element             the type of elements
    line_bytes          a cache line, at whose multiples buffers begin
    toolchain           what compiles the text, unless options say otherwise; None for any compiler of the language.
                        Targets with the same text are equal, whatever compiles it
    """

    floats: int
    registers: int
    kinds: tuple[Kind, ...] = VECTOR_KINDS
    dialect: Dialect = C11
    element: Element = FLOAT
    line_bytes: int = 64
    toolchain: Toolchain | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.kinds and (self.floats not in (4, 8, 16) or self.registers < 8):
            raise InvalidInput(
                f"vectors: expected 4, 8 or 16 floats and at least 8 registers, got {self.floats} and {self.registers}"
            )

    @property
    def has_rows(self) -> bool:
        """Whether layers may be computed by row kernels."""
        return bool(self.kinds)

    @property
    def relative_costs(self) -> dict[str, float]:
        """The names of its kinds and of scalar code, with the guess of what a vector operation of each costs."""
        return {kind.name: kind.relative_cost for kind in self.kinds} | {"scalar": SCALAR_COST}


SCALAR_C = Target(1, 1, ())
"""C without vectors: what the compiler makes of it is the compiler's affair."""
_TARGETS = (
    ("__AVX512F__", Target(16, 32)),
    ("__AVX__", Target(8, 16)),
    ("__ARM_NEON", Target(4, 32)),
    ("__ALTIVEC__", Target(4, 32)),
)
_OTHERWISE = Target(4, 16)


@lru_cache(maxsize=64)
def probe(compiler: Compiler | None = None, flags: tuple[str, ...] = DEFAULT_FLAGS) -> Target:
    """The widest vectors that the compiler has registers for under `flags`: found by compiling, never assumed.

    The compiler and the flags are the toolchain of the target.

    A wider one would still compile, taken apart into scalars, and be slow; so what counts is which instructions the
    compiler says that it may use. Errors: BuildError when it refuses the flags.
    """
    toolchain = Toolchain(compiler or find_compiler(), flags)
    macros = target_macros(toolchain.compiler, flags)
    names = {line.split()[1] for line in macros.splitlines() if line.startswith("#define ") and len(line.split()) > 1}
    found = next((target for macro, target in _TARGETS if macro in names), _OTHERWISE)
    return replace(found, toolchain=toolchain)
