"""Cross-checks against barvinok, where the package islpy-barvinok is installed in the place of islpy."""

from itertools import product

import islpy as isl
import pytest
from hypothesis import given, settings

from polyfuse.errors import TooComplex, Unbounded
from polyfuse.sets.counting import count
from polyfuse.sets.symbolic import closed_forms
from polyfuse.sets.symbolic.closed_forms import cardinality, has_barvinok
from tests.sets.random_sets import RandomSet, random_sets
from tests.sets.symbolic.test_cardinality import LAYERS, SIZES, TILES
from tests.sets.test_counting import SETS

pytestmark = pytest.mark.skipif(not has_barvinok(), reason="the installed islpy is not islpy-barvinok: no card()")


@pytest.mark.parametrize("text", [text for text, _ in SETS])
def test_count_is_card(text: str) -> None:
    s = isl.Set(text)
    value = s.card().eval(isl.Point.zero(s.card().get_domain_space()))
    assert count(s) == value.to_python()


@pytest.mark.parametrize("text", [*LAYERS, *(text for text, _, _ in SIZES)])
def test_cardinality_of_sets_is_card(text: str) -> None:
    own, theirs = (cardinality(isl.Set(text), backend) for backend in ("own", "barvinok"))
    assert own.symbols == theirs.symbols
    for values in product(range(-3, 40), repeat=len(own.symbols)):
        sizes = dict(zip(own.symbols, values, strict=True))
        assert own.at(**sizes) == theirs.at(**sizes)


@pytest.mark.parametrize("text", TILES)
def test_cardinality_of_maps_is_card(text: str) -> None:
    own, theirs = (cardinality(isl.Map(text), backend) for backend in ("own", "barvinok"))
    assert own.symbols == theirs.symbols
    for values in product(range(-2, 12), repeat=len(own.symbols)):
        sizes = dict(zip(own.symbols, values, strict=True))
        assert own.at(**sizes) == theirs.at(**sizes)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(random_sets(parameters=2, dimensions=2, largest=2))
def test_random_sets_are_card(random: RandomSet) -> None:
    own, theirs = (cardinality(isl.Set(random.text()), backend) for backend in ("own", "barvinok"))
    for values in product(range(-3, 9), repeat=random.parameters):
        sizes = dict(zip(random.symbols, values, strict=True))
        assert own.at(**sizes) == theirs.at(**sizes)


@pytest.mark.parametrize("backend", ["own", "barvinok"])
def test_unbounded_sets_are_refused_by_both(backend: closed_forms.Backend) -> None:
    with pytest.raises(Unbounded):
        cardinality(isl.Set("[N] -> { A[i] : i >= N }"), backend)


def test_auto_falls_back_on_barvinok(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: isl.Set) -> None:
        raise TooComplex("no closed form")

    monkeypatch.setattr(closed_forms, "_own_cardinality", refuse)
    assert cardinality(isl.Set("[N] -> { A[i] : 0 <= i < N }")).at(N=5) == 5
    with pytest.raises(TooComplex):
        cardinality(isl.Set("[N] -> { A[i] : 0 <= i < N }"), "own")
