"""Long sums of scalar code, in blocks: what rounding adds up to stays small however many terms there are.

    Steps ──blocked()──> Blocked: the same steps, of which the long sums add up blocks of terms, and blocks of blocks

    S[t, p, r]  acc = acc + x   to   S__clear[t, p]     the sums of a point are 0
                                     S[t, p, r]         sum = sum + x, block by block of r
                                     S__fold[t, p, q]   a block is done: it is added to the sum of its block of blocks
                                     S__total[t, p]     acc = acc + all of them

One accumulator for n terms may be off by n units of rounding (2^-24), relative to the sum of the terms' magnitudes. In
blocks it is at most BLOCK + RADIX * levels, where RADIX^levels is more than n / BLOCK: see `error_bound`. Sums of at
most SHORT terms stay as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

import islpy as isl

from polyfuse.codegen.c.elements import Element, accumulator
from polyfuse.codegen.lower.rowsteps import RowStep
from polyfuse.network.expression import adds_up
from polyfuse.schedule.schedule import Schedule
from polyfuse.schedule.steps import REDUCTION_DIMS, Step, point_dims
from polyfuse.sets.coalescing import coalesced

BLOCK, RADIX, SHORT = 128, 16, 256
"""Terms of a block, blocks of a block of blocks, and the most terms that are summed up one by one."""
UNIT = 2.0**-24
"""What rounding a float32 may change, relative to it."""
BLOCK_NAMES = ("block0", "block1", "block2", "block3", "part")
Role = Literal["clear", "add", "fold", "total"]
"""What a step does for a long sum."""
SET, IN, OUT = isl.dim_type.set, isl.dim_type.in_, isl.dim_type.out


def error_bound(terms: int) -> float:
    """What a sum of so many terms may be off by, relative to the sum of their magnitudes, products not counted.

    >>> round(error_bound(100) / UNIT), round(error_bound(18_710) / UNIT), round(error_bound(10**6) / UNIT)
    (100, 160, 192)
    """
    return UNIT * (terms if terms <= SHORT else BLOCK + RADIX * levels_of(-(-terms // BLOCK)))


def levels_of(blocks: int) -> int:
    """The sums of blocks that are kept, one for each power of RADIX up to the number of blocks."""
    return 1 if blocks < RADIX else 1 + levels_of(blocks // RADIX)


@dataclass(frozen=True, eq=False)
class LongSum:
    """A statement that adds up many terms: `width` points of a row are summed at once.

    The index `inner` of its reduction is cut into pieces of `size`; those before it are cut at every value. `first`
    and `counts` are where the block numbers along each of them begin, and how many there are.
    """

    step: Step
    rank: int
    inner: int
    size: int
    first: tuple[int, ...]
    counts: tuple[int, ...]
    width: int
    element: Element

    @property
    def levels(self) -> int:
        """The levels of sums of blocks."""
        return levels_of(prod(self.counts))

    @property
    def bytes(self) -> int:
        """The sums of a row of points."""
        return self.element.bytes * (1 + self.levels) * self.width


@dataclass(frozen=True, eq=False)
class Blocked:
    """Steps with their sums in blocks; `sums` are the long ones, and what each step of them does, by its name."""

    steps: tuple[Step, ...]
    rows: tuple[tuple[RowStep, ...], ...]
    names: tuple[str, ...]
    sums: Mapping[str, tuple[Role, LongSum]]

    @property
    def workspace_bytes(self) -> int:
        """What the largest takes: they take turns."""
        return max((each.bytes for _, each in self.sums.values()), default=0)


def blocked(
    schedule: Schedule, steps: Sequence[Step], rows: Sequence[tuple[RowStep, ...]], names: Sequence[str]
) -> Blocked:
    """The steps of a group, its long sums in blocks; times get dimensions for blocks where there are any."""
    coordinates = len(schedule.tiling.dims)
    long = {step.name: found for step in steps if (found := long_sum(step, coordinates)) is not None}
    if not long:
        return Blocked(tuple(steps), tuple(rows), tuple(names), {})
    position = schedule.tile_to_time.dim(OUT) + 1 + point_dims(schedule)
    parts: list[Step] = []
    sums: dict[str, tuple[Role, LongSum]] = {}
    for step in steps:
        if step.name not in long:
            parts.append(replace(step, time=widened(step.time, position)))
            continue
        made = in_blocks(long[step.name], coordinates, position)
        parts += made.values()
        sums |= {each.name: (role, long[step.name]) for role, each in made.items()}
    wide_rows = tuple(tuple(replace(row, time=widened(row.time, position)) for row in part) for part in rows)
    tensors = set(schedule.flows) | {w.name for layer in schedule.network.layers for w in layer.weights}
    inserted = (f"{name}_loop" if name in tensors else name for name in BLOCK_NAMES)
    return Blocked(tuple(parts), wide_rows, (*names[:position], *inserted, *names[position:]), sums)


def long_sum(step: Step, coordinates: int) -> LongSum | None:
    """How the sum of a step is cut; None for what is no sum, a short one, or one that nothing executes.

    That of a layer which recurs stays as it is: its sums are of points, not of rows of points.
    """
    if step.layer is None or step.statement is None or not adds_up(step.statement.expression):
        return None
    if step.executions.is_empty() or step.layer.recurs:
        return None
    start = coordinates + step.layer.rank
    ends = [
        tuple(int(end.to_python()) for end in (step.executions.dim_min_val(d), step.executions.dim_max_val(d)))
        for d in range(start, coordinates + len(step.dims))
    ]
    sizes = [high - low + 1 for low, high in ends]
    if prod(sizes) <= SHORT:
        return None
    inner = next(d for d in range(len(sizes)) if prod(sizes[d + 1 :]) <= BLOCK)
    size = max(1, BLOCK // prod(sizes[inner + 1 :]))
    low, high = ends[inner]
    first = (*(low for low, _ in ends[:inner]), low // size)
    counts = (*sizes[:inner], high // size - low // size + 1)
    output = step.layer.output
    element = accumulator(output.dtype)
    return LongSum(step, step.layer.rank, inner, size, first, counts, output.concrete_shape[-1], element)


def widened(time: isl.Map, position: int) -> isl.Map:
    """A time with dimensions for blocks, all 0."""
    time = time.insert_dims(OUT, position, len(BLOCK_NAMES))
    for d in range(len(BLOCK_NAMES)):
        time = time.fix_val(OUT, position + d, isl.Val(0))
    return time


def in_blocks(sum_: LongSum, coordinates: int, position: int) -> dict[Role, Step]:
    """The steps of a long sum: cleared, summed up, folded block by block, added to what was there."""
    step, outer = sum_.step, coordinates + sum_.rank
    numbers = block_numbers(sum_, outer)
    touches = tuple(touch for touch in step.touches if touch.operand != "acc")
    prefix = step.time.project_out(OUT, position, step.time.dim(OUT) - position)
    suffix = step.time.project_out(OUT, 0, position)
    time = prefix.flat_range_product(numbers).flat_range_product(zeros(numbers, REDUCTION_DIMS + 1 - len(sum_.counts)))
    summing = replace(step, time=time.flat_range_product(suffix).intersect_domain(step.executions), touches=touches)

    points = step.executions.identity().project_out(OUT, outer, step.executions.dim(SET) - outer)
    fold = outside(step, f"{step.name}__fold", points.flat_range_product(numbers), (), position, outer)
    clear = outside(step, f"{step.name}__clear", points, (sum_.first[0] - 1,), position, outer)
    total = outside(step, f"{step.name}__total", points, (sum_.first[0] + sum_.counts[0],), position, outer)
    to_points = points.set_tuple_name(OUT, total.name).reverse()
    acc = (replace(t, element=to_points.apply_range(t.element)) for t in step.touches if t.operand == "acc")
    return {"clear": clear, "add": summing, "fold": fold, "total": replace(total, touches=tuple(acc))}


def block_numbers(sum_: LongSum, outer: int) -> isl.Map:
    """`{ S[t, p, r] -> [q] }`: the block that an execution belongs to, one number for each cut index."""
    space = isl.LocalSpace.from_space(sum_.step.executions.get_space())
    indices = [isl.Aff.var_on_domain(space, SET, outer + d) for d in range(sum_.inner + 1)]
    indices[-1] = indices[-1].scale_down_val(isl.Val(sum_.size)).floor()
    found = isl.Map.from_aff(indices[0])
    for index in indices[1:]:
        found = found.flat_range_product(isl.Map.from_aff(index))
    return found.intersect_domain(sum_.step.executions)


def zeros(like: isl.Map, count: int) -> isl.Map:
    """`{ S[i] -> [0, ..] }` on the domain of another map."""
    found = like.project_out(OUT, 0, like.dim(OUT)).add_dims(OUT, count)
    for d in range(count):
        found = found.fix_val(OUT, d, isl.Val(0))
    return found


def outside(step: Step, name: str, executions: isl.Map, block: tuple[int, ...], position: int, outer: int) -> Step:
    """A step that runs once for each point, or for each of its blocks: not for each term.

    `executions` is `{ S[t, p, r] -> [t, p, q] }`; without q, `block` is the block number that it runs as.
    """
    named = executions.set_tuple_name(OUT, name)
    domain = coalesced(step.executions.apply(named))
    numbers = domain.dim(SET) - outer
    time = step.time.project_out(OUT, position, REDUCTION_DIMS)
    time = time.project_out(IN, outer, time.dim(IN) - outer).add_dims(IN, numbers)
    time = time.insert_dims(OUT, position, len(BLOCK_NAMES) + REDUCTION_DIMS)
    for d in range(len(BLOCK_NAMES) + REDUCTION_DIMS):
        if d < numbers:
            time = time.equate(OUT, position + d, IN, outer + d)
        else:
            value = block[d] if d < len(block) else int(bool(numbers) and d == len(BLOCK_NAMES) - 1)
            time = time.fix_val(OUT, position + d, isl.Val(value))
    time = time.set_tuple_name(IN, name).intersect_domain(domain)
    return replace(step, name=name, executions=domain, time=time, touches=())


def number_of_block(sum_: LongSum, instance: isl.PwMultiAff, outer: int) -> isl.PwAff:
    """The number of the block that a fold adds, counted from 0 along all cut indices, over the loops."""
    total = instance.get_at(outer).add_constant_val(isl.Val(-sum_.first[0]))
    for d in range(1, len(sum_.counts)):
        index = instance.get_at(outer + d).add_constant_val(isl.Val(-sum_.first[d]))
        total = total.scale_val(isl.Val(sum_.counts[d])).add(index)
    return total
