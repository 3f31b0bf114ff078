"""Writes docs/measured/shape-benchmarks.md: `python docs/measured/shapes.py` counts and races shapes of time tiles.

Jacobi iterations in one and two dimensions, a layer for each step. Tiles cut the first axis. What is raced against is
written by hand and compiled with the same flags: *plain*, a sweep over two arrays for each step; *by hand*, overlapped
tiles of rows whose steps go back and forth between two buffers.
"""

import ctypes
import datetime
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import click
import islpy as isl
import numpy as np
from numpy.typing import NDArray

from polyfuse.bench.measure import Timing, measure
from polyfuse.choices import Place
from polyfuse.codegen.build import compile_shared, load
from polyfuse.codegen.kernel import Kernel, build
from polyfuse.codegen.program import generate
from polyfuse.deploy.host import host_facts
from polyfuse.loading import load_workload
from polyfuse.network.custom import statement_layer
from polyfuse.network.network import Builder, Network
from polyfuse.network.reference import max_relative_error, random_inputs
from polyfuse.network.tensor import Tensor
from polyfuse.schedule.counts import Counts, counts, total
from polyfuse.schedule.given import schedule_from, union_map
from polyfuse.schedule.groups import layer_by_layer
from polyfuse.schedule.legality import check
from polyfuse.schedule.marking import parallel
from polyfuse.schedule.schedule import Schedule
from polyfuse.schedule.shapes import Shape, shaped
from polyfuse.schedule.storage import storage
from polyfuse.sets.counting import count

HERE = Path(__file__).parent
KERNELS = HERE.parents[1] / "kernels"
SHAPES: tuple[Shape, ...] = ("overlapped", "uniform", "parallelogram", "split", "hexagonal")
PLACES: dict[Shape, Place] = {"split": "global"}
"""Where values wait between tiles in a race; between the two phases of split tiles, whole tensors do."""
BORDERS = ("shrinking", "zero", "clamped")
SET = isl.dim_type.set
BY_HAND = """\
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#if AXES == 2
#define ROW(step) (N - 2L * (step))
#define AVERAGE(a) 0.2f * ((a)[j + 1] + (a)[w + j] + (a)[w + j + 1] + (a)[w + j + 2] + (a)[2 * w + j + 1])
#else
#define ROW(step) 1L
#define AVERAGE(a) (1.0f / 3) * ((a)[j] + (a)[j + 1] + (a)[j + 2])
#endif
/* Rows or elements first to end of a step; those of the step before begin at in[0] with number first. */
static inline void step(const float *restrict in, float *restrict out, int s, int first, int end)
{
  const long w = ROW(s - 1);
#if AXES == 2
  for (int i = 0; i < end - first; i++)
    for (int j = 0; j < ROW(s); j++)
      out[i * ROW(s) + j] = AVERAGE(in + i * w);
#else
  for (int j = 0; j < end - first; j++)
    out[j] = AVERAGE(in);
#endif
}
#if TILE
static float buffer[2][(TILE + 2L * STEPS) * ROW(0)];
#else
#define TILE N
static float buffer[2][N * ROW(0)];
#endif
void jacobi(const float *x, float *y)
{
  for (int t = 0; t < N - 2 * STEPS; t += TILE) {
    const int end = MIN(t + TILE, N - 2 * STEPS);
    for (int s = 1; s <= STEPS; s++)
      step(s == 1 ? x + t * ROW(0) : buffer[s % 2], s == STEPS ? y + t * ROW(STEPS) : buffer[(s + 1) % 2], s, t,
           end + 2 * (STEPS - s));
  }
}
"""
HEAD = """# Shapes of time tiles, measured

Measured {date} on {cpu}, {cores} cores, of which {busy:.1f} were busy with other work.

`python docs/measured/shapes.py` measures all of this again and writes this page. Ratios are those of one run in turns.
They are what one machine showed, not promises.

## Counted

Jacobi iterations under three borders: interior only (*shrinking*), zeros outside, and ends repeated (*clamped*). A
periodic border has no window of fixed size, so that none of these shapes takes it. Tiles cut the first axis. *At once*
is how many tiles the largest phase has, and *phases* how many run one after the other; the code layer by layer has all
rows of a step at once. Hexagons have two steps in a band. *Off-chip* is relative to the code layer by layer.

| kernel | strategy | recomputed | phases | at once | on chip, B | off-chip |
|---|---|---:|---:|---:|---:|---:|
{counted}

## Raced on one thread

Interior only, a point in one statement, {size}: median CPU time of one thread,
relative to the fastest generated code, each form in its fastest tile of the spread. *By hand* is overlapped tiling with
two buffers, *plain* the loops as one writes them, under `gcc -O3` and the same flags as the generated code. Split
tiles keep whole tensors between their phases; eight steps of them over a plane are beyond isl's limit of operations.
With `--two-threads` the page has a table of threads as well, which needs a host without other work.

| kernel | {forms} | max rel error |
|---|{rules}---:|
{raced}
"""
THREADS = """
## Two threads

The wall time of one thread over that of two, of the same schedule. Tiles of *overlapped* are shared as they are. Of
*split* the tiles of a phase are, and of *wavefront* (parallelograms along both axes) those of a diagonal: loops that
are marked, with whole tensors between steps, in plain C.

| kernel | strategy | one thread / two threads | one thread / overlapped on one |
|---|---|---:|---:|
{threads}
"""
FORMS = ("overlapped", "parallelogram", "split", "by hand", "plain")


