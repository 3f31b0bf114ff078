"""The rows of a comparison: which there are, and that what was chosen reaches their strategies."""

from weakref import WeakSet

import pytest

from polyfuse.bench.compare import Candidate, Choices, candidates, compare, default_tiles, prepared
from polyfuse.bench.emit import row_names
from polyfuse.codegen.kernel import Kernel
from polyfuse.errors import InvalidInput
from polyfuse.network.network import Builder, Network


@pytest.fixture
def pair() -> Network:
    build = Builder("pair")
    x = build.input("x", (1, 1, 20, 20))
    return build.network(build.conv("conv2", build.conv("conv1", x, 1, kernel=3), 1, kernel=3))


def described(rows: list[Candidate]) -> list[str]:
    return [str(row) for row in rows]


def test_every_strategy_of_every_tile() -> None:
    assert described(candidates([(4,), (8, 8)])) == [
        "unfused",
        "recompute 4",
        "local first 4",
        "local shifted 4",
        "global first 4",
        "recompute 8x8",
        "local first 8x8",
        "local shifted 8x8",
        "global first 8x8",
        "mixed shifted 8x8",
        "mixed shifted 8x8",
    ]


def test_choices_reach_the_strategies() -> None:
    choices = Choices(placement="shifted", order=(1, 0), weights="tile")
    rows = candidates([(4,), (8, 8)], ["local", "global"], choices)
    assert described(rows)[1:] == ["local shifted 4", "global shifted 4", "local shifted 8x8", "global shifted 8x8"]
    strategies = [row.strategy for row in rows if row.strategy is not None]
    assert [strategy.order for strategy in strategies] == [None, None, (1, 0), (1, 0)]
    assert {strategy.weights for strategy in strategies} == {"tile"}


def test_one_place_of_a_tensor_holds_along_every_dimension() -> None:
    choices = Choices(mixed=(("recompute",), ("recompute", "recompute")), retention={"conv1_out": ("local",)})
    rows = [row.strategy for row in candidates([(4,), (8, 8)], ["mixed"], choices) if row.strategy]
    assert [row.places("conv1_out") for row in rows] == [("local",), ("local", "local")]
    assert [row.places("x") for row in rows] == [("recompute",), ("recompute", "recompute")]


def test_rows_name_what_some_layer_reads(pair: Network) -> None:
    row = candidates([(8, 8)], ["mixed"], Choices(mixed=(("local", "recompute"),)))[1]
    assert row.retention(pair) == {"x": ("local", "recompute"), "conv1_out": ("local", "recompute")}


def test_rows_have_different_file_names(pair: Network) -> None:
    own = Choices(mixed=(("recompute", "recompute"),), retention={"conv1_out": ("local", "local")})
    rows = candidates([(8, 8)], ["mixed"], own)
    assert row_names(pair, rows * 3) == [
        "unfused",
        "mixed-shifted-RR-conv1_out-LL_8x8",
        "unfused.2",
        "mixed-shifted-RR-conv1_out-LL_8x8.2",
        "unfused.3",
        "mixed-shifted-RR-conv1_out-LL_8x8.3",
    ]


def test_rows_that_do_not_fit_are_refused_before_any_is_prepared(pair: Network) -> None:
    told: list[str] = []
    rows = candidates([(4,), (99,)], ["recompute"])
    with pytest.raises(InvalidInput, match="larger than the output"):
        prepared(pair, rows, lambda what, _done, _of: told.append(what))
    assert told == []
    with pytest.raises(InvalidInput, match="'best': expected one of recompute, local, global, mixed"):
        candidates([(4,)], ["best"])
    with pytest.raises(InvalidInput, match="at least one strategy that fits a tile"):
        compare(pair, candidates([(4,)], ["mixed"]))


def test_default_tiles_fit(pair: Network) -> None:
    assert default_tiles(pair) == ((4,), (16,), (16, 8))


def test_rows_of_one_and_of_two_threads_are_timed_by_one_clock(pair: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    import polyfuse.bench.compare as bench

    calls: list[int] = []
    honest = bench.measure
    monkeypatch.setattr(bench, "measure", lambda runs, **how: calls.append(how["threads"]) or honest(runs, **how))
    chosen = Choices(placement="first")
    found = compare(pair, candidates([(8, 8)], ["recompute", "local"], chosen), threads=2, repeats=1)
    assert {row.threads for row in found.rows} == {1, 2}
    assert calls == [2]


def test_kernels_that_count_are_held_one_at_a_time(pair: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    import polyfuse.bench.compare as bench

    alive: WeakSet[Kernel] = WeakSet()
    counting: list[int] = []
    inputs: set[int] = set()

    class Seen(Kernel):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)  # type: ignore[arg-type]
            alive.add(self)
            counting.append(sum(kernel.program.instrumented for kernel in alive))
            inputs.update(array.ctypes.data for array in self.inputs.values())

    monkeypatch.setattr(bench, "Kernel", Seen)
    compare(pair, candidates([(8, 8)], ["recompute", "global"]), repeats=1)
    assert counting == [0, 1, 1] * 3
    assert len(inputs) == 1
