"""C for a sequence of groups: one file, one function for each group, one entry that runs them.

    Network + Storage of each group ──generate()──> Program

The file exports `polyfuse_run(inputs, weights, outputs, scratch, chips, threads, counts)` and the sizes that a caller
must provide. On-chip buffers are the fields of a struct, one instance for each thread; weights that stay on chip are
a struct that threads share. Two forms of one program exist:

* *staged*: loads and stores are copies between off-chip arrays and on-chip buffers, as a scratchpad needs them;
  with `instrumented`, every execution and every byte is counted;
* *in place* (staged=False): a copy whose source does not change is left out, and what reads the copy reads the source.
  This is what a machine with caches should run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from textwrap import wrap as fold

import islpy as isl

from polyfuse.codegen.access import Places, Timed, in_place, with_wraps
from polyfuse.codegen.loops import Leaf, LoopNest, Outline, loop_nest, text
from polyfuse.errors import IllegalSchedule, InvalidInput
from polyfuse.network.expression import to_c
from polyfuse.network.network import Network
from polyfuse.network.tensor import Tensor
from polyfuse.schedule.schedule import Schedule
from polyfuse.schedule.steps import Step, chip_name, preload_steps, steps, time_names
from polyfuse.schedule.storage import Storage

PRELUDE = """\
#include <math.h>
#define NOINLINE __attribute__((noinline))
#ifdef _OPENMP
#include <omp.h>
#else
#define omp_get_thread_num() 0
#endif

static inline int min(int a, int b) { return a < b ? a : b; }
static inline int max(int a, int b) { return a > b ? a : b; }
static inline int floord(int a, int b) { return (a < 0 ? a - b + 1 : a) / b; }
static inline float minimum(float a, float b) { return a < b || a != a ? a : b; }
static inline float maximum(float a, float b) { return a > b || a != a ? a : b; }
"""


@dataclass(frozen=True)
class Counter:
    """One number that an instrumented run counts: executions of a step, or bytes read or written somewhere."""

    kind: str
    group: int
    name: str


@dataclass(frozen=True, eq=False)
class Group:
    """The parts of one group's code."""

    index: int
    storage: Storage
    steps: tuple[Step, ...]
    preload: tuple[Step, ...]
    nest: LoopNest
    preload_nest: LoopNest | None
    parallel: str | None


@dataclass(frozen=True, eq=False)
class Program:
    """Generated C and what is needed to call it; sizes are in bytes."""

    network: Network
    groups: tuple[Group, ...]
    source: str
    scratch: tuple[Tensor, ...]
    counters: tuple[Counter, ...]
    staged: bool
    instrumented: bool

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


def generate(
    network: Network, groups: Sequence[Storage], *, staged: bool = False, instrumented: bool = False
) -> Program:
    """Generate the C of a network whose groups are scheduled and stored, and proved legal, by the caller.

    `instrumented` implies `staged`: what is counted is what a machine without caches would do.
    Errors: InvalidInput where the groups do not make the network's outputs; Unbounded, IllegalSchedule from the loops.
    """
    staged = staged or instrumented
    scratch = scratch_tensors(network, groups, staged)
    emitter = Emitter(staged, instrumented)
    parts = tuple(emitter.group(index, storage) for index, storage in enumerate(groups))
    source = emitter.file(network, parts, scratch)
    return Program(network, parts, source, scratch, tuple(emitter.counters), staged, instrumented)


def scratch_tensors(network: Network, groups: Sequence[Storage], staged: bool) -> tuple[Tensor, ...]:
    """The off-chip arrays that are neither input, weight nor output: between groups, and stored by retention."""
    given = {*network.inputs, *network.outputs}
    made: set[Tensor] = set(network.inputs)
    scratch = []
    for storage in groups:
        for tensor in storage.schedule.network.inputs:
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


