"""A short seeded run of the random models, and what it notices of planted faults."""

import random
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from polyfuse.network.onnx import attributes
from polyfuse.network.onnx.folding import FOLDED
from polyfuse.network.onnx.registry import CONVERTERS
from polyfuse.network.resampling import Resampling
from tests.fuzz.draft import NEWEST, Draft
from tests.fuzz.models import Drawn, Tally, check, draw
from tests.fuzz.movers import DRAWS

FIRST = 7_000_000
MODELS = 500


@cache
def drawn() -> tuple[Drawn, ...]:
    """The first models of a seed."""
    return tuple(draw(FIRST + k) for k in range(MODELS))


def test_seeded_models_agree_with_onnxruntime() -> None:
    total = Tally()
    for k, each in enumerate(drawn()):
        total.add(check(each, compiled=k < 8))
    assert total.failures == []
    agree = sum(count for outcome, count in total.outcomes.items() if outcome.startswith("agree"))
    assert agree > 0.85 * MODELS and total.outcomes["refused"] < 0.06 * MODELS, total.outcomes
    assert total.outcomes["agree, compiled too"] > 1


def test_every_operator_is_drawn_in_every_operator_set() -> None:
    found: set[str] = set()
    for k in range(12_000):
        rng = random.Random(k)
        draft = Draft(rng, rng.randint(7, NEWEST))
        rng.choice(DRAWS)(draft, None)
        found |= {f"{node.domain}.{node.op_type}".lstrip(".") for node in draft.nodes}
    rare = {"And", "Or", "Not", "Range", "Constant", "ConstantOfShape"}  # of sizes and conditions, in other tests
    assert {*CONVERTERS, *FOLDED} - found <= rare


def wrong_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last element of an axis is read one too early."""
    nearest = Resampling.nearest
    monkeypatch.setattr(Resampling, "nearest", lambda self, at, size: [max(p - 1, 0) for p in nearest(self, at, size)])


def unread(name: str) -> Callable[[pytest.MonkeyPatch], None]:
    """An attribute is read, and its default used."""

    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        attribute = attributes.attribute
        silent: Any = lambda node, key, default: attribute(node, key, default) if key != name else default  # noqa: E731
        monkeypatch.setattr(attributes, "attribute", silent)
        stored = attributes._stored
        monkeypatch.setattr(attributes, "_stored", lambda node, key: stored(node, key) and (key != name or None))

    return plant


def axes_from_the_front(monkeypatch: pytest.MonkeyPatch) -> None:
    """Axes counted from the end are taken for the first one."""
    monkeypatch.setattr(attributes, "axis_of", lambda node, x, axis: max(axis, 0))


FAULTS = {
    "a wrong pixel": (wrong_pixel, "Resize"),
    "ceil_mode unread": (unread("ceil_mode"), "MaxPool AveragePool"),
    "count_include_pad unread": (unread("count_include_pad"), "AveragePool"),
    "epsilon unread": (unread("epsilon"), "InstanceNormalization"),
    "alpha unread": (unread("alpha"), "Elu LeakyRelu Gemm"),
    "axes from the front": (axes_from_the_front, "Concat Gather Softmax"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_noticed(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, operators = FAULTS[fault]
    suitable = [each for each in drawn() if {n.op_type for n in each.model.graph.node} & set(operators.split())]
    plant(monkeypatch)
    assert any(check(each).failures for each in suitable)
