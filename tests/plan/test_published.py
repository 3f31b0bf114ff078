"""The network that msf-CNN plans, and what polyfuse takes for it where memory is counted in the same way."""

import importlib.util
from functools import cache
from math import prod
from pathlib import Path
from types import ModuleType

import pytest

from polyfuse.plan.planning import Ways
from polyfuse.plan.search.pins import placed_plan
from polyfuse.plan.search.walk import Rules
from polyfuse.schedule.counts import macs_of

SCRIPT = Path(__file__).parents[2] / "docs" / "measured" / "peak_benchmarks.py"


@cache
def script() -> ModuleType:
    """The program that writes the page."""
    spec = importlib.util.spec_from_file_location("docs_peak_benchmarks", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def known() -> Ways:
    found: Ways = script().ways(script().published_network(), script().as_msf_counts())
    return found


def test_the_network_is_the_one_that_is_published() -> None:
    """53 convolutions, and as many multiply-accumulates as msf-CNN says, whose count has taps on padding in it."""
    layers = known().graph.network.layers
    assert len(layers) == 53 and {layer.kind for layer in layers} == {"conv"}
    outputs = [layer.output.concrete_shape for layer in layers]
    taps = [prod(layer.weights[0].concrete_shape[1:]) for layer in layers]
    assert sum(prod(shape) * tap for shape, tap in zip(outputs, taps, strict=True)) == script().PUBLISHED_MACS
    assert outputs[-1] == (1, 448, 5, 5)


@pytest.mark.parametrize(("peak_bytes", "most"), [(25674, 1.253), (15340, 1.382)])
def test_less_is_computed_again_in_the_memory_that_is_published(peak_bytes: int, most: float) -> None:
    """A long group in the beginning and short ones after it are enough, and are priced sooner than all."""
    rules = Rules(allowed=lambda group: len(group) <= 3 or (group[0] == "stem" and len(group) in (7, 13)))
    found = known().searches.joint.found(peak_bytes, rules)
    assert found.peak_bytes <= peak_bytes and placed_plan(known().problem, found.steps, peak_bytes) is not None
    macs, executed = (
        macs_of(operation.layer for operation in known().graph.operations),
        sum(step.option.macs_executed for step in found.steps),
    )
    assert macs < executed < most * macs
    assert {name for step in found.steps for name, place in step.option.sources.items() if place == "off"} == {"x"}
