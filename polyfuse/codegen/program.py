"""C for a sequence of groups: one file, one function for each group, one entry that runs them.

    Network + Storage of each group ──generate()──> Program

The file exports `polyfuse_run(inputs, weights, outputs, scratch, chips, kept, threads, counts)` and the sizes that a
caller must provide. On-chip buffers are the fields of a struct, one instance for each thread; weights that stay on
chip are a struct that threads share. Two forms of one program exist:

* *staged*: loads and stores are copies between off-chip arrays and on-chip buffers, as a scratchpad needs them;
  with `instrumented`, every execution and every byte is counted;
* *in place* (staged=False): a copy whose source does not change is left out, and what reads the copy reads the source.
  This is what a machine with caches should run.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import islpy as isl
import numpy as np
from numpy.typing import NDArray

from polyfuse.choices import LeafName
from polyfuse.codegen.access import Places, Timed, with_wraps
from polyfuse.codegen.cfile import c_body, entry
from polyfuse.codegen.concats import holder, is_covered
from polyfuse.codegen.group import WORKSPACE, Counter, Group
from polyfuse.codegen.grouprows import group_rows
from polyfuse.codegen.layout import Array
from polyfuse.codegen.leaves import SCALAR, Leaves, named_leaves
from polyfuse.codegen.loops import Leaf, LoopNest, loop_nest
from polyfuse.codegen.rowleaf import row_lines
from polyfuse.codegen.rowplan import RowKernels
from polyfuse.codegen.rows.interpolation import relative_error
from polyfuse.codegen.rowsteps import RowStep
from polyfuse.codegen.sums import Blocked, LongSum, Role, blocked, number_of_block, printed
from polyfuse.doors import public
from polyfuse.errors import IllegalSchedule, InvalidInput
from polyfuse.network.expression import to_c
from polyfuse.network.network import Network, require_float32
from polyfuse.network.tensor import Tensor
from polyfuse.plan.memory.addresses import Lived, Packing, packed
from polyfuse.schedule.steps import Step, preload_steps, steps, time_names
from polyfuse.schedule.storage import Storage
from polyfuse.text import html_text

ALIGNMENT = 64
"""Bytes: of a cache line, and of the widest vectors."""


@public
@dataclass(frozen=True, eq=False)
class Program:
    """Generated C and what is needed to call it; sizes are in bytes.

    `body` is the C without the entry; `constants` are what `weights` of the entry points at; `tiles` are those of
    Winograd's algorithm, by layer.
    """

    network: Network
    groups: tuple[Group, ...]
    body: str
    scratch: tuple[Tensor, ...]
    constants: Mapping[str, NDArray[np.float32]]
    tiles: Mapping[str, int]
    counters: tuple[Counter, ...]
    leaves: Leaves
    staged: bool
    instrumented: bool

    @cached_property
    def source(self) -> str:
        """The whole C file."""
        last = entry(self.network, self.groups, self.scratch, tuple(self.constants))
        return f"{self.body}\n{last}"

    def array(self, tensor: Tensor) -> Array:
        """The off-chip array of an input, an output or a scratch tensor."""
        return self.groups[0].places.array(tensor, True)

    @cached_property
    def arena(self) -> Packing:
        """Addresses for scratch arrays in one piece of memory: each lives from its first group to its last."""
        return packed(lifetimes(self), ALIGNMENT)

    @property
    def addresses(self) -> dict[str, int]:
        """Where each scratch tensor begins in the arena."""
        found = {}
        for tensor in self.scratch:
            whole = holder(tensor, self.leaves)
            channel = self.leaves.inside[tensor.name].channel if whole != tensor else 0
            found[tensor.name] = self.arena.addresses[whole.name] + 4 * self.array(whole).offset(channel)
        return found

    @property
    def buffer_bytes(self) -> int:
        """The on-chip buffers of the largest group, one thread, as the C has them."""
        return max(group.buffer_bytes for group in self.groups)

    @property
    def workspace_bytes(self) -> int:
        """What computing takes besides buffers, in each thread: transforms of Winograd's algorithm, sums in blocks."""
        return max(group.workspace_bytes for group in self.groups)

    @property
    def error_bound(self) -> float:
        """What Winograd's algorithm may add to the relative error, summed over its layers; 0 without it."""
        used = ((self.network.layer(name), tile) for name, tile in self.tiles.items())
        return sum(relative_error(tile, layer.inputs[0].concrete_shape[1]) for layer, tile in used)

    @property
    def loops(self) -> int:
        """`for` statements in the loop nests of tiles."""
        return sum(group.nest.loops for group in self.groups)

    @property
    def branches(self) -> int:
        """`if` statements in the loop nests of tiles."""
        return sum(group.nest.branches for group in self.groups)

    @property
    def is_parallel(self) -> bool:
        """Whether some group has a loop that threads share."""
        return any(group.parallel for group in self.groups)

    def __reduce__(self) -> tuple[Callable[..., "Program"], tuple[object, ...]]:
        """A program is pickled and copied as what it is generated from: isl's loops cannot be."""
        storages = tuple(group.storage for group in self.groups)
        return _generated, (self.network, storages, self.leaves, self.staged, self.instrumented)

    @property
    def form(self) -> str:
        """In place, staged or instrumented."""
        return "instrumented" if self.instrumented else "staged" if self.staged else "in place"

    def __str__(self) -> str:
        size = f"{len(self.source.splitlines())} lines of C, {self.loops} loops, {self.branches} branches"
        return f"Program of {self.network.name}, {self.form}: {len(self.groups)} groups, {size}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_text(str(self), self.source)


