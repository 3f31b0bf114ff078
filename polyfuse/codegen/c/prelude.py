"""The C that every generated file starts with: that of its dialect, and the helpers that its lines call."""

from collections.abc import Collection

from polyfuse.codegen.c.dialect import C11, Dialect

FUNCTIONS = {
    "min": "@I min(@I a, @I b) { return a < b ? a : b; }",
    "max": "@I max(@I a, @I b) { return a > b ? a : b; }",
    "floord": "@I floord(@I a, @I b) { return (a < 0 ? a - b + 1 : a) / b; }",
    "minimum": "@F minimum(@F a, @F b) { return a < b || a != a ? a : b; }",
    "maximum": "@F maximum(@F a, @F b) { return a > b || a != a ? a : b; }",
    "MOD": "@I MOD(@I a, @I b) { return a % b < 0 ? a % b + b : a % b; }",
}
"""What isl's expressions and those of statements call, `@I` the type of indices, `@F` of values, which keep NaN."""


def helpers(used: Collection[str], index: str = "int", real: str = "float") -> str:
    """Those of `FUNCTIONS` that are used, a line each.

    >>> print(helpers({"min", "x"}, "long"), end="")
    HELPER long min(long a, long b) { return a < b ? a : b; }
    """
    found = (text for name, text in FUNCTIONS.items() if name in used)
    return "".join(f"HELPER {text.replace('@I', index).replace('@F', real)}\n" for text in found)


def prelude(
    used: Collection[str],
    own: str = "",
    *,
    index: str = "int",
    real: str = "float",
    pure: bool = False,
    dialect: Dialect = C11,
) -> str:
    """The start of a file whose lines mention the words `used`, with text of its own in front of the helpers.

    With `pure`, compilers are told that helpers touch no memory, as Polly has to know where it does not inline them.
    """
    helper = f"#define HELPER {dialect.helper} __attribute__(({'const, ' if pure else ''}unused))\n"
    names = "".join(f"#define {name} {theirs}\n" for name, theirs in dialect.renamed if name in used)
    return f"{dialect.start}{names}{helper}{own}\n{helpers(set(used) - dialect.known, index, real)}"
