"""The profile database of the fusion plan: whether fusing pays, measured once for operators and shapes.

Enters: a `Network` whose layers a plan asks about. Leaves: a `Profitable` that measures each question once: the layers
as one group in tiles of rows, and the same layers as two groups, in turns, in seconds. A measurement holds for one
machine, one compiler, and what the operators compute on which shapes; names do not matter.

The file is "format" ("polyfuse-profile"), "version" (1), and "entries", a list of objects like `Profiled`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from polyfuse.bench.compare import compiled_selection, ready_to_build
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
from polyfuse.schedule.groups import fused
from polyfuse.schedule.storage import Storage
from polyfuse.schedule.strategy import Strategy
from polyfuse.typed_json import check_measure

Measure = Callable[[Sequence[FusionOperator], FusionOperator], tuple[float, float] | None]
"""Seconds of a block and its neighbour, fused and apart; None where they cannot be run."""


@dataclass(frozen=True)
class ProfileKey:
    """The key of a measurement; `block` and `neighbour` are signatures of operators."""

    machine: str
    compiler: str
    block: tuple[str, ...]
    neighbour: str


@dataclass(frozen=True)
class Profiled:
    """The seconds that a block and its neighbour take fused and apart."""

    key: ProfileKey
    fused_seconds: float
    apart_seconds: float

    def __post_init__(self) -> None:
        for name in ("fused_seconds", "apart_seconds"):
            check_measure("profile", name, getattr(self, name))


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


def by_profile(
    database: EntriesFile[Profiled], machine: str, compiler: str, measure: Measure, otherwise: Profitable
) -> Profitable:
    """Asks the database, and measures and adds what it does not know; `otherwise` decides what cannot be run."""

    def pays(block: Sequence[FusionOperator], neighbour: FusionOperator) -> bool:
        key = ProfileKey(machine, compiler, tuple(each.signature for each in block), neighbour.signature)
        known = database.find(key)
        if known is None:
            seconds = measure(block, neighbour)
            if seconds is None:
                return otherwise(block, neighbour)
            known = Profiled(key, *seconds)
            database.add(known)
        return known.fused_seconds < known.apart_seconds

    return pays


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
    return generate(network, groups, kernels=compiled_selection(network, options))


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
