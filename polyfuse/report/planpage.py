"""A plan for a scratchpad machine as one page that needs nothing else: tables and pictures in a file of HTML.

ScratchPlan + its groups in time + Pictures ──page()──> text
"""

from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from polyfuse.plan.price.timeline import GroupTime
from polyfuse.plan.scratchplan import ScratchPlan
from polyfuse.report.format import short_bytes, short_share, significant
from polyfuse.report.planfigures import Picture
from polyfuse.report.scratchplan import (
    aim_text,
    difference,
    heading,
    layers_text,
    memory_text,
    onchip_bytes,
    retention_text,
    tile_text,
    time_bytes,
    totals_lines,
    weights_text,
)

TEMPLATE = "plan.html"


def page(plan: ScratchPlan, times: Sequence[GroupTime], pictures: Sequence[Picture]) -> str:
    """The page; names that come from a model are text in it, whatever they hold."""
    plan = plan.judged()
    environment = Environment(
        loader=PackageLoader("polyfuse.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(
        heading=heading(plan),
        aim=aim_text(plan) + memory_text(plan.machine),
        totals=totals_lines(plan),
        groups=[_group(plan, index, time) for index, time in enumerate(times)],
        pins=sorted(plan.pins, key=lambda pin: (pin.first, pin.last)),
        baselines=[_baseline(plan, name) for name in plan.baselines],
        goal=plan.objective.goal,
        pictures=[(picture, Markup(picture.svg)) for picture in pictures],
        short_bytes=short_bytes,
    )


def _group(plan: ScratchPlan, index: int, time: GroupTime) -> dict[str, str]:
    """The cells of a group."""
    group = plan.groups[index]
    return {
        "title": layers_text(group),
        "operations": ", ".join(group.operations),
        "tile": tile_text(group, time),
        "overlap": retention_text(group, time),
        "weights": weights_text(group, time),
        "steps": f"{time.steps:,}",
        "onchip": short_bytes(onchip_bytes(plan, index)),
        "offchip": short_bytes(time_bytes(time)) if time_bytes(time) else "0",
        "cycles": f"{group.cycles:,.0f}",
        "bound": time.bound,
    }


def _baseline(plan: ScratchPlan, name: str) -> dict[str, str]:
    """The cells of a way of planning; only its name where nothing fits."""
    totals = plan.baselines[name]
    if totals is None:
        return {"name": name}
    return {
        "name": name,
        "cycles": f"{totals.latency_cycles:,.0f}",
        "feature_maps": short_bytes(totals.offchip_bytes.feature_maps) if totals.offchip_bytes.feature_maps else "0",
        "weights": short_bytes(totals.offchip_bytes.weights) if totals.offchip_bytes.weights else "0",
        "peak": short_bytes(totals.onchip_peak_bytes),
        "again": short_share(totals.macs_executed - totals.macs, totals.macs),
        "energy": significant(totals.energy_pj / 1e6),
        "joint": difference(plan, totals),
    }
