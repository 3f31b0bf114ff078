"""The profile file: measured once, found again; what it decides."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from polyfuse.bench import profiles
from polyfuse.bench.profiles import FILE, Profiled, ProfileKey, by_measurement
from polyfuse.errors import InvalidInput
from polyfuse.network.network import Builder, Network
from polyfuse.rewrite.fusion import fusion_plan, operators_of


def gated(prefix: str = "") -> Network:
    """relu, a convolution, and the gate of its channels."""
    build = Builder("gated")
    x, gate = build.input("x", (1, 8, 12, 12)), build.input("gate", (1, 8, 1, 1))
    y = build.conv(f"{prefix}conv", build.activation(f"{prefix}act", x, "relu"), 8, kernel=1)
    return build.network(build.arithmetic(f"{prefix}product", "mul", y, gate))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "profiles.json"


def plan(network: Network, path: Path) -> int:
    return len(fusion_plan(operators_of(network), by_measurement(network, path)))


def test_measured_once_and_found_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan(gated(), path)
    document = json.loads(path.read_text())
    assert (document["format"], document["version"]) == ("polyfuse-profile", 1)
    (entry,) = document["entries"]
    assert entry["fused_seconds"] > 0 and entry["apart_seconds"] > 0
    assert [text.split()[0] for text in (*entry["key"]["block"], entry["key"]["neighbour"])] == ["relu", "conv", "mul"]
    monkeypatch.setattr(profiles, "measure", None)
    plan(gated("other_"), path)
    assert json.loads(path.read_text()) == document


@pytest.mark.parametrize(("fused", "apart", "groups"), [(1.0, 2.0, 1), (2.0, 1.0, 2)])
def test_what_the_file_says_decides(path: Path, fused: float, apart: float, groups: int) -> None:
    plan(gated(), path)
    database = FILE.at(path)
    (known,) = FILE.at(path).read()
    database.add(replace(known, fused_seconds=fused, apart_seconds=apart))
    assert len(FILE.at(path).read()) == 1
    assert plan(gated(), path) == groups


def test_layers_that_do_not_run_are_left_to_the_model(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise InvalidInput("no such strategy")

    monkeypatch.setattr(profiles, "fused", refused)
    assert plan(gated(), path) == 1
    assert not path.exists()


def test_a_file_of_something_else_is_left_alone(path: Path) -> None:
    path.write_text('{"format": "polyfuse-tuned", "version": 1, "entries": []}')
    with pytest.raises(InvalidInput, match="expected format 'polyfuse-profile' version 1"):
        FILE.at(path).add(Profiled(ProfileKey("cpu", "gcc", ("relu",), "conv"), 1.0, 2.0))
    assert "tuned" in path.read_text()