def generate(
    network: Network,
    groups: Sequence[Storage],
    *,
    leaf: Leaves | LeafName | None = None,
    staged: bool = False,
    instrumented: bool = False,
) -> Program:
    """Generate the C of a network whose groups are scheduled and stored, and proved legal, by the caller.

    `leaf` is `"rows"`, `"scalar"` or what `leaves()` chose; row kernels are the default of the in-place form.
    `instrumented` implies `staged` for scalar leaves: what is counted is what a machine without caches would do; with
    row kernels, it is the points that they execute.
    Errors: InvalidInput where the groups do not make the network's outputs, and for elements that are not float32;
    Unbounded, IllegalSchedule from the loops; BuildError for row kernels where there is no compiler whose vectors they
    could be made for.
    """
    require_float32(network, "generated C for this host")
    if leaf is None:
        leaf = "scalar" if staged or instrumented else "rows"
    if isinstance(leaf, str):
        leaf = named_leaves(network, leaf)
    fast = leaf.target is not None
    if staged and fast:
        raise InvalidInput(f"program of {network.name!r}: row kernels work in place; expected staged=False")
    staged = staged or (instrumented and not fast)
    scratch = scratch_tensors(network, groups, leaf)
    kernels = RowKernels(network, leaf, leaf.target) if leaf.target is not None else None
    emitter = Emitter(staged, instrumented, leaf, kernels)
    parts = tuple(emitter.group(index, storage) for index, storage in enumerate(groups))
    read = {array.name for part in parts for array in part.offchip}
    constants = {name: value for name, value in network.weights.items() if name in read or not fast}
    constants |= kernels.constants if kernels is not None else {}
    form = "instrumented" if instrumented else "staged" if staged else "in place"
    used = tuple(kernels.kernels.values()) if kernels is not None else ()
    body = c_body(
        network,
        parts,
        form=form,
        counters=len(emitter.counters),
        kernels=used,
        users=kernels.users if kernels is not None else {},
        sums=emitter.sums,
    )
    tiles = kernels.tiles if kernels is not None else {}
    counters = tuple(emitter.counters)
    return Program(network, parts, body, scratch, constants, tiles, counters, leaf, staged, instrumented)


def _generated(network: Network, groups: Sequence[Storage], leaf: Leaves, staged: bool, instrumented: bool) -> Program:
    """The program again, from what it was generated from."""
    return generate(network, groups, leaf=leaf, staged=staged, instrumented=instrumented)


def scratch_tensors(network: Network, groups: Sequence[Storage], leaves: Leaves) -> tuple[Tensor, ...]:
    """The off-chip tensors that are neither input, weight nor output: between groups, and stored by retention.

    A tensor that others lie in is made with the last of them.
    """
    given = {*network.inputs, *network.outputs}
    made: set[Tensor] = set(network.inputs)
    scratch = []
    for storage in groups:
        for tensor in storage.schedule.network.inputs:
            if tensor not in made and is_covered(tensor, made, leaves):
                made.add(tensor)
                scratch.append(tensor)
            if tensor not in made:
                raise InvalidInput(
                    f"group of {storage.schedule.network.name!r}: reads {tensor} before a group stores it"
                )
        for flow in storage.schedule.flows.values():
            if flow.role == "made" and not flow.stores.is_empty():
                made.add(flow.tensor)
                if flow.tensor not in given:
                    scratch.append(flow.tensor)
    if missing := set(network.outputs) - made:
        raise InvalidInput(f"network {network.name!r}: no group stores its output {missing.pop()}")
    return tuple(dict.fromkeys(scratch))


