"""The text of schedules whose sizes are parameters: closed forms in the sizes, and their values.

Schedule ──> lines of text: footprints by the position of a tile, executions, loads and stores, schedules

Where sizes are numbers, `polyfuse.schedule.describe` says the same of a group with its buffers, and more.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from math import prod

import islpy as isl
import numpy as np

from polyfuse.errors import TooComplex, Unbounded
from polyfuse.schedule.counts import halos
from polyfuse.schedule.describe import named, size_parameters
from polyfuse.schedule.lower import MOST_COPIES, lower
from polyfuse.schedule.schedule import Flow, Schedule
from polyfuse.sets.spaces import PARAM, dimension_names
from polyfuse.sets.symbolic import FactoredSum, factored
from polyfuse.sets.symbolic.factors import Row, product_rows, sum_of_products
from polyfuse.text import columns, section

SIZES = tuple(2**power for power in range(4, 12))
"""All parameters at once, where closed forms are evaluated."""


def describe_formulas(group: Schedule) -> str:
    """The text of one schedule: places, footprints, halos, moments of each tensor, values at some sizes, schedules.

    >>> from polyfuse.network.network import Builder
    >>> from polyfuse.schedule.schedule import scheduled
    >>> from polyfuse.schedule.strategy import Strategy
    >>> build = Builder("pair")
    >>> x = build.input("x", (1, 1, "H", 20))
    >>> network = build.network(build.conv("conv2", build.conv("conv1", x, 1, kernel=3), 1, kernel=3))
    >>> text = describe_formulas(scheduled(network, Strategy.named("recompute", (8,))))
    >>> for line in text.splitlines():
    ...     if line.startswith(("loads", "copy", "   16", "   32")): print(line)
    loads       20*H + 80*floor(H/8 + 3/8) - 80  where  H >= 5
    copy 0      18*H - 36  where  H >= 5
    copy 1      36*floor(H/8 + 3/8) - 36  where  H >= 13
       16         480          36     400     192
       32       1,096         108     880     448
    """
    lines = section("schedule", str(group).splitlines())
    lines += section("elements that tile t needs of each tensor", footprint_lines(group))
    lines += section("halos: what neighbouring tiles both need", halo_lines(group))
    for flow in group.in_order:
        lines += section(f"tensor {flow.tensor.name} ({flow.role}), in elements of all tiles", moment_lines(flow))
    lines += section("values at some sizes", value_columns(group))
    lines += section("schedule of each layer", schedule_lines(group))
    return "\n".join(lines)


def footprint_lines(group: Schedule) -> Iterator[str]:
    """The number of elements that a tile needs of each tensor, as a function of the tile and of the sizes."""
    for flow in group.in_order:
        yield flow.tensor.name
        yield from (f"  {line}" for line in formula_lines(named(group, flow.need).reverse()))


def halo_lines(group: Schedule) -> list[str]:
    """For each tensor, the rows and columns that two neighbouring tiles both need."""
    found = halos(group.network, group.strategy.tile, group.strategy.axes)
    return columns([(name, "x".join(map(str, shared))) for name, shared in found.items()])


def moment_lines(flow: Flow) -> Iterator[str]:
    """The number of (element, tile) pairs of each relation of a flow, and of the copies, as functions of the sizes."""
    for name in ("need", "executions", "loads", "stores"):
        moments: isl.Map = getattr(flow, name)
        if not moments.is_empty():
            yield from headed(name, formula_lines(moments.wrap()))
    if not flow.executions.is_empty():
        yield from copy_lines(flow.executions)


def headed(head: str, lines: Sequence[str]) -> Iterator[str]:
    """Lines after a head, which stands in the first."""
    for index, line in enumerate(lines):
        yield f"{head if index == 0 else '':<11} {line}"


def copy_lines(executions: isl.Map) -> Iterator[str]:
    """The number of elements of each copy, copies of equal numbers in one line; nothing where nothing is recomputed."""
    try:
        copies = copy_formulas(executions)
    except (TooComplex, Unbounded) as error:
        yield from headed("copies", [f"no closed form: {error}"])
        return
    if len(copies) == 1:
        return
    for lines, alike in groupby(enumerate(copies), key=lambda numbered: numbered[1].lines()):
        numbers = [number for number, _ in alike]
        name = f"copy {numbers[0]}" if len(numbers) == 1 else f"copies {numbers[0]}-{numbers[-1]}"
        yield from headed(name, lines)


def formula_lines(relation: isl.Set | isl.Map) -> list[str]:
    """The number of points of a set: a line, or a sum of products of forms and a line for each form."""
    try:
        return factored(relation).lines()
    except TooComplex as error:
        return [f"no closed form: {error}"]


def copy_formulas(relation: isl.Map) -> tuple[FactoredSum, ...]:
    """The numbers of points of the copies of `{ S[i] -> T[t] }`: of instances executed more than k times, for each k.

    Where the relation is a product of one-dimensional ones, an instance runs as often as the product of how often
    each coordinate does: the levels of each axis are counted alone.

    >>> rows, columns = "0 <= a and 8a <= y < 8a + 10 and 8a < H", "0 <= b and 8b <= x < 8b + 10 and 8b < W"
    >>> for copy in copy_formulas(isl.Map(f"[H, W] -> {{ S[y, x] -> T[a, b] : {rows} and {columns} }}")):
    ...     print(copy)
    [H, W] -> { (8*floor(H/8 + 7/8) + 2)*(8*floor(W/8 + 7/8) + 2) : W > 0 and H > 0 }
    [H, W] -> f1(H)*f2(W) + f3(H)*f1(W)
      f1(n) = 2*floor(n/8 + 7/8) - 2 : n >= 9
      f2(n) = 6*floor(n/8 + 7/8) + 4 : n > 0
      f3(n) = 8*floor(n/8 + 7/8) + 2 : n > 0
    [H, W] -> { (2*floor(H/8 + 7/8) - 2)*(2*floor(W/8 + 7/8) - 2) : W >= 9 and H >= 9 }
    [H, W] -> { (2*floor(H/8 + 7/8) - 2)*(2*floor(W/8 + 7/8) - 2) : W >= 9 and H >= 9 }

    Errors: Unbounded, TooComplex as `lower` and `factored`.
    """
    names = dimension_names(relation.get_space(), PARAM)
    groups, products = product_rows(relation.wrap())
    if len(products) != 1:
        return tuple(factored(copy.domain()) for copy in lower(relation).copies)
    *parts, rest = products[0]
    levels = [copy_domains(relation, group, part) for group, part in zip(groups, parts, strict=True)]
    most = prod(map(len, levels))
    if most > MOST_COPIES:
        raise TooComplex(f"copies: expected at most {MOST_COPIES:,}, got {most:,}; use larger tiles")
    return tuple(sum_of_products(names, level_rows([*levels, [rest]], above)) for above in range(most))


def copy_domains(relation: isl.Map, group: set[int], part: isl.Set) -> list[isl.Set]:
    """The coordinates of instances that run more than k times along one component of a relation, for each k."""
    instances = sum(position < relation.dim(isl.dim_type.in_) for position in group)
    along = isl.Map.from_domain(part).move_dims(
        isl.dim_type.out, 0, isl.dim_type.in_, instances, len(group) - instances
    )
    return [copy.domain() for copy in lower(along).copies]


def level_rows(levels: Sequence[Sequence[isl.Set]], above: int) -> list[Row]:
    """Disjoint products of the instances that run more than `above` times, given those of each component."""
    first, *others = levels
    if not others:
        return [(first[above],)] if above < len(first) else []
    rows: list[Row] = []
    for times, domain in enumerate(first, start=1):
        exactly = domain.subtract(first[times]) if times < len(first) else domain
        rows += [(exactly, *row) for row in level_rows(others, above // times)]
    return rows


def value_columns(group: Schedule) -> list[str]:
    """Executions, recomputation, loads and stores of a whole group, in elements, where all parameters are one size."""
    names = size_parameters(group.network)
    made = [flow for flow in group.in_order if not flow.executions.is_empty()]
    try:
        executed = [summed([factored(flow.executions.wrap()) for flow in made], names)]
        executed.append(executed[0] - summed([factored(flow.executions.domain()) for flow in made], names))
        for moments in ("loads", "stores"):
            relations: list[isl.Map] = [getattr(flow, moments) for flow in group.in_order]
            executed.append(summed([factored(each.wrap()) for each in relations if not each.is_empty()], names))
    except TooComplex as error:
        return [f"no closed form: {error}"]
    rows: list[tuple[object, ...]] = [(" = ".join(names), "executions", "recomputed", "loads", "stores")]
    rows += [(size, *map(int, values)) for size, *values in zip(SIZES, *executed, strict=True)]
    return columns(rows)


def summed(formulas: list[FactoredSum], names: tuple[str, ...]) -> np.ndarray:
    """The sum of closed forms at all SIZES, every parameter at the same."""
    total = np.zeros(len(SIZES), np.int64)
    for formula in formulas:
        total += formula.to_numpy()(**{name: np.array(SIZES) for name in formula.symbols})
    return total


def schedule_lines(group: Schedule) -> Iterator[str]:
    """`{ L[p] -> tile[t] }` of every layer."""
    for layer in group.network.layers:
        yield f"{layer.name}: {named(group, group.executions(layer))}"
