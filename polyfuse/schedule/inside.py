"""Legality of times inside of tiles: every execution finds the values that it reads.

    Schedule with given times ──check_times()──> what tiles read before they make it again, or IllegalSchedule

`chains` follows the executions of each element. `legality` proves that buffers keep what one tile leaves for another,
and that elements which are alive in one tile have different cells.
"""

from collections.abc import Sequence
from typing import NoReturn

import islpy as isl

from polyfuse.errors import IllegalSchedule, Unbounded
from polyfuse.network.layer import Layer
from polyfuse.schedule.buffers import LARGEST
from polyfuse.schedule.chains import Chain
from polyfuse.schedule.runs import Runs, ends, fixed, runs_of, sample_pair
from polyfuse.schedule.schedule import Schedule
from polyfuse.schedule.valueflow import collision
from polyfuse.sets.limits import operation_limit
from polyfuse.sets.spaces import coordinates, union

IN, OUT, SET = isl.dim_type.in_, isl.dim_type.out, isl.dim_type.set


def check_times(schedule: Schedule) -> dict[str, isl.Map]:
    """Prove that executions whose times were given come one after another, each behind what it reads.

    Returns what tiles read before they make it again, `{ A[a] -> tile[t] }` by tensor: it has to be there from earlier
    tiles.
    Errors: IllegalSchedule with a witness: the reader, what it reads, and who makes it later or puts something else in
    its place, or that nothing makes it; Unbounded for infinitely many times; TooComplex above isl's operation limit.
    """
    if schedule.times and not schedule.is_in_order:
        raise IllegalSchedule(
            "times inside of tiles are given, and tiles in another order; give both as one, as union_map has it"
        )
    layers = {layer.name: runs_of(schedule, layer) for layer in schedule.network.layers}
    every = [runs for each in layers.values() for runs in each]
    with operation_limit(what=f"times of {schedule.network.name!r}"):
        for runs in every:
            check_bounded(runs)
        for name, each in layers.items():
            if each:
                check_complete(schedule, schedule.network.layer(name), each)
        check_one_at_a_time(every)
    early: dict[str, isl.Map] = {}
    for each in layers.values():
        if each:
            tensor = each[0].layer.output
            with operation_limit(what=f"times of {tensor.name!r}"):
                early[tensor.name] = Chain(schedule, schedule.flows[tensor.name], each, every).early_reads()
    return early


def check_bounded(runs: Runs) -> None:
    """Times are finitely many numbers of 32 bits. Errors: Unbounded, IllegalSchedule."""
    times, name = runs.times.range(), runs.statement.name
    if not times.is_bounded():
        raise Unbounded(f"times of {name}: infinitely many; bound the dimensions of time by those of the instances")
    for d in range(0 if times.is_empty() else times.dim(SET)):
        low, high = ends(times, d)
        if max(-low, high) > LARGEST:
            raise IllegalSchedule(
                f"times of {name}: dimension {d} goes from {low:,} to {high:,}; keep it within {LARGEST:,}"
            )


def check_complete(schedule: Schedule, layer: Layer, every: Sequence[Runs]) -> None:
    """A tile that runs anything for an element runs all that it takes. Errors: IllegalSchedule with what is missing."""
    count = len(schedule.tiling.dims)
    tiles = [runs.times.project_out(OUT, count, runs.times.dim(OUT) - count) for runs in every]
    whole = union(runs.points.reverse().apply_range(each) for runs, each in zip(every, tiles, strict=True))
    for runs, each in zip(every, tiles, strict=True):
        missing = runs.points.apply_range(whole).subtract(each)
        if not missing.is_empty():
            instance, tile = sample_pair(missing)
            raise IllegalSchedule(
                f"illegal: nothing makes {layer.output.name}{instance[: layer.rank]} in tile {tuple(tile)}: "
                f"{runs.statement.name}{instance} has no time in it, other terms have; give it one, or make the "
                "parts of a sum tensors of their own"
            )
    made = schedule.executions(layer).reset_tuple_id(IN).reset_tuple_id(OUT)
    if made != whole:
        raise IllegalSchedule(f"layer {layer.name!r}: its times and its executions differ; take pf.schedule_from")


def check_one_at_a_time(every: Sequence[Runs]) -> None:
    """No two executions have the same time. Errors: IllegalSchedule that names both."""
    for k, runs in enumerate(every):
        if (clash := collision(runs.times)) is not None:
            refuse_clash(runs, runs, isl.Map.from_basic_map(clash))
        for other in every[:k]:
            if not runs.times.range().is_disjoint(other.times.range()):
                refuse_clash(runs, other, runs.times.apply_range(other.times.reverse()))


def refuse_clash(runs: Runs, other: Runs, pairs: isl.Map) -> NoReturn:
    """Errors: IllegalSchedule, always."""
    one, second = sample_pair(pairs)
    here, there = (fixed(each.times, values).range() for each, values in ((runs, one), (other, second)))
    time = coordinates((here & there).sample_point())
    raise IllegalSchedule(
        f"illegal: {runs.statement.name}{one} and {other.statement.name}{second} have the same time {time}, and "
        "nothing orders them; add a dimension to the times"
    )
