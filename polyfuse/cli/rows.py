"""Tiles and strategies on the command line: options of what is compared, shown and exported. Candidates leave."""

from collections.abc import Mapping
from typing import Any

import click

from polyfuse.bench.compare import DEFAULT_MIXED, NAMES, Candidate, Choices, candidates, default_tiles
from polyfuse.cli.options import Option
from polyfuse.cli.values import Pair, Places, Tile
from polyfuse.errors import InvalidInput
from polyfuse.network.network import Network
from polyfuse.schedule.groups import fused
from polyfuse.schedule.storage import Storage

ORDERS = {"rows,columns": (0, 1), "columns,rows": (1, 0)}

ROWS: tuple[Option, ...] = (
    click.option(
        "--tile",
        "tiles",
        type=Tile(),
        multiple=True,
        metavar="ROWS[xCOLUMNS]",
        help="Cut the last output into tiles of this size; repeat for more sizes.",
    ),
    click.option(
        "--strategy",
        "names",
        type=click.Choice(NAMES),
        multiple=True,
        help="What happens to values that two tiles both need; repeat for more strategies.",
    ),
    click.option(
        "--mixed",
        type=Places(),
        multiple=True,
        metavar="PLACE[,PLACE]",
        help="Add a mixed strategy: places along rows and along columns, such as local,recompute; repeat for more.",
    ),
    click.option(
        "--retain",
        "retention",
        type=Pair(Places(), "TENSOR=PLACE or TENSOR=PLACE,PLACE, such as conv1_out=local,recompute"),
        multiple=True,
        metavar="TENSOR=PLACE[,PLACE]",
        help="Choose the places of one tensor in mixed strategies; the others follow --mixed, else recompute.",
    ),
    click.option(
        "--placement",
        type=click.Choice(("first", "shifted")),
        show_default="both for local, shifted for mixed, first for global",
        help="When values that are kept are computed: by the first tile that needs them, or in tiles shifted so that "
        "each computes only what is new.",
    ),
    click.option("--order", type=click.Choice(tuple(ORDERS)), help="Order of the loops over tiles, outermost first."),
    click.option(
        "--weights",
        type=click.Choice(("once", "tile")),
        default="once",
        show_default=True,
        help="Load weights once, or again for every tile.",
    ),
)
"""Tiles, and what happens to what two of them need."""


def rows_of(network: Network, request: Mapping[str, Any]) -> list[Candidate]:
    """The rows that were asked for; with --mixed or --retain, mixed rows are among them.

    Errors: InvalidInput for an option that fits no tile.
    """
    tiles = tuple(dict.fromkeys(request["tiles"])) or default_tiles(network)
    retention, order = dict(request["retention"]), request["order"]
    mixed = request["mixed"] or ((("recompute",), ("recompute", "recompute")) if retention else DEFAULT_MIXED)
    names = dict.fromkeys(request["names"] or NAMES)
    if request["mixed"] or retention:
        names["mixed"] = None
    ranks = {len(tile) for tile in tiles}
    for places in request["mixed"]:
        if len(places) not in ranks:
            raise InvalidInput(
                f"--mixed {','.join(places)}: expected a --tile with a size for each place, such as "
                f"--tile {'x'.join(['8'] * len(places))}; add one"
            )
    for tensor, places in retention.items():
        if len(places) not in ranks | {1}:
            raise InvalidInput(
                f"--retain {tensor}={','.join(places)}: expected one place, or a --tile with a size for each, "
                f"such as --tile {'x'.join(['8'] * len(places))}; add one"
            )
    if request["weights"] == "tile" and not network.weights:
        raise InvalidInput(f"--weights tile: network {network.name!r} has no weights to load; leave it out")
    if order is not None and 2 not in ranks:
        raise InvalidInput(f"--order {order}: expected a --tile of rows and columns, such as --tile 8x8; add one")
    choices = Choices(mixed, retention, request["placement"], ORDERS.get(order), request["weights"])
    return candidates(tiles, tuple(names), choices)


def only_group(network: Network, request: dict[str, Any]) -> Storage:
    """The one group that was asked for, proved legal. `local` rows are shifted where nothing else is said.

    Errors: click.UsageError where more than one is asked for, or none.
    """
    if request["placement"] is None and tuple(request["names"]) == ("local",):
        request["placement"] = "shifted"
    rows = [row for row in rows_of(network, request) if row.strategy is not None]
    if not request["tiles"] or len(rows) != 1:
        raise click.UsageError(
            "expected one schedule: one --tile and one --strategy, or one --mixed with --strategy mixed; got "
            f"{len(rows) if request['tiles'] else 0}"
        )
    (strategy,) = (row.strategy for row in rows)
    if strategy is None:
        raise InvalidInput("a network without fusion has no schedule of its own; give a --strategy")
    (group,) = fused(network, strategy)
    return group