def parallel_coordinate(schedule: Schedule) -> int | None:
    """The outermost tile coordinate whose tiles are independent: nothing is retained along it or outside of it.

    None where there is none, or where a tensor is stored by one tile and loaded by another, or tiles were reordered.
    """
    flows = schedule.flows.values()
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
    """Prints groups and numbers the counters as it meets them."""

    staged: bool
    instrumented: bool
    counters: list[Counter] = field(default_factory=list)

    def group(self, index: int, storage: Storage) -> Group:
        """Generate the loops of a group."""
        schedule, places = storage.schedule, Places(storage, self.staged)
        kept = [step for step in steps(schedule) if self.is_kept(schedule, step)]
        timed = with_wraps(places, kept, time_names(schedule))
        coordinate = parallel_coordinate(schedule)
        whole = 0 if coordinate is None else coordinate + 1
        nest = loop_nest(timed.steps, timed.names, self.leaf(index, places, timed), whole)
        preload = preload_steps(schedule) if self.staged else ()
        rank = max((len(step.dims) for step in preload), default=0)
        padded = tuple(pad_time(step, k, rank) for k, step in enumerate(preload))
        loading = Timed(padded, ("stage", *(f"a{d}" for d in range(rank))), {step.name: {} for step in padded})
        preload_nest = loop_nest(padded, loading.names, self.leaf(index, places, loading)) if preload else None
        parallel = None if coordinate is None else time_names(schedule)[coordinate]
        if parallel is not None and not nest.encloses_all(parallel):
            parallel = None
        return Group(index, storage, timed.steps, preload, nest, preload_nest, parallel)

    def is_kept(self, schedule: Schedule, step: Step) -> bool:
        """Whether a step is there in this form of the program: copies are not, where values stay in place."""
        return step.action == "make" or self.staged or not in_place(schedule, step.touches[0].tensor)

    def leaf(self, index: int, places: Places, timed: Timed) -> Leaf:
        """How one execution of a step is printed: `target = expression;` and, instrumented, its counts."""

        def lines(step: Step, build: isl.AstBuild) -> list[str]:
            instance = isl.PwMultiAff.from_map(isl.Map.from_union_map(build.get_schedule()).reverse())
            operands, target = {}, ""
            for touch in step.touches:
                found = places.subscripts(touch, instance, timed.wraps[step.name])
                subscripts = "".join(f"[{build.expr_from_pw_aff(subscript).to_C_str()}]" for subscript in found)
                if touch.writes:
                    target = places.array(touch) + subscripts
                else:
                    operands[touch.operand] = places.array(touch) + subscripts
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

    def file(self, network: Network, groups: Sequence[Group], scratch: Sequence[Tensor]) -> str:
        """The whole C file."""
        lines = [*header(network, groups, self), PRELUDE]
        for group in groups:
            lines += [*structs(group, self), "", *self.functions(group), ""]
        return "\n".join([*lines, *entry(network, groups, scratch, self), ""])

    def functions(self, group: Group) -> list[str]:
        """The functions of one group: the tiles, and what calls them."""
        arrays, held, kept = offchip_arrays(group), *buffers_of(group, self)
        written = written_arrays(group)
        parameters = [f"{'' if t in written else 'const '}{declared(t.name, t.shape, 'restrict ')}" for t in arrays]
        shapes = {t: group.storage.buffers[t.name].shape for t in (*held, *kept)}
        tiles = [*parameters, *(declared(chip_name(t), shapes[t], "restrict ") for t in held)]
        tiles += [f"const {declared(chip_name(t), shapes[t], 'restrict ')}" for t in kept]
        tiles.append("long long *restrict counts")
        chip = "chips[omp_get_thread_num()]" if group.parallel else "chips[0]"
        arguments = [t.name for t in arrays] + [f"{chip}.{chip_name(t)}" for t in held]
        arguments += [f"kept->{chip_name(t)}" for t in kept]
        bodies: list[str] = []

        def call(iterators: tuple[str, ...], body: list[str]) -> list[str]:
            name = f"group{group.index}_tiles{sum(line.startswith('static') for line in bodies) or ''}"
            head = ", ".join([*(f"const int {i}" for i in iterators), *tiles])
            unused = " ".join(f"(void){i};" for i in (*iterators, "counts"))
            bodies.extend([f"static NOINLINE void {name}({head})", "{", f"  {unused}", *body, "}", ""])
            return [f"{name}({', '.join([*iterators, *arguments, 'counts'])});"]

        reduction = f" reduction(+ : counts[:{len(self.counters)}])" if self.instrumented else ""
        pragma = f"#pragma omp parallel for num_threads(threads) schedule(dynamic){reduction}"
        nest = text(group.nest, 1, Outline(call, group.parallel, pragma))
        head = [*parameters, f"struct chip{group.index} *chips", f"struct kept{group.index} *kept", "int threads"]
        lines = [f"static void group{group.index}({', '.join([*head, 'long long *counts'])})", "{"]
        lines += ["  (void)chips; (void)kept; (void)threads;"]
        lines += [f"  {line}" for line in kept_pointers(group)]
        if group.preload_nest is not None:
            lines += text(group.preload_nest, 1)
        return [*bodies, *lines, *nest, "}"]


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
    return Step(**{**step.__dict__, "time": time})


def declared(name: str, shape: Sequence[object], qualifier: str = "") -> str:
    """`float name[restrict n][c]…` as a parameter."""
    first, *rest = shape
    return f"float {name}[{qualifier}{first}]" + "".join(f"[{size}]" for size in rest)


def pointer(name: str, shape: Sequence[int], value: str) -> str:
    """A restrict pointer to an array of rows."""
    rest = "".join(f"[{size}]" for size in shape[1:])
    return f"float (*restrict {name}){rest} = {value};" if rest else f"float *restrict {name} = {value};"


