"""The benchmarks that the documentation quotes run, and what they time is right."""

from click.testing import CliRunner

from polyfuse.bench import handwritten, toolkit


def test_the_toolkit_times_every_stage_of_every_strategy() -> None:
    result = CliRunner().invoke(toolkit.main, ["--layers", "1"], terminal_width=80)
    assert result.exit_code == 0
    assert all(name in result.output for name in (*toolkit.STAGES, *toolkit.STRATEGIES, "total"))
    assert max(map(len, result.output.splitlines())) <= 80 and "…" not in result.output
    found = list(toolkit.rows((1,), (60, 240)))
    assert [name for _, name, *_ in found] == list(toolkit.STRATEGIES)
    for _, _, *seconds, total in found:
        assert abs(sum(map(float, seconds)) - float(total)) <= 0.005 * len(seconds)


def test_loops_by_hand_compute_what_the_generated_code_computes() -> None:
    for _, *ratios, error in handwritten.rows(repeats=1):
        assert all(float(ratio) > 0 for ratio in ratios)
        assert float(error) <= 1e-5
