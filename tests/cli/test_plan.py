"""`polyfuse plan`, and `explain` and `compile` of what it writes, as people use them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from polyfuse.cli import INTERRUPTED
from polyfuse.deploy.plan import read_plan
from polyfuse.plan.scratchplan import ScratchPlan
from polyfuse.plan.sweep import read_sweep
from tests.cli.calls import HEEDS_INTERRUPTS, call, kernel_in, plan_in, refused

KERNEL = """
from polyfuse.network.network import Builder


def network(size=24, channels=16):
    build = Builder("stack")
    x = build.conv("stem", build.input("x", (1, 3, size, size)), channels, kernel=3, padding=1)
    for k in range(2):
        y = build.conv(f"wide{k}", x, 2 * channels, kernel=1)
        x = build.arithmetic(f"sum{k}", "add", build.conv(f"narrow{k}", y, channels, kernel=3, padding=1), x)
    return build.network(x)
"""
SMALL = ("--dtype", "int8", "--machine", "npu-memory-bound", "--onchip", "24KiB")
QUICK = (*SMALL, "--no-baselines")
TINY = ("--set", "size=8", "--set", "channels=4", *QUICK)
"""A smaller network, for sweeps: their processes plan with the effort that users get."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return kernel_in(tmp_path_factory.mktemp("kernels"), "stack", KERNEL)


