"""A strategy in a file: four keys of the record that it is part of.

Strategy, or none ──written()──> `tile`, `others`, `retention`, `placement` ──strategy_in()──> Strategy, or none

A record whose `tile` is null runs layer by layer. The order of tiles, other axes and when weights are loaded are not
written: they are what a strategy has by default.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from polyfuse.schedule.strategy import Strategy


class Written(Protocol):
    """A record with the keys of a strategy."""

    @property
    def tile(self) -> tuple[int, ...] | None:
        """The tile; none layer by layer."""

    @property
    def others(self) -> tuple[str, ...]:
        """The places of tensors that are not named."""

    @property
    def retention(self) -> Mapping[str, tuple[str, ...]]:
        """The places of tensors by name."""

    @property
    def placement(self) -> str:
        """`first` or `shifted`."""


def written(strategy: Strategy | None) -> dict[str, Any]:
    """The keys of a record, with what they hold.

    >>> written(Strategy((8,), ("local",)))
    {'tile': (8,), 'others': ('local',), 'retention': {}, 'placement': 'first'}
    >>> written(None)
    {'tile': None, 'others': (), 'retention': {}, 'placement': 'first'}
    """
    if strategy is None:
        return {"tile": None, "others": (), "retention": {}, "placement": "first"}
    assert (strategy.order, strategy.weights, strategy.axes) == (None, "once", ()), strategy
    retention = {name: tuple(places) for name, places in strategy.retention.items()}
    return {
        "tile": strategy.tile,
        "others": tuple(strategy.others),
        "retention": retention,
        "placement": strategy.placement,
    }


def strategy_in(record: Written) -> Strategy | None:
    """The strategy of a record.

    Errors: InvalidInput for places and placements that there are not.
    """
    if record.tile is None:
        return None
    return Strategy(record.tile, record.others, record.retention, record.placement)  # type: ignore[arg-type]
