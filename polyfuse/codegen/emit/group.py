"""One group of a program: its loop nests, with what one execution of a step is in C.

    LoweredGroup ──Emitter.group()──> Group

cfile.py puts the groups of a program together.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import islpy as isl

from polyfuse.codegen.c.expression import to_c
from polyfuse.codegen.c.text import element
from polyfuse.codegen.emit.loops import Here, Leaf, LoopNest, loop_nest
from polyfuse.codegen.emit.rowcalls import WORKSPACE, row_lines
from polyfuse.codegen.emit.sums import printed
from polyfuse.codegen.lower.group import LoweredGroup
from polyfuse.codegen.lower.layout import Array
from polyfuse.codegen.lower.places import Places, Timed
from polyfuse.codegen.lower.rowsteps import RowStep
from polyfuse.codegen.lower.sums import number_of_block
from polyfuse.schedule.steps import Step
from polyfuse.sets.limits import operation_limit


@dataclass(frozen=True)
class Counter:
    """One number that an instrumented run counts: executions of a step, or bytes read or written somewhere."""

    kind: str
    group: int
    name: str


@dataclass(frozen=True, eq=False)
class Group:
    """The loops of a group, those that load its weights first, and the constants that its row kernels read."""

    lowered: LoweredGroup
    nest: LoopNest
    preload_nest: LoopNest | None
    packed: tuple[Array, ...]

    @property
    def index(self) -> int:
        """The number of the group."""
        return self.lowered.index

    @property
    def offchip(self) -> tuple[Array, ...]:
        """The off-chip arrays: inputs, weights, what is stored, constants."""
        return (*self.lowered.offchip, *self.packed)


@dataclass
class Emitter:
    """Prints groups, and numbers the counters as it meets them."""

    instrumented: bool
    counters: list[Counter] = field(default_factory=list)

    def group(self, group: LoweredGroup, constants: Mapping[str, Array]) -> Group:
        """Generate the loops of a group; `constants` are the arrays of packed weights.

        Errors: as `loop_nest`; TooComplex above isl's operation limit.
        """
        scalar_leaf, row_leaf = self.leaf(group, group.scalar), self.row_leaf(group)

        def leaf(step: Step | RowStep, build: isl.AstBuild) -> list[str]:
            return row_leaf(step, build) if isinstance(step, RowStep) else scalar_leaf(step, build)

        every: list[Step | RowStep] = [*group.steps, *group.rows]
        whole = 0 if group.parallel_coordinate is None else group.parallel_coordinate + 1
        with operation_limit(what=f"loops of group {group.index} of {group.storage.schedule.network.name!r}"):
            nest = loop_nest(every, group.scalar.names, leaf, whole)
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
                array = group.dialect.prefix + places.array(touch.tensor, places.is_offchip(touch)).name
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
    return to_c(step.statement.expression, operands, indices, real=places.selection.target.element.name)