@dataclass(frozen=True)
class Race:
    """A Jacobi, the tiles that every form is tried in, and the shapes that are generated."""

    axes: int
    size: int
    steps: int
    tiles: tuple[int, ...]
    shapes: tuple[Shape, ...] = ("overlapped", "parallelogram", "split")

    def __str__(self) -> str:
        sides = " x ".join(f"{self.size:,}" for _ in range(self.axes))
        return f"jacobi{self.axes}d, {sides}, {self.steps} steps"

    def network(self) -> Network:
        """A point in one statement, interior only: the kernels of ./kernels add up over a window."""
        build = Builder("jacobi")
        grid = build.input("x", (self.size,) * self.axes)
        indices = ("i", "j")[: self.axes]
        for step in range(1, self.steps + 1):
            made = self.size - 2 * step
            moves = [(0,) * self.axes]
            for axis in range(self.axes):
                moves += [tuple(by if d == axis else 0 for d in range(self.axes)) for by in (-1, 1)]
            reads = {}
            for name, move in zip("cudlr", moves, strict=False):
                place = ", ".join(f"{index} + {by + 1}" for index, by in zip(indices, move, strict=True))
                reads[name] = (grid, f"{{ S[{', '.join(indices)}] -> {grid.name}[{place}] }}")
            layer = statement_layer(
                f"step{step}",
                domain=f"{{ S[{', '.join(indices)}] : {' and '.join(f'0 <= {each} < {made}' for each in indices)} }}",
                output=Tensor(f"a{step}", (made,) * self.axes),
                reads=reads,
                expression=f"({' + '.join(reads)}) * {1 / len(moves):.9f}",
            )
            grid = build.add(layer)
        return build.network(grid)


def jacobi(axes: int, size: int, steps: int, border: str) -> Network:
    """A Jacobi of ./kernels."""
    sizes = {"size": str(size), "steps": str(steps), "border": border}
    return load_workload(str(KERNELS / f"jacobi{axes}d.py"), parameters=sizes)


def counted_rows() -> Iterator[str]:
    """Every kernel under every border, in every shape."""
    for axes, size, steps, tile in ((1, 256, 4, 32), (2, 64, 4, 16)):
        for border in BORDERS:
            network = jacobi(axes, size, steps, border)
            name = f"jacobi{axes}d {border}, {steps} steps"
            plain = total(map(counts, layer_by_layer(network)))
            yield counted_row(name, "layer by layer", plain, plain, steps, network.layers[0].output.concrete_shape[0])
            for shape in SHAPES:
                schedule = shaped(network, shape, (tile,), band=2 if shape == "hexagonal" else None)
                group = storage(schedule)
                check(group)
                yield counted_row(name, shape, counts(group), plain, *phases(schedule, shape))


def phases(schedule: Schedule, shape: Shape) -> tuple[int, int]:
    """How many phases there are, and the most tiles in one of them."""
    tiles = reduce(isl.Set.union, (schedule.executions(layer).range() for layer in schedule.network.layers))
    if shape in ("overlapped", "uniform"):
        return 1, count(tiles)
    if shape == "parallelogram":
        return count(tiles), 1
    numbers = range(count(tiles.project_out(SET, 1, tiles.dim(SET) - 1)))
    return len(numbers), max(count(tiles.fix_val(SET, 0, isl.Val(number))) for number in numbers)


def counted_row(name: str, strategy: str, found: Counts, plain: Counts, in_turn: int, at_once: int) -> str:
    """Counts as a row."""
    share = 100 * found.recomputed / found.instances
    traffic = found.offchip_bytes / plain.offchip_bytes
    return f"| {name} | {strategy} | {share:.1f}% | {in_turn} | {at_once} | {found.onchip_bytes:,} | {traffic:.2f} |"


def by_hand(race: Race, tile: int, x: NDArray[np.float32]) -> tuple[NDArray[np.float32], Callable[[], None]]:
    """The output array and the call of a form written by hand; plain loops where `tile` is 0."""
    sizes = {"AXES": race.axes, "N": race.size, "STEPS": race.steps, "TILE": tile}
    defines = "".join(f"#define {name} {value}\n" for name, value in sizes.items())
    function = load(compile_shared(defines + BY_HAND)).jacobi
    out = np.full([size - 2 * race.steps for size in x.shape], np.nan, np.float32)
    return out, lambda: function(*(ctypes.c_void_p(array.ctypes.data) for array in (x, out)))


def reference(x: NDArray[np.float32], steps: int) -> NDArray[np.float64]:
    """The steps in double precision."""
    found = x.astype(np.float64)
    for _ in range(steps):
        inside = (slice(1, -1),) * found.ndim
        added = found[inside].copy()
        for axis in range(found.ndim):
            for cut in (slice(None, -2), slice(2, None)):
                added += found[(*inside[:axis], cut, *inside[axis + 1 :])]
        found = added / (2 * found.ndim + 1)
    return found


