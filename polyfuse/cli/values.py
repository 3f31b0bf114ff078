"""Values of options: text that a user types enters, a checked value leaves."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from polyfuse.choices import AXES, PICTURES, PLACES, Axis, Place

UNITS = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def tile(text: str) -> tuple[int, ...]:
    """`72x60`, rows x columns, or `8`, rows; with --axes, a size for each."""
    sizes = tuple(map(int, text.split("x"))) if re.fullmatch(r"[0-9]{1,9}(x[0-9]{1,9})*", text) else ()
    if not sizes or 0 in sizes:
        raise click.BadParameter(
            f"expected rows x columns such as 72x60, or rows such as 8, all at least 1; got {text!r}"
        )
    return sizes


def places(text: str) -> tuple[Place, ...]:
    """`local,recompute`: one place for each tile dimension."""
    found = tuple(text.split(","))
    if any(place not in PLACES for place in found):
        raise click.BadParameter(
            f"expected {', '.join(PLACES)} for each size of a tile, with a comma between; got {text!r}"
        )
    return found


def axes(text: str) -> tuple[Axis, ...]:
    """`c,h`: the axes that tiles cut, by name or number."""
    found = text.split(",")
    if not all(re.fullmatch(r"[a-z]|[0-9]{1,2}", axis) for axis in found):
        raise click.BadParameter(
            f"expected {', '.join(AXES)} or numbers, with a comma between, such as c,h; got {text!r}"
        )
    return tuple(int(axis) if axis.isdigit() else axis for axis in found)


def shape(text: str) -> tuple[int, ...]:
    """`1x3x224x224`: sizes of axes."""
    if not re.fullmatch(r"[0-9]{1,10}([x,][0-9]{1,10})*", text):
        raise click.BadParameter(f"expected sizes of at least 1 such as 1x3x224x224, got {text!r}")
    return tuple(map(int, re.split("[x,]", text)))


def size(text: str) -> int:
    """`512KiB`, `4MiB`, `65536`: bytes."""
    found = re.fullmatch(r"([0-9]{1,12}) ?(B|KiB|MiB|GiB|)", text)
    number = int(found[1]) * UNITS[found[2]] if found else 0
    if not number:
        raise click.BadParameter(f"expected bytes, such as 65536, 64KiB or 4MiB, at least 1; got {text!r}")
    return number


def sizes(text: str) -> tuple[int, ...]:
    """`64KiB:4MiB`, every power of two times the first, or `64KiB:4MiB:20`, so many at equal steps, both ends in."""
    first, *others = text.split(":")
    if len(others) not in (1, 2) or (len(others) == 2 and not re.fullmatch(r"[0-9]{1,4}", others[1])):
        raise click.BadParameter(
            f"expected FIRST:LAST or FIRST:LAST:COUNT, such as 64KiB:4MiB or 64KiB:1MiB:16; got {text!r}"
        )
    low, high = size(first), size(others[0])
    count = int(others[1]) if len(others) == 2 else None
    if low > high or count == 0 or (count == 1 and low != high):
        raise click.BadParameter(f"expected sizes from a smaller to a larger one, and 2 of them or more; got {text!r}")
    if count is None:
        return tuple(low << power for power in range((high // low).bit_length()))
    return tuple(low + (high - low) * k // max(1, count - 1) for k in range(count))


class PairParam(click.ParamType):  # type: ignore[type-arg]
    """`KEY=VALUE`, the value of some other type; with `last`, the key may hold "=", but the value does not."""

    name = "pair"

    def __init__(self, value: Callable[[str], Any], example: str, last: bool = False) -> None:
        self.value, self.example, self.cut = value, example, str.rpartition if last else str.partition

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        key, equals, text = self.cut(value, "=")
        if not (key and equals and text):
            self.fail(f"expected {self.example}, got {value!r}")
        return key, self.value(text)


class FileParam(click.Path):
    """The name of a file or folder. Nothing is no name: a variable of the shell that is not set."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not str(value):
            self.fail("expected the name of a file or folder, got ''")
        return super().convert(value, param, ctx)


class PictureParam(FileParam):
    """A file name that says which kind of picture it holds."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if Path(value).suffix.lower() not in PICTURES:
            self.fail(f"expected a name that ends in {' or '.join(PICTURES)}, got {str(value)!r}")
        return super().convert(value, param, ctx)


FILE = FileParam(path_type=Path)
