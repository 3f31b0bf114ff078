"""Exact counts of a group: executions, recomputation, bytes moved, buffers; predicted from sets, nothing is run."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import islpy as isl

from polyfuse.choices import BUFFER, OFF_CHIP, Axis
from polyfuse.doors import public
from polyfuse.errors import InvalidInput, Unbounded
from polyfuse.network.layer import Layer
from polyfuse.network.network import Network
from polyfuse.schedule.schedule import Flow, scheduled
from polyfuse.schedule.steps import preload_steps, steps
from polyfuse.schedule.storage import Storage
from polyfuse.schedule.strategy import Strategy
from polyfuse.schedule.tiling import Tiling
from polyfuse.schedule.windows import cut
from polyfuse.sets.counting import count


@public
@dataclass(frozen=True)
class Counts:
    """The counts of running a group, or several; `steps` holds the executions of every step by its name.

    instances, executions    points of the layers, and how often points are executed
    recomputed               executions beyond the first of each point; points that no tile needs are not executed
    macs, macs_executed      multiply-accumulates; a tap that meets padding is none
    offchip_read_bytes       loads of inputs, of weights and of what retention stored
    offchip_write_bytes      stores of outputs and of what retention stores
    onchip_bytes             all buffers of a group; of several groups the largest
    other_bytes              read from and written to each other memory in which a place retains values
    """

    instances: int
    executions: int
    recomputed: int
    macs: int
    macs_executed: int
    offchip_read_bytes: int
    offchip_write_bytes: int
    onchip_bytes: int
    steps: Mapping[str, int]
    other_bytes: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def offchip_bytes(self) -> int:
        """Read and written."""
        return self.offchip_read_bytes + self.offchip_write_bytes

    def __str__(self) -> str:
        return (
            f"{self.executions:,} executions of {self.instances:,} instances ({self.recomputed:,} recomputed), "
            f"{self.macs_executed:,} of {self.macs:,} MACs, {self.offchip_read_bytes:,} B read and "
            f"{self.offchip_write_bytes:,} B written off-chip, {self.onchip_bytes:,} B on chip"
        )

    __repr__ = __str__


def macs_of(layers: Iterable[Layer]) -> int:
    """The multiply-accumulates of layers, each instance once."""
    return sum(map(_macs, layers))


@lru_cache(maxsize=4096)
def _macs(layer: Layer) -> int:
    return sum(statement.macs * count(statement.domain) for statement in layer.macs)


def counts(storage: Storage) -> Counts:
    """Count one group; concrete sizes only.

    >>> from polyfuse.network.network import Builder
    >>> from polyfuse.schedule.storage import storage
    >>> build = Builder("pair")
    >>> x = build.input("x", (1, 1, 20, 20))
    >>> y = build.conv("conv2", build.conv("conv1", x, 1, kernel=3), 1, kernel=3)
    >>> print(counts(storage(scheduled(build.network(y), Strategy.named("recompute", (8, 8))))))
    656 executions of 580 instances (76 recomputed), 5,904 of 5,220 MACs, 2,384 B read and 1,024 B written \