def generated(schedule: Schedule, inputs: Mapping[str, NDArray[np.float32]], threads: int = 1) -> Kernel:
    """The code of a schedule, proved legal, on its inputs."""
    group = storage(schedule)
    check(group)
    kernel = build(generate(schedule.network, [group]), threads=threads)
    kernel.set_inputs(inputs)
    return kernel


def raced_row(race: Race, repeats: int) -> str:
    """The fastest of every form, relative to the fastest generated one."""
    network = race.network()
    inputs = random_inputs(network, 0)
    expected = reference(inputs["x"], race.steps)
    runs: dict[str, Callable[[], None]] = {}
    outputs: list[NDArray[np.float32]] = []
    for tile in race.tiles:
        for shape in race.shapes:
            kernel = generated(shaped(network, shape, (tile,), PLACES.get(shape, "local")), inputs)
            runs[f"{shape} {tile}"] = kernel.run
            outputs.append(kernel.outputs[network.outputs[0].name])
        out, runs[f"by hand {tile}"] = by_hand(race, tile, inputs["x"])
        outputs.append(out)
    out, runs["plain"] = by_hand(race, 0, inputs["x"])
    found = measure(runs, repeats=repeats)
    seconds = {form: fastest(found, form) for form in (*race.shapes, "by hand", "plain")}
    best = min(seconds[shape] for shape in race.shapes)
    error = max(max_relative_error(each, expected) for each in (*outputs, out))
    ratios = " | ".join(f"{seconds[form] / best:.2f}" if form in seconds else "-" for form in FORMS)
    return f"| {race} | {ratios} | {error:.0e} |"


def fastest(found: Mapping[str, Timing], form: str) -> float:
    """The least median over the tiles of a form."""
    return min(each.median for name, each in found.items() if name.startswith(form))


def shared(network: Network, tile: int) -> dict[str, Schedule]:
    """What two threads share, by name; the wavefront has tiles eight times as wide as they are high."""
    phased = schedule_from(network, union_map(shaped(network, "split", (tile,))))
    waves = []
    for behind, layer in enumerate(reversed(network.layers)):
        row, column = f"floor((i - {2 * behind}) / {tile})", f"floor((j - {2 * behind}) / {8 * tile})"
        step = len(network.layers) - behind
        waves.append(f"{layer.name}[i, j] -> [{row} + {column}, {row}, {step}, i, j]")
    return {
        "overlapped": shaped(network, "overlapped", (tile,)),
        "split": parallel(phased, dim=1),
        "wavefront": parallel(schedule_from(network, f"{{ {'; '.join(waves)} }}"), dim=1),
    }


def thread_rows(race: Race, repeats: int) -> Iterator[str]:
    """One thread against two, of each schedule that threads can share."""
    network = race.network()
    inputs = random_inputs(network, 0)
    schedules = shared(network, race.tiles[-1])
    both = {(name, n): generated(each, inputs, n) for name, each in schedules.items() for n in (1, 2)}
    found = measure({f"{name} {n}": kernel.run for (name, n), kernel in both.items()}, repeats=repeats, threads=2)
    base = found["overlapped 1"].median
    for name in schedules:
        one, two = (found[f"{name} {n}"].median for n in (1, 2))
        yield f"| {race} | {name} | {one / two:.2f} | {one / base:.2f} |"


@click.command()
@click.option("--repeats", default=7, type=click.IntRange(1), help="Samples of each form.")
@click.option("--rows", default=4096, type=click.IntRange(256), help="Rows and columns of the plane that is raced.")
@click.option("--elements", default=1 << 24, type=click.IntRange(1 << 14), help="Elements of the line that is raced.")
@click.option("--two-threads", is_flag=True, help="Race two threads, too; nothing else may run meanwhile.")
def main(repeats: int, rows: int, elements: int, two_threads: bool) -> None:
    """Count and race every shape, and write the page."""
    longer = [Race(2, rows, steps, (16, 32), ("overlapped", "parallelogram")) for steps in (8, 16)]
    races = (Race(2, rows, 4, (16, 32)), *longer, Race(1, elements, 8, (2048, 8192)))
    facts, busy = host_facts(), os.getloadavg()[0]
    page = HEAD.format(
        date=datetime.date.today().isoformat(),
        cpu=facts.get("cpu", "an unknown processor"),
        cores=facts.get("cores", "?"),
        busy=min(busy, os.cpu_count() or 1),
        size=f"arrays of {4 * rows * rows >> 20} MiB and {4 * elements >> 20} MiB",
        forms=" | ".join(FORMS),
        rules="---:|" * len(FORMS),
        counted="\n".join(counted_rows()),
        raced="\n".join(raced_row(race, repeats) for race in races),
    )
    if two_threads:
        page += THREADS.format(threads="\n".join(thread_rows(Race(2, rows // 2, 4, (64,)), repeats)))
    (HERE / "shape-benchmarks.md").write_text(page, encoding="utf-8")
    click.echo(page)


if __name__ == "__main__":
    main()
