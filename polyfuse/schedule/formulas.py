"""The text of schedules whose sizes are parameters: closed forms in the sizes, and their values.

Schedule ──> lines of text: footprints by the position of a tile, executions, loads and stores, schedules

Where sizes are numbers, `polyfuse.schedule.describe` says the same of a group with its buffers, and more.
"""

from collections.abc import Iterator

import islpy as isl
import numpy as np

from polyfuse.errors import TooComplex
from polyfuse.schedule.counts import halos
from polyfuse.schedule.describe import named, size_parameters
from polyfuse.schedule.schedule import Flow, Schedule
from polyfuse.sets.symbolic import PiecewiseQuasiPolynomial, cardinality
from polyfuse.text import columns, section

SIZES = tuple(2**power for power in range(4, 12))
"""All parameters at once, where closed forms are evaluated."""


def describe_formulas(group: Schedule) -> str:
    """The text of one schedule: places, footprints, halos, moments of each tensor, values at some sizes, schedules.

    >>> from polyfuse.network.network import Builder
    >>> from polyfuse.schedule.schedule import Strategy, scheduled
    >>> build = Builder("pair")
    >>> x = build.input("x", (1, 1, "H", 20))
    >>> network = build.network(build.conv("conv2", build.conv("conv1", x, 1, kernel=3), 1, kernel=3))
    >>> text = describe_formulas(scheduled(network, Strategy.named("recompute", (8,))))
    >>> for line in text.splitlines():
    ...     if line.startswith(("loads", "   16", "   32")): print(line)
    loads       20*H + 80*floor(H/8 + 3/8) - 80  where  H >= 13
    loads       20*H*floor(H/8 + 3/8) - 80*floor(H/8 + 3/8)**2 + 80*floor(H/8 + 3/8)  where  5 <= H <= 12
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
    """The number of (element, tile) pairs of each relation of a flow, as a function of the sizes."""
    for name in ("need", "executions", "loads", "stores"):
        moments: isl.Map = getattr(flow, name)
        if not moments.is_empty():
            yield from (f"{name:<11} {line}" for line in formula_lines(moments.wrap()))


def formula_lines(relation: isl.Set | isl.Map) -> Iterator[str]:
    """The number of points of a set, a line for each piece of its closed form."""
    try:
        pieces = cardinality(relation).pieces
    except TooComplex as error:
        yield f"no closed form: {error}"
        return
    for piece in pieces:
        where = str(piece.domain.coalesce()).partition(":")[2].rpartition("}")[0].strip()
        yield f"{piece.value}{f'  where  {where}' if where else ''}"


def value_columns(group: Schedule) -> list[str]:
    """Executions, recomputation, loads and stores of a whole group, in elements, where all parameters are one size."""
    names = size_parameters(group.network)
    made = [flow for flow in group.in_order if not flow.executions.is_empty()]
    try:
        executed = [summed([cardinality(flow.executions.wrap()) for flow in made], names)]
        executed.append(executed[0] - summed([cardinality(flow.executions.domain()) for flow in made], names))
        for moments in ("loads", "stores"):
            relations: list[isl.Map] = [getattr(flow, moments) for flow in group.in_order]
            executed.append(summed([cardinality(each.wrap()) for each in relations if not each.is_empty()], names))
    except TooComplex as error:
        return [f"no closed form: {error}"]
    rows: list[tuple[object, ...]] = [(" = ".join(names), "executions", "recomputed", "loads", "stores")]
    rows += [(size, *map(int, values)) for size, *values in zip(SIZES, *executed, strict=True)]
    return columns(rows)


def summed(formulas: list[PiecewiseQuasiPolynomial], names: tuple[str, ...]) -> np.ndarray:
    """The sum of closed forms at all SIZES, every parameter at the same."""
    total = np.zeros(len(SIZES), np.int64)
    for formula in formulas:
        total += formula.to_numpy()(**{name: np.array(SIZES) for name in formula.symbols})
    return total


def schedule_lines(group: Schedule) -> Iterator[str]:
    """`{ L[p] -> tile[t] }` of every layer."""
    for layer in group.network.layers:
        yield f"{layer.name}: {named(group, group.executions(layer))}"