off-chip, 1,312 B on chip
    """
    network = storage.schedule.network
    every = (*steps(storage.schedule), *preload_steps(storage.schedule))
    executed = {step.name: count(step.executions) for step in every}
    by_statement = Counter[str]()
    for step in every:
        by_statement[step.name if step.statement is None else step.statement.name] += executed[step.name]
    moved: Counter[tuple[str, str]] = Counter()
    for step in every:
        if step.action != "make":
            (far,) = {touch.memory for touch in step.touches} - {BUFFER}
            moved[far, step.action] += executed[step.name] * step.touches[0].tensor.element_bytes
    executions = sum(executions_of_points(layer, by_statement) for layer in network.layers)
    flows = storage.schedule.flows
    return Counts(
        instances=sum(points_of(layer) for layer in network.layers),
        executions=executions,
        recomputed=executions - sum(count(flows[layer.output.name].executions.domain()) for layer in network.layers),
        macs=macs_of(network.layers),
        macs_executed=sum(s.macs * by_statement[s.name] for layer in network.layers for s in layer.macs),
        offchip_read_bytes=moved[OFF_CHIP, "load"],
        offchip_write_bytes=moved[OFF_CHIP, "store"],
        onchip_bytes=storage.onchip_bytes,
        steps=executed,
        other_bytes={m: (moved[m, "load"], moved[m, "store"]) for m, _ in moved if m != OFF_CHIP},
    )


def points_of(layer: Layer) -> int:
    """The points of a layer: as many as its output has elements, if it makes them all."""
    return layer.output.elements if layer.made is None else count(layer.points)


def executions_of_points(layer: Layer, executed: Mapping[str, int]) -> int:
    """The executions of points of a layer: each starts with one statement that sets acc."""
    return sum(executed[statement.name] for statement in layer.statements if not statement.accumulates)


def total(groups: Iterable[Counts]) -> Counts:
    """The counts of groups that run one after the other. Errors: InvalidInput where there are none."""
    parts = list(groups)
    if not parts:
        raise InvalidInput("total: expected the counts of at least one group, got none")
    return Counts(
        instances=sum(part.instances for part in parts),
        executions=sum(part.executions for part in parts),
        recomputed=sum(part.recomputed for part in parts),
        macs=sum(part.macs for part in parts),
        macs_executed=sum(part.macs_executed for part in parts),
        offchip_read_bytes=sum(part.offchip_read_bytes for part in parts),
        offchip_write_bytes=sum(part.offchip_write_bytes for part in parts),
        onchip_bytes=max(part.onchip_bytes for part in parts),
        steps={f"{k}.{name}": n for k, part in enumerate(parts) for name, n in part.steps.items()},
        other_bytes={
            memory: (sum(m[0] for m in every), sum(m[1] for m in every))
            for memory in dict.fromkeys(name for part in parts for name in part.other_bytes)
            if (every := [part.other_bytes[memory] for part in parts if memory in part.other_bytes])
        },
    )


def halos(network: Network, tile: tuple[int, ...], axes: tuple[Axis, ...] = ()) -> dict[str, tuple[int, ...]]:
    """For every tensor, how many elements of its footprint neighbouring tiles share along each axis that tiles cut.

    Away from borders; along rows (and columns) unless `axes` names others.
    """
    overlapped = scheduled(network, Strategy.named("recompute", tile, axes=axes))
    tiling = overlapped.tiling
    return {name: tuple(halo(flow, tiling, d) for d in tiling.positions) for name, flow in overlapped.flows.items()}


def halo(flow: Flow, tiling: Tiling, d: int) -> int:
    """The extent, along the axis that it cuts, of the elements that a tile shares with the next one along coordinate d.

    A tile that has others inside of it is all of those.

    Where they reach without end but for the borders of the image, it is what is shared between the borders.
    Errors: Unbounded.
    """
    axis = tiling.dims[d].axis
    if axis >= len(flow.tensor.shape):
        return 0
    inside = [k for k in range(d + 1, len(tiling.dims)) if tiling.dims[k].axis == axis]
    for need in (flow.extended, flow.need):
        for k in reversed(inside):
            need = need.project_out(isl.dim_type.out, k, 1)
        onward = isl.MultiAff.identity_on_domain_space(need.get_space().range())
        onward = onward.set_at(d, onward.get_at(d).add_constant_val(isl.Val(-1)))
        shared = cut(need & need.apply_range(isl.Map.from_multi_aff(onward)), (axis,))
        span = shared.apply_range(shared.reverse()).deltas()
        reach = isl.Val(-1) if span.is_empty() else span.dim_max_val(0)
        if reach.is_int():
            return int(reach.to_python()) + 1
    raise Unbounded(f"halo of {flow.tensor}: expected a number, it grows with the sizes; give them as numbers")
