"""The benchmarks that the documentation quotes run, and what they time is right."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from docs.measured import handwritten, toolkit
from polyfuse.bench import groups
from polyfuse.codegen.kernel import build
from polyfuse.deploy.model import plan_of, program_of
from polyfuse.deploy.settings import Settings
from polyfuse.errors import BuildError
from polyfuse.network.network import Builder
from polyfuse.network.onnx.export import save_onnx
from polyfuse.network.reference import max_relative_error, random_inputs, run


def test_the_toolkit_times_every_stage_of_every_strategy() -> None:
    result = CliRunner().invoke(toolkit.main, ["--layers", "1", "--starts", "1"], terminal_width=80)
    assert result.exit_code == 0
    assert all(name in result.output for name in (*toolkit.STARTS, *toolkit.STAGES, *toolkit.STRATEGIES, "total"))
    assert max(map(len, result.output.splitlines())) <= 80 and "…" not in result.output
    found = list(toolkit.rows((1,), (60, 240)))
    assert [name for _, name, *_ in found] == list(toolkit.STRATEGIES)
    for _, _, *seconds, total in found:
        assert abs(sum(map(float, seconds)) - float(total)) <= 0.005 * len(seconds)


def test_loops_by_hand_compute_what_the_generated_code_computes() -> None:
    for _, *ratios, error in handwritten.rows(repeats=1):
        assert all(float(ratio) > 0 for ratio in ratios)
        assert float(error) <= 1e-5


def test_groups_are_timed_and_compute_the_same(tmp_path: Path) -> None:
    maker = Builder("parts")
    x = maker.conv("first", maker.input("x", (1, 8, 20, 20)), 16, kernel=3, padding=1, activation="relu")
    network = maker.network(maker.conv("last", maker.max_pool("pool", x, kernel=2, stride=2), 8, kernel=1))
    settings = Settings(groups="single").ready
    program = program_of(network, plan_of(network, settings), settings)
    kernel = groups.timed(program, tmp_path)
    inputs = random_inputs(network, 1)
    found = kernel(**inputs)["last_out"]
    assert max_relative_error(found, run(network, inputs)["last_out"]) < 1e-5
    seconds = groups.seconds_of_groups(kernel, 3)
    assert len(seconds) == len(program.groups) == 3 and all(time > 0 for time in seconds)
    shown = groups.lines(program.groups, seconds, 100.0)
    macs = [8 * 16 * (20 * 3 - 2) ** 2, 0, 16 * 8 * 100]
    assert [float(line[4]) for line in shown] == [round(2e6 * each / 1e11, 1) for each in macs]
    with pytest.raises(BuildError, match="expected an array 'polyfuse_seconds'"):
        build(program).exported("polyfuse_seconds", 3)
    save_onnx(network, tmp_path / "parts.onnx")
    result = CliRunner().invoke(groups.main, [str(tmp_path / "parts.onnx"), "--repeats", "2"], terminal_width=100)
    assert result.exit_code == 0 and "groups of parts" in result.output and " all " in result.output
