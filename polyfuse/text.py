"""Tables and blocks of text, for terminals and for notebooks. Text enters, text leaves."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from html import escape


def columns(rows: Iterable[Sequence[object]], indent: int = 0) -> list[str]:
    """Lines with their cells aligned: columns that end in a number to the right, all others to the left.

    >>> print("\\n".join(columns([("tensor", "bytes"), ("x", 1600), ("conv1_out", 400)])))
    tensor     bytes
    x          1,600
    conv1_out    400
    """
    table = list(zip(*rows, strict=True))
    aligned = [_aligned(column) for column in table]
    return [(" " * indent + "  ".join(row)).rstrip() for row in zip(*aligned, strict=True)]


def _aligned(column: Sequence[object]) -> list[str]:
    cells = [f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in column]
    width = max(map(len, cells))
    return [cell.rjust(width) if isinstance(column[-1], int) else cell.ljust(width) for cell in cells]


def section(title: str, lines: Iterable[str]) -> list[str]:
    """A title, underlined, its lines, and an empty line."""
    return [title, "-" * len(title), *lines, ""]


def near(name: str, known: Iterable[str]) -> str:
    """A hint for a name that does not exist: similar names, or those that exist.

    >>> near("bach", ["batch", "size"]), near("x", ["batch", "size"])
    ("did you mean 'batch'?", "it has 'batch', 'size'")
    """
    names = list(known)
    if close := get_close_matches(name, names, n=3):
        return f"did you mean {', '.join(map(repr, close))}?"
    shown = ", ".join(map(repr, names[:12])) + (", ..." if len(names) > 12 else "")
    return f"it has {shown}" if names else "it has none"


def html_table(title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table for a notebook.

    >>> html_table("a < b", ("x",), [(1,)])
    '<b>a &lt; b</b><table><tr><th>x</th></tr><tr><td>1</td></tr></table>'
    """
    heading = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<b>{escape(title)}</b><table><tr>{heading}</tr>{body}</table>"


def html_text(title: str, text: str) -> str:
    """A block of text for a notebook, folded away under its title."""
    return f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>"


def tile_label(sizes: Sequence[int], axes: Sequence[int | str] = (), uncut: str = "untiled") -> str:
    """A tile as people write it.

    >>> tile_label((72, 60)), tile_label((16, 8), ("c", 2)), tile_label(())
    ('72x60', 'c=16,2=8', 'untiled')
    """
    if axes:
        return ",".join(f"{axis}={size}" for axis, size in zip(axes, sizes, strict=False))
    return "x".join(map(str, sizes)) or uncut
