"""Plans of a network on a machine at many on-chip capacities, in parallel and resumable.

    Network + Accelerator + capacities ──sweep()──> Sweep: a `Point` for each capacity, with all baselines

Points are tasks of a `concurrent.futures.Executor`: processes of this host by default, or a cluster's. With a file,
each point is in it as soon as it is done, and is not planned again by a later call that asks for the same.
"""

import json
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from polyfuse.choices import LONGEST
from polyfuse.doors import public
from polyfuse.errors import DoesNotFit, InvalidInput
from polyfuse.files import read_text, write_atomically
from polyfuse.machines.accelerator import Accelerator
from polyfuse.network.network import Network
from polyfuse.network.parcel import Parcel
from polyfuse.plan.claims import check_claims
from polyfuse.plan.graph.group import graph_digest
from polyfuse.plan.graph.operations import Graph, graph_of
from polyfuse.plan.planning import LATENCY, Ways
from polyfuse.plan.price.objective import Objective
from polyfuse.plan.scratchplan import Certificate, Totals, value_of
from polyfuse.plan.search.baselines import NAMES, Baselines
from polyfuse.progress import Progress
from polyfuse.tasks import ONE_AT_A_TIME, finished
from polyfuse.typed_json import decode, digest_of, encode, headed

FORMAT = "polyfuse-scratchpad-sweep"
VERSION = 1


@dataclass(frozen=True)
class Point:
    """The plan of one capacity: its totals, how far from the best it may be, and the totals of the baselines.

    totals, certificate   null where nothing fits; `refusal` then says what would
    baselines             null where one has no plan that fits
    digest                of all this and of the request, as `Point.seal` makes it: another one says it was edited
    """

    capacity_bytes: int
    totals: Totals | None
    certificate: Certificate | None
    baselines: dict[str, Totals | None]
    refusal: str | None
    digest: str = field(default_factory=str)

    def seal(self, request: "Request") -> str:
        """A digest of the request and the point."""
        return digest_of(request, replace(self, digest=""))

    def sealed(self, request: "Request") -> "Point":
        """The point bound to its request: for a point that was just planned."""
        return replace(self, digest=self.seal(request))

    def check(self, request: "Request", where: str) -> None:
        """Refuse a point that is not as it was planned.

        Errors: InvalidInput for a point that was edited, and for claims that contradict each other.
        """
        where = f"{where} of {self.capacity_bytes:,} B"
        if self.digest != self.seal(request):
            raise InvalidInput(
                f"{where}: expected the point as it was planned, got another digest: it was edited, or is of an "
                "earlier version; remove it, and sweep again"
            )
        if self.totals is None or self.certificate is None:
            return
        goal, capacity = request.objective, self.capacity_bytes
        check_claims(where, goal, self.totals, self.certificate, self.baselines, NAMES, capacity)
        if self.totals.onchip_peak_bytes > capacity:
            raise InvalidInput(
                f"{where}: expected onchip_peak_bytes of no more, got {self.totals.onchip_peak_bytes:,}; sweep again"
            )


@dataclass(frozen=True)
class Request:
    """The request of a sweep, without capacities; a sweep resumes from points of an equal request alone.

    digest: of shapes, layers and relations, without weights. The capacity of the machine does not count.
    """

    network: str
    digest: str
    dtype: str
    machine: Accelerator
    objective: Objective
    longest: int


@public
@dataclass(frozen=True)
class Sweep:
    """Points by capacity, the smallest first."""

    request: Request
    points: tuple[Point, ...]

    @property
    def best(self) -> tuple[Point, ...]:
        """The Pareto curve: points that no smaller capacity equals in the objective."""
        found: list[Point] = []
        for point in self.points:
            if point.totals is not None and (not found or self._value(point) < self._value(found[-1])):
                found.append(point)
        return tuple(found)

    def _value(self, point: Point) -> float:
        assert point.totals is not None
        return value_of(self.request.objective, point.totals)

    def to_json(self) -> str:
        """The text of the file."""
        document = encode(self)
        assert isinstance(document, dict)
        return json.dumps({"format": FORMAT, "version": VERSION, **document}, indent=1) + "\n"

    @staticmethod
    def from_json(text: str, where: str = "sweep") -> "Sweep":
        """The sweep in a text, which errors call `where`.

        Errors: InvalidInput for what is no JSON, another format or version, unknown or missing keys, wrong types, and
        points that were edited.
        """
        read: Sweep = decode(headed(text, where, "a sweep", (FORMAT, VERSION), "sweep again"), Sweep, where)
        for index, point in enumerate(read.points):
            point.check(read.request, f"{where}.points[{index}]")
        return read


