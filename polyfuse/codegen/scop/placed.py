"""Where the steps of a group stand in a SCoP: which statement instance is which execution.

    Storage ──placed_steps()──> PlacedSteps                  in loops made for them
    ScopNetwork + Storage ──placed_in()──> { StatementPart: PlacedStep }   in the loops that a program has

Polly gives an instance one time. Where every step runs once for each of its indices, the loops are those of the layers
and the tile is a function of them: the *plain* form. Otherwise copies are *expanded*: the coordinates of the tile are
loops around each step, and the indices that tiles cut are counted from the tile's origin.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import islpy as isl

from polyfuse.codegen.lower.places import Places
from polyfuse.errors import IllegalSchedule
from polyfuse.network.scop.layers import ScopNetwork, StatementPart
from polyfuse.network.tensor import Tensor, distinct_name, distinct_names
from polyfuse.schedule.schedule import Action, Schedule
from polyfuse.schedule.steps import Step, steps
from polyfuse.schedule.storage import Storage
from polyfuse.schedule.windows import tile_origin
from polyfuse.sets.coalescing import coalesced

PREFIX = "Stmt_"
"""How Polly begins the names of statements."""


@dataclass(frozen=True, eq=False)
class PlacedStep:
    """A step and its statement: `{ Stmt[j] -> step[t, i] }`, one to one; `loops` names the indices `j`."""

    step: Step
    instance: isl.Map
    loops: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of the statement."""
        return str(self.instance.get_tuple_name(isl.dim_type.in_))

    @property
    def domain(self) -> isl.Set:
        """`{ Stmt[j] }`."""
        return coalesced(self.instance.domain())

    @property
    def times(self) -> isl.Map:
        """`{ Stmt[j] -> [time] }`."""
        return coalesced(self.instance.apply_range(self.step.time))


@dataclass(frozen=True, eq=False)
class PlacedSteps:
    """Every step of a group that is a statement, in the order of the program."""

    statements: tuple[PlacedStep, ...]
    expanded: bool


def kept_steps(storage: Storage) -> tuple[Step, ...]:
    """The steps of a group without the copies of what stays in place, each after those that make what it reads.

    In a tile, the loads of what earlier tiles have stored come before that tile makes and stores the rest.
    """
    kept = list(filter(Places(storage, staged=False).keeps, steps(storage.schedule)))
    tensors = [tensor_of(step) for step in kept]
    actions: tuple[Action, ...] = ("make", "store", "load")
    return tuple(sorted(kept, key=lambda step: (tensors.index(tensor_of(step)), actions.index(step.action))))


def tensor_of(step: Step) -> Tensor:
    """The tensor that a step makes, loads or stores."""
    return step.layer.output if step.layer is not None else step.touches[0].tensor


def is_singular(schedule: Schedule, step: Step) -> bool:
    """Whether each of a step's indices runs in one tile."""
    return bool(without_tile(schedule, step).is_injective())


def without_tile(schedule: Schedule, step: Step) -> isl.Map:
    """`{ step[t, i] -> [i] }`."""
    return _indices(step.executions, range(len(schedule.tiling.dims), step.executions.dim(isl.dim_type.set)))


def placed_steps(storage: Storage, *, expanded: bool = False) -> PlacedSteps:
    """The steps of a group in loops of their own, which start at 0; those of one iteration are left out.

    Plain where all steps are singular and `expanded` does not ask for the other form. Where the instances of a step are
    a union, each part of it is a statement: Polly gives up on long conditions with alternatives.
    """
    schedule = storage.schedule
    kept = kept_steps(storage)
    plain = not expanded and all(is_singular(schedule, step) for step in kept)
    tensors = {*schedule.flows, *(step.name for step in kept), *(weight.name for weight in schedule.preloaded)}
    found = []
    for step in kept:
        coordinates = [] if plain else [dim.name for dim in schedule.tiling.dims]
        names = distinct_names((*coordinates, *step.dims), tensors)
        loops = without_tile(schedule, step) if plain else _from_origin(schedule, step)
        order = loop_order(len(coordinates), len(tensor_of(step).shape), len(names))
        loops = loops.apply_range(_indices(loops.range(), order))
        pieces = convex_pieces(loops.range())
        for k, piece in enumerate(pieces):
            label = step.name if len(pieces) == 1 else distinct_name(f"{step.name}_{k}", tensors)
            tensors.add(label)
            found.append(_placed(step, label, loops.intersect_range(piece), [names[d] for d in order]))
    return PlacedSteps(tuple(found), not plain)


