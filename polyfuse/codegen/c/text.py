"""C as lines of text: comments, blocks, functions, folded to a width."""

import re
from collections.abc import Iterable, Sequence
from textwrap import wrap

WIDTH = 112


def fold(text: str, first: str = "", rest: str = "    ", width: int = WIDTH) -> list[str]:
    """A text on as many lines as it needs: the first one starts with `first`, others with `rest`."""
    return wrap(text, width, initial_indent=first, subsequent_indent=rest, break_long_words=False)


def comment(lines: Iterable[str]) -> list[str]:
    """A block comment, folded.

    >>> comment(["group 0: conv", "tile 8"])
    ['/* group 0: conv', ' * tile 8', ' */']
    """
    head, *others = (piece for line in lines for piece in fold(line))
    return [f"/* {head}", *(f" * {line}" for line in others), " */"]


def indented(lines: Iterable[str], by: int = 2) -> list[str]:
    """Lines moved to the right."""
    return [" " * by + line if line else line for line in lines]


def braces(head: str, lines: Sequence[str]) -> list[str]:
    """`head { lines }`.

    >>> braces("for (;;)", ["x++;"])
    ['for (;;) {', '  x++;', '}']
    """
    return [f"{head} {{", *indented(lines), "}"]


def scope(lines: Sequence[str]) -> list[str]:
    """A block of its own for the names that the lines declare."""
    return ["{", *indented(lines), "}"]


def signature(head: str, parameters: Iterable[str]) -> list[str]:
    """`head(parameters)`, folded."""
    return fold(f"{head}({', '.join(parameters)})")


def function(head: str, parameters: Iterable[str], lines: Iterable[str]) -> list[str]:
    """A function definition, its head folded."""
    return [*signature(head, parameters), "{", *indented(lines), "}"]


def listed(head: str, items: Iterable[str], tail: str = ";") -> list[str]:
    """`head item, item, …;`, folded."""
    return fold(f"{head}{', '.join(items)}{tail}", width=WIDTH - 4)


def words(lines: Iterable[str]) -> frozenset[str]:
    """The names and numbers that lines mention.

    >>> sorted(words(["x_1 = min(a, 3);"]))
    ['3', 'a', 'min', 'x_1']
    """
    return frozenset(word for line in lines for word in re.findall(r"\w+", line))


def unused(body: Iterable[str], names: Iterable[str]) -> list[str]:
    """A line that marks the parameters which the body does not mention."""
    used = words(body)
    marked = " ".join(f"(void){name};" for name in names if name not in used)
    return [marked] if marked else []


def element(array: str, subscripts: Iterable[object]) -> str:
    """`array[subscript]…`.

    >>> element("x", ["i + 1", 0])
    'x[i + 1][0]'
    """
    return array + "".join(f"[{subscript}]" for subscript in subscripts)
