"""A group as C and JSCoP for Polly, and a schedule for the C that a network was imported from.

    Storage ──exported()──> ExportedScop ──write_exported()──> NAME.c, NAME.jscop, build.sh
    ScopNetwork + Storage ──rescheduled()──> Scop

Polly checks the order of a changed schedule, but not changed accesses: `legality.check` proves that what is read of a
buffer is what was wanted, and `check_order` that conflicting instances keep their order, before anything is written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import islpy as isl

from polyfuse.codegen.scop.homes import MEMORY_PREFIX, Homes
from polyfuse.codegen.scop.placed import PlacedStep, placed_in, placed_steps
from polyfuse.codegen.scop.script import build_script
from polyfuse.codegen.scop.source import ScopStep, c_source, scop_step
from polyfuse.errors import IllegalSchedule, InvalidInput, UnsupportedOperator
from polyfuse.files import make_folder, write_atomically
from polyfuse.network.expression import is_known
from polyfuse.network.network import Network, float_type
from polyfuse.network.scop.jscop import jscop_text
from polyfuse.network.scop.layers import ScopNetwork, StatementPart
from polyfuse.network.scop.order import check_order, check_singular
from polyfuse.network.scop.scop import Kind, Scop, ScopAccess, ScopArray, ScopStatement
from polyfuse.network.tensor import safe_name
from polyfuse.schedule.legality import check
from polyfuse.schedule.steps import Touch
from polyfuse.schedule.storage import Storage
from polyfuse.sets.coalescing import coalesced
from polyfuse.sets.limits import operation_limit
from polyfuse.sets.spaces import union

PlacedPart = tuple[PlacedStep, Sequence[Touch | None]]
"""A step that is a statement, or a part of one, and the access of it that each access of the statement is."""


@dataclass(frozen=True, eq=False)
class ExportedScop:
    """C that Polly accepts, the scop that Polly finds in it, and that scop with the group's schedule and arrays.

    `statements` has, for each statement of the scop, the name of the step that it executes: the names of its counts.
    """

    function: str
    source: str
    original: Scop
    fused: Scop
    statements: dict[str, str]
    expanded: bool


def exported(storage: Storage, *, expanded: bool = False) -> ExportedScop:
    """A group for Polly. With `expanded`, loops over tiles are written even where no step is executed twice.

    Errors: UnsupportedOperator for accesses that are not affine and layers that recur, IllegalSchedule for storage that
    `check` refuses, InvalidInput for elements that are not all float32 or all float64 and statements that compute
    something unknown, TooComplex above isl's operation limit.
    """
    schedule = storage.schedule
    network = schedule.network
    check(storage)
    _check_can_run(network)
    with operation_limit(what=f"scop of {network.name!r}"):
        placed = placed_steps(storage, expanded=expanded)
        homes = Homes(storage, placed.expanded)
        steps = [scop_step(homes, each) for each in placed.statements]
        tensors = {*schedule.flows, *network.weights, *(each.step.name for each in placed.statements)}
        function = safe_name(network.name, tensors)
        original = _original(homes, steps, function)
        fused = _fused(original, homes, {each.placed.name: [(each.placed, each.touches)] for each in steps})
        check_order(original, fused)
    return ExportedScop(
        function,
        c_source(homes, steps, function),
        original,
        fused,
        {each.name: each.step.name for each in placed.statements},
        placed.expanded,
    )


def _check_can_run(network: Network) -> None:
    """C can be written: of elements of one type, for statements whose expressions are known."""
    float_type(network, "C for Polly")
    for layer in network.layers:
        if layer.recurs:
            raise UnsupportedOperator(
                f"layer {layer.name!r}: reads its own output, and C for Polly has a loop nest for each statement; "
                "import a program of your own instead: polyfuse import-scop"
            )
    unknown = [s.name for layer in network.layers for s in layer.statements if not is_known(s.expression)]
    if unknown:
        raise InvalidInput(
            f"statement {unknown[0]!r}: what it computes is not known, so no C can be written; give its expression: "
            f"--set {unknown[0]}='acc + w * x'"
        )


def rescheduled(made: ScopNetwork, storage: Storage) -> Scop:
    """The scop that a network was made of with the schedule of a group, whose on-chip tensors get local arrays.

    The values of those are no longer in the arrays of the program when the scop has run. What is not a tensor of its
    own, an array that is updated or set again, stays where the program has it. A statement that makes several values
    runs when the first of them is made, or else when the last is.

    Errors: IllegalSchedule for storage that `check` refuses, where an instance would run several times, and where
    values that stay in an array of the program would overwrite each other too early.
    """
    check(storage)
    with operation_limit(what=f"schedule of scop {made.scop.name!r}"):
        placed, homes = placed_in(made, storage), Homes(storage, expanded=False)
        fused = _in_program(made, homes, placed, first=True)
        check_singular(fused)
        try:
            check_order(made.scop, fused)
        except IllegalSchedule:
            if all(len({part.write for part in parts}) < 2 for parts in made.parts.values()):
                raise
            fused = _in_program(made, homes, placed, first=False)
            check_order(made.scop, fused)
    return fused


def _in_program(made: ScopNetwork, homes: Homes, placed: Mapping[StatementPart, PlacedStep], *, first: bool) -> Scop:
    """The scop with the times at which its statements make the first of their values, or the last."""
    chosen: dict[str, list[PlacedPart]] = {}
    for statement in made.scop.statements:
        writes = [part.write for part in made.parts[statement.name]]
        if not writes:
            raise InvalidInput(f"statement {statement.name!r}: writes nothing that anyone reads; take it out of the C")
        write = min(writes) if first else max(writes)
        chosen[statement.name] = [
            (placed[part], [_touch(made, placed[part], part, k, a) for k, a in enumerate(statement.accesses)])
            for part in made.parts[statement.name]
            if part.write == write
        ]
    return _fused(made.scop, homes, chosen)


def _touch(made: ScopNetwork, placed: PlacedStep, part: StatementPart, k: int, access: ScopAccess) -> Touch | None:
    """The access of the step that is an access of the statement; None for arrays that stay as they are."""
    if access.array not in made.whole:
        return None
    operand, writes = part.operands[k], access.kind == "write"
    return next(touch for touch in placed.step.touches if touch.operand == operand and touch.writes == writes)


def _original(homes: Homes, steps: Sequence[ScopStep], function: str) -> Scop:
    """What Polly finds in the C: statement after statement, each in the order of its loops."""
    arrays: dict[str, ScopArray] = {}
    statements = []
    width = max(len(step.placed.loops) for step in steps)
    for position, step in enumerate(steps):
        placed = step.placed
        accesses = []
        for k, touch in enumerate(step.touches):
            home = homes.in_program(touch)
            arrays.setdefault(home.name, home.described())
            relation = _renamed(placed.instance.apply_range(home.of(touch)), f"{MEMORY_PREFIX}{home.name}")
            kind: Kind = "write" if k == len(step.touches) - 1 else "read"
            accesses.append(ScopAccess(kind, _without_domain(relation, placed.domain)))
        time = isl.Map.identity(placed.domain.get_space().map_from_set()).reset_tuple_id(isl.dim_type.out)
        time = time.insert_dims(isl.dim_type.out, 0, 1).fix_val(isl.dim_type.out, 0, isl.Val(position))
        rank = time.dim(isl.dim_type.out)
        time = time.add_dims(isl.dim_type.out, 1 + width - rank)
        for d in range(rank, 1 + width):
            time = time.fix_val(isl.dim_type.out, d, isl.Val(0))
        statements.append(ScopStatement(placed.name, placed.domain, time, tuple(accesses)))
    everything = isl.Set.universe(isl.Space.params_alloc(isl.DEFAULT_CONTEXT, 0))
    return Scop(function, everything, tuple(arrays.values()), tuple(statements))


def _fused(scop: Scop, homes: Homes, placed: Mapping[str, Sequence[PlacedPart]]) -> Scop:
    """A scop with the times of a group's steps, and accesses to local arrays where its tensors wait on chip.

    For each statement, the steps that it is, and the access of each step that each access is.
    """
    times = without_constants({name: coalesced(union(p.times for p, _ in parts)) for name, parts in placed.items()})
    local: dict[str, ScopArray] = {}
    statements = []
    for statement in scop.statements:
        accesses = []
        for k, access in enumerate(statement.accesses):
            moved = [(step, touch) for step, touches in placed[statement.name] if (touch := touches[k]) is not None]
            if moved and homes.is_local(moved[0][1]):
                home = homes.redirected(moved[0][1])
                element_type = scop.array(access.array).element_type
                local[home.name] = home.allocated(element_type)
                relation = union(step.instance.apply_range(home.of(touch)) for step, touch in moved)
                access = replace(access, relation=_without_domain(_renamed(relation, home.name), statement.domain))
            accesses.append(access)
        schedule = _without_domain(times[statement.name], statement.domain)
        statements.append(replace(statement, schedule=schedule, accesses=tuple(accesses)))
    return replace(scop, arrays=(*scop.arrays, *local.values()), statements=tuple(statements))


def without_constants(times: Mapping[str, isl.Map]) -> dict[str, isl.Map]:
    """`{ S[i] -> [time] }` of several statements without the dimensions that are one number in all of them.

    >>> some = {"S": isl.Map("{ S[i] -> [0, i, 1] }"), "T": isl.Map("{ T[i] -> [0, i, 2] }")}
    >>> list(without_constants(some).values())
    [Map("{ S[i] -> [i, 1] }"), Map("{ T[i] -> [i, 2] }")]
    """
    found = dict(times)
    width = next(iter(found.values())).dim(isl.dim_type.out)
    for d in reversed(range(width)):
        values = {str(time.plain_get_val_if_fixed(isl.dim_type.out, d)) for time in found.values()}
        if len(values) == 1 and values != {"NaN"}:
            found = {name: time.project_out(isl.dim_type.out, d, 1) for name, time in found.items()}
    return found


def _renamed(relation: isl.Map, array: str) -> isl.Map:
    return relation.set_tuple_name(isl.dim_type.out, array)


def _without_domain(relation: isl.Map, domain: isl.Set) -> isl.Map:
    """The relation in a short form, right on the domain."""
    return coalesced(relation).gist_domain(domain)


def write_exported(scop: ExportedScop, folder: Path) -> tuple[Path, ...]:
    """Write the C, the JSCoP file and the script that compiles them; their paths.

    Errors: InvalidInput for a folder that cannot be made or written.
    """
    make_folder(folder)
    files = {
        f"{scop.function}.c": scop.source,
        f"{scop.function}.jscop": jscop_text(scop.fused),
        "build.sh": build_script(scop.function),
    }
    for name, text in files.items():
        write_atomically(folder / name, text.encode())
    return tuple(folder / name for name in files)
