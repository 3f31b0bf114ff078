"""Experiments at scale: many strategies for one network, counted in parallel, with cost functions of one's own.

    Network + tiles + places ──strategies()──> (Strategy, ...) ──experiment()──> Experiment: a Trial for each

Trials are tasks of a `concurrent.futures.Executor`: processes of this host by default, or a cluster's. With a file,
each trial is in it as soon as it is done, and is not counted again by a later call that asks for the same network.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from polyfuse.choices import Axis, Place
from polyfuse.deploy.tuned import network_digest
from polyfuse.doors import public
from polyfuse.errors import IllegalSchedule, InvalidInput, TooComplex, Unbounded
from polyfuse.files import read_text, write_atomically
from polyfuse.network.network import Network
from polyfuse.network.parcel import Parcel
from polyfuse.progress import Progress
from polyfuse.schedule.counts import Counts, counts
from polyfuse.schedule.groups import fused
from polyfuse.schedule.retention import Placement
from polyfuse.schedule.schedule import check_strategy
from polyfuse.schedule.strategy import Strategy
from polyfuse.tasks import ONE_AT_A_TIME, finished
from polyfuse.text import columns, html_table, tile_label
from polyfuse.typed_json import decode, digest_of, headed, headed_text

Cost = Callable[[Counts], float]
HEAD = ("polyfuse-experiment", 1)
MOST_STRATEGIES = 100_000
FIGURES = (
    *("instances", "executions", "recomputed", "macs", "macs_executed"),
    *("offchip_read_bytes", "offchip_write_bytes", "onchip_bytes"),
)


def strategies(
    network: Network,
    tiles: Iterable[tuple[int, ...]],
    retentions: Sequence[Place] = ("recompute", "local"),
    *,
    placement: Placement = "shifted",
    axes: tuple[Axis, ...] = (),
    per_tensor: bool = False,
) -> tuple[Strategy, ...]:
    """Every choice of tile and of places: one of `retentions` along each tile dimension, for all tensors alike.

    With `per_tensor`, each tensor between two layers chooses by itself, and inputs are recomputed, which for them is
    loaded again.

    >>> from polyfuse.network.network import Builder
    >>> build = Builder("pair")
    >>> x = build.input("x", (1, 1, 20, 20))
    >>> pair = build.network(build.conv("conv2", build.conv("conv1", x, 1, kernel=3), 1, kernel=3))
    >>> [strategy.others for strategy in strategies(pair, [(8, 8)])]
    [('recompute', 'recompute'), ('recompute', 'local'), ('local', 'recompute'), ('local', 'local')]

    Errors: InvalidInput for unknown places, tiles that do not fit, no tiles, and for more than 100,000 strategies.
    """
    sizes = tuple(tiles)
    if not sizes or not retentions:
        raise InvalidInput("strategies: expected at least one tile and one place; give some")
    between = [layer.output.name for layer in network.layers if network.readers(layer.output)] if per_tensor else []
    number = sum(len(retentions) ** (len(tile) * (len(between) if per_tensor else 1)) for tile in sizes)
    if number > MOST_STRATEGIES:
        raise InvalidInput(
            f"strategies: expected at most {MOST_STRATEGIES:,}, got {number:,}; give fewer tiles or places, "
            "or a part of the network"
        )
    found: list[Strategy] = []
    for tile in sizes:
        places = list(product(retentions, repeat=len(tile)))
        chosen = product(places, repeat=len(between)) if per_tensor else ((each,) for each in places)
        for choice in chosen:
            others = ("recompute",) * len(tile) if per_tensor else choice[0]
            retention = dict(zip(between, choice, strict=True)) if per_tensor else {}
            found.append(Strategy(tile, others, retention, placement, axes=axes))
        check_strategy(network, found[-1])
    return tuple(dict.fromkeys(found))


@public
@dataclass(frozen=True)
class Trial:
    """One strategy of an experiment: its counts, its costs, or why it is refused.

    figures  the counts of the group, by the names of `Counts`; empty where the strategy is refused
    costs    the values of the cost functions, by name
    refusal  why it is not legal, or too complex; None where it was counted
    """

    strategy: Strategy
    figures: Mapping[str, int]
    costs: Mapping[str, float]
    refusal: str | None

    def row(self) -> dict[str, object]:
        """Flat and of plain types: what a column of a table is made of."""
        strategy = self.strategy
        places = {f"retention_{name}": "-".join(found) for name, found in strategy.retention.items()}
        return {
            "tile": tile_label(strategy.tile, strategy.axes, "whole"),
            "retention": "-".join(strategy.others),
            **places,
            "placement": strategy.placement,
            **{name: self.figures.get(name) for name in FIGURES},
            **self.costs,
            "refusal": self.refusal,
        }


@public
@dataclass(frozen=True)
class Experiment:
    """Trials in the order of the strategies. `pandas.DataFrame(found.rows())` is a table of them."""

    network: str
    trials: tuple[Trial, ...]

    def rows(self) -> list[dict[str, object]]:
        """A flat dictionary for each trial, all with the same keys."""
        found = [trial.row() for trial in self.trials]
        keys = dict.fromkeys(key for row in found for key in row)
        return [{key: row.get(key) for key in keys} for row in found]

    def best(self, cost: str) -> Trial:
        """The first trial with the least of a cost, or of a figure such as `onchip_bytes`.

        Errors: InvalidInput for an unknown name, and where every strategy was refused.
        """
        valued = [({**trial.costs, **trial.figures}, trial) for trial in self.trials if trial.refusal is None]
        if not valued:
            raise InvalidInput(
                f"best {cost!r}: expected a strategy that was counted, all {len(self.trials)} are refused"
            )
        known = valued[0][0]
        if cost not in known:
            raise InvalidInput(f"best {cost!r}: expected one of {', '.join(known)}")
        return min(valued, key=lambda pair: pair[0][cost])[1]

    def __str__(self) -> str:
        head, *cells = self._table()
        return "\n".join([f"{self.network}: {len(self.trials)} strategies", *columns([head, *cells], indent=2)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head, *cells = self._table()
        return html_table(f"{self.network}: {len(self.trials)} strategies", [str(each) for each in head], cells)

    def _table(self) -> list[tuple[object, ...]]:
        rows = self.rows()
        shown = [key for key in (rows[0] if rows else ()) if any(row[key] is not None for row in rows)]
        return [tuple(shown), *(tuple("" if row[key] is None else row[key] for key in shown) for row in rows)]


@dataclass(frozen=True)
class Counted:
    """A trial without its strategy, of which it has a digest, and without costs."""

    strategy: str
    figures: dict[str, int]
    steps: dict[str, int]
    other_bytes: dict[str, tuple[int, ...]]
    refusal: str | None


@dataclass(frozen=True)
class Record:
    """The file of an experiment; `network` is a digest of shapes, layers and relations, without weights."""

    name: str
    network: str
    counted: tuple[Counted, ...]


def experiment(
    network: Network,
    chosen: Iterable[Strategy],
    costs: Mapping[str, Cost] | None = None,
    *,
    executor: Executor | None = None,
    file: Path | None = None,
    progress: Progress | None = None,
) -> Experiment:
    """Schedule, prove and count every strategy for a whole network as one group.

    costs     functions of the `Counts` of a group, by name; they are called in this process, so that any function
              does, and again when an experiment is resumed
    executor  anything with the interface of `concurrent.futures`; it is not shut down. Without one, processes of this
              host: a script then needs `if __name__ == "__main__":`
    file      trials that are there are taken from it, new ones put into it as they come; it can be resumed after a
              kill at any moment

    Errors: InvalidInput for no strategies, for those that do not fit the network, costs named like figures or that give
    no number, and a file of another network.
    """
    wanted = tuple(dict.fromkeys(chosen))
    named = dict(costs or {})
    check_experiment(network, wanted, named)
    digest = network_digest(network)
    keys = [digest_of(strategy) for strategy in wanted]
    known = {each.strategy: each for each in kept(file, network.name, digest)}
    missing = [index for index, key in enumerate(keys) if key not in known]
    parcel = Parcel.of(network)

    def tell(left: int) -> None:
        if progress is not None:
            progress("counting", len(wanted) - left, len(wanted))

    tell(len(missing))
    calls = [(parcel, wanted[index], keys[index]) for index in missing]
    with closing(finished(counted_trial, calls, executor)) as results:
        for done, (_, counted) in enumerate(results, start=1):
            known[counted.strategy] = counted
            if file is not None:
                write_atomically(file, headed_text(Record(network.name, digest, tuple(known.values())), HEAD).encode())
            tell(len(missing) - done)
    trials = [trial_of(strategy, known[key], named) for strategy, key in zip(wanted, keys, strict=True)]
    return Experiment(network.name, tuple(trials))


def check_experiment(network: Network, wanted: Sequence[Strategy], costs: Mapping[str, Cost]) -> None:
    """Refuse what cannot be tried. Errors: InvalidInput."""
    if not wanted:
        raise InvalidInput("experiment: expected at least one strategy, got none; see strategies")
    for strategy in wanted:
        check_strategy(network, strategy)
    for name in costs:
        if name in FIGURES or name in ("tile", "retention", "placement", "refusal"):
            raise InvalidInput(f"experiment: cost {name!r} has the name of a column; choose another")


def counted_trial(parcel: Parcel, strategy: Strategy, key: str) -> Counted:
    """One strategy counted, or refused: a task for any process."""
    try:
        with ONE_AT_A_TIME:
            (group,) = fused(parcel.network(), strategy)
            found = counts(group)
    except (IllegalSchedule, TooComplex, Unbounded, InvalidInput) as error:
        return Counted(key, {}, {}, {}, str(error))
    figures = {name: getattr(found, name) for name in FIGURES}
    return Counted(key, figures, dict(found.steps), dict(found.other_bytes), None)


def trial_of(strategy: Strategy, counted: Counted, costs: Mapping[str, Cost]) -> Trial:
    """A trial with its costs. Errors: InvalidInput for a cost that is no number."""
    values: dict[str, float] = {}
    for name, cost in costs.items() if counted.refusal is None else ():
        other = {memory: (read, written) for memory, (read, written) in counted.other_bytes.items()}
        value = cost(Counts(**counted.figures, steps=counted.steps, other_bytes=other))
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidInput(f"experiment: expected a number from cost {name!r}, got {value!r}")
        values[name] = value
    return Trial(strategy, counted.figures, values, counted.refusal)


def kept(file: Path | None, name: str, digest: str) -> tuple[Counted, ...]:
    """The trials of a file from an earlier call. Errors: InvalidInput for those of another network."""
    if file is None or not file.exists():
        return ()
    where = f"experiment '{file}'"
    document = headed(read_text(file, where, "JSON"), where, "an experiment", HEAD, "count again")
    found: Record = decode(document, Record, where)
    if found.network != digest:
        what = f"network {name!r}, got {found.name!r}" if found.name != name else f"the same {name!r}, got another"
        raise InvalidInput(f"{where}: expected trials of {what}; name another file, or remove it")
    return found.counted
