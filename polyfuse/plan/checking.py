"""The check of a plan for a scratchpad machine: that it is legal and its figures are true, whoever edited it.

    ScratchPlan + Graph + Accelerator ──check_plan()──> ScratchPlan, or an error

Every figure is computed again and has to be the same. The certificate and the baselines, which only a search can find,
stay where the plan, the network and the machine are those of the search, and are dropped otherwise.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from polyfuse.errors import DoesNotFit, InvalidInput
from polyfuse.machines.accelerator import Accelerator
from polyfuse.plan.claims import check_claims
from polyfuse.plan.graph.group import graph_digest, group_of
from polyfuse.plan.graph.operations import Graph
from polyfuse.plan.memory.addresses import aligned_up
from polyfuse.plan.planning import totals_of
from polyfuse.plan.price.early import kept_weights
from polyfuse.plan.price.objective import figure, is_figure
from polyfuse.plan.price.options import Option, option_of
from polyfuse.plan.price.timeline import group_time, timed
from polyfuse.plan.proof.prove import prove_plan
from polyfuse.plan.scratchplan import UNCERTIFIED, Pin, PlannedGroup, ScratchPlan
from polyfuse.plan.search.baselines import NAMES
from polyfuse.plan.search.problem import dag_of, fetch_of
from polyfuse.plan.tiles.tables import check_tile


def check_plan(plan: ScratchPlan, graph: Graph, machine: Accelerator) -> ScratchPlan:
    """The plan, if it can run on a machine and its figures are true; without certificate and baselines if edited.

    These are dropped, too, where the network or the machine is not the one that was planned.

    Errors: InvalidInput where operations are unknown, left out or in two groups; groups not convex, not connected or
    out of order; tensors read where they are not; pins that do not reach their readers; buffers that are missing, too
    small, misaligned or overlap; figures that are not those of the plan; a certificate that they contradict. DoesNotFit
    where it passes the capacity. IllegalSchedule where a step would read something else than it wants, with a witness
    (`polyfuse.plan.proof.prove`).
    """
    check = _Check(plan, graph, machine)
    check.operations()
    check.flow()
    for index in range(len(plan.groups)):
        check.tile(index)
    for index in range(len(plan.groups)):
        check.early(index)
    priced = [check.buffers(index) for index in range(len(plan.groups))]
    check.addresses()
    check.steps(priced)
    for index, option in enumerate(priced):
        check.figures(index, option)
    check.totals()
    judged = plan.judged()
    if judged.is_edited:
        return judged
    check.claims()
    same = plan.graph == graph_digest(graph) and plan.machine == machine
    return plan if same else replace(plan, certificate=UNCERTIFIED, baselines={})


@dataclass(frozen=True)
class _Check:
    plan: ScratchPlan
    graph: Graph
    machine: Accelerator

    def operations(self) -> None:
        """Every operation is in one group; groups are connected, convex and in order."""
        plan, dag = self.plan, dag_of(self.graph)
        if plan.network != self.graph.network.name:
            raise InvalidInput(
                f"plan of {plan.network!r}: got a network {self.graph.network.name!r}; give the network it was made for"
            )
        self.graph.network.ends.check_said(f"plan of {plan.network!r}", plan.inputs, plan.outputs)
        number = {name: index for index, name in enumerate(dag.operations)}
        done = 0
        for index, group in enumerate(plan.groups):
            members = 0
            for name in group.operations:
                if name not in number:
                    self.refuse(index, f"expected operations of the network, got {name!r}; correct the name")
                if (done | members) >> number[name] & 1:
                    self.refuse(index, f"operation {name!r} runs twice; leave it in one group")
                members |= 1 << number[name]
            if list(group.operations) != sorted(group.operations, key=number.__getitem__) or not members:
                self.refuse(index, "expected operations in the order of the network, at least one; order them")
            before = dag.upstream(members) & ~members
            inside = dag.upstream(before) & members
            if inside:
                self.refuse(
                    index,
                    f"the group is not convex: {dag.names(inside)[0]!r} is in it and leads to "
                    f"{dag.names(before & ~dag.upstream(inside))[0]!r}, which is not and leads back; split it",
                )
            if before & ~done:
                self.refuse(
                    index,
                    f"the order is not topological: {dag.names(before & ~done)[-1]!r} must run before; move the group",
                )
            if not dag.connected(members):
                self.refuse(index, "its operations share no tensors, so they are no group; split it")
            done |= members
        if done != dag.all:
            raise InvalidInput(
                f"plan of {plan.network!r}: operation {dag.names(dag.all & ~done)[0]!r} is in no group; add it to one"
            )

    def flow(self) -> None:
        """Tensors are read where they are, and left where later groups read them."""
        stored = set(self.graph.inputs)
        for index, group in enumerate(self.plan.groups):
            inside = set(group.operations)
            made = {self.graph.operation(name).output for name in inside}
            reads = {tensor for name in inside for tensor in self.graph.operation(name).reads} - made
            left = {t for t in made if t in self.graph.outputs or set(self.graph.readers(t)) - inside}
            self.same_names(index, "sources", group.sources, reads)
            self.same_names(index, "sinks", group.sinks, left)
            for tensor in group.fetched:
                if group.sources.get(tensor) != "on":
                    self.refuse(index, f"tensor {tensor!r} is fetched and not read on chip; drop it, or read it there")
            for tensor, place in group.sources.items():
                if (place == "off" or tensor in group.fetched) and tensor not in stored:
                    self.refuse(index, f"tensor {tensor!r} is read off chip where it was never stored; store it")
            if not self.machine.offchip_writable:
                self.memory_alone(index, group)
            for tensor in left & set(self.graph.outputs):
                if group.sinks[tensor] == "on":
                    self.refuse(index, f"tensor {tensor!r} is an output of the network and is not stored; store it")
            stored |= {tensor for tensor, place in group.sinks.items() if place != "on"}
            self.pins(index, group)
        for pin in self.plan.pins:
            self.pin(pin)

    def memory_alone(self, index: int, group: PlannedGroup) -> None:
        """Nothing is read off chip but inputs of the network, and nothing stored there but its outputs."""
        name, given = self.machine.name, set(self.graph.inputs)
        read = [t for t, place in group.sources.items() if place == "off" or t in group.fetched]
        for tensor in (t for t in read if t not in given):
            self.refuse(
                index, f"tensor {tensor!r} is read off chip, where machine {name!r} can store nothing; keep it on chip"
            )
        for tensor, place in group.sinks.items():
            if place != "on" and tensor not in self.graph.outputs and self.graph.readers(tensor):
                self.refuse(
                    index,
                    f"tensor {tensor!r} is stored off chip, where machine {name!r} can store nothing; keep it on chip",
                )

    def pins(self, index: int, group: PlannedGroup) -> None:
        """Pins begin where a group leaves or fetches tensors, and reach what reads them."""
        begin = {t for t, place in group.sinks.items() if place != "off"} | set(group.fetched)
        for tensor in sorted(begin):
            if not any(pin.tensor == tensor and pin.first == index for pin in self.plan.pins):
                self.refuse(index, f"tensor {tensor!r} comes on chip and no pin of it begins here; add one")
        for tensor, place in group.sources.items():
            covered = any(pin.tensor == tensor and pin.first <= index <= pin.last for pin in self.plan.pins)
            if place == "on" and not covered:
                self.refuse(index, f"tensor {tensor!r} is read on chip where no pin of it reaches; lengthen the pin")

    def pin(self, pin: Pin) -> None:
        """A pin is of a whole tensor, and begins in a group that makes or fetches it."""
        where = f"plan of {self.plan.network!r}, pin of {pin.tensor!r}"
        if pin.tensor not in self.graph.tensors:
            raise InvalidInput(f"{where}: expected a tensor of the network; correct the name")
        if not 0 <= pin.first <= pin.last < len(self.plan.groups):
            raise InvalidInput(f"{where}: expected groups of the plan, got {pin.first} to {pin.last}; correct them")
        group = self.plan.groups[pin.first]
        if group.sinks.get(pin.tensor, "off") == "off" and pin.tensor not in group.fetched:
            raise InvalidInput(
                f"{where}: group {pin.first} neither leaves it on chip nor fetches it; begin the pin where one does"
            )
        whole = self.graph.tensors[pin.tensor].bytes
        if pin.bytes < whole:
            raise InvalidInput(f"{where}: expected {whole:,} B, the whole tensor, got {pin.bytes:,} B; correct them")

    def tile(self, index: int) -> None:
        """The group can be cut in its tiles."""
        group = self.plan.groups[index]
        try:
            check_tile(group_of(self.graph, group.operations), group.tile)
        except InvalidInput as error:
            self.refuse(index, str(error))

    def buffers(self, index: int) -> Option:
        """The buffers are those that its tile needs; those of sums have their size. The option of its tile."""
        group = self.plan.groups[index]
        try:
            found = option_of(self.graph, group.operations, group.tile, group.sources, group.sinks, self.machine)
        except InvalidInput as error:
            self.refuse(index, str(error))
        self.same_names(index, "buffers", group.buffers, set(found.workspace))
        if (sums := found.workspace.get("scratch", 0)) and group.buffers["scratch"].bytes < sums:
            self.small(index, "scratch", sums)
        return found

    def steps(self, priced: Sequence[Option]) -> None:
        """Every step finds what it reads; where isl cannot judge that, buffers are as large as planned."""
        for index in prove_plan(self.plan, self.graph).unproved:
            for name, size in priced[index].workspace.items():
                if self.plan.groups[index].buffers[name].bytes < size:
                    self.small(index, name, size)

    def small(self, index: int, name: str, size: int) -> None:
        """Raise that a buffer is too small."""
        got = self.plan.groups[index].buffers[name].bytes
        self.refuse(index, f"buffer {name!r}: expected {size:,} B, got {got:,} B; enlarge it")

    def early(self, index: int) -> None:
        """Prefetched weights stay for the whole group, and the group before has the step."""
        group = self.plan.groups[index]
        if not group.early:
            return
        if index == 0 or not self.machine.double_buffer:
            self.refuse(index, "weights cannot arrive early: no group before computes meanwhile; leave `early` empty")
        before = self.plan.groups[index - 1]
        try:
            kept = kept_weights(group, self.graph, self.machine)
            steps = group_time(before, self.graph, self.machine).steps
        except InvalidInput as error:
            self.refuse(index, str(error))
        for name, step in group.early.items():
            if name not in kept:
                self.refuse(index, f"early: expected operations whose weights stay, got {name!r}; leave it out")
            if not 0 <= step < steps:
                self.refuse(
                    index, f"early: expected a step of group {index - 1}, 0 to {steps - 1}, for {name!r}, got {step}"
                )

    def moved_cycles(self, index: int) -> float:
        """The cycles that prefetches add to a group for the next one, less those that they take from it."""
        around = self.plan.groups[max(0, index - 1) : index + 2]
        alone = [replace(group, early={}) for group in around]
        if not any(group.early for group in around[1:]):
            return 0.0
        position = index - max(0, index - 1)
        around = (replace(around[0], early={}), *around[1:])
        with_early, without = (timed(each, self.graph, self.machine)[position] for each in (around, alone))
        return with_early.cycles - without.cycles

    def figures(self, index: int, found: Option) -> None:
        """The figures of a group."""
        group = self.plan.groups[index]
        fetched = [self.graph.tensors[tensor].bytes for tensor in group.fetched]
        fetches = [fetch_of(self.machine, size) for size in fetched]
        for name, expected, got in (
            ("load_bytes", found.load_bytes + sum(fetched), group.load_bytes),
            ("store_bytes", found.store_bytes, group.store_bytes),
            ("weight_bytes", found.weight_bytes, group.weight_bytes),
            ("macs_executed", found.macs_executed, group.macs_executed),
            ("cycles", found.cycles + sum(f.cycles for f in fetches) + self.moved_cycles(index), group.cycles),
            ("energy_pj", found.energy_pj + sum(fetch.energy_pj for fetch in fetches), group.energy_pj),
        ):
            if not (expected == got if isinstance(expected, int) else is_figure(expected, got)):
                wanted = expected if isinstance(expected, int) else figure(expected)
                self.refuse(index, f"expected {name} of {wanted:,}, got {got:,}; correct the figure, or plan again")

    def addresses(self) -> None:
        """Buffers are aligned and within the capacity, and those with live ranges that meet do not overlap."""
        unit, capacity = self.machine.alignment_bytes, self.machine.capacity_bytes
        where = f"plan of {self.plan.network!r}"
        placed = self.plan.buffers
        for buffer, address in placed:
            if address < 0 or address % unit:
                raise InvalidInput(
                    f"{where}, {buffer.name}: expected an address that is a multiple of {unit}, got {address}; move it"
                )
            if address + buffer.bytes > capacity:
                raise DoesNotFit(
                    f"{where}, {buffer.name}: it ends at {address + buffer.bytes:,} B, machine {self.machine.name!r} "
                    f"has {capacity:,} B on chip; move it, or plan again"
                )
        for (a, at), (b, other) in combinations(placed, 2):
            if a.meets(b) and at < other + aligned_up(b.bytes, unit) and other < at + aligned_up(a.bytes, unit):
                raise InvalidInput(
                    f"{where}: {a.name} at {at} and {b.name} at {other} overlap in group {max(a.first, b.first)}; "
                    "move one of them"
                )

    def totals(self) -> None:
        """The sums of all groups."""
        expected = totals_of(self.graph, self.plan.groups, self.plan.pins, self.machine)
        got = self.plan.totals
        for name, value in vars(expected).items():
            said = getattr(got, name)
            if value != said:
                raise InvalidInput(
                    f"plan of {self.plan.network!r}: expected {name} of {value}, the sum of its groups, got {said}; "
                    "correct it, or plan again"
                )

    def claims(self) -> None:
        """The certificate and the baselines, which are those of the plan without prefetch."""
        groups = [
            replace(group, cycles=figure(time.cycles), early={})
            for group, time in zip(
                self.plan.groups,
                timed([replace(each, early={}) for each in self.plan.groups], self.graph, self.machine),
                strict=True,
            )
        ]
        plan, before = self.plan, totals_of(self.graph, groups, self.plan.pins, self.machine)
        joint = plan.baselines.get("joint")
        if joint is not None and any(group.early for group in plan.groups):
            before = replace(before, onchip_peak_bytes=joint.onchip_peak_bytes)
        where, capacity = f"plan of {plan.network!r}", self.machine.capacity_bytes
        check_claims(where, plan.objective, before, plan.certificate, plan.baselines, NAMES, capacity)

    def same_names(self, index: int, what: str, given: Iterable[str], expected: set[str]) -> None:
        """The keys of a table are the expected ones."""
        wrong = sorted(set(given) ^ expected)
        if wrong:
            self.refuse(
                index, f"expected {what} of {', '.join(sorted(expected)) or 'nothing'}; {wrong[0]!r} does not fit"
            )

    def refuse(self, index: int, problem: str) -> None:
        """Raise an error about a group."""
        raise InvalidInput(f"plan of {self.plan.network!r}, group {index} ({self.plan.groups[index].names}): {problem}")