def convex_pieces(domain: isl.Set) -> tuple[isl.Set, ...]:
    """A set as disjoint parts, none of them a union.

    >>> convex_pieces(isl.Set("{ [t, i] : t = 0 and 0 <= i < 8 or t = 1 and 2 <= i < 8 }"))
    (Set("{ [t = 1, i] : 2 <= i <= 7 }"), Set("{ [t = 0, i] : 0 <= i <= 7 }"))
    """
    whole = coalesced(domain)
    if whole.n_basic_set() == 1:
        return (whole,)
    return tuple(isl.Set.from_basic_set(part) for part in coalesced(whole.make_disjoint()).get_basic_sets())


def loop_order(coordinates: int, rank: int, loops: int) -> tuple[int, ...]:
    """The loops over a tile, a point and a reduction, with the last axis of the image innermost: it has stride one.

    >>> loop_order(coordinates=2, rank=4, loops=9)
    (0, 1, 2, 3, 4, 6, 7, 8, 5)
    """
    last = coordinates + rank - 1
    return (*range(last), *range(last + 1, loops), last) if rank else tuple(range(loops))


def placed_in(made: ScopNetwork, storage: Storage) -> dict[StatementPart, PlacedStep]:
    """The steps of a group in the loops of the program that its network was made of: one for each part of a statement.

    Errors: IllegalSchedule where an instance runs in several tiles: the program has no loops for its copies.
    """
    schedule = storage.schedule
    by_name = {step.name: step for step in kept_steps(storage)}
    found: dict[StatementPart, PlacedStep] = {}
    for statement, parts in made.parts.items():
        for part in parts:
            step = by_name.pop(part.name)
            if not is_singular(schedule, step):
                raise _recomputed(statement)
            to_step = without_tile(schedule, step).reverse()
            instance = part.instances.reset_tuple_id(isl.dim_type.out).apply_range(to_step)
            found[part] = PlacedStep(step, instance, ())
    if by_name:
        raise _recomputed(f"the copies of {min(by_name)}")
    return found


def _recomputed(what: str) -> IllegalSchedule:
    return IllegalSchedule(
        f"schedule for Polly: {what} would run several times, and the C has one instance for them; keep what tiles "
        "share (--strategy local or global), or let polyfuse export-scop write C with copies"
    )


def _indices(executions: isl.Set, kept: Sequence[int]) -> isl.Map:
    """`{ step[t, i] -> [some of t, i] }`, in the order in which they are given."""
    found = isl.Map.from_domain(executions).add_dims(isl.dim_type.out, len(kept))
    for position, d in enumerate(kept):
        found = found.equate(isl.dim_type.out, position, isl.dim_type.in_, d)
    return found


def _from_origin(schedule: Schedule, step: Step) -> isl.Map:
    """`{ step[t, i] -> [t, i - origin(t)] }`."""
    tensor = tensor_of(step)
    flow, dims = schedule.flows[tensor.name], schedule.tiling.dims
    local = isl.MultiAff.identity_on_domain_space(step.executions.get_space())
    for axis in schedule.cut_axes(flow):
        origin = tile_origin(schedule, flow, axis, frozenset())
        if origin is None:
            continue
        index = local.get_at(len(dims) + axis)
        for d in range(len(dims)):
            index = index.set_coefficient_val(
                isl.dim_type.in_, d, origin.get_coefficient_val(isl.dim_type.in_, d).neg()
            )
        local = local.set_at(len(dims) + axis, index)
    return isl.Map.from_multi_aff(local).reset_tuple_id(isl.dim_type.out).intersect_domain(step.executions)


def _placed(step: Step, label: str, loops: isl.Map, names: Sequence[str]) -> PlacedStep:
    """The statement of a step for given loops: shifted to start at 0, without those of one iteration."""
    domain = loops.range()
    kept = []
    shift = isl.MultiAff.identity_on_domain_space(domain.get_space())
    for d in range(domain.dim(isl.dim_type.set)):
        low, high = domain.dim_min_val(d), domain.dim_max_val(d)
        shift = shift.set_at(d, shift.get_at(d).add_constant_val(low.neg()))
        if low != high:
            kept.append(d)
    shifted = loops.apply_range(isl.Map.from_multi_aff(shift))
    for d in reversed(range(domain.dim(isl.dim_type.set))):
        if d not in kept:
            shifted = shifted.project_out(isl.dim_type.out, d, 1)
    instance = coalesced(shifted.reverse()).set_tuple_name(isl.dim_type.in_, f"{PREFIX}{label}")
    return PlacedStep(step, instance, tuple(names[d] for d in kept))