def header(network: Network, groups: Sequence[Group], emitter: Emitter) -> list[str]:
    """The comment that says what the file is and where its numbers come from."""
    form = "instrumented" if emitter.instrumented else "staged" if emitter.staged else "in place"
    lines = [f"{network.name}: generated by polyfuse; {form}"]
    for group in groups:
        schedule = group.storage.schedule
        names = ", ".join(layer.name for layer in schedule.network.layers)
        lines.append(f"group{group.index}: {names}")
        lines.append(
            f"  tile {schedule.tiling}, placement {schedule.strategy.placement}, parallel {group.parallel or 'none'}"
        )
        for name, flow in schedule.flows.items():
            where = group.storage.buffers[name]
            lines.append(f"  {name}: {', '.join(flow.places)}; {where}")
    body = [piece for line in lines for piece in fold(line, 112, subsequent_indent="    ") or [""]]
    return ["/* " + body[0], *(f" * {line}" for line in body[1:]), " */"]


def buffers_of(group: Group, emitter: Emitter) -> tuple[list[Tensor], list[Tensor]]:
    """The tensors with a buffer in this form of the program: private to a thread, and shared by threads."""
    schedule = group.storage.schedule
    held = [flow.tensor for flow in schedule.flows.values() if emitter.staged or not in_place(schedule, flow.tensor)]
    return held, list(schedule.preloaded) if emitter.staged else []


def structs(group: Group, emitter: Emitter) -> list[str]:
    """The on-chip buffers of a group."""
    lines = []
    for kind, tensors in zip(("chip", "kept"), buffers_of(group, emitter), strict=True):
        lines.append(f"struct {kind}{group.index} {{")
        for tensor in tensors:
            lines.append(f"  {declared(chip_name(tensor), group.storage.buffers[tensor.name].shape)};")
        lines += ["};"] if tensors else ["  char none;", "};"]
    return lines


def size_of_buffers(group: Group, emitter: Emitter) -> str:
    """The bytes of a group's buffers as C: of those structs that hold any."""
    kinds = zip(("chip", "kept"), buffers_of(group, emitter), strict=True)
    return " + ".join(f"sizeof(struct {kind}{group.index})" for kind, tensors in kinds if tensors) or "0"


def kept_pointers(group: Group) -> list[str]:
    """Names for the shared buffers."""
    tensors = [step.touches[1].tensor for step in group.preload]
    return [pointer(chip_name(t), group.storage.buffers[t.name].shape, f"kept->{chip_name(t)}") for t in tensors]


def offchip_arrays(group: Group) -> tuple[Tensor, ...]:
    """The off-chip arrays a group touches: inputs, weights, and what it stores."""
    schedule = group.storage.schedule
    weights = (weight for layer in schedule.network.layers for weight in layer.weights)
    stored = (f.tensor for f in schedule.flows.values() if f.role == "made" and not f.stores.is_empty())
    return tuple(dict.fromkeys((*schedule.network.inputs, *weights, *stored)))


def written_arrays(group: Group) -> set[Tensor]:
    """The off-chip arrays a group writes."""
    return {layer.output for layer in group.storage.schedule.network.layers}


def entry(network: Network, groups: Sequence[Group], scratch: Sequence[Tensor], emitter: Emitter) -> list[str]:
    """`polyfuse_run`, and the sizes of what its caller provides."""
    where: dict[Tensor, str] = {}
    for kind, tensors in (("inputs", network.inputs), ("outputs", network.outputs), ("scratch", scratch)):
        where |= {tensor: f"(void *){kind}[{k}]" for k, tensor in enumerate(tensors)}
    weights = {name: f"(void *)weights[{k}]" for k, name in enumerate(network.weights)}
    lines = ["union chips {"]
    lines += [f"  struct chip{group.index} chip{group.index};" for group in groups]
    lines += ["};", "union kept {"]
    lines += [f"  struct kept{group.index} kept{group.index};" for group in groups]
    lines += ["};", "long long polyfuse_chip_bytes(void) { return sizeof(union chips); }"]
    lines += ["long long polyfuse_kept_bytes(void) { return sizeof(union kept); }"]
    onchip = [size_of_buffers(group, emitter) for group in groups]
    lines += [f"long long polyfuse_group_bytes(int group) {{ return (long long[]){{{', '.join(onchip)}}}[group]; }}", ""]
    lines += ["void polyfuse_run(float *const *inputs, float *const *weights, float *const *outputs,"]
    lines += ["                  float *const *scratch, void *chips, void *kept, int threads, long long *counts)", "{"]
    lines += ["  (void)inputs; (void)weights; (void)outputs; (void)scratch;"]
    for group in groups:
        arguments = [where.get(t) or weights[t.name] for t in offchip_arrays(group)]
        lines.append(f"  group{group.index}({', '.join([*arguments, 'chips', 'kept', 'threads', 'counts'])});")
    return [*lines, "}"]


def unsupported_threads(program: Program, threads: int) -> None:
    """Refuse more threads than a program can share."""
    if threads > 1 and not program.is_parallel:
        raise IllegalSchedule(
            f"{program.network.name}: {threads} threads were asked for, but values are retained along every tile "
            "dimension; recompute along one (2-D tiles: retain rows, recompute columns) or use one thread"
        )
