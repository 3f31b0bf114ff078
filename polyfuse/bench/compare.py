"""Run one workload under every strategy and tile; predict, count, time and check each.

Network + tiles + strategies ──compare()──> Comparison
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from polyfuse.bench.measure import Timing, measure
from polyfuse.bench.results import Comparison, Row
from polyfuse.choices import BUFFER, PLACES, STRATEGIES, Axis, KernelsName, Place
from polyfuse.codegen.build import Options
from polyfuse.codegen.cache import cache_folder
from polyfuse.codegen.compiler import find_compiler
from polyfuse.codegen.kernel import Kernel, compile_programs
from polyfuse.codegen.lower.selection import SCALAR, Selection, named_selection
from polyfuse.codegen.program import Program, generate
from polyfuse.deploy.host import host_facts
from polyfuse.deploy.settings import Settings
from polyfuse.deploy.tuned import best_for
from polyfuse.doors import public
from polyfuse.errors import InvalidInput, TooComplex
from polyfuse.network.network import Network
from polyfuse.network.reference import expected_outputs, max_relative_error, random_inputs
from polyfuse.progress import Progress, silent
from polyfuse.schedule.counts import Counts, counts, executions_of_points, halos, total
from polyfuse.schedule.groups import fused, layer_by_layer
from polyfuse.schedule.retention import Placement
from polyfuse.schedule.schedule import check_strategy
from polyfuse.schedule.storage import Storage
from polyfuse.schedule.strategy import Strategy
from polyfuse.text import tile_label

DEFAULT_MIXED: tuple[tuple[Place, ...], ...] = (("local", "recompute"), ("recompute", "local"))


@dataclass(frozen=True)
class Candidate:
    """One row of a comparison before it runs: the name of its strategy, and the strategy; None is layer by layer.

    `kernels` is a selection of its own, in place of that which all rows share.
    """

    label: str
    strategy: Strategy | None
    kernels: Selection | None = None

    @property
    def tile(self) -> tuple[int, ...]:
        """The tile sizes; () for layer by layer."""
        return self.strategy.tile if self.strategy is not None else ()

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The axes that the tile cuts; () for rows, or rows and columns."""
        return self.strategy.axes if self.strategy is not None else ()

    @property
    def placement(self) -> Placement | None:
        """The placement of first executions; None where nothing is retained."""
        if self.strategy is None:
            return None
        every = (self.strategy.others, *self.strategy.retention.values())
        return self.strategy.placement if any(set(places) - {"recompute"} for places in every) else None

    def retention(self, network: Network) -> dict[str, tuple[Place, ...]]:
        """The places of every tensor that some layer of a network reads."""
        if self.strategy is None:
            return {}
        tensors = (*network.inputs, *(layer.output for layer in network.layers))
        return {tensor.name: self.strategy.places(tensor.name) for tensor in tensors if network.readers(tensor)}

    def __str__(self) -> str:
        return " ".join(filter(None, (self.label, self.placement, tile_label(self.tile, self.axes, ""))))


@dataclass(frozen=True)
class Case:
    """A candidate with its groups, its prediction and its programs: the one that is timed, and those that count.

    `counting` is staged and counts what a machine without caches would do; `proving` is the timed program, counting
    what its row kernels execute, where it has any.
    """

    candidate: Candidate
    groups: tuple[Storage, ...]
    predicted: Counts
    timed: Program
    counting: Program
    proving: Program | None


