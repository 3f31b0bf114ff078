"""Replays of a schedule with storage: every access goes to a real cell, which holds an element of a tensor or nothing.

Accesses come from the steps and flows of a schedule, cells from the functions of the case that is judged. Nothing here
uses what judges storage: neither buffers, nor value flow, nor liveness.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import islpy as isl
import numpy as np
from numpy.typing import NDArray

import polyfuse as pf
from polyfuse.schedule.steps import preload_steps, steps
from polyfuse.sets.points import points, values_at

Element = tuple[int, ...]
Cells = Callable[[NDArray[np.int64]], NDArray[np.int64]]
"""From `[t.., a..]` in rows to indices in rows."""


@dataclass(frozen=True)
class Place:
    """Where a tensor lies: the array, its shape, and the cells of `[t.., a..]`."""

    array: str
    shape: tuple[int, ...]
    cells: Cells

    def of(self, accesses: NDArray[np.int64]) -> list[Element]:
        """The cells of accesses."""
        return [tuple(cell) for cell in self.cells(accesses).tolist()]

    def holds(self, cell: Element) -> bool:
        """Whether a cell lies inside."""
        return all(0 <= index < size for index, size in zip(cell, self.shape, strict=True))


@dataclass(frozen=True, eq=False)
class Accesses:
    """Some accesses to the buffer of one tensor: `[t.., a..]`, and the time of each."""

    tensor: str
    writes: bool
    at: NDArray[np.int64]
    times: NDArray[np.int64]


def values(relation: isl.Map, instances: NDArray[np.int64]) -> NDArray[np.int64]:
    """The value of a single-valued relation at every instance, in rows."""
    function = isl.PwMultiAff.from_map(relation)
    return np.column_stack([values_at(function.get_at(d), instances) for d in range(relation.dim(isl.dim_type.out))])


@dataclass(frozen=True, eq=False)
class Replays:
    """What is to be replayed of a schedule, found once for all storage that is tried on it."""

    schedule: pf.Schedule

    @cached_property
    def coordinates(self) -> int:
        """The coordinates of a tile."""
        return len(self.schedule.tiling.dims)

    @cached_property
    def executions(self) -> Sequence[Accesses]:
        """The accesses of every step, one after another in time: the last number of a time is that of the access."""
        found = []
        for first, phase in enumerate((preload_steps(self.schedule), steps(self.schedule))):
            width = max((step.time.dim(isl.dim_type.out) for step in phase), default=0)
            for number, step in enumerate(phase):
                if step.executions.is_empty():
                    continue
                instances = points(step.executions)
                times = values(step.time, instances)
                times = np.pad(times, ((0, 0), (0, width - times.shape[1])))
                for place, touch in enumerate(step.touches):
                    if touch.memory == "chip":
                        before, behind = (np.full((len(times), 1), k) for k in (first, number))
                        order = np.column_stack([before, times, behind, np.full(len(times), place)])
                        at = values(touch.element, instances)
                        found.append(Accesses(touch.tensor.name, touch.writes, at, order))
        return found

    @cached_property
    def stages(self) -> Sequence[Accesses]:
        """The accesses of every stage of a tile, at `[tile time, stage]`."""
        found = []
        for name, flow in self.schedule.flows.items():
            events = [
                (self.schedule.stage("load", flow.tensor), True, flow.loads),
                (self.schedule.stage("make", flow.tensor), True, flow.executions),
                (self.schedule.stage("store", flow.tensor), False, flow.stores),
            ]
            for layer in self.schedule.network.layers:
                if flow.tensor in (*layer.inputs, *layer.weights):
                    read = self.schedule.reads(layer, flow.tensor)
                    events.append((self.schedule.stage("make", layer.output), False, read))
            for stage, writes, relation in events:
                if not relation.is_empty():
                    at = points(relation.reverse().wrap().flatten())
                    times = values(self.schedule.tile_to_time, at[:, : self.coordinates])
                    found.append(Accesses(name, writes, at, np.column_stack([times, np.full(len(at), stage)])))
        return found

    def wrong_executions(self, places: Mapping[str, Place]) -> str | None:
        """What goes wrong first when executions run one after another; None if nothing does.

        A cell holds an element, the tile that made it, and whether all of it was made: further writes of the same
        tile, up to the last one, are the terms of a sum.
        """
        rows: list[tuple[Element, str, bool, Element, Element]] = []
        for accesses in self.executions:
            cells = places[accesses.tensor].of(accesses.at)
            for time, at, cell in zip(accesses.times.tolist(), accesses.at.tolist(), cells, strict=True):
                rows.append((tuple(time), accesses.tensor, accesses.writes, tuple(at), cell))
        rows.sort(key=lambda row: row[0])
        last = {(tensor, at): k for k, (_, tensor, writes, at, _) in enumerate(rows) if writes}
        held: dict[tuple[str, Element], tuple[str, Element, bool]] = {}
        for k, (_, tensor, writes, at, cell) in enumerate(rows):
            if not places[tensor].holds(cell):
                return f"{tensor}{at} outside, {cell}"
            where, element = (places[tensor].array, cell), (tensor, at[self.coordinates :])
            if writes:
                held[where] = (tensor, at, k == last[tensor, at])
            elif (found := held.get(where)) is None or (found[0], found[1][self.coordinates :]) != element:
                return f"{tensor}{at} reads {found} in {cell}"
            elif not found[2] and found[1] != at:
                return f"{tensor}{at} reads what is not finished, {found}"
        return None

    def wrong_stages(self, places: Mapping[str, Place]) -> str | None:
        """What goes wrong first where a stage of a tile is one moment, in which it holds all that it reads and makes.

        A read wants its element from a tile with the same coordinates along which nothing is retained.
        """
        private = {
            name: [d for d, place in enumerate(flow.places) if place != "local"]
            for name, flow in self.schedule.flows.items()
        }
        moments: dict[Element, list[tuple[str, bool, Element, Element]]] = {}
        for accesses in self.stages:
            cells = places[accesses.tensor].of(accesses.at)
            for time, at, cell in zip(accesses.times.tolist(), accesses.at.tolist(), cells, strict=True):
                if not places[accesses.tensor].holds(cell):
                    return f"{accesses.tensor}{at} outside, {cell}"
                moments.setdefault(tuple(time), []).append((accesses.tensor, accesses.writes, tuple(at), cell))
        held: dict[tuple[str, Element], tuple[tuple[str, Element], set[Element]]] = {}
        for time in sorted(moments):
            made: dict[tuple[str, Element], tuple[str, Element]] = {}
            for tensor, writes, at, cell in moments[time]:
                if writes and made.setdefault((places[tensor].array, cell), (tensor, at)) != (tensor, at):
                    return f"{tensor}{at} is made in the cell of another one, {cell}, at {time}"
            for tensor, writes, at, cell in moments[time]:
                where, element = (places[tensor].array, cell), (tensor, at[self.coordinates :])
                if writes:
                    continue
                if where in made:
                    return f"{tensor}{at} is read where {made[where]} is made, {cell}, at {time}"
                found, tiles = held.get(where, (None, set()))
                if found != element or tuple(at[d] for d in private[tensor]) not in tiles:
                    return f"{tensor}{at} reads {found} in {cell} at {time}"
            for (array, cell), (tensor, at) in made.items():
                element = (tensor, at[self.coordinates :])
                if (array, cell) not in held or held[array, cell][0] != element:
                    held[array, cell] = (element, set())
                held[array, cell][1].add(tuple(at[d] for d in private[tensor]))
        return None

    def wrong_weights(self, places: Mapping[str, Place]) -> str | None:
        """What is wrong with weights loaded once: elements in one cell, outside, or not the same in all tiles."""
        found: dict[tuple[str, Element], tuple[str, Element]] = {}
        others = {places[name].array for name in self.schedule.flows}
        for weight in self.schedule.preloaded:
            elements = np.indices(weight.concrete_shape).reshape(len(weight.shape), -1).T
            rows = [np.column_stack([np.full((len(elements), self.coordinates), t), elements]) for t in (0, 1)]
            cells, elsewhere = (places[weight.name].of(each) for each in rows)
            if cells != elsewhere or places[weight.name].array in others:
                return f"{weight} is not the same in all tiles"
            for element, cell in zip(elements.tolist(), cells, strict=True):
                if not places[weight.name].holds(cell):
                    return f"{weight}{element} outside, {cell}"
                where, mine = (places[weight.name].array, cell), (weight.name, tuple(element))
                if found.setdefault(where, mine) != mine:
                    return f"{weight}{element} in the cell of another one, {cell}"
        return None
