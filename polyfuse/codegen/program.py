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

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, partial

from polyfuse.choices import KernelsName
from polyfuse.codegen.emit.cfile import c_body, entry
from polyfuse.codegen.emit.group import Counter, Emitter, Group
from polyfuse.codegen.lower.layout import Array
from polyfuse.codegen.lower.program import LoweredProgram, lowered
from polyfuse.codegen.lower.selection import Selection
from polyfuse.doors import public
from polyfuse.network.network import Network
from polyfuse.schedule.storage import Storage
from polyfuse.text import html_text


@public
@dataclass(frozen=True, eq=False)
class Program(LoweredProgram):
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
        again = partial(generate, kernels=self.selection, staged=self.staged, instrumented=self.instrumented)
        return again, (self.network, tuple(group.storage for group in self.groups))

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
    kernels: Selection | KernelsName | None = None,
    staged: bool = False,
    instrumented: bool = False,
) -> Program:
    """Generate the C of a network whose groups are scheduled and stored, and proved legal, by the caller.

    `kernels` is `"rows"`, `"scalar"` or what `select_kernels()` chose; `"rows"` is the default of the in-place form.
    `instrumented` implies `staged` for scalar code: what is counted is what a machine without caches would do; with
    row kernels, it is the points that they execute.
    Elements are all float32 or all float64; row kernels are of float32, and scalar code takes their place in float64.
    Errors: InvalidInput where the groups do not make the network's outputs, and for other elements; Unbounded,
    IllegalSchedule, TooComplex from the loops; BuildError for row kernels where there is no compiler whose vectors they
    could be made for.
    """
    program = lowered(network, groups, kernels=kernels, staged=staged, instrumented=instrumented)
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
    own = {each.name: getattr(program, each.name) for each in fields(program)}
    return Program(**own, parts=parts, body=body, counters=tuple(emitter.counters))