def sweep(
    network: Network,
    machine: Accelerator,
    capacities: Sequence[int],
    *,
    objective: Objective = LATENCY,
    dtype: str | None = None,
    longest: int = LONGEST,
    executor: Executor | None = None,
    file: Path | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Plans of a network at several capacities, in bytes, each with all baselines.

    executor: anything with the interface of `concurrent.futures`, such as that of a Dask client; it is not shut down.
    Without one, processes of this host. file: points that are there are taken from it, new ones put into it as they
    come; it can be read and resumed after a kill at any moment.

    Errors: InvalidInput for no capacities or ones below 1, types without rates, and a file of another request.
    """
    if not capacities or min(capacities) < 1:
        raise InvalidInput(f"sweep: expected capacities of 1 B or more, got {list(capacities)}; correct them")
    graph = graph_of(network, dtype)
    request = _request(graph, machine, objective, longest)
    done = {point.capacity_bytes: point for point in _kept(file, request)}
    wanted = sorted(set(capacities))
    missing = [capacity for capacity in wanted if capacity not in done]
    parcel = Parcel.of(network)

    def tell() -> None:
        if progress is not None:
            progress("sweeping", len(wanted) - sum(capacity not in done for capacity in wanted), len(wanted))

    tell()
    calls = [(parcel, dtype, machine, objective, longest, capacity) for capacity in missing]
    with closing(finished(planned_point, calls, executor)) as results:
        for _, planned in results:
            point = planned.sealed(request)
            done[point.capacity_bytes] = point
            if file is not None:
                points = tuple(done[capacity] for capacity in sorted(done))
                write_atomically(file, Sweep(request, points).to_json().encode())
            tell()
    return Sweep(request, tuple(done[capacity] for capacity in wanted))


def planned_point(
    parcel: Parcel, dtype: str | None, machine: Accelerator, objective: Objective, longest: int, capacity: int
) -> Point:
    """The point of one capacity: a task for any process, which remembers its options for the next point."""
    with ONE_AT_A_TIME:
        ways = _ways(parcel, dtype, machine.with_capacity(1), objective, longest)
        try:
            plan = ways.plan(capacity, baselines=True)
        except DoesNotFit as error:
            return Point(capacity, None, None, {}, str(error))
    return Point(capacity, plan.totals, plan.certificate, plan.baselines, None)


def read_sweep(path: Path) -> Sweep:
    """The sweep in a file. Errors: InvalidInput for a file that cannot be read, and as `Sweep.from_json`."""
    where = f"sweep '{path}'"
    return Sweep.from_json(read_text(path, where, "JSON"), where)


@lru_cache(maxsize=1)
def _ways(parcel: Parcel, dtype: str | None, machine: Accelerator, objective: Objective, longest: int) -> Ways:
    graph = graph_of(parcel.network(), dtype)
    return Ways(graph, machine, Baselines(graph, machine, objective, longest))


def _request(graph: Graph, machine: Accelerator, objective: Objective, longest: int) -> Request:
    dtype = graph.tensors[graph.operations[0].output].dtype
    return Request(graph.network.name, graph_digest(graph), dtype, machine.with_capacity(1), objective, longest)


def _kept(file: Path | None, request: Request) -> tuple[Point, ...]:
    """The points of a file from an earlier call. Errors: InvalidInput for those of another request."""
    if file is None or not file.exists():
        return ()
    found = read_sweep(file)
    for key, wanted, got in ((key, getattr(request, key), getattr(found.request, key)) for key in vars(request)):
        if wanted != got:
            named = (wanted.name, got.name) if key == "machine" else (str(wanted), str(got))
            mismatch = (
                f"{key} {named[0]!r}, got {named[1]!r}" if named[0] != named[1] else f"the same {key}, got another"
            )
            raise InvalidInput(f"sweep '{file}': expected points of {mismatch}; name another file, or remove it")
    return found.points
