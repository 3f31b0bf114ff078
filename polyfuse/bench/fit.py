"""Fit the costs of the time model to this host: `polyfuse machine --fit`.

A `Machine` enters; small chains that hold every kind of row kernel, in and out of the caches, are timed under several
strategies; the `Machine` with its `Costs` leaves. None of them is a workload in kernels/.

The costs are the non-negative numbers that make relative errors smallest, squared where they are small (Huber), drawn
towards a guess from peak and bandwidths: what the chains do not tell apart stays near the guess. Times are no linear
function of them, so that they are found in rounds (Gauss and Newton).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from polyfuse.bench.measure import measure
from polyfuse.codegen.build import Options
from polyfuse.codegen.kernel import Kernel, compile_programs
from polyfuse.codegen.lower.selection import Interface, Selection, select_kernels
from polyfuse.codegen.lower.work import work_of
from polyfuse.codegen.program import Program, generate
from polyfuse.codegen.target import Target, probe
from polyfuse.cost.seconds import Work, amounts, guessed_costs
from polyfuse.machines.host import Costs, Machine
from polyfuse.network.layers.normalisation import lrn
from polyfuse.network.network import Builder, Network
from polyfuse.network.reference import random_inputs
from polyfuse.network.tensor import Tensor
from polyfuse.progress import Progress, silent
from polyfuse.schedule.groups import fused, layer_by_layer
from polyfuse.schedule.storage import Storage
from polyfuse.schedule.strategy import Strategy

Floats = NDArray[np.float64]
PULL = 0.02
"""How strongly the guess draws: leaving it by its own size costs as much as this relative error in every sample."""

SHARES = (1.0, 0.5, 0.25)
"""What a shared cache may hold of its capacity, for one core of a host that others use too."""
ORDINARY, ROUNDS = 0.05, 12
"""A relative error above which a sample counts less, as somebody may have disturbed it; rounds of weighing samples, and
of taking the time for linear near the costs so far."""
REPEATS, SAMPLE_SECONDS = 9, 0.01


@dataclass(frozen=True, eq=False)
class Sample:
    """What one program does, and how long it took."""

    name: str
    work: Work
    seconds: float


def fit(machine: Machine, *, options: Options | None = None, progress: Progress | None = None) -> Machine:
    """The machine with costs that were fitted on this host.

    Errors: BuildError.
    """
    chosen = options or Options()
    target = probe(chosen.compiler, tuple(chosen.flags))
    guess = guessed_costs(machine, target.relative_costs)
    return replace(machine, costs=fitted(samples(target, chosen, progress or silent), guess, machine))


def samples(target: Target, options: Options, tell: Progress) -> list[Sample]:
    """All chains under all of their strategies, timed in turns."""
    cases = list(generated(target))
    tell("compiling", 0, 1)
    built = compile_programs([program for _, program, _ in cases], options=options)
    kernels: dict[str, Kernel] = {}
    for (name, program, _), library in zip(cases, built, strict=True):
        kernels[name] = Kernel(program, library)
        kernels[name].set_inputs(random_inputs(program.network, seed=1))
    runs = {name: kernel.run for name, kernel in kernels.items()}
    timings = measure(
        runs, repeats=REPEATS, min_seconds=SAMPLE_SECONDS, progress=lambda _, k, of: tell("measuring", k, of)
    )
    return [Sample(name, work, timings[name].minimum) for name, _, work in cases]


def generated(target: Target) -> Iterator[tuple[str, Program, Work]]:
    """Every chain under every strategy: its name, the program and its work."""
    for network, interface, exact in chains():
        kernels = select_kernels(network, target, interface, exact=exact)
        for label, groups in ways(network, kernels):
            name = f"{network.name} {interface} {'direct' if exact else 'priced'} {label}"
            yield name, generate(network, groups, kernels=kernels), work_of(groups, kernels)


def ways(network: Network, kernels: Selection) -> Iterator[tuple[str, Sequence[Storage]]]:
    """Layer by layer, and a few strategies that differ in what they recompute and where values wait."""
    yield "unfused", layer_by_layer(network, kernels.tallest)
    *_, rows, columns = network.outputs[-1].concrete_shape
    for name, tile in (("recompute", (3,)), ("local", (3,)), ("local", (24,)), ("global", (6,))):
        yield f"{name} {tile[0]}", fused(network, Strategy.named(name, (min(tile[0], rows),), "shifted"))
    cut = (min(12, rows), -(-columns // 3))
    yield "kept strips", fused(network, Strategy.named("local", cut, "shifted"))
    yield "strips", fused(network, Strategy(cut, ("local", "recompute"), placement="shifted"))
    yield "tiles", fused(network, Strategy(cut, ("recompute", "recompute")))


def chains() -> tuple[tuple[Network, Interface, bool], ...]:
    """Chains of every kind of layer, small enough for a cache or too large for any; and whether Winograd is out."""
    return (
        (convolutions(32, 60), "blocked", True),
        (convolutions(32, 60), "blocked", False),
        (convolutions(16, 400), "blocked", True),
        (convolutions(16, 400), "blocked", False),
        (convolutions(64, 50, pool=True), "nchw", True),
        (convolutions(64, 130, pool=True), "nchw", False),
        (bottleneck(40, 40), "blocked", True),
        (bottleneck(32, 200), "nchw", True),
        (separable(48, 72, 1), "blocked", True),
        (separable(40, 150, 2), "nchw", True),
        (stencils(500), "nchw", True),
        (stencils(2600), "nchw", True),
        (first_layers(130), "nchw", True),
        (pointwise(64, 60), "blocked", True),
        (pointwise(48, 200), "blocked", True),
    )


def convolutions(channels: int, size: int, pool: bool = False) -> Network:
    """Two 3x3 convolutions, and a pool."""
    build = Builder(f"conv_{channels}_{size}")
    x: Tensor = build.input("x", (1, channels, size, size))
    for k in (1, 2):
        x = build.conv(f"conv{k}", x, channels, kernel=3, padding=1, activation="relu")
    return build.network(build.max_pool("pool", x, kernel=2) if pool else x)


def bottleneck(channels: int, size: int) -> Network:
    """Wide inside: 1x1, depthwise, 1x1, and the addition of the input."""
    build = Builder(f"bottleneck_{channels}_{size}")
    x = build.input("x", (1, channels, size, size))
    wide = build.conv("wide", x, 4 * channels, kernel=1, activation="relu6")
    middle = build.depthwise("middle", wide, kernel=3, padding=1, activation="relu6")
    return build.network(build.arithmetic("sum", "add", build.conv("thin", middle, channels, kernel=1), x))


def separable(channels: int, size: int, stride: int) -> Network:
    """Depthwise and 1x1."""
    build = Builder(f"separable_{channels}_{size}")
    x = build.input("x", (1, channels, size, size))
    y = build.depthwise("depthwise", x, kernel=3, stride=stride, padding=1, activation="relu")
    return build.network(build.conv("pointwise", y, 2 * channels, kernel=1, activation="relu"))


def stencils(size: int) -> Network:
    """Two convolutions of one channel."""
    build = Builder(f"stencils_{size}")
    x = build.input("x", (1, 1, size, size))
    return build.network(build.conv("second", build.conv("first", x, 1, kernel=3), 1, kernel=3))


def first_layers(size: int) -> Network:
    """An image of three channels, a strided convolution, a wider one, a mean."""
    build = Builder(f"first_{size}")
    x: Tensor = build.input("x", (1, 3, 2 * size, 2 * size))
    x = build.conv("first", x, 32, kernel=3, stride=2, padding=1, activation="relu")
    x = build.conv("second", x, 48, kernel=3, padding=1, activation="relu")
    return build.network(build.average_pool("mean", x, kernel=2))


def pointwise(channels: int, size: int) -> Network:
    """An activation of what something else reads, too, a gate, normalisation of neighbours, a concat, groups."""
    build = Builder(f"pointwise_{channels}_{size}")
    x, gate = build.input("x", (1, channels, size, size)), build.input("gate", (1, channels, 1, 1))
    deep = build.depthwise("deep", x, kernel=3, padding=1)
    sums = build.arithmetic("sum", "add", build.activation("soft", deep, "relu"), deep)
    normal = build.add(lrn("normal", build.arithmetic("gated", "mul", sums, gate), 5))
    joined = build.concat("joined", normal, sums)
    return build.network(build.conv("groups", joined, channels, kernel=1, groups=8))


def fitted(measured: Sequence[Sample], guess: Costs, machine: Machine) -> Costs:
    """The costs with the smallest error, over what the last cache may hold; near a guess where samples say nothing."""
    last = machine.caches[-1]
    best: tuple[float, Costs] | None = None
    for share, inner in product(SHARES, (1.0, 0.75)):
        held = {level.name: int(inner * level.capacity_bytes) for level in machine.caches}
        held[last.name] = int(share * last.capacity_bytes)
        error, costs = fitted_with(measured, machine, guess, held)
        if best is None or error < best[0]:
            best = error, costs
    assert best is not None
    return best[1]


def fitted_with(
    measured: Sequence[Sample], machine: Machine, guess: Costs, held: Mapping[str, int]
) -> tuple[float, Costs]:
    """The mean relative error and the costs, for given sizes of caches; samples that miss by much count less."""
    prior = np.array([*guess.compute.values(), *guess.memory.values()])
    count = len(guess.compute)
    tables = [amounts(sample.work, machine, held, tuple(guess.compute)) for sample in measured]
    seconds = np.array([sample.seconds for sample in measured])
    pulls = PULL * np.sqrt(len(measured)) * np.eye(len(prior))
    factors, shares, trust = np.ones(len(prior)), np.zeros((len(measured), len(prior))), np.ones(len(measured))
    for _ in range(ROUNDS):
        costs = factors * prior
        worth = [np.concatenate(table.linearised(costs[:count], costs[count:])) for table in tables]
        shares = 1e-9 * np.array(worth) * prior / seconds[:, None]
        misses = np.abs(shares @ factors - 1)
        trust = np.sqrt(np.minimum(1.0, ORDINARY / np.maximum(misses, 1e-12)))
        rows = np.vstack([shares * trust[:, None], pulls])
        factors = (factors + non_negative(rows, np.concatenate([trust, np.diag(pulls)]))) / 2
    error = float(np.abs(shares @ factors - 1).mean())
    rounded = [float(f"{value:.4g}") for value in factors * prior]
    compute, memory = zip(guess.compute, rounded[:count], strict=True), zip(guess.memory, rounded[count:], strict=True)
    return error, Costs(dict(compute), dict(memory), dict(held))


def non_negative(a: Floats, b: Floats) -> Floats:
    """The x >= 0 that makes |a x - b| smallest, by active sets.

    Lawson and Hanson, "Solving Least Squares Problems", 1974, chapter 23.

    >>> non_negative(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([2.0, -1.0])).tolist()
    [2.0, 0.0]
    """
    count = a.shape[1]
    free, x = np.zeros(count, bool), np.zeros(count)
    for _ in range(10 * count):
        gradient = np.where(free, -np.inf, a.T @ (b - a @ x))
        if gradient.max() <= 1e-10:
            break
        free[int(np.argmax(gradient))] = True
        while True:
            trial = np.zeros(count)
            trial[free] = np.linalg.lstsq(a[:, free], b, rcond=None)[0]
            falling = free & (trial <= 0)
            if not falling.any():
                break
            step = float((x[falling] / (x[falling] - trial[falling])).min())
            x = x + step * (trial - x)
            free &= x > 1e-12
            x[~free] = 0.0
        x = trial
    return x