def lifetimes(program: Program) -> list[Lived]:
    """The bytes of each scratch array, and the groups between which what lies in it is needed."""
    uses: dict[Tensor, list[int]] = {}
    for tensor in program.scratch:
        found = (group.index for group in program.groups if tensor in group.tensors)
        uses.setdefault(holder(tensor, program.leaves), []).extend(found)
    return [
        Lived(tensor.name, 4 * program.array(tensor).elements, min(steps), max(steps)) for tensor, steps in uses.items()
    ]


def parallel_coordinate(places: Places) -> int | None:
    """The outermost tile coordinate whose tiles are independent: nothing is retained along it or outside of it.

    None where there is none, or where a tensor is stored by one tile and loaded by another, or tiles were reordered.
    Inputs that are read where they are share nothing.
    """
    schedule = places.storage.schedule
    flows = [flow for flow in schedule.flows.values() if flow.role == "made" or not places.stays(flow.tensor)]
    if any(flow.role == "made" and not flow.loads.is_empty() for flow in flows):
        return None
    space = schedule.tiling.space
    if schedule.tile_to_time != isl.Map.identity(space.map_from_set()).reset_tuple_id(isl.dim_type.out):
        return None
    executed = isl.Set.empty(space)
    for flow in flows:
        executed = executed.union(flow.arrivals.range())
    for d in range(len(schedule.tiling.dims)):
        if any(flow.places[d] != "recompute" for flow in flows):
            return None
        if executed.dim_min_val(d) != executed.dim_max_val(d):
            return d
    return None


