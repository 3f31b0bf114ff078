"""Witnesses in words: one point of what is wrong, as a reader of an error wants it."""

from dataclasses import dataclass

import islpy as isl

from polyfuse.sets.spaces import coordinates


@dataclass(frozen=True)
class AccessText:
    """An access in words: the tensor, the tile, the element, and its cell if it lies in a buffer."""

    tensor: str
    tile: str
    element: str
    cell: str | None = None


@dataclass(frozen=True)
class Write:
    """A write of the element that is wanted: who makes, loads or stores it, where, whether before it is read."""

    verb: str
    who: str
    tile: str
    before: bool


def refusal(name: str, verb: str, reader: AccessText, last: AccessText | None, right: Write | None) -> str:
    """The witness in words: what is read at which tile, and why it is not there.

    verb   what brings elements of the tensor there: make, load or store
    last   what was written last where the reader looks
    right  a write of the element that is wanted; None where no tile writes it
    """
    where = "" if reader.cell is None else f", cell {reader.cell}"
    more = f"have that tile or one before it {verb} it"
    if right is None:
        found, advice = f"no tile {verb}s it", more
    elif not right.before:
        found, advice = (
            f"only {right.who} at tile {right.tile} {right.verb}s it, which is later",
            f"change the order, or {more}",
        )
    elif last is None or last.element == reader.element:
        tile = right.tile if last is None else last.tile
        found = f"only tile {tile} has made it, and {reader.tensor} is not retained between them"
        advice = "retain it along that dimension or compute it in both tiles"
    else:
        found = f"tile {last.tile} has put {last.element} in its place{where}"
        advice = f"retain more of {reader.tensor}, enlarge its buffer or change the order"
        if last.tensor != reader.tensor:
            advice = f"give {last.tensor} other cells, or an array of its own"
    return f"illegal: {name} at tile {reader.tile} reads {reader.element}, but {found}; {advice}"


def witness(region: isl.Set | isl.BasicSet) -> str:
    """One element of a set, as text."""
    return str(coordinates(region.sample_point()))
