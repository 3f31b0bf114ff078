"""The text of networks and of their schedules, for experts.

Network, Storage ──> lines of text: domains, accesses, footprints, schedules, copies, buffers, counts
"""

from collections.abc import Iterator

import islpy as isl

from polyfuse.choices import Axis
from polyfuse.errors import TooComplex
from polyfuse.network.layer import Layer
from polyfuse.network.network import Network
from polyfuse.network.statements import POINT
from polyfuse.network.tensor import parameters_of
from polyfuse.schedule.counts import counts, halo
from polyfuse.schedule.lower import Lowered, lower
from polyfuse.schedule.schedule import Flow, Schedule, scheduled
from polyfuse.schedule.storage import Storage
from polyfuse.schedule.strategy import Strategy
from polyfuse.sets.counting import count
from polyfuse.text import columns, section


def size_parameters(network: Network) -> tuple[str, ...]:
    """The parameters that sizes of a network depend on; none where all sizes are numbers."""
    tensors = (*network.inputs, *(layer.output for layer in network.layers))
    sizes = (size for tensor in tensors for size in tensor.shape if isinstance(size, str))
    return tuple(sorted({name for size in sizes for name in parameters_of(size)}))


def describe_network(network: Network) -> str:
    """Every statement of every layer: its domain, what it computes, its access relations."""
    lines = section(f"network {network.name}", str(network).splitlines())
    for layer in network.layers:
        lines += section(f"layer {layer.name} ({layer.kind})", layer_lines(layer))
    return "\n".join(lines)


def layer_lines(layer: Layer) -> Iterator[str]:
    """The statements of one layer."""
    for statement in layer.statements:
        yield str(statement)
        made = layer.instances_of_points(statement).reverse().intersect_domain(statement.domain)
        shown: dict[str, isl.Set | isl.Map] = {"domain": statement.domain}
        shown |= {f"reads {operand}": access.relation for operand, access in statement.operands.items()}
        shown["updates" if statement.accumulates else "writes"] = made.apply_range(layer.makes)
        width = max(map(len, shown))
        for what, relation in shown.items():
            yield f"  {what:<{width}}  {relation}"


def describe_footprints(network: Network, tile: tuple[int, ...], axes: tuple[Axis, ...] = ()) -> str:
    """The footprints of a tile in the middle, and the halos that neighbouring tiles share.

    >>> from polyfuse.network.network import Builder
    >>> build = Builder("pair")
    >>> x = build.input("x", (1, 1, 20, 20))
    >>> y = build.conv("conv2", build.conv("conv1", x, 1, kernel=3), 1, kernel=3)
    >>> print(describe_footprints(build.network(y), (8, 8)))
    footprints and halos, tile 8x8, of tile(tn=0, ty=1, tx=1)
    ---------------------------------------------------------
    tensor     footprint  elements  bytes  halo
    x          1x1x12x12       144    576  4x4
    conv1_out  1x1x10x10       100    400  2x2
    conv2_out  1x1x8x8          64    256  0x0
    <BLANKLINE>
    """
    overlapped = scheduled(network, Strategy.named("recompute", tile, axes=axes))
    middle = middle_tile(overlapped)
    point = isl.Set.universe(overlapped.tiling.space)
    for d, value in enumerate(middle):
        point = point.fix_val(isl.dim_type.set, d, isl.Val(value))
    rows: list[tuple[object, ...]] = [("tensor", "footprint", "elements", "bytes", "halo")]
    for flow in overlapped.in_order:
        needed = flow.need.intersect_range(point).domain()
        shared = (halo(flow, overlapped.tiling, d) for d in overlapped.tiling.positions)
        elements = count(needed)
        size = elements * flow.tensor.element_bytes
        rows.append((flow.tensor.name, extents(needed), elements, size, "x".join(map(str, shared)) or "none"))
    names = ", ".join(f"{dim.name}={value}" for dim, value in zip(overlapped.tiling.dims, middle, strict=True))
    return "\n".join(section(f"footprints and halos, tile {overlapped.tiling}, of tile({names})", columns(rows)))


