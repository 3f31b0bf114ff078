"""The decisions about one group: its tiles, and what happens to values that two of them need."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from polyfuse.choices import BUFFER, RETAINED_IN, Axis, Place
from polyfuse.doors import public
from polyfuse.errors import InvalidInput
from polyfuse.schedule.retention import Placement
from polyfuse.text import tile_label


@public
@dataclass(frozen=True)
class Strategy:
    """The decisions about one group.

    tile       sizes of a tile of the group's last output: rows, or rows x columns; () takes whole images
    axes       other axes that `tile` cuts, by name (n, c, h, w of images) or number; an axis that comes twice has
               tiles inside of tiles, the outer ones first
    retention  for a tensor, a place for each entry of `tile`; `others` holds for tensors not named, weights excepted
    placement  whether the first tile makes its whole halo (`first`) or each tile only what is new (`shifted`)
    order      positions in `tile`, outermost loop first; None puts the dimensions that nothing is retained along first
    weights    `once`: loaded before the first tile and kept; `tile`: loaded again by every tile that reads them
    """

    tile: tuple[int, ...] = ()
    others: tuple[Place, ...] = ()
    retention: Mapping[str, tuple[Place, ...]] = field(default_factory=dict)
    placement: Placement = "first"
    order: tuple[int, ...] | None = None
    weights: Literal["once", "tile"] = "once"
    axes: tuple[Axis, ...] = ()

    def __post_init__(self) -> None:
        others = self.others or ("recompute",) * len(self.tile)
        object.__setattr__(self, "others", others)
        object.__setattr__(self, "retention", dict(self.retention))
        for name, places in {"others": others, **self.retention}.items():
            if len(places) != len(self.tile) or any(place not in RETAINED_IN for place in places):
                raise InvalidInput(
                    f"retention of {name!r}: expected one of {', '.join(RETAINED_IN)} for each of the "
                    f"{len(self.tile)} tile dimensions, got {places}"
                )
            if len({RETAINED_IN[place] for place in places} - {None, BUFFER}) > 1:
                raise InvalidInput(f"retention of {name!r}: expected one memory besides the buffer, got {places}")
        if self.axes and len(self.axes) != len(self.tile):
            raise InvalidInput(
                f"tile {tile_label(self.tile)}: expected a size for each of the axes {', '.join(map(str, self.axes))}"
            )
        if self.placement not in ("first", "shifted"):
            raise InvalidInput(f"placement {self.placement!r}: expected 'first' or 'shifted'")
        if self.weights not in ("once", "tile"):
            raise InvalidInput(f"weights {self.weights!r}: expected 'once' or 'tile'")

    def places(self, tensor: str) -> tuple[Place, ...]:
        """The places of a tensor, in the order of `tile`."""
        return tuple(self.retention.get(tensor, self.others))

    def running_order(self) -> tuple[int, ...]:
        """The given order, or the dimensions along which everything is recomputed outermost.

        Tiles that lie inside of others run inside of them.
        """
        if self.order is not None:
            return self.order
        every = [self.others, *self.retention.values()]
        kept = [any(RETAINED_IN[places[d]] is not None for places in every) for d in range(len(self.tile))]
        inside = [self.axes[:d].count(self.axes[d]) if self.axes else 0 for d in range(len(self.tile))]
        return tuple(sorted(range(len(self.tile)), key=lambda d: (inside[d], kept[d])))

    @staticmethod
    def named(
        name: str, tile: tuple[int, ...], placement: Placement = "first", axes: tuple[Axis, ...] = ()
    ) -> "Strategy":
        """One place for every tensor and dimension. Errors: InvalidInput."""
        if name not in RETAINED_IN:
            raise InvalidInput(f"strategy {name!r}: expected one of {', '.join(RETAINED_IN)}")
        return Strategy(tile, (name,) * len(tile), placement=placement, axes=axes)
