"""Records from JSON: texts and keys that are too long for an error to show."""

from dataclasses import dataclass

import pytest

from polyfuse.errors import InvalidInput
from polyfuse.typed_json import LONGEST_TEXT, decode


@dataclass(frozen=True)
class Rates:
    name: str
    rates: dict[str, float]


@pytest.mark.parametrize("document", [{"name": "x" * 10**5, "rates": {}}, {"name": "x", "rates": {"y" * 10**5: 1.0}}])
def test_long_texts_are_refused_in_a_short_line(document: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match="at most 4,000 characters, got 100,000") as error:
        decode(document, Rates, "file")
    assert len(str(error.value)) < 200


def test_texts_up_to_that_are_read() -> None:
    name = "x" * LONGEST_TEXT
    assert decode({"name": name, "rates": {name: 1}}, Rates, "file") == Rates(name, {name: 1.0})
