"""What a request asks for, as values: its workload, plan, settings and rows.

parsed options of `polyfuse.cli.options` ──> Workload, Network, Source, Plan, Settings, [Candidate]
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import click

from polyfuse.bench.compare import DEFAULT_MIXED, Candidate, Choices, candidates, default_tiles
from polyfuse.choices import STRATEGIES, Axis
from polyfuse.cli.options import ORDERS, REPEATED
from polyfuse.codegen.program import Program
from polyfuse.deploy.plan import Plan, read_plan
from polyfuse.deploy.settings import Settings
from polyfuse.deploy.source import Source, read_source
from polyfuse.errors import InvalidInput
from polyfuse.loading import Workload
from polyfuse.network.network import Network
from polyfuse.plan.planfile import Origin
from polyfuse.plan.scratchplan import ScratchPlan
from polyfuse.schedule.groups import fused
from polyfuse.schedule.storage import Storage

Request = Mapping[str, Any]


def origin_asked(request: Request) -> Origin:
    """Where the network that was asked for is read from, as plans say it.

    Errors: click.UsageError where one name is given twice.
    """
    pairs = {field.name: request[field.name] for field in fields(Origin) if field.name != "path"}
    for key, option in REPEATED.items():
        names = [name for name, _ in pairs[key]]
        if again := next((name for name in names if names.count(name) > 1), None):
            raise click.UsageError(f"{option} {again!r}: given {names.count(again)} times; give it once")
        pairs[key] = dict(pairs[key])
    return Origin(request["workload"], **pairs)


def workload_of(origin: Origin) -> Workload:
    """The workload that a plan was made for."""
    return Workload(**vars(origin))


def network_asked(request: Request, rewritten: bool = True) -> Network:
    """The network of a request's workload; that of an ONNX model is rewritten unless `rewritten` is False."""
    return workload_of(origin_asked(request)).network(rewritten)


def source_asked(request: Request) -> Source:
    """The network of a request, or its part, rewritten."""
    return read_source(workload_of(origin_asked(request)))


def origin_of(plan: Plan | ScratchPlan, path: Path, model: str | None, request: Request) -> Origin:
    """Where the network of a plan is read from: as the plan says, but for what the user says.

    Errors: InvalidInput where neither of them names a model.
    """
    known = plan.origin or Origin(model or "", {}, None)
    if not (model or known.path):
        raise InvalidInput(f"plan '{path}': it does not say which workload it was made for; name that with --model")
    given = {name: value for name, value in vars(origin_asked(request)).items() if value not in (None, {})}
    return replace(known, **given | {"path": model or known.path})


def settings_of(request: Request) -> Settings:
    """Settings of a request, with the compiler found."""
    names = ("groups", "longest", "exact", "threads", "untuned")
    return Settings(interface=request["layout"], **{name: request[name] for name in names}).ready


def given_plan(request: Request) -> Plan | ScratchPlan | None:
    """The plan in the file that was named."""
    return read_plan(request["plan_file"]) if request["plan_file"] is not None else None


def tell_threads(code: Program, settings: Settings) -> None:
    """Say so where more threads were asked for than the code has independent tiles."""
    used = settings.threads_of(code)
    if used < settings.threads:
        most = f"at most {used} tiles are" if used > 1 else "no group has tiles that are"
        click.echo(f"runs on {used} thread{'s'[: used > 1]}, not {settings.threads}: {most} independent of each other")


def rows_of(network: Network, request: Mapping[str, Any]) -> list[Candidate]:
    """The rows that were asked for; with --mixed or --retain, mixed rows are among them.

    Errors: InvalidInput for an option that fits no tile.
    """
    tiles = tuple(dict.fromkeys(request["tiles"])) or default_tiles(network)
    retention, order = dict(request["retention"]), request["order"]
    mixed = request["mixed"] or ((("recompute",), ("recompute", "recompute")) if retention else DEFAULT_MIXED)
    names = dict.fromkeys(request["names"] or STRATEGIES)
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
    if order is not None and 2 not in ranks and not request["axes"]:
        raise InvalidInput(f"--order {order}: expected a --tile of rows and columns, such as --tile 8x8; add one")
    if axes := request["axes"] or ():
        check_axes(axes, request["tiles"], order)
    loops = tuple(range(len(axes))) if axes else ORDERS.get(order)
    choices = Choices(mixed, retention, request["placement"], loops, request["weights"], axes)
    return candidates(tiles, tuple(names), choices)


def check_axes(axes: Sequence[Axis], tiles: Sequence[Sequence[int]], order: str | None) -> None:
    """Each tile has a size for each axis, and the axes say the order. Errors: InvalidInput."""
    asked = f"--axes {','.join(map(str, axes))}"
    if order is not None:
        raise InvalidInput(f"{asked}: tiles run in the order of the axes; leave --order {order} out")
    if not tiles or any(len(tile) != len(axes) for tile in tiles):
        raise InvalidInput(
            f"{asked}: expected --tile with a size for each axis, such as --tile {'x'.join(['4'] * len(axes))}"
        )


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