@dataclass
class Emitter:
    """Prints groups, numbers the counters as it meets them, and notes whether there are long sums."""

    staged: bool
    instrumented: bool
    leaves: Leaves = SCALAR
    kernels: RowKernels | None = None
    counters: list[Counter] = field(default_factory=list)
    sums: bool = False

    def group(self, index: int, storage: Storage) -> Group:
        """Generate the loops of a group."""
        schedule, places = storage.schedule, Places(storage, self.staged, self.leaves)
        rows, replaced = group_rows(places)
        kept = [step for step in steps(schedule) if step.name not in replaced and places.keeps(step)]
        summed = Blocked(tuple(kept), tuple(rows), time_names(schedule), {})
        if not self.instrumented:
            summed = blocked(schedule, kept, rows, summed.names)
        timed = with_wraps(places, summed.steps, summed.names)
        packed, workspace, row_leaf = self.row_leaf(index, summed.rows)
        workspace = max(workspace, summed.workspace_bytes)
        self.sums |= bool(summed.sums)
        scalar_leaf = self.leaf(index, places, timed, summed.sums)

        def leaf(step: Step | RowStep, build: isl.AstBuild) -> list[str]:
            return row_leaf(step, build) if isinstance(step, RowStep) else scalar_leaf(step, build)

        coordinate = parallel_coordinate(places)
        whole = 0 if coordinate is None else coordinate + 1
        row_steps = tuple(step for part in summed.rows for step in part)
        every: list[Step | RowStep] = [*timed.steps, *row_steps]
        nest = loop_nest(every, timed.names, leaf, whole)
        preload, preload_nest = self.preload(index, places)
        parallel = None if coordinate is None else time_names(schedule)[coordinate]
        return Group(index, places, timed.steps, preload, nest, preload_nest, parallel, row_steps, packed, workspace)

    def preload(self, index: int, places: Places) -> tuple[tuple[Step, ...], LoopNest | None]:
        """The loops that load the weights which stay on chip."""
        preload = preload_steps(places.storage.schedule) if self.staged else ()
        rank = max((len(step.dims) for step in preload), default=0)
        padded = tuple(pad_time(step, k, rank) for k, step in enumerate(preload))
        loading = Timed(padded, ("stage", *(f"a{d}" for d in range(rank))), {step.name: {} for step in padded})
        nest = loop_nest(padded, loading.names, self.leaf(index, places, loading, {})) if preload else None
        return preload, nest

    def row_leaf(
        self, index: int, rows: Sequence[tuple[RowStep, ...]]
    ) -> tuple[tuple[Array, ...], int, Callable[[RowStep, isl.AstBuild], list[str]]]:
        """The packed constants of a group's row kernels, their workspace, and how a row step's execution is printed."""
        names: dict[str, str] = {}
        packed: list[Array] = []
        workspace = 0
        for part in rows:
            assert self.kernels is not None
            called, arrays = self.kernels.add(part)
            names |= called
            packed += arrays
            workspace = max(workspace, self.kernels.workspace_bytes(called.values()))

        def lines(step: RowStep, build: isl.AstBuild) -> list[str]:
            instance = isl.PwMultiAff.from_map(isl.Map.from_union_map(build.get_schedule()).reverse())

            def text(value: isl.PwAff) -> str:
                printed = str(build.expr_from_pw_aff(value.pullback_pw_multi_aff(instance)).to_C_str())
                return f"({printed})" if "?" in printed else printed

            counting = [
                f"counts[{self.number('points', index, tensor.name)}] += {step.points};"
                for tensor in step.makes
                if self.instrumented
            ]
            return [*row_lines(step, names[step.name], text), *counting]

        return tuple(dict.fromkeys(packed)), workspace, lines

    def leaf(self, index: int, places: Places, timed: Timed, sums: Mapping[str, tuple[Role, LongSum]]) -> Leaf[Step]:
        """How one execution of a step is printed: `target = expression;` and, instrumented, its counts."""
        coordinates = len(places.storage.schedule.tiling.dims)

        def lines(step: Step, build: isl.AstBuild) -> list[str]:
            instance = isl.PwMultiAff.from_map(isl.Map.from_union_map(build.get_schedule()).reverse())
            operands, target = {}, ""
            for touch in step.touches:
                found = places.subscripts(touch, instance, timed.wraps[step.name])
                subscripts = "".join(f"[{build.expr_from_pw_aff(subscript).to_C_str()}]" for subscript in found)
                if touch.writes:
                    target = places.array(touch.tensor, places.is_offchip(touch)).name + subscripts
                else:
                    operands[touch.operand] = places.array(touch.tensor, places.is_offchip(touch)).name + subscripts
            if step.name in sums:
                role, long = sums[step.name]
                outer = coordinates + long.rank
                here = build.expr_from_pw_aff(instance.get_at(outer - 1)).to_C_str()
                if role != "add":
                    block = number_of_block(long, instance, outer) if role == "fold" else instance.get_at(outer - 1)
                    number = str(build.expr_from_pw_aff(block).to_C_str())
                    return [printed(role, long, f"{WORKSPACE} + ({here})", target, number)]
                operands["acc"] = target = f"{WORKSPACE}[{here}]"
            value = operands["x"] if step.statement is None else expression(places, step, build, instance, operands)
            return [f"{target} = {value};", *self.counting(index, step)]

        return lines

    def counting(self, index: int, step: Step) -> list[str]:
        """The counts of one execution."""
        if not self.instrumented:
            return []
        lines = [f"counts[{self.number('executions', index, step.name)}] += 1;"]
        for touch in step.touches:
            kind = "write_bytes" if touch.writes else "read_bytes"
            lines.append(f"counts[{self.number(kind, index, touch.array)}] += {touch.tensor.element_bytes};")
        return lines

    def number(self, kind: str, index: int, name: str) -> int:
        """The position of a counter, added where it is new."""
        counter = Counter(kind, index, name)
        if counter not in self.counters:
            self.counters.append(counter)
        return self.counters.index(counter)


def expression(
    places: Places, step: Step, build: isl.AstBuild, instance: isl.PwMultiAff, operands: Mapping[str, str]
) -> str:
    """A statement's expression over C operands; indices are printed in terms of the loops."""
    assert step.statement is not None
    coordinates = len(places.storage.schedule.tiling.dims)
    indices = {
        dim: build.expr_from_pw_aff(instance.get_at(coordinates + d)).to_C_str()
        for d, dim in enumerate(step.dims)
        if dim not in operands
    }
    return to_c(step.statement.expression, operands, indices)


def pad_time(step: Step, stage: int, rank: int) -> Step:
    """A step of the preload with time `[stage, indices, zeros]`."""
    time = step.time.add_dims(isl.dim_type.out, rank - len(step.dims))
    for d in range(len(step.dims), rank):
        time = time.fix_val(isl.dim_type.out, d, isl.Val(0))
    time = time.insert_dims(isl.dim_type.out, 0, 1).fix_val(isl.dim_type.out, 0, isl.Val(stage))
    return replace(step, time=time)


def unsupported_threads(program: Program, threads: int) -> None:
    """Refuse more threads than a program can share, and fewer than one."""
    if threads < 1:
        raise InvalidInput(f"{program.network.name}: expected at least 1 thread, got {threads}")
    if threads > 1 and not program.is_parallel:
        raise IllegalSchedule(
            f"{program.network.name}: {threads} threads were asked for, but values are retained along every tile "
            "dimension; recompute along one (2-D tiles: retain rows, recompute columns) or use one thread"
        )
