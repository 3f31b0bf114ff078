"""The profile database of the fusion plan as a file, and the measurements that go into it.

Enters: a `Network` whose layers a plan asks about. Leaves: a `Profitable` that measures each question once: the layers
as one group in tiles of rows, and the same layers as two groups, in turns, in seconds.

The file is "format" ("polyfuse-profile"), "version" (1), and "entries", a list of objects like `Profiled`.
"""

from collections.abc import Sequence
from pathlib import Path

from polyfuse.bench.compare import ready_to_build, selection_to_run
from polyfuse.bench.measure import measure
from polyfuse.codegen.build import Options
from polyfuse.codegen.kernel import build_many
from polyfuse.codegen.program import Program, generate
from polyfuse.deploy.entries import EntriesFile
from polyfuse.deploy.host import processor
from polyfuse.errors import IllegalSchedule, InvalidInput, TooComplex, Unbounded
from polyfuse.network.network import Network
from polyfuse.network.reference import random_inputs
from polyfuse.rewrite.fusion import FusionOperator, Profitable, by_traffic
from polyfuse.rewrite.profile import Measure, Profiled, by_profile
from polyfuse.schedule.groups import fused
from polyfuse.schedule.schedule import Strategy
from polyfuse.schedule.storage import Storage

FILE = EntriesFile("profile file", ("polyfuse-profile", 1), Profiled, "profiles.json", "POLYFUSE_PROFILES")
TILE_ROWS = 8
SAMPLES = 7


def by_measurement(network: Network, path: Path | None = None, options: Options | None = None) -> Profitable:
    """Decides by what the file knows, else by measuring the layers here; by traffic what cannot be run.

    Errors: BuildError without a compiler; InvalidInput for a file that holds something else or cannot be written.
    """
    chosen = ready_to_build(options or Options())
    assert chosen.compiler is not None
    compiler = " ".join([chosen.compiler.version, *chosen.flags])
    return by_profile(FILE.at(path), processor(), compiler, measured_on(network, chosen), by_traffic)


def measured_on(network: Network, options: Options) -> Measure:
    """Measures questions about the layers of a network."""

    def seconds(block: Sequence[FusionOperator], neighbour: FusionOperator) -> tuple[float, float] | None:
        first = [operator.name for operator in block]
        both = network.select([*first, neighbour.name])
        try:
            leads = neighbour.name == both.layers[0].name
            parts = [[neighbour.name], first] if leads else [first, [neighbour.name]]
            programs = [_program(both, each, options) for each in ([[*first, neighbour.name]], parts)]
        except (IllegalSchedule, InvalidInput, TooComplex, Unbounded):
            return None
        return _timed(both, programs, options)

    return seconds


def _program(network: Network, parts: Sequence[Sequence[str]], options: Options) -> Program:
    groups = tuple(_group(network.select(part)) for part in parts)
    return generate(network, groups, kernels=selection_to_run(network, "rows", "nchw", False, options, True))


def _group(part: Network) -> Storage:
    """A group in tiles of a few rows that keep what the next tile needs."""
    shape = part.outputs[0].concrete_shape
    rows = min(TILE_ROWS, shape[2] if len(shape) == 4 else shape[0])
    return fused(part, Strategy((rows,), others=("local",), placement="shifted"))[0]


def _timed(network: Network, programs: Sequence[Program], options: Options) -> tuple[float, float]:
    """Seconds of the fastest run of each of two programs."""
    kernels = build_many(programs, options=options)
    inputs = random_inputs(network, seed=1)
    for kernel in kernels:
        kernel.set_inputs(inputs)
    timings = measure({str(k): kernel.run for k, kernel in enumerate(kernels)}, repeats=SAMPLES)
    return timings["0"].minimum, timings["1"].minimum
