"""How wide a vector of the target is: found by compiling, never assumed.

A compiler and its flags enter; a `Target` leaves.
"""

from functools import lru_cache

from polyfuse.choices import DEFAULT_FLAGS
from polyfuse.codegen.compiler import Compiler, find_compiler, target_macros
from polyfuse.codegen.rows.shape import Target

_TARGETS = (
    ("__AVX512F__", Target(16, 32)),
    ("__AVX__", Target(8, 16)),
    ("__ARM_NEON", Target(4, 32)),
    ("__ALTIVEC__", Target(4, 32)),
)
_OTHERWISE = Target(4, 16)


@lru_cache(maxsize=64)
def probe(compiler: Compiler | None = None, flags: tuple[str, ...] = DEFAULT_FLAGS) -> Target:
    """The widest vectors that the compiler has registers for under `flags`.

    A wider one would still compile, taken apart into scalars, and be slow; so what counts is which instructions the
    compiler says that it may use. Raises BuildError when it refuses the flags.
    """
    macros = target_macros(compiler or find_compiler(), flags)
    names = {line.split()[1] for line in macros.splitlines() if line.startswith("#define ") and len(line.split()) > 1}
    return next((target for macro, target in _TARGETS if macro in names), _OTHERWISE)
