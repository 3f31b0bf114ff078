"""Witnesses in words: one point of what is wrong, as a reader of an error wants it."""

import islpy as isl

from polyfuse.schedule.schedule import Flow, Schedule
from polyfuse.sets.spaces import coordinates


def refusal(
    schedule: Schedule, flow: Flow, axes: tuple[int, ...], read: str, reader: isl.Point, writer: isl.Point | None
) -> str:
    """The witness in words: what is read at which tile, and what was written last where it looks."""
    name = flow.tensor.name
    tile, element = split(reader, schedule, flow, axes)
    found, advice = "nothing was written before", f"retain more of {name}, enlarge its buffer or change the order"
    if writer is not None:
        other_tile, other = split(writer, schedule, flow, axes)
        found = f"tile {other_tile} has put {name}[{other}] in its place"
        if other == element:
            found = f"only tile {other_tile} has made it, and {name} is not retained between them"
            advice = "retain it along that dimension or compute it in both tiles"
    return f"illegal: {read} at tile {tile} reads {name}[{element}], but {found}; {advice}"


def split(point: isl.Point, schedule: Schedule, flow: Flow, axes: tuple[int, ...]) -> tuple[str, str]:
    """A point `[t, a]` as the text of its tile and of its element; axes nothing depends on are shown as `:`."""
    values = coordinates(point)
    count = len(schedule.tiling.dims)
    by_axis = dict(zip(axes, values[count:], strict=True))
    element = ", ".join(str(by_axis.get(axis, ":")) for axis in range(len(flow.tensor.shape)))
    return str(tuple(values[:count])), element


def witness(region: isl.Set | isl.BasicSet) -> str:
    """One element of a set, as text."""
    return str(coordinates(region.sample_point()))
