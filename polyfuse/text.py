"""Tables and blocks of text, for terminals and for notebooks. Text enters, text leaves."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from html import escape
from typing import Any

from polyfuse.whole import shown

LONGEST_REPR = 240
"""Of the fields of a dataclass, in characters."""


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


def displayed(kind: type, *, short: bool) -> None:
    """Give a class a form for notebooks, and with `short` a short repr, where it has none of its own."""
    if short and hasattr(vars(kind).get("__repr__"), "__wrapped__"):  # made by dataclass
        setattr(kind, "__repr__", short_repr)  # noqa: B010
    if not hasattr(kind, "_repr_html_"):
        setattr(kind, "_repr_html_", html_fields if is_dataclass(kind) else html_repr)  # noqa: B010


def short_repr(value: Any) -> str:
    """`Name(field=value, ...)` of a dataclass in one line: fields that are not at their defaults, long ones cut."""
    parts: list[str] = []
    for each in fields(value):
        found = getattr(value, each.name)
        default = each.default_factory() if each.default_factory is not MISSING else each.default
        if each.repr and (default is MISSING or found != default):
            parts.append(f"{each.name}={brief(found)}")
    while sum(map(len, parts)) > LONGEST_REPR:
        parts = [*parts[: -2 if parts[-1] == "..." else -1], "..."]
    return f"{type(value).__name__}({', '.join(parts)})"


def brief(value: Any, longest: int = 60) -> str:
    """A value in a few words: as Python writes it where that is short, else what it is called, or how much there is.

    >>> brief((8, 8)), brief("a" * 99, 8), brief({k: k for k in range(99)}), brief(0.1)
    ('(8, 8)', "'aaaa...", '99 items', '0.1')
    """
    if is_dataclass(value) and not isinstance(value, type):
        text, name = " ".join(str(value).split()), getattr(value, "name", None)
        if type(value).__str__ is not object.__str__ and len(text) <= longest:
            return text
        return f"{type(value).__name__} {name!r}" if isinstance(name, str) else f"{type(value).__name__}(...)"
    if isinstance(value, Sequence | Mapping) and not isinstance(value, str | bytes):
        text = shown(value, longest + 1)
        held = any(is_dataclass(item) for item in (value.values() if isinstance(value, Mapping) else value))
        return text if len(text) <= longest and not held else f"{len(value):,} item{'s' if len(value) != 1 else ''}"
    return shown(value, longest)


def html_fields(value: Any) -> str:
    """The fields of a dataclass as a table for a notebook."""
    name = next(
        (each for key in ("name", "network", "workload") if isinstance(each := getattr(value, key, None), str)), ""
    )
    rows = [(each.name, brief(getattr(value, each.name), 200)) for each in fields(value)]
    return html_table(f"{type(value).__name__} {name}".rstrip(), ("field", "value"), rows)


def html_repr(value: object) -> str:
    """The repr for a notebook."""
    return f"<pre>{escape(repr(value))}</pre>"
