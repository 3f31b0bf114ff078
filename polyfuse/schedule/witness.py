"""Witnesses in words: one point of what is wrong, as a reader of an error wants it."""

from dataclasses import dataclass

import islpy as isl

from polyfuse.sets.spaces import coordinates


@dataclass(frozen=True)
class Access:
    """An access in words: the tensor, the tile, the element, and its cell if it lies in a buffer."""

    tensor: str
    tile: str
    element: str
    cell: str | None = None


def refusal(name: str, reader: Access, writer: Access | None) -> str:
    """The witness in words: what is read at which tile, and what was written last where it looks."""
    where = "" if reader.cell is None else f", cell {reader.cell}"
    found = f"nothing was written before{where}"
    advice = f"retain more of {reader.tensor}, enlarge its buffer or change the order"
    if writer is not None:
        found = f"tile {writer.tile} has put {writer.element} in its place{where}"
        if writer.element == reader.element:
            found = f"only tile {writer.tile} has made it, and {reader.tensor} is not retained between them"
            advice = "retain it along that dimension or compute it in both tiles"
    return f"illegal: {name} at tile {reader.tile} reads {reader.element}, but {found}; {advice}"


def witness(region: isl.Set | isl.BasicSet) -> str:
    """One element of a set, as text."""
    return str(coordinates(region.sample_point()))
