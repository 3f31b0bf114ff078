"""The effort with which tests search all tiles of a plan: less than users get, but in tests of certificates."""

import pytest

from polyfuse.plan.search import program

FULL = {name: getattr(program, name) for name in ("ALL_EFFORT", "MOST_EFFORT")}
SMALL = {name: effort // 40 for name, effort in FULL.items()}
"""Plans are as legal and exact, but their bounds less often reach them."""


def use(patch: pytest.MonkeyPatch, efforts: dict[str, int]) -> None:
    """Plan with these efforts until the patch is undone."""
    for name, effort in efforts.items():
        patch.setattr(program, name, effort)
