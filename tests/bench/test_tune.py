"""Tuning: what is measured is kept, not measured again, and found again only where it holds."""

import json
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from polyfuse.bench import compare as compare_module
from polyfuse.bench import tune as tune_module
from polyfuse.bench.tune import neighbours, promising, tune
from polyfuse.codegen.build import Options
from polyfuse.codegen.target import Target
from polyfuse.cost.seconds import Seconds
from polyfuse.deploy.settings import Settings
from polyfuse.deploy.space import Choice, Prediction, algorithm_sets, search_space
from polyfuse.deploy.tuned import (
    FILE,
    MeasuredChoice,
    TunedEntry,
    best_known,
    key_of,
    network_digest,
    read_tuned,
    tuned,
)
from polyfuse.errors import InvalidInput, PolyfuseError
from polyfuse.loading import load_workload
from polyfuse.network.custom import statement_layer
from polyfuse.network.network import Builder, Network
from polyfuse.network.reference import max_relative_error, random_inputs, run
from polyfuse.network.tensor import Tensor
from polyfuse.schedule.strategy import Strategy
from tests.machines.example import example

QUICK = Options(flags=("-std=c11", "-O1"))


def pair(size: int = 12, seed: float = 1.0) -> Network:
    build = Builder("pair")
    x = build.input("x", (1, 5, size, size))
    weight = np.full((6, 5, 3, 3), seed, np.float32)
    conv = build.conv("conv1", x, 6, kernel=3, weight=weight)
    return build.network(build.conv("conv2", conv, 5, kernel=3))


@pytest.fixture(autouse=True)
def short_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune_module, "SAMPLE_SECONDS", 0.0)
    monkeypatch.setattr(tune_module, "SAMPLES", 2)
    monkeypatch.setattr(tune_module, "FINAL_SAMPLES", 3)
    monkeypatch.setattr(tune_module, "AT_ONCE", 2)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tuned.json"


def tuned_pair(path: Path, measured: int = 3) -> TunedEntry:
    return tune(pair(), example(), measured=measured, path=path, options=QUICK)