def default_tiles(network: Network) -> tuple[tuple[int, ...], ...]:
    """A spread of tiles: a few rows, more rows, and rows x columns, no larger than the last output."""
    *_, rows, columns = network.outputs[-1].concrete_shape
    wanted = [(min(4, rows),), (min(16, rows),), (min(16, rows), min(max(8, columns // 4), columns))]
    return tuple(dict.fromkeys(wanted))


@public
@dataclass(frozen=True)
class Choices:
    """Options of the rows of a comparison, apart from tiles and strategies.

    mixed      places of the mixed rows, one row for each tuple whose length fits the tile
    retention  tensors whose places differ in the mixed rows; one place holds along every tile dimension
    placement  of every row; None takes both for local rows, `shifted` for mixed and `first` for global ones
    order      positions in the tile, outermost loop first, of tiles in two dimensions; None lets each strategy choose
    weights    loaded `once`, or by every `tile` that reads them; the unfused row loads them once
    axes       what tiles cut, by name or number; () cuts rows, or rows and columns
    """

    mixed: tuple[tuple[Place, ...], ...] = DEFAULT_MIXED
    retention: Mapping[str, tuple[Place, ...]] = field(default_factory=dict)
    placement: Placement | None = None
    order: tuple[int, ...] | None = None
    weights: Literal["once", "tile"] = "once"
    axes: tuple[Axis, ...] = ()

    def strategy(
        self,
        tile: tuple[int, ...],
        places: tuple[Place, ...],
        placement: Placement,
        retention: Mapping[str, tuple[Place, ...]] | None = None,
    ) -> Strategy:
        """A strategy for one tile with the order and the weights that were chosen."""
        order = self.order if self.order is not None and len(self.order) == len(tile) else None
        return Strategy(tile, places, retention or {}, placement, order, self.weights, self.axes)

    def mixed_strategies(self, tile: tuple[int, ...]) -> list[Strategy]:
        """The mixed rows of one tile; none where no choice has a place for each of its dimensions."""
        own = {
            tensor: places * len(tile) if len(places) == 1 else places
            for tensor, places in self.retention.items()
            if len(places) in (1, len(tile))
        }
        if len(own) < len(self.retention):
            return []
        placement = self.placement or "shifted"
        return [self.strategy(tile, places, placement, own) for places in self.mixed if len(places) == len(tile)]


def candidates(
    tiles: Iterable[tuple[int, ...]], names: Sequence[str] = STRATEGIES, choices: Choices | None = None
) -> list[Candidate]:
    """Layer by layer, then for each tile each strategy by its name; `local` in both placements.

    Errors: InvalidInput for an unknown name.

    >>> [str(row) for row in candidates([(4,), (8, 8)], ["local", "mixed"])][:4]
    ['unfused', 'local first 4', 'local shifted 4', 'local first 8x8']
    """
    chosen = choices or Choices()
    rows = [Candidate("unfused", None)]
    for tile in tiles:
        for name in names:
            rows += [Candidate(name, strategy) for strategy in strategies(name, tile, chosen)]
    return rows


def strategies(name: str, tile: tuple[int, ...], choices: Choices) -> list[Strategy]:
    """The strategies of one name and one tile."""
    if name == "mixed":
        return choices.mixed_strategies(tile)
    if name not in PLACES:
        raise InvalidInput(f"strategy {name!r}: expected one of {', '.join(STRATEGIES)}")
    places = (name,) * len(tile)
    usual: tuple[Placement, ...] = ("first", "shifted") if name == "local" else ("first",)
    placements = (choices.placement,) if choices.placement is not None else usual
    return [choices.strategy(tile, places, placement) for placement in placements]


def prepare(network: Network, candidate: Candidate, kernels: Selection = SCALAR) -> Case:
    """Schedule, prove, count and generate one candidate.

    Errors: InvalidInput, IllegalSchedule, TooComplex, Unbounded.
    """
    strategy, kernels = candidate.strategy, candidate.kernels or kernels
    groups = layer_by_layer(network, kernels.tallest) if strategy is None else fused(network, strategy)
    predicted = total(counts(group) for group in groups)
    timed = generate(network, groups, kernels=kernels)
    counting = generate(network, groups, kernels="scalar", instrumented=True)
    proving = generate(network, groups, kernels=kernels, instrumented=True) if kernels.target.has_rows else None
    return Case(candidate, groups, predicted, timed, counting, proving)


def compare(
    network: Network,
    rows: Sequence[Candidate],
    *,
    workload: str | None = None,
    run: bool = True,
    threads: int = 1,
    repeats: int = 5,
    kernels: KernelsName = "rows",
    layout: str = "nchw",
    exact: bool = False,
    options: Options | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Predict every candidate and, with `run`, compile, count, check and time it.

    `kernels` and `layout` are those of the code that is timed, `exact` keeps it to the direct algorithm. Candidates
    that cannot share so many threads are timed with fewer; their row says so.
    Errors: as `prepare`; BuildError; InvalidInput for no rows, and for what says how code is run where none is.
    """
    options = options or Options()
    if run:
        options = ready_to_build(options)
    elif (threads, repeats, kernels, layout, exact) != (1, 5, "rows", "nchw", False):
        raise InvalidInput(
            "compare: threads, repeats, kernels, layout and exact say how code is run; with run=False leave them out"
        )
    selection = compiled_selection(network, options, kernels, layout, exact) if run else SCALAR
    cases = prepared(network, rows, progress, selection)
    return compare_cases(
        network, cases, workload=workload, run=run, threads=threads, repeats=repeats, options=options, progress=progress
    )


def ready_to_build(options: Options) -> Options:
    """The options with the compiler found and the cache there, so that what is missing is said before the work.

    Errors: BuildError.
    """
    cache_folder(options.cache)
    return replace(options, compiler=options.compiler or find_compiler())


def compiled_selection(
    network: Network, options: Options, kernels: KernelsName = "rows", layout: str = "nchw", exact: bool = False
) -> Selection:
    """The selection for code that is timed. Errors: InvalidInput for unknown names, BuildError."""
    return named_selection(network, kernels, layout, exact=exact, compiler=options.compiler, flags=options.flags)


def prepared(
    network: Network,
    rows: Sequence[Candidate],
    progress: Progress | None = None,
    kernels: Selection = SCALAR,
    left_out: Callable[[Candidate, TooComplex], None] | None = None,
) -> tuple[Case, ...]:
    """Prepare every candidate, once all of them fit the network.

    With `left_out`, candidates that pass isl's operation limit are told to it and left out, if others are there.
    Errors: as `prepare`; InvalidInput for no rows.
    """
    check_rows(network, rows)
    tell = progress or silent
    cases = []
    for k, row in enumerate(rows):
        tell("scheduling", k, len(rows))
        try:
            cases.append(prepare(network, row, kernels))
        except TooComplex as error:
            if left_out is None or (not cases and k == len(rows) - 1):
                raise
            left_out(row, error)
    tell("scheduling", len(rows), len(rows))
    return tuple(cases)


def check_rows(network: Network, rows: Sequence[Candidate]) -> None:
    """Refuse no rows, and what does not fit the network.

    Errors: InvalidInput.
    """
    if not any(row.strategy for row in rows):
        raise InvalidInput("compare: expected at least one strategy that fits a tile; mixed ones need places for it")
    for row in rows:
        if row.strategy is not None:
            check_strategy(network, row.strategy)


def compare_cases(
    network: Network,
    cases: Sequence[Case],
    *,
    workload: str | None = None,
    run: bool = True,
    threads: int = 1,
    repeats: int = 5,
    options: Options | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """`compare` of candidates that are prepared."""
    options = options or Options()
    shared = {cut: halos(network, *cut) for cut in {(case.candidate.tile, case.candidate.axes) for case in cases}}
    found = measured(network, cases, threads, repeats, options, progress or silent) if run else [None] * len(cases)
    unfused = next(
        (f.timing.median for c, f in zip(cases, found, strict=True) if f and c.candidate.strategy is None), None
    )
    compiler = options.compiler or (find_compiler() if run else None)
    return Comparison(
        workload or network.name,
        host_facts(),
        compiler.version if compiler is not None else "not run",
        tuple(options.flags),
        tuple(row_of(network, case, result, shared, unfused) for case, result in zip(cases, found, strict=True)),
    )


@dataclass(frozen=True)
class Result:
    """What running one case gave."""

    counted: dict[str, int]
    error: float
    timing: Timing
    threads: int


def measured(
    network: Network, cases: Sequence[Case], threads: int, repeats: int, options: Options, tell: Progress
) -> list[Result]:
    """Compile all cases, count and check each, then time them in turns, all by one clock.

    Kernels share inputs and outputs, and those that count are let go one by one: what is held is what is timed.
    """
    tell("compiling", 0, 3)
    used = [case.timed.threads_of(threads) if case.timed.is_parallel else 1 for case in cases]
    timed = compile_programs([case.timed for case in cases], threads=threads, options=options)
    tell("compiling", 1, 3)
    counting = compile_programs([case.counting for case in cases], options=options)
    tell("compiling", 2, 3)
    proving = iter(compile_programs([case.proving for case in cases if case.proving], options=options))
    tell("compiling", 3, 3)
    inputs = random_inputs(network, seed=1)
    expected = expected_outputs(network, inputs)
    kernels: list[Kernel] = []
    checked = []
    for k, case in enumerate(cases):
        tell("checking", k, len(cases))
        kernels.append(Kernel(case.timed, timed[k], used[k], sharing=kernels[0] if kernels else None))
        errors = [error_of(kernels[k], inputs, expected)]
        counter = Kernel(case.counting, counting[k], sharing=kernels[k])
        errors.append(error_of(counter, inputs, expected))
        found = counted(case, counter)
        found |= {"buffer_bytes": kernels[k].onchip_bytes, "workspace_bytes": kernels[k].workspace_bytes}
        del counter
        if case.proving is not None:
            prover = Kernel(case.proving, next(proving), sharing=kernels[k])
            errors.append(error_of(prover, inputs, expected))
            found["executions"] = executed_points(prover)
            del prover
        checked.append((found, max(errors)))
    tell("checking", len(cases), len(cases))
    runs = {str(k): kernel.run for k, kernel in enumerate(kernels)}
    timings = measure(runs, repeats=repeats, threads=max(used), progress=tell)
    return [Result(counted, error, timings[str(k)], used[k]) for k, (counted, error) in enumerate(checked)]


def error_of(kernel: Kernel, inputs: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> float:
    """Run a kernel on memory full of NaN; the largest error of its outputs."""
    kernel.set_inputs(inputs)
    kernel.poison()
    kernel.run()
    outputs = kernel.outputs
    return max(max_relative_error(outputs[name], expected[name]) for name in expected)


def executed_points(kernel: Kernel) -> int:
    """How often points were executed, by row kernels and by scalar code."""
    found = 0
    for group in kernel.program.groups:
        mine = {(c.kind, c.name): n for c, n in kernel.counts.items() if c.group == group.index}
        found += sum(n for (kind, _), n in mine.items() if kind == "points")
        ran = {name: n for (kind, name), n in mine.items() if kind == "executions"}
        scalar = (layer for layer in group.storage.schedule.network.layers if layer.statements[0].name in ran)
        found += sum(executions_of_points(layer, ran) for layer in scalar)
    return found


def counted(case: Case, kernel: Kernel) -> dict[str, int]:
    """What the instrumented run counted, under the names of the prediction."""
    executions = macs = read = write = 0
    for group in case.counting.groups:
        network = group.storage.schedule.network
        mine = {(c.kind, c.name): n for c, n in kernel.counts.items() if c.group == group.index}
        ran = {name: n for (kind, name), n in mine.items() if kind == "executions"}
        executions += sum(executions_of_points(layer, ran) for layer in network.layers)
        macs += sum(s.macs * ran[s.name] for layer in network.layers for s in layer.macs)
        touches = [touch for step in (*group.steps, *group.preload) for touch in step.touches]
        chip = {touch.array for touch in touches if touch.memory == BUFFER}
        read += sum(n for (kind, name), n in mine.items() if kind == "read_bytes" and name not in chip)
        write += sum(n for (kind, name), n in mine.items() if kind == "write_bytes" and name not in chip)
    return {
        "executions": executions,
        "macs_executed": macs,
        "onchip_bytes": kernel.onchip_bytes,
        "offchip_read_bytes": read,
        "offchip_write_bytes": write,
    }


def row_of(
    network: Network,
    case: Case,
    result: Result | None,
    shared: Mapping[tuple[tuple[int, ...], tuple[Axis, ...]], dict[str, tuple[int, ...]]],
    unfused: float | None,
) -> Row:
    """One row of the comparison."""
    candidate, predicted = case.candidate, case.predicted
    seconds = result.timing.median if result is not None else None
    return Row(
        strategy=candidate.label,
        placement=candidate.placement,
        retention={name: tuple(places) for name, places in candidate.retention(network).items()},
        tile=candidate.tile,
        instances=predicted.instances,
        executions=predicted.executions,
        macs=predicted.macs,
        macs_executed=predicted.macs_executed,
        recomputed=predicted.recomputed,
        halo=shared[candidate.tile, candidate.axes],
        onchip_bytes=predicted.onchip_bytes,
        offchip_read_bytes=predicted.offchip_read_bytes,
        offchip_write_bytes=predicted.offchip_write_bytes,
        buffer_bytes=case.timed.buffer_bytes,
        workspace_bytes=case.timed.workspace_bytes,
        loops=case.timed.loops,
        branches=case.timed.branches,
        counted=result.counted if result is not None else None,
        seconds_median=seconds,
        seconds_min=result.timing.minimum if result is not None else None,
        ratio_to_unfused=seconds / unfused if seconds is not None and unfused is not None else None,
        max_rel_error=result.error if result is not None else None,
        threads=result.threads if result is not None else 1,
        axes=tuple(map(str, candidate.axes)),
    )


def tuned_row(network: Network, settings: Settings) -> Candidate | None:
    """The best known choice as a row of a comparison, `tuned`; None where the network was not tuned.

    Errors: as `best_known`.
    """
    found = best_for(network, settings)
    if found is None:
        return None
    kernels = found.choice.selection(network, settings.target, settings.interface)
    return Candidate("tuned", found.choice.strategy, kernels)
