"""What the commands say of plan files, sweeps and prices that somebody edited, and of memory alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from polyfuse.deploy.plan import Plan, read_plan
from polyfuse.errors import InvalidInput
from polyfuse.plan.sweep import Sweep
from tests.cli.calls import call, kernel_in, plan_in, refused

KERNEL = """
from polyfuse.network.network import Builder


def network():
    build = Builder("pair")
    x = build.input("x", (1, 3, 8, 8))
    return build.network(build.conv("b", build.conv("a", x, 8, kernel=3, padding=1), 8, kernel=3, padding=1))
"""
SMALL = ("--dtype", "int8", "--machine", "npu-memory-bound", "--onchip", "8KiB")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return kernel_in(tmp_path_factory.mktemp("kernels"), "pair", KERNEL)


@pytest.fixture(scope="module")
def planned(model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plan_in(tmp_path_factory.mktemp("plans"), model, *SMALL)


def edited(planned: Path, tmp_path: Path, *keys: str, value: Any) -> str:
    """The plan file with another value under some keys."""
    document = json.loads(planned.read_text())
    at = document
    for key in keys[:-1]:
        at = at[key]
    at[keys[-1]] = value
    file = tmp_path / "edited.json"
    file.write_text(json.dumps(document))
    return str(file)


def test_an_edited_plan_is_shown_without_its_certificate(model: str, planned: Path, tmp_path: Path) -> None:
    file = edited(planned, tmp_path, "objective", "goal", value="bytes")
    found = call("plan", model, "--plan", file, "--json", str(tmp_path / "again.json"))
    text = " ".join(found.stdout.split())
    assert found.exit_code == 0 and "the plan was edited" in text and "edited since it was planned for" in text
    assert "optimal" not in text and "fuse_then_pin" not in text
    again = json.loads((tmp_path / "again.json").read_text())
    assert again["certificate"]["gap"] == "inf" and again["baselines"] == {}


def test_all_commands_say_that_a_plan_was_edited(model: str, planned: Path, tmp_path: Path) -> None:
    file = edited(planned, tmp_path, "objective", "goal", value="bytes")
    for words in (("explain", file), ("compile", model, "--plan", file, "-o", str(tmp_path / "build"))):
        found = call(*words)
        assert found.exit_code == 0 and "edited since it was planned for least off-chip bytes" in found.stdout
    assert json.loads((tmp_path / "build" / "plan.json").read_text())["certificate"]["gap"] == "inf"
    assert "since it was planned" not in call("explain", str(planned)).stdout


@pytest.mark.usefixtures("full_effort")
def test_an_edited_plan_can_be_certified_anew(model: str, tmp_path: Path) -> None:
    file = edited(plan_in(tmp_path, model, *SMALL), tmp_path, "certificate", "scope", value="all plans there are")
    found = call("plan", model, "--plan", file, "--certify", "--json", str(tmp_path / "again.json"))
    assert found.exit_code == 0 and "optimal for this model" in " ".join(found.stdout.split())
    again = read_plan(tmp_path / "again.json")
    assert again.certificate.gap == 0 and "all plans there are" not in again.certificate.scope


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("certificate", "gap"), -5, "expected a gap of 0 or more and finite, got -5"),
        (("certificate", "lower_bound"), "nan", "expected a lower_bound of 0 or more and finite, got nan"),
        (("machine", "capacity_bytes"), 10**30, "expected capacity_bytes of at most"),
        (("latency_cycles",), "nan", "latency_cycles of 0 or more and finite, got nan"),
        (("offchip_bytes", "weights"), -1, "weights of 0 or more and finite, got -1"),
    ],
)
def test_impossible_figures_are_refused_by_all_commands(
    model: str, planned: Path, tmp_path: Path, keys: tuple[str, ...], value: Any, message: str
) -> None:
    file = edited(planned, tmp_path, *keys, value=value)
    for words in (("plan", model, "--plan", file), ("explain", file), ("compile", model, "--plan", file, "-o", "x")):
        assert message in refused(call(*words), 1)


def test_memory_alone_is_asked_for_by_a_word(model: str, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    found = call("plan", model, *SMALL, "--no-external", "--objective", "peak", "--json", str(file))
    assert found.exit_code == 0 and "nothing between layers is stored off chip" in found.stdout
    plan = read_plan(file)
    assert not plan.machine.offchip_writable and "nothing between layers stored off chip" in plan.certificate.scope
    message = refused(call("plan", model, "--dtype", "int8", "--no-external", "--onchip", "256"), 1)
    assert "where nothing between layers can be stored off chip, got 256 B" in message
    assert "are the smallest capacity that would do" in message


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("totals", "latency_cycles"), 1.0),
        (("certificate", "gap"), 0.25),
        (("baselines", "layers", "latency_cycles"), 1e9),
        (("capacity_bytes",), 4097),
        (("digest",), ""),
    ],
)
def test_edited_points_of_a_sweep_are_refused(model: str, tmp_path: Path, keys: tuple[str, ...], value: Any) -> None:
    file = tmp_path / "sweep.json"
    words = ("plan", model, *SMALL, "--no-baselines", "--sweep", "4KiB:8KiB", "--sweep-file", str(file), "--jobs", "1")
    assert call(*words).exit_code == 0
    document = json.loads(file.read_text())
    at = document["points"][0]
    for key in keys[:-1]:
        at = at[key]
    at[keys[-1]] = value
    file.write_text(json.dumps(document))
    assert "points[0]" in refused(call(*words), 1)
    with pytest.raises(InvalidInput, match="it was edited, or is of an earlier version; remove it, and sweep again"):
        Sweep.from_json(file.read_text())


def test_prices_of_an_edited_plan_of_the_host_are_forgotten(model: str, tmp_path: Path) -> None:
    assert call("compile", model, "-o", str(tmp_path / "first")).exit_code == 0
    text = (tmp_path / "first" / "plan.json").read_text()
    assert Plan.from_json(text).to_json() == text
    document = json.loads(text)
    document["groups"][0]["price"] = 1e-12
    file = tmp_path / "edited.json"
    file.write_text(json.dumps(document))
    found = call("compile", model, "--plan", str(file), "-o", str(tmp_path / "second"))
    assert found.exit_code == 0 and "nothing is predicted of it" in " ".join(found.stdout.split())