class Recorder:
    """Stands before `timed`, writes down what is measured, and may interrupt."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, interrupt_at: int | None = None) -> None:
        self.labels: list[str] = []
        self.calls, self.interrupt_at, self.real = 0, interrupt_at, tune_module.timed
        monkeypatch.setattr(tune_module, "timed", self)

    def __call__(self, task: tune_module.Task, predictions: Sequence[Prediction], samples: int) -> list[MeasuredChoice]:
        if self.calls == self.interrupt_at:
            raise KeyboardInterrupt
        self.calls += 1
        if samples == tune_module.SAMPLES:
            self.labels += [each.choice.label for each in predictions]
        return self.real(task, predictions, samples)


def test_the_best_of_what_was_measured_is_known_from_then_on(path: Path) -> None:
    found = tuned_pair(path)
    assert any(each.tile is None for each in found.tried) and len(found.tried) >= 4
    assert all(each.max_rel_error < 1e-6 and each.seconds > 0 for each in found.tried)
    final = [each for each in found.tried if each.samples == 3]
    assert found.best in final and found.best is not None
    assert found.best.ratio == min(each.ratio for each in final)
    assert best_known(pair(), options=QUICK, path=path) == found.best
    kernel = tuned(pair(), options=QUICK, path=path)
    inputs = random_inputs(pair(), seed=3)
    expected = run(pair(), inputs)["conv2_out"]
    assert max_relative_error(kernel(**inputs)["conv2_out"], expected) < 1e-5


def test_an_interrupted_run_goes_on_where_it_stopped(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Recorder(monkeypatch, interrupt_at=1)
    with pytest.raises(KeyboardInterrupt):
        tuned_pair(path, measured=4)
    (kept,) = read_tuned(path)
    assert len(kept.tried) == 2
    monkeypatch.undo()
    monkeypatch.setattr(tune_module, "SAMPLE_SECONDS", 0.0)
    monkeypatch.setattr(tune_module, "FINAL_SAMPLES", 8)
    rest = Recorder(monkeypatch)
    found = tuned_pair(path, measured=4)
    assert not {each.label for each in kept.tried if each.tile is not None} & set(rest.labels)
    assert {each.label for each in kept.tried} <= {each.label for each in found.tried} and len(found.tried) >= 5


def test_without_a_path_it_is_the_users_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYFUSE_TUNED", str(tmp_path / "not" / "yet" / "tuned.json"))
    found = tune(pair(), example(), measured=1, options=QUICK)
    assert best_known(pair(), options=QUICK) == found.best
    monkeypatch.setattr(tune_module, "ranked", lambda *given: pytest.fail("worked"))
    with pytest.raises(InvalidInput, match="make the folder"):
        tune(pair(), example(), path=tmp_path / "no" / "x.json", options=QUICK)


def test_more_choices_compete_with_those_that_were_the_best(path: Path) -> None:
    tuned_pair(path, measured=1)
    found = tuned_pair(path, measured=5)
    final = [each.label for each in found.tried if each.samples == 3]
    assert len(found.tried) >= 6 and tune_module.FINALISTS < len(final) <= 2 * tune_module.FINALISTS + 1


def test_a_finished_run_measures_nothing_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tuned_pair(path)
    recorder = Recorder(monkeypatch)
    assert tuned_pair(path) == first
    assert recorder.calls == 0


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format": "polyfuse-tuned", "version": 2, "entries": []}', "\x00"])
def test_a_corrupt_file_is_one_line_and_is_not_lost(text: str, path: Path) -> None:
    path.write_text(text)
    with pytest.raises(InvalidInput, match=r"^tuned file .*: expected .*") as caught:
        tuned_pair(path)
    assert "\n" not in str(caught.value)
    assert path.read_text() == text


def test_an_entry_with_a_wrong_key_is_told_by_its_place(path: Path) -> None:
    tuned_pair(path)
    document = json.loads(path.read_text())
    document["entries"][0]["tried"][0]["seconds"] = "soon"
    path.write_text(json.dumps(document))
    with pytest.raises(InvalidInput, match=r"entries\[0\]\.tried\[0\]\.seconds: expected a number"):
        best_known(pair(), options=QUICK, path=path)


def test_what_was_found_holds_for_its_key_only(path: Path) -> None:
    tuned_pair(path)
    assert best_known(pair(seed=2.0), options=QUICK, path=path) is not None
    assert best_known(pair(size=13), options=QUICK, path=path) is None
    assert best_known(pair(), threads=2, options=QUICK, path=path) is None
    assert best_known(pair(), interface="blocked", options=QUICK, path=path) is None
    assert best_known(pair(), exact=True, options=QUICK, path=path) is None
    assert best_known(pair(), options=Options(), path=path) is None
    with pytest.raises(InvalidInput, match="run polyfuse tune"):
        tuned(pair(size=13), options=QUICK, path=path)


def test_entries_of_other_networks_stay(path: Path) -> None:
    first = tuned_pair(path)
    tune(pair(size=10), example(), measured=1, path=path, options=QUICK)
    assert len(read_tuned(path)) == 2
    assert FILE.at(path).find(key_of(pair(), Settings(options=QUICK))) == first


def test_wrong_values_are_refused_and_not_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare_module, "max_relative_error", lambda found, expected: float("nan"))
    with pytest.raises(PolyfuseError, match="values differ from the reference"):
        tuned_pair(path)
    assert not path.exists()


def test_choices_come_back_from_the_file(path: Path) -> None:
    found = tuned_pair(path, measured=6)
    labels = {choice.label: choice for choice in search_space(pair(), Target(16, 32))}
    assert all(each.choice.label == each.label and each.label in labels for each in found.tried)


def test_the_digest_is_of_structure_not_of_weights() -> None:
    assert network_digest(pair()) == network_digest(pair(seed=7.0))
    assert len({network_digest(net) for net in (pair(), pair(11), pair().select(["conv1"]))}) == 3


def predicted(label: str, seconds: float) -> Prediction:
    strategy = None if label == "unfused" else Strategy.named(label.split()[0], (int(label.split()[1]),))
    return Prediction(Choice(strategy), Seconds({"direct": seconds}, {}))


def test_every_kind_that_is_not_far_behind_is_measured() -> None:
    order = [predicted(f"local {rows}", 1.0 + rows / 100) for rows in range(1, 6)]
    order += [predicted("recompute 8", 1.1), predicted("unfused 1"[:7], 2.0), predicted("global 4", 9.0)]
    found = [each.choice.label for each in promising(order, 4)]
    assert found == ["unfused", "1 local", "2 local", "8 recompute", "3 local"]
    assert [each.choice.label for each in promising(order, 1)] == ["unfused", "1 local"]


def test_what_is_no_image_runs_layer_by_layer(path: Path) -> None:
    build = Builder("prefix")
    x = build.input("x", (6,))
    layer = statement_layer(
        "sum", domain="{ S[i, k] : 0 <= k <= i < 6 }", output=Tensor("y", (6,)),
        reads={"x": (x, "{ S[i, k] -> x[k] }")}, expression="acc + x * (k + 1)", init="0.0",
    )  # fmt: skip
    found = tune(build.network(build.add(layer)), example(), path=path, options=QUICK)
    assert [each.label for each in found.tried] == ["unfused"]
    assert found.best is not None and found.best.ratio == 1.0


def test_what_is_beside_the_best_is_measured_too() -> None:
    rows = [predicted(f"local {rows}", 1.0) for rows in (8, 1, 4, 2)]
    every = [*rows, predicted("recompute 3", 1.0), predicted("unfused", 1.0)]
    assert [each.choice.label for each in neighbours(rows[2], every)] == ["2 local", "8 local"]
    assert [each.choice.label for each in neighbours(rows[1], every)] == ["2 local"]
    assert neighbours(every[4], every) == []


def test_search_space_has_each_choice_once_and_no_winograd_where_exact() -> None:
    build = Builder("wide")
    x = build.input("x", (1, 32, 48, 48))
    network = build.network(build.conv("conv", x, 32, kernel=3, padding=1))
    every = search_space(network, Target(16, 32))
    exact = search_space(network, Target(16, 32), exact=True)
    assert len({choice.label for choice in every}) == len(every) > len(exact)
    assert every[0].label == exact[0].label == "unfused"
    assert all(not any(choice.algorithms.values()) for choice in exact)
    assert {"conv": 4} in algorithm_sets(network, Target(16, 32))


@pytest.mark.parametrize("name", ["stencil3", "dwsep", "mbv2_block", "fsrcnn"])
def test_a_network_sent_to_another_process_keeps_its_digest(name: str) -> None:
    network = load_workload(str(Path(__file__).parents[2] / "kernels" / f"{name}.py"))
    sent = pickle.loads(pickle.dumps(network))
    assert network_digest(sent) == network_digest(network)
    assert network_digest(pickle.loads(pickle.dumps(sent))) == network_digest(network)
