"""Which options have no effect when: one table for all commands. A request enters; a refusal leaves, or nothing.

A new option of a command goes into a line of UNUSED for each mode in which the command would not look at it. A test
compares these, and the options that always have an effect, with the options that click knows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from polyfuse.plan.planfile import kind_in

Request = Mapping[str, Any]
ACTIONS = "polyfuse.cli.actions"
HOST = "host"
"""The machine of `polyfuse plan` that is this host."""


@dataclass(frozen=True)
class Unused:
    """Options of a command, by click's names, that have no effect `when` a request says so; `why` ends the error."""

    options: tuple[str, ...]
    when: Callable[[Request], object]
    why: str


class StrictCommand(click.Command):
    """A command that refuses options it would ignore, else does what `act` in its module of `actions` does."""

    def __init__(self, name: str, **attributes: Any) -> None:
        super().__init__(name, **attributes)
        self.callback = lambda **request: import_module(f"{ACTIONS}.{name.replace('-', '_')}").act(**request)

    def invoke(self, ctx: click.Context) -> Any:
        refuse_unused(ctx, UNUSED.get(str(self.name), ()))
        return super().invoke(ctx)


def refuse_unused(ctx: click.Context, rules: tuple[Unused, ...]) -> None:
    """Refuse the first given option that has no effect.

    Errors: click.UsageError.
    """
    known = {param.name: param for param in ctx.command.params}
    for rule in rules:
        given = [name for name in rule.options if is_given(ctx, name)]
        if given and rule.when(ctx.params):
            raise click.UsageError(f"{flag(known[given[0]], ctx)} has no effect {rule.why}; leave it out", ctx)


def is_given(ctx: click.Context, name: str) -> bool:
    """Whether the user gave the option, even with its default value."""
    return ctx.get_parameter_source(name) in (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)


def flag(param: click.Parameter, ctx: click.Context) -> str:
    """An option as the user wrote it."""
    negated = param.secondary_opts and ctx.params.get(str(param.name)) is False
    return max(param.secondary_opts if negated else param.opts, key=len)


def asks_for_rows(request: Request) -> bool:
    """Whether some strategy is named; `show` recomputes otherwise."""
    return bool(request["names"] or request["mixed"] or request["retention"])


def keeps_nothing(request: Request) -> bool:
    """No fused row that is asked for retains anything on chip: the placement of first executions is for such rows."""
    if not asks_for_rows(request):
        return False
    asked = [*request["mixed"], *(places for _, places in request["retention"])]
    if not asked and "mixed" in request["names"]:
        return False
    return "local" not in {*request["names"], *(place for places in asked for place in places)}


def plan_kind(request: Request, key: str = "plan_file") -> str | None:
    """For which kind of machine the plan in a file is; None for a file of something else, and no file."""
    return kind_in(Path(request[key])) if request[key] is not None else None


def plans_for_host(request: Request) -> bool:
    return request["machine"] == HOST or plan_kind(request) == "host"


def has_plan(request: Request) -> bool:
    return request["plan_file"] is not None


def races_no_halide(request: Request) -> bool:
    words = [word.strip() for word in request["peers"].split(",")]
    return words != ["all"] and "halide" not in words


PLACEMENT = Unused(
    ("placement",), keeps_nothing, "without a local strategy: it says when values that are kept on chip are computed"
)
PLANNED = (
    Unused(("groups", "longest", "exact", "layout", "untuned"), has_plan, "with --plan: the plan says it"),
    Unused(("longest", "untuned"), lambda request: request["groups"] != "planned", "with --groups published or single"),
)
NOT_SIMULATED = Unused(
    ("groups", "longest", "threads", "exact", "layout", "untuned", "embed", "cc", "cflags"),
    lambda request: plan_kind(request) == "scratchpad",
    "with a plan for a scratchpad machine",
)
UNUSED: Mapping[str, tuple[Unused, ...]] = {
    "compare": (
        Unused(
            ("repeats", "threads", "kernels", "layout", "exact"),
            lambda request: request["no_run"],
            "with --no-run, which runs no code",
        ),
        Unused(
            ("exact",), lambda request: request["kernels"] == "scalar", "with --kernels scalar, which is always exact"
        ),
        PLACEMENT,
    ),
    "show": (replace(PLACEMENT, when=lambda request: keeps_nothing(request) or not asks_for_rows(request)),),
    "machine": (
        Unused(("seconds",), lambda request: not request["wanted"], "without --probe"),
        Unused(("path",), lambda request: not (request["wanted"] or request["fitting"]), "without --probe or --fit"),
    ),
    "tune": (),
    "explain": (
        Unused(
            ("profile", "conv_to_pool", "json_file"),
            lambda request: plan_kind(request, "workload") == "scratchpad",
            "for a plan for a scratchpad machine, whose groups are known",
        ),
        Unused(
            ("tensor",),
            lambda request: plan_kind(request, "workload") != "scratchpad",
            "for a workload that is no plan for a scratchpad machine",
        ),
        Unused(("model",), lambda request: plan_kind(request, "workload") is None, "for a workload that is no plan"),
    ),
    "compile": (NOT_SIMULATED, *PLANNED),
    "run": (replace(NOT_SIMULATED, options=("threads",)), *PLANNED),
    "verify": (
        *PLANNED,
        Unused(
            ("threads",),
            lambda request: has_plan(request) or request["groups"] == "single",
            "with --plan or --groups single: it only decides what is fused",
        ),
    ),
    "plan": (
        Unused(
            (
                *("onchip_bytes", "no_external", "goal", "cycles_per_byte", "dtype", "early", "baselines", "certify"),
                *("capacities", "sweep_file", "jobs", "report_file", "folder"),
            ),
            plans_for_host,
            "for the host: it is for machines with a managed on-chip memory",
        ),
        Unused(
            ("groups", "threads", "exact", "layout", "untuned"),
            lambda request: not plans_for_host(request),
            f"but for --machine {HOST}",
        ),
        Unused(("groups", "threads", "exact", "layout", "untuned"), has_plan, "with --plan: it is for a new plan"),
        *PLANNED[1:],
        Unused(
            ("machine", "onchip_bytes", "no_external", "goal", "cycles_per_byte", "dtype", "early", "baselines"),
            has_plan,
            "with --plan: it is for making a new plan",
        ),
        Unused(
            ("longest",),
            lambda request: (
                plan_kind(request) == "host"
                or (has_plan(request) and request["capacities"] is None and not request["certify"])
            ),
            "with --plan and neither --sweep nor --certify: it is for a new plan",
        ),
        Unused(
            ("early", "cycles_per_byte"),
            lambda request: request["goal"] != "latency",
            "with an --objective other than latency",
        ),
        Unused(
            ("certify",),
            lambda request: request["early"],
            "with --early: it confirms plans whose weights are loaded with their groups",
        ),
        Unused(("sweep_file", "jobs"), lambda request: request["capacities"] is None, "without --sweep"),
    ),
    "bench": (Unused(("search_seconds",), races_no_halide, "without the peer halide, the only one that searches"),),
    "import-scop": (
        Unused(
            ("names", "mixed", "retention", "placement", "order", "weights", "axes", "path"),
            lambda request: not request["tiles"],
            "without --tile: a schedule needs a --tile, such as --tile 8x8",
        ),
        PLACEMENT,
    ),
    "export-scop": (PLACEMENT,),
}
"""For each command, in the order in which they are looked at, options that a request makes void."""
