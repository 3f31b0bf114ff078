"""What tuning found, kept in one JSON file for all workloads of a user.

Enters: measurements of choices under a `Key`. Leaves: the file, whole or as it was; the best known choice of a network.

The file is one object: "format" ("polyfuse-tuned"), "version" (1), and "entries", a list of objects with the fields of
`TunedEntry`. A change of meaning raises the version. docs/use/formats.md lists the keys.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import islpy as isl

from polyfuse import codegen
from polyfuse.codegen.build import Options
from polyfuse.codegen.compiler import find_compiler
from polyfuse.codegen.kernel import Kernel, build
from polyfuse.codegen.lower.selection import Interface
from polyfuse.deploy.entries import EntriesFile
from polyfuse.deploy.host import processor
from polyfuse.deploy.settings import Settings
from polyfuse.deploy.space import Choice
from polyfuse.errors import InvalidInput
from polyfuse.network.network import Network
from polyfuse.schedule.written import strategy_in, written
from polyfuse.typed_json import check_measure

DIGITS = 32


@dataclass(frozen=True)
class Key:
    """What a measurement holds for: on another CPU, compiler, flags, network, threads or layout it is another one.

    `code` is a digest of what generates C, so that another polyfuse measures again; `network` is one of layers, shapes
    and relations, not of weights. `arithmetic` is `exact` without Winograd's algorithm, else `any`.
    """

    cpu: str
    compiler: str
    flags: tuple[str, ...]
    code: str
    network: str
    threads: int
    layout: str
    arithmetic: str


@dataclass(frozen=True)
class MeasuredChoice:
    """A choice and what was measured of it; the fields of a `Strategy` are null layer by layer.

    label: what `choice` is called. seconds: the fastest of `samples`; unfused_seconds: layer by layer, in turns with
    it.

    Errors: InvalidInput for a label that is not that of the choice, and for times, samples and errors that cannot be.
    """

    label: str
    tile: tuple[int, ...] | None
    others: tuple[str, ...]
    retention: dict[str, tuple[str, ...]]
    placement: str
    algorithms: dict[str, int]
    predicted_seconds: float
    seconds: float
    unfused_seconds: float
    samples: int
    max_rel_error: float

    def __post_init__(self) -> None:
        where = f"tried {self.label!r}"
        if self.label != self.choice.label:
            raise InvalidInput(f"{where}: expected the label of its choice, {self.choice.label!r}; tune again")
        for name in ("seconds", "unfused_seconds", "samples"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise InvalidInput(f"{where}: expected {name} above 0 and finite, got {value}; tune again")
        for name in ("predicted_seconds", "max_rel_error"):
            check_measure(where, name, getattr(self, name))

    @property
    def ratio(self) -> float:
        """To the unfused run of the same rounds: what compares choices measured at different times."""
        return self.seconds / self.unfused_seconds

    @property
    def choice(self) -> Choice:
        """The choice itself.

        Errors: InvalidInput for places and placements that there are not.
        """
        return Choice(strategy_in(self), self.algorithms)


@dataclass(frozen=True)
class TunedEntry:
    """All that was measured under one key; `workload` is a name for people."""

    key: Key
    workload: str
    tried: tuple[MeasuredChoice, ...]

    @property
    def best(self) -> MeasuredChoice | None:
        """The fastest of those that were measured most often; None before anything was."""
        most = max((each.samples for each in self.tried), default=0)
        return min((each for each in self.tried if each.samples == most), key=lambda each: each.ratio, default=None)

    def with_tried(self, found: Sequence[MeasuredChoice]) -> "TunedEntry":
        """With measurements added, or put in the place of earlier ones of the same choices."""
        merged = {each.label: each for each in (*self.tried, *found)}
        return replace(self, tried=tuple(merged.values()))


FILE = EntriesFile("tuned file", ("polyfuse-tuned", 1), TunedEntry, "tuned.json", "POLYFUSE_TUNED")


def tried(
    choice: Choice, predicted: float, seconds: float, unfused: float, samples: int, error: float
) -> MeasuredChoice:
    """A choice as it is written down."""
    return MeasuredChoice(
        label=choice.label,
        **written(choice.strategy),
        algorithms=dict(choice.algorithms),
        predicted_seconds=predicted,
        seconds=seconds,
        unfused_seconds=unfused,
        samples=samples,
        max_rel_error=error,
    )


def key_of(network: Network, settings: Settings) -> Key:
    """The key of a network here and now.

    Errors: BuildError without a compiler.
    """
    compiler = settings.options.compiler or find_compiler()
    return Key(
        processor(),
        compiler.version,
        tuple(settings.options.flags),
        code_digest(),
        network_digest(network),
        settings.threads,
        settings.interface,
        "exact" if settings.exact else "any",
    )


def network_digest(network: Network) -> str:
    """A digest of everything that schedules and code depend on: names, shapes, layers, relations. Weights are not in.

    >>> from polyfuse.network.network import Builder
    >>> def digest(size):
    ...     build = Builder("net")
    ...     return network_digest(build.network(build.conv("conv", build.input("x", (1, 1, size, size)), 1, kernel=3)))
    >>> digest(8) == digest(8), digest(8) == digest(9)
    (True, False)
    """
    layers = [
        [
            layer.name,
            repr(layer.operator),
            repr(layer.activation),
            [str(tensor) for tensor in (*layer.inputs, *layer.weights, layer.output)],
            [
                [
                    canonical(s.domain),
                    s.expression,
                    [(name, canonical(access.relation)) for name, access in s.operands.items()],
                ]
                for s in layer.statements
            ],
        ]
        for layer in network.layers
    ]
    document = [[str(tensor) for tensor in (*network.inputs, *network.outputs)], layers]
    return hashlib.sha256(json.dumps(document).encode()).hexdigest()[:DIGITS]


@lru_cache(maxsize=1)
def code_digest() -> str:
    """A digest of the modules that generate C."""
    folder = Path(codegen.__file__).parent
    sources = b"".join(path.read_bytes() for path in sorted(folder.rglob("*.py")))
    return hashlib.sha256(sources).hexdigest()[:DIGITS]


def canonical(relation: isl.Set | isl.Map) -> str:
    """The text of a set or relation as isl reads it: the same for one that was sent to another process."""
    return str(type(relation)(str(relation)))


def read_tuned(path: Path | None = None) -> tuple[TunedEntry, ...]:
    """All entries of a file; none where there is no file.

    Errors: InvalidInput for one that cannot be read or holds something else.
    """
    return FILE.at(path).read()


def best_known(
    network: Network,
    *,
    interface: Interface = "nchw",
    threads: int = 1,
    exact: bool = False,
    options: Options | None = None,
    path: Path | None = None,
) -> MeasuredChoice | None:
    """The best choice that tuning found for a network on this host; None where it was not tuned.

    Errors: BuildError without a compiler, InvalidInput as `read_tuned`.
    """
    settings = Settings(interface=interface, threads=threads, exact=exact, options=options or Options())
    return best_for(network, settings, path)


def best_for(network: Network, settings: Settings, path: Path | None = None) -> MeasuredChoice | None:
    """The same for settings as one value. Errors: as `best_known`."""
    entry = FILE.at(path).find(key_of(network, settings))
    return entry.best if entry is not None else None


def tuned(
    network: Network,
    *,
    interface: Interface = "nchw",
    threads: int = 1,
    exact: bool = False,
    options: Options | None = None,
    path: Path | None = None,
) -> Kernel:
    """The kernel of the best choice that tuning found.

    Errors: InvalidInput where the network was not tuned, and as `best_known`; BuildError.
    """
    settings = Settings(interface=interface, threads=threads, exact=exact, options=options or Options())
    found = best_for(network, settings, path)
    if found is None:
        raise InvalidInput(
            f"network {network.name!r}: nothing is known of it for this CPU, compiler, layout and number of threads; "
            "run polyfuse tune, or pf.tune(network)"
        )
    program = found.choice.program(network, settings.target, interface)
    return build(program, threads=settings.threads_of(program), options=settings.options)
