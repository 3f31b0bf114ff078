"""Arrays as C: their declarations, pointers to them, and the addresses of their rows."""

from collections.abc import Sequence

from polyfuse.codegen.c.dialect import C11, Dialect
from polyfuse.codegen.lower.layout import Array


def declared(array: Array, qualifier: str = "", dialect: Dialect = C11) -> str:
    """`float name[restrict n][c]…` as a parameter or a field."""
    first, *rest = array.shape
    name = f"{array.element.name} {dialect.prefix}{array.name}"
    return f"{name}[{qualifier}{first}]" + "".join(f"[{size}]" for size in rest)


def pointer(array: Array, value: str) -> str:
    """A pointer to the rows of an array."""
    rest = "".join(f"[{size}]" for size in array.shape[1:])
    name = f"(*{array.name}){rest}" if rest else f"*{array.name}"
    return f"{array.element.name} {name} = {value};"


def row_address(array: Array, copies: Sequence[str], n: str, channel: str, row: str) -> str:
    """The address of the first column of a row: of one channel where planar, else of all."""
    start = {"planar": [n, channel, row, "0"], "rows": [n, row, "0", "0", "0"], "blocks": [n, "0", row, "0", "0"]}
    return f"&{array.name}" + "".join(f"[{index}]" for index in (*copies, *start[array.layout.order]))