def middle_tile(overlapped: Schedule) -> tuple[int, ...]:
    """The tile in the middle of those that compute the last output: away from borders where there are enough."""
    tiles = overlapped.flows[overlapped.network.outputs[-1].name].need.range()
    spans = [(tiles.dim_min_val(d), tiles.dim_max_val(d)) for d in range(len(overlapped.tiling.dims))]
    return tuple(-(-(int(str(low)) + int(str(high))) // 2) for low, high in spans)


def extents(region: isl.Set) -> str:
    """The sizes of the smallest box that holds a region."""
    if region.is_empty():
        return "nothing"
    spans = (region.dim_max_val(d) - region.dim_min_val(d) for d in range(region.dim(isl.dim_type.set)))
    return "x".join(str(int(str(span)) + 1) for span in spans)


def describe_schedule(storage: Storage) -> str:
    """The text of one group: places, need, executions, loads and stores of each tensor, copies, buffers and counts."""
    group = storage.schedule
    lines = section("schedule", str(group).splitlines())
    lines += section("moments of each tensor, in elements", moment_columns(group))
    for flow in group.in_order:
        lines += section(f"tensor {flow.tensor.name} ({flow.role})", flow_lines(group, flow))
    lines += section("schedule of each layer, and its copies where points are executed again", copies_lines(group))
    lines += section("on-chip buffers", buffer_lines(storage))
    lines += section("exact counts", count_lines(storage))
    return "\n".join(lines)


def moment_columns(group: Schedule) -> list[str]:
    """The number of (element, tile) pairs of each relation of a flow."""
    rows: list[tuple[object, ...]] = [("tensor", "elements", "need", "executions", "loads", "stores")]
    for flow in group.in_order:
        moments = (flow.need, flow.executions, flow.loads, flow.stores)
        rows.append((flow.tensor.name, flow.tensor.elements, *(count(moment) for moment in moments)))
    return columns(rows)


def flow_lines(group: Schedule, flow: Flow) -> Iterator[str]:
    """The relations of one flow that are not empty."""
    for name in ("need", "executions", "loads", "stores"):
        moments = getattr(flow, name)
        if not moments.is_empty():
            same = name != "need" and moments == flow.need
            yield f"{name:<11} {'as needed' if same else named(group, moments)}"


def named(group: Schedule, moments: isl.Map) -> isl.Map:
    """`{ S[p] -> tile[t] }` with names for its dimensions."""
    for d, dim in enumerate(group.tiling.dims):
        moments = moments.set_dim_name(isl.dim_type.out, d, dim.name)
    points = POINT if moments.dim(isl.dim_type.in_) == len(POINT) else ()
    for d, name in enumerate(points):
        moments = moments.set_dim_name(isl.dim_type.in_, d, name)
    return moments


def copies_lines(group: Schedule) -> Iterator[str]:
    """`{ L[p] -> tile[t] }` of every layer, and the singular copies of those whose points are executed again."""
    for layer in group.network.layers:
        executions = group.executions(layer)
        yield f"{layer.name}: {count(executions):,} executions of {layer.output.elements:,} points"
        yield f"  schedule  {named(group, executions)}"
        if not executions.is_single_valued():
            try:
                yield from copy_lines(group, lower(executions))
            except TooComplex as error:
                yield f"  copies    not listed: {error}"


def copy_lines(group: Schedule, lowered: Lowered) -> Iterator[str]:
    """The copies of one layer with their counts."""
    for k, copy in enumerate(lowered.copies):
        yield f"  copy {k:<4} {count(copy):,} executions: {named(group, copy)}"


def buffer_lines(storage: Storage) -> Iterator[str]:
    """Every buffer: its size, which of its indices are rings, and the cell of each element."""
    yield from str(storage).splitlines()
    yield "cells"
    for buffer in storage.buffers.values():
        yield f"  {buffer.cell}"


def count_lines(storage: Storage) -> Iterator[str]:
    """Totals, then the executions of every step."""
    found = counts(storage)
    yield str(found)
    yield from columns([*found.steps.items()], indent=2)


def schedule_text(storage: Storage) -> str:
    """One group as text that isl reads: the schedules, their copies, the cells of buffers; `#` begins a comment."""
    group = storage.schedule
    lines = [f"# {line}" for line in str(group).splitlines()]
    for layer in group.network.layers:
        executions = group.executions(layer)
        lines += ["", f"# {layer.name}: when each point is executed", str(named(group, executions))]
        if executions.is_single_valued():
            continue
        try:
            for k, copy in enumerate(lower(executions).copies):
                lines += [f"# copy {k}: {count(copy):,} executions", str(named(group, copy))]
        except TooComplex as error:
            lines.append(f"# copies not listed: {error}")
    for buffer in storage.buffers.values():
        lines += ["", f"# {buffer}: {buffer.bytes:,} B", str(buffer.cell)]
    return "\n".join([*lines, ""])