@pytest.fixture(scope="module")
def planned(model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan file."""
    return plan_in(tmp_path_factory.mktemp("plans"), model, *SMALL)


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_the_terminal_and_says_all(model: str, planned: Path, width: int) -> None:
    found = call("plan", model, "--plan", str(planned), width=width)
    assert (found.exit_code, found.stderr) == (0, "")
    assert max(map(len, found.stdout.splitlines())) <= width
    plan = read_plan(planned)
    totals = plan.totals
    for words in (
        "stack in int8 on npu-memory-bound with 24 KiB on chip",
        f"{totals.latency_cycles:,.0f} cycles",
        f"{totals.offchip_bytes.all:,} B: {totals.offchip_bytes.feature_maps:,} of feature maps",
        f"{totals.onchip_peak_bytes:,} of 24,576 B",
        str(plan.certificate).partition(" (")[0],
        "on average",
        "fuse_then_pin_retiled",
    ):
        assert words in found.stdout
    for group in plan.groups:
        assert f"{group.cycles:,.0f}" in found.stdout
    for pin in plan.pins:
        assert pin.tensor in found.stdout


def test_json_has_what_it_is_documented_to_have(planned: Path) -> None:
    document = json.loads(planned.read_text())
    assert (document["format"], document["version"]) == ("polyfuse-plan", 2)
    assert document["machine"]["kind"] == "scratchpad"
    assert {*document} == {
        *("format", "version", "network", "dtype", "machine", "objective", "latency_cycles", "offchip_bytes"),
        *("onchip_peak_bytes", "macs", "macs_executed", "energy_pj", "certificate", "groups", "pins", "baselines"),
        *("inputs", "origin", "outputs", "graph"),
    }
    assert {*document["offchip_bytes"]} == {"feature_maps", "weights"}
    assert {*document["certificate"]} == {"lower_bound", "gap", "scope", "digest"}
    joint = document["baselines"].pop("joint")
    assert all(other["latency_cycles"] >= joint["latency_cycles"] for other in document["baselines"].values() if other)
    assert ScratchPlan.from_json(planned.read_text()).to_json() == planned.read_text()


def test_a_network_of_a_file_with_parameters_is_found_again(model: str, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    assert call("plan", model, "--set", "size=12", *QUICK, "--json", str(file)).exit_code == 0
    found = call("explain", str(file))
    assert (found.exit_code, found.stderr) == (0, "") and "stem_out" in found.stdout


@pytest.mark.usefixtures("full_effort")
def test_the_exact_model_agrees(tmp_path: Path) -> None:
    path = tmp_path / "pair.py"
    path.write_text(KERNEL.replace("range(2)", "range(1)"))
    found = call("plan", str(path), *TINY, "--longest", "3", "--certify")
    assert found.exit_code == 0 and "confirmed by an exact model" in " ".join(found.stdout.split())
    assert "optimal for this model" in found.stdout


def test_objectives_have_least_of_what_they_say(model: str, tmp_path: Path) -> None:
    totals = {}
    for goal in ("latency", "bytes", "energy", "macs", "peak"):
        file = tmp_path / f"{goal}.json"
        assert call("plan", model, *QUICK, "--objective", goal, "--json", str(file)).exit_code == 0
        totals[goal] = read_plan(file).totals
    for goal, value in (
        ("latency", lambda each: each.latency_cycles),
        ("bytes", lambda each: each.offchip_bytes.all),
        ("energy", lambda each: each.energy_pj),
        ("macs", lambda each: each.macs_executed),
        ("peak", lambda each: each.onchip_peak_bytes),
    ):
        assert value(totals[goal]) == min(map(value, totals.values()))


def test_report_and_pictures_are_written(model: str, planned: Path, tmp_path: Path) -> None:
    page, folder, sweep = tmp_path / "plan.html", tmp_path / "png", tmp_path / "sweep.json"
    words = ("--plan", str(planned), "--report", str(page), "--png", str(folder))
    found = call("plan", model, *words, "--sweep", "16KiB:32KiB", "--sweep-file", str(sweep), "--jobs", "1")
    assert (found.exit_code, found.stderr) == (0, "")
    assert page.read_text().startswith("<!doctype html>")
    pictures = {path.name for path in folder.iterdir()}
    assert {"memory.png", "timeline.png", "traffic.png", "curve.png"} < pictures
    assert all((folder / name).read_bytes().startswith(b"\x89PNG") for name in pictures)
    assert [point.capacity_bytes for point in read_sweep(sweep).points] == [16384, 32768]
    for words_of_the_sweep in ("16 KiB", "32 KiB", "off-chip", "on the Pareto curve"):
        assert words_of_the_sweep in found.stdout


def test_a_sweep_goes_on_where_it_was_left(model: str, tmp_path: Path) -> None:
    file = tmp_path / "sweep.json"
    words = (*TINY, "--sweep-file", str(file), "--jobs", "1")
    assert call("plan", model, *words, "--sweep", "1KiB:1KiB").exit_code == 0
    first = read_sweep(file).points
    assert call("plan", model, *words, "--sweep", "1KiB:2KiB:3").exit_code == 0
    points = read_sweep(file).points
    assert [point.capacity_bytes for point in points] == [1024, 1536, 2048] and points[:1] == first


@pytest.mark.usefixtures("full_effort")
@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--onchip", "0"], 2, "expected bytes, such as 65536, 64KiB or 4MiB, at least 1; got '0'"),
        (["--onchip", "64kb"], 2, "got '64kb'"),
        (["--onchip", "1KiB"], 1, "B are the smallest capacity that would do"),
        (["--machine", "tpu"], 1, "expected a file or one of ethos-u65,"),
        (["--machine", "ethos-u65", "--dtype", "float32"], 1, "expected a rate of conv in float32, got those of int8"),
        (["--lambda", "-1"], 2, "-1"),
        (
            ["--lambda", "2", "--objective", "energy"],
            2,
            "--lambda has no effect with an --objective other than latency",
        ),
        (["--objective", "speed"], 2, "'speed' is not one of"),
        (["--sweep", "64KiB"], 2, "expected FIRST:LAST or FIRST:LAST:COUNT"),
        (["--sweep", "4MiB:64KiB"], 2, "from a smaller to a larger one"),
        (["--sweep", "1KiB:2KiB:1"], 2, "2 of them or more"),
        (["--sweep", "1KiB:2KiB:x"], 2, "expected FIRST:LAST or FIRST:LAST:COUNT"),
        (["--sweep-file", "points.json"], 2, "--sweep-file has no effect without --sweep"),
        (["--plan", "plan.json", "--onchip", "1MiB"], 2, "--onchip has no effect with --plan"),
        (["--plan", "plan.json", "--no-external"], 2, "--no-external has no effect with --plan"),
        (["--plan", "plan.json", "--early"], 2, "--early has no effect with --plan"),
        (["--early", "--objective", "bytes"], 2, "--early has no effect with an --objective other than latency"),
        (["--early", "--certify"], 2, "--certify has no effect with --early"),
        (["--plan", "nowhere.json"], 1, "nowhere.json': expected a file of JSON, got: No such file"),
        (["--json", "nowhere/plan.json"], 1, "make the folder, or name another path"),
        (["--report", "nowhere/plan.html"], 1, "make the folder, or name another path"),
    ],
)
def test_wrong_words_are_refused_in_one_line(
    model: str, words: list[str], status: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    quick = () if "--plan" in words else ("--no-baselines",)
    assert message in refused(call("plan", model, *quick, *words), status)


def test_an_unknown_key_of_a_machine_file_is_named(model: str, tmp_path: Path) -> None:
    file = tmp_path / "machine.toml"
    file.write_text('format = "polyfuse-accelerator"\nversion = 1\ncores = 4\n')
    assert "an unknown 'cores'" in refused(call("plan", model, "--machine", str(file)), 1)


def edited(planned: Path, folder: Path, change: dict[str, Any]) -> str:
    """The plan with keys changed in its first group, or in itself."""
    document = json.loads(planned.read_text())
    for key, value in change.items():
        (document["groups"][0] if key in document["groups"][0] else document)[key] = value
    file = folder / "edited.json"
    file.write_text(json.dumps(document))
    return str(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"operations": ["nothing"]}, "expected operations of the network, got 'nothing'"),
        ({"buffers": {}}, "group 0"),
        ({"latency_cycles": 1.0}, "latency_cycles"),
        ({"speed": 3}, "an unknown 'speed'"),
        ({"pins": [{"tensor": "stem_out", "first": 0, "last": 99, "address": 0, "bytes": 9216}]}, "pin of 'stem_out'"),
    ],
)
def test_a_plan_that_was_edited_into_something_illegal_is_refused(
    model: str, planned: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    file = edited(planned, tmp_path, change)
    for words in (
        ("plan", model, "--plan", file),
        ("compile", model, "--plan", file, "-o", str(tmp_path / "build")),
        ("explain", file),
    ):
        assert message in refused(call(*words), 1)
    assert not (tmp_path / "build").exists()


def test_steps_that_go_wrong_are_refused_with_a_witness(model: str, planned: Path, tmp_path: Path) -> None:
    document = json.loads(planned.read_text())
    number, name = next(
        (number, name)
        for number, group in enumerate(document["groups"])
        for name in group["buffers"]
        if name.startswith("ring_") and len(group["operations"]) > 1
    )
    document["groups"][number]["buffers"][name]["bytes"] -= 1
    file = tmp_path / "short.json"
    file.write_text(json.dumps(document))
    for words in (
        ("plan", model, "--plan", str(file)),
        ("compile", model, "--plan", str(file), "-o", str(tmp_path / "build")),
        ("explain", str(file)),
    ):
        line = refused(call(*words), 1)
        assert f"group {number} (" in line and ": step " in line and name.removeprefix("ring_") in line
        assert "enlarge its buffer" in line
    assert not (tmp_path / "build").exists()


def test_explain_says_where_tensors_are_and_why(planned: Path) -> None:
    found = call("explain", str(planned))
    assert (found.exit_code, found.stderr) == (0, "")
    for words in ("stem_out", "off chip", "inside a group"):
        assert words in found.stdout
    found = call("explain", str(planned), "--tensor", "wide0_out")
    assert found.exit_code == 0
    assert "tightest in group" in found.stdout and "forcing it on chip" in found.stdout


def test_explain_refuses_what_it_cannot_find(planned: Path, model: str, tmp_path: Path) -> None:
    assert "expected a tensor of 'stack'" in refused(call("explain", str(planned), "--tensor", "nothing"), 1)
    assert "--tensor has no effect for a workload that is no plan" in refused(
        call("explain", model, "--tensor", "x"), 2
    )
    moved = edited(planned, tmp_path, {"origin": None})
    assert "name that with --model" in refused(call("explain", moved), 1)
    assert call("explain", moved, "--model", model).exit_code == 0


def test_compile_writes_c_that_runs_as_planned(model: str, planned: Path, tmp_path: Path) -> None:
    build = tmp_path / "build"
    found = call("compile", model, "--plan", str(planned), "-o", str(build), "--prefix", "mine", width=100)
    assert (found.exit_code, found.stderr) == (0, "")
    totals = read_plan(planned).totals
    for line, count in (("feature maps", totals.offchip_bytes.feature_maps), ("weights", totals.offchip_bytes.weights)):
        (row,) = [text for text in found.stdout.splitlines() if text.startswith(f"off-chip bytes, {line}")]
        assert row.split()[-2:] == [f"{count:,}"] * 2
    assert {path.name for path in build.iterdir()} == {
        *("mine.c", "mine.h", "mine.weights", "mine_simulated.c", "libmine_simulated.so"),
        *("scratchpad.h", "simulator.c", "plan.json"),
    }
    assert (build / "plan.json").read_text() == planned.read_text()
    strict = ["gcc", "-std=c11", "-O1", "-Wall", "-Wextra", "-Werror"]
    for words in (["-c", "mine.c", "-o", "mine.o"], ["-shared", "-fPIC", "mine_simulated.c", "-lm", "-o", "mine.so"]):
        subprocess.run([*strict, *words], cwd=build, check=True, capture_output=True)
    symbols = subprocess.run(["nm", "mine.o"], cwd=build, check=True, capture_output=True, text=True).stdout
    assert " T mine_run" in symbols and " U dma_load" in symbols


@pytest.mark.parametrize("option", ["--groups=single", "--exact-arithmetic", "--embed"])
def test_compile_refuses_options_that_mean_nothing_here(model: str, planned: Path, option: str, tmp_path: Path) -> None:
    found = call("compile", model, "--plan", str(planned), "-o", str(tmp_path / "build"), option)
    assert f"{option.partition('=')[0]} has no effect with a plan for a scratchpad machine" in refused(found, 2)


def test_a_sweep_that_is_killed_has_what_it_finished(model: str, tmp_path: Path) -> None:
    file = tmp_path / "sweep.json"
    words = [*TINY, "--sweep", "1KiB:8KiB:40", "--sweep-file", str(file), "--jobs", "1"]
    running = subprocess.Popen(
        [sys.executable, "-m", "polyfuse", "plan", model, *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not file.exists() and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    left = read_sweep(file).points
    assert 1 <= len(left) < 40
    first = call("plan", model, *TINY, "--sweep", "1KiB:1KiB", "--sweep-file", str(file), "--jobs", "1")
    assert (first.exit_code, first.stderr) == (0, "")
    assert read_sweep(file).points == left


def test_an_interrupted_sweep_ends_at_once_in_one_line(model: str, tmp_path: Path) -> None:
    file = tmp_path / "sweep.json"
    words = ["plan", model, *TINY, "--sweep", "1KiB:8KiB:200", "--sweep-file", str(file), "--jobs", "1"]
    command = [sys.executable, "-c", HEEDS_INTERRUPTS, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        deadline = time.monotonic() + 120
        while not file.exists() and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (INTERRUPTED, "")
    assert len(err.splitlines()) == 1 and err.startswith("polyfuse: interrupted")
    assert 1 <= len(read_sweep(file).points) < 200
