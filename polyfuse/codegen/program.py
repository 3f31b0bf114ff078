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
from dataclasses import dataclass, field
from functools import cached_property

import islpy as isl

from polyfuse.codegen.c.text import element
from polyfuse.codegen.cfile import c_body, entry
from polyfuse.codegen.group import Counter, Group
from polyfuse.codegen.loops import Here, Leaf, loop_nest
from polyfuse.codegen.lower.group import LoweredGroup
from polyfuse.codegen.lower.layout import Array
from polyfuse.codegen.lower.places import Places, Timed
from polyfuse.codegen.lower.program import Lowered, lowered
from polyfuse.codegen.lower.rowsteps import RowStep
from polyfuse.codegen.lower.selection import LeafName, Leaves
from polyfuse.codegen.lower.sums import number_of_block
from polyfuse.codegen.rowcalls import WORKSPACE, row_lines
from polyfuse.codegen.sums import printed
from polyfuse.doors import public
from polyfuse.network.expression import to_c
from polyfuse.network.network import Network
from polyfuse.schedule.steps import Step
from polyfuse.schedule.storage import Storage
from polyfuse.text import html_text


@public
@dataclass(frozen=True, eq=False)
class Program(Lowered):
    """Generated C and what is needed to call it; sizes are in bytes.

    `body` is the C without the entry; `constants` are what `weights` of the entry points at; `tiles` are those of
    Winograd's algorithm, by layer. `parts` are the groups with their loops.
    """

    parts: tuple[Group, ...]
    body: str
    counters: tuple[Counter, ...]

    @cached_property
    def source(self) -> str:
        """The whole C file."""
        last = entry(self.network, self.parts, self.scratch, tuple(self.constants))
        return f"{self.body}\n{last}"

    @property
    def loops(self) -> int:
        """`for` statements in the loop nests of tiles."""
        return sum(part.nest.loops for part in self.parts)

    @property
    def branches(self) -> int:
        """`if` statements in the loop nests of tiles."""
        return sum(part.nest.branches for part in self.parts)

    def __reduce__(self) -> tuple[Callable[..., "Program"], tuple[object, ...]]:
        """A program is pickled and copied as what it is generated from: isl's loops cannot be."""
        storages = tuple(group.storage for group in self.groups)
        return _generated, (self.network, storages, self.leaves, self.staged, self.instrumented)

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
    program = lowered(network, groups, leaf=leaf, staged=staged, instrumented=instrumented)
    emitter = Emitter(program.instrumented)
    constants = {name: Array(name, value.shape) for name, value in program.kernels.constants.items()}
    parts = tuple(emitter.group(group, constants) for group in program.groups)
    body = c_body(
        network,
        parts,
        form=program.form,
        counters=len(emitter.counters),
        kernels=tuple(program.kernels.kernels.values()),
        users=program.kernels.users,
        sums=any(group.sums for group in program.groups),
    )
    counters = tuple(emitter.counters)
    return Program(
        network,
        program.groups,
        program.kernels,
        program.scratch,
        program.leaves,
        program.staged,
        program.instrumented,
        parts,
        body,
        counters,
    )


def _generated(network: Network, groups: Sequence[Storage], leaf: Leaves, staged: bool, instrumented: bool) -> Program:
    """The program again, from what it was generated from."""
    return generate(network, groups, leaf=leaf, staged=staged, instrumented=instrumented)


@dataclass
class Emitter:
    """Prints groups, and numbers the counters as it meets them."""

    instrumented: bool
    counters: list[Counter] = field(default_factory=list)

    def group(self, group: LoweredGroup, constants: Mapping[str, Array]) -> Group:
        """Generate the loops of a group; `constants` are the arrays of packed weights."""
        scalar_leaf, row_leaf = self.leaf(group, group.scalar), self.row_leaf(group)

        def leaf(step: Step | RowStep, build: isl.AstBuild) -> list[str]:
            return row_leaf(step, build) if isinstance(step, RowStep) else scalar_leaf(step, build)

        every: list[Step | RowStep] = [*group.steps, *group.rows]
        nest = loop_nest(every, group.scalar.names, leaf, 0 if group.parallel is None else group.parallel + 1)
        loading = self.leaf(group, group.preloading)
        preload = loop_nest(group.preload, group.preloading.names, loading) if group.preload else None
        return Group(group, nest, preload, tuple(constants[name] for name in group.packed))

    def row_leaf(self, group: LoweredGroup) -> Leaf[RowStep]:
        """How one execution of a row step is printed: the call of its kernel and, instrumented, its counts."""

        def lines(step: RowStep, build: isl.AstBuild) -> list[str]:
            here = Here.of(build)

            def text(value: isl.PwAff) -> str:
                return here.operand(value.pullback_pw_multi_aff(here.instance))

            counting = [
                f"counts[{self.number('points', group.index, tensor.name)}] += {step.points};"
                for tensor in step.makes
                if self.instrumented
            ]
            return [*row_lines(step, group.kernels[step.name], text), *counting]

        return lines

    def leaf(self, group: LoweredGroup, timed: Timed) -> Leaf[Step]:
        """How one execution of a step is printed: `target = expression;` and, instrumented, its counts."""
        places, sums, index = group.places, group.sums, group.index
        coordinates = len(places.storage.schedule.tiling.dims)

        def lines(step: Step, build: isl.AstBuild) -> list[str]:
            here = Here.of(build)
            instance = here.instance
            operands, target = {}, ""
            for touch in step.touches:
                subscripts = places.subscripts(touch, instance, timed.wraps[step.name])
                array = places.array(touch.tensor, places.is_offchip(touch)).name
                place = element(array, map(here.text, subscripts))
                if touch.writes:
                    target = place
                else:
                    operands[touch.operand] = place
            if step.name in sums:
                role, long = sums[step.name]
                outer = coordinates + long.rank
                column = here.text(instance.get_at(outer - 1))
                if role != "add":
                    block = number_of_block(long, instance, outer) if role == "fold" else instance.get_at(outer - 1)
                    return [printed(role, long, f"{WORKSPACE} + ({column})", target, here.text(block))]
                operands["acc"] = target = f"{WORKSPACE}[{column}]"
            value = operands["x"] if step.statement is None else expression(places, step, here, operands)
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


def expression(places: Places, step: Step, here: Here, operands: Mapping[str, str]) -> str:
    """A statement's expression over C operands; indices are printed in terms of the loops."""
    assert step.statement is not None
    coordinates = len(places.storage.schedule.tiling.dims)
    indices = {
        dim: here.text(here.instance.get_at(coordinates + d)) for d, dim in enumerate(step.dims) if dim not in operands
    }
    return to_c(step.statement.expression, operands, indices)
