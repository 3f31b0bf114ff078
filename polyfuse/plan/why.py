"""Why a tensor is not kept on chip: the tightest moment of its life, what is on chip then, the price of keeping it.

ScratchPlan + Ways + tensor ──why()──> Why
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from polyfuse.errors import DoesNotFit, InvalidInput
from polyfuse.plan.graph.operations import Graph
from polyfuse.plan.memory.addresses import aligned_up
from polyfuse.plan.planning import Ways
from polyfuse.plan.scratchplan import ScratchPlan, value_of
from polyfuse.plan.search.walk import Rules

Location = Literal["pinned", "inside a group", "off chip"]


@dataclass(frozen=True)
class Why:
    """Where a tensor is in a plan, and what keeping it on chip would cost.

    first, last   the groups that it lives from and to
    moment        the group between them in which least of the chip is free
    there         the bytes of each buffer and pin on chip in that group, but for the tensor itself
    forced        the objective of the cheapest plan that keeps it on chip, in the objective's unit; None if none fits
    now           the objective of the plan
    refusal       why none fits
    """

    tensor: str
    bytes: int
    place: Location
    first: int
    last: int
    moment: int
    there: Mapping[str, int]
    capacity_bytes: int
    now: float
    forced: float | None
    refusal: str | None

    @property
    def free_bytes(self) -> int:
        """What is free at the tightest moment, the tensor's own buffers counted as free."""
        return self.capacity_bytes - sum(self.there.values())

    def __str__(self) -> str:
        lines = [f"{self.tensor}: {self.bytes:,} B, {self.place}, groups {self.first} to {self.last}"]
        lines.append(f"tightest in group {self.moment}: {self.free_bytes:,} B free of {self.capacity_bytes:,} B")
        lines += [f"  {size:>12,} B  {name}" for name, size in self.there.items()]
        if self.forced is None:
            lines.append(f"forcing it on chip fits nowhere: {self.refusal}")
        elif self.place != "pinned":
            more = self.forced - self.now
            share = f", {100 * more / self.now:.2f}% more" if self.now else ""
            lines.append(f"forcing it on chip costs {self.forced:,.0f} instead of {self.now:,.0f}{share}")
        return "\n".join(lines)


def why(plan: ScratchPlan, ways: Ways, tensor: str) -> Why:
    """Where a tensor is in a plan, and the price of keeping it on chip, searched again with that forced.

    Errors: InvalidInput for a tensor that the network does not have, or nobody reads.
    """
    graph = ways.graph
    if tensor not in graph.tensors:
        near = ", ".join(list(graph.tensors)[:8])
        raise InvalidInput(
            f"tensor {tensor!r}: expected a tensor of {plan.network!r}, such as {near}; correct the name"
        )
    if not graph.readers(tensor) and graph.producer(tensor) is None:
        raise InvalidInput(f"tensor {tensor!r}: expected one that is read, nothing reads it; name another")
    first, last = lifetime(plan, graph, tensor)
    moment, there = max(
        ((index, _there(plan, tensor, index)) for index in range(first, last + 1)),
        key=lambda each: sum(each[1].values()),
    )
    forced, refusal = _forced(plan, ways, tensor)
    unit = plan.machine.alignment_bytes
    return Why(
        tensor,
        aligned_up(graph.tensors[tensor].bytes, unit),
        place_of(plan, tensor, first, last),
        first,
        last,
        moment,
        there,
        plan.machine.capacity_bytes,
        value_of(plan.objective, plan.totals),
        forced,
        refusal,
    )


def lifetime(plan: ScratchPlan, graph: Graph, tensor: str) -> tuple[int, int]:
    """The first and the last group that makes or reads a tensor."""
    where = {name: index for index, group in enumerate(plan.groups) for name in group.operations}
    maker = graph.producer(tensor)
    lives = [where[name] for name in (*graph.readers(tensor), *([maker] if maker else []))]
    return min(lives), max(lives)


def place_of(plan: ScratchPlan, tensor: str, first: int, last: int) -> Location:
    """Where a tensor that lives from a first group to a last one is: pinned for all of its life, or not."""
    if any(pin.tensor == tensor and (pin.first, pin.last) == (first, last) for pin in plan.pins):
        return "pinned"
    return "inside a group" if first == last and tensor not in plan.groups[first].moved else "off chip"


def _there(plan: ScratchPlan, tensor: str, index: int) -> dict[str, int]:
    """The bytes on chip while a group runs, the largest first; without what holds the tensor itself."""
    unit = plan.machine.alignment_bytes
    sizes = {name: buffer.bytes for name, buffer in plan.groups[index].buffers.items() if name != f"ring_{tensor}"}
    pins = [pin for pin in plan.pins if pin.first <= index <= pin.last and pin.tensor != tensor]
    sizes |= {f"pin {pin.tensor}": pin.bytes for pin in pins}
    return dict(sorted(((name, aligned_up(size, unit)) for name, size in sizes.items()), key=lambda each: -each[1]))


def _forced(plan: ScratchPlan, ways: Ways, tensor: str) -> tuple[float | None, str | None]:
    try:
        found = ways.searches.joint.found(plan.machine.capacity_bytes, Rules(pinned=frozenset([tensor])))
    except DoesNotFit as error:
        return None, str(error)
    if plan.objective.goal == "peak":
        return float(found.peak_bytes), None
    return plan.objective.value(found.price), None
