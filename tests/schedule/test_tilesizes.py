"""One formula for all tile sizes gives the executions that schedules of each size count."""

from random import Random

import pytest

from polyfuse.errors import InvalidInput
from polyfuse.network.network import Builder, Network
from polyfuse.network.tensor import Size
from polyfuse.schedule.counts import counts
from polyfuse.schedule.schedule import scheduled
from polyfuse.schedule.storage import storage
from polyfuse.schedule.strategy import Strategy
from polyfuse.schedule.tilesizes import over_tiles, tile_formulas


def drawn(seed: int, height: Size, width: Size) -> Network:
    """A chain of two or three layers with kernels, padding and, in the first, strides of their own."""
    random = Random(seed)
    build = Builder(f"chain{seed}")
    x = build.input("x", (1, 1, height, width))
    x = build.conv("a", x, 2, kernel=random.choice((1, 3)), stride=random.choice((1, 2)), bias=False)
    for name in "bc"[: random.randint(1, 2)]:
        size = random.choice((2, 3))
        x = build.conv(name, x, 1, kernel=size, padding=random.randrange(size), bias=False)
    return build.network(x)


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("seed", range(6))
def test_executions_are_counts(seed: int, rank: int) -> None:
    found = over_tiles(drawn(seed, "H", "W"), rank, 17, (1, 2, 3, 5))
    concrete = drawn(seed, 17, 17)
    counted = [counts(storage(scheduled(concrete, Strategy((tile,) * rank)))) for tile in found.tiles]
    assert list(found.executions) == [each.executions for each in counted]
    assert found.instances == counts(storage(scheduled(concrete, Strategy()))).executions


def test_several_outputs_are_refused() -> None:
    build = Builder("two")
    x = build.input("x", (1, 1, "H", 8))
    heads = [build.conv(name, x, 1, kernel=3) for name in "ab"]
    with pytest.raises(InvalidInput, match="expected one output, got 2"):
        tile_formulas(build.network(*heads), 1)
