"""The commands as people use them: what they print, write, refuse, and exit with."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from polyfuse.bench.results import read_comparison
from polyfuse.cli import INTERRUPTED
from tests.cli.calls import HEEDS_INTERRUPTS, KERNEL, call, refused, shell

ROW_KEYS = [
    "strategy",
    "placement",
    "retention",
    "tile",
    "instances",
    "executions",
    "macs",
    "macs_executed",
    "recomputed",
    "halo",
    "onchip_bytes",
    "offchip_read_bytes",
    "offchip_write_bytes",
    "buffer_bytes",
    "workspace_bytes",
    "loops",
    "branches",
    "counted",
    "seconds_median",
    "seconds_min",
    "ratio_to_unfused",
    "max_rel_error",
    "threads",
    "axes",
]
COUNTED_KEYS = [
    "executions",
    "macs_executed",
    "onchip_bytes",
    "offchip_read_bytes",
    "offchip_write_bytes",
    "buffer_bytes",
    "workspace_bytes",
]
PLAIN = ["-std=c11", "-O1", "-Wall", "-Werror", "-fopenmp", "-c", "-o", os.devnull]


@pytest.fixture
def pair(tmp_path: Path) -> str:
    """A kernel file of two small convolutions."""
    path = tmp_path / "pair.py"
    path.write_text(KERNEL)
    return str(path)


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--tile", "0"], 2, "all at least 1; got '0'"),
        (["--tile", "8x"], 2, "such as 72x60"),
        (["--tile", "8x8x8"], 1, "name other axes"),
        (["--tile", "-1"], 2, "all at least 1"),
        (["--tile", "99"], 1, "larger than the output conv2_out"),
        (["--tile", "8x99"], 1, "larger than the output conv2_out"),
        (["--retain", "nothing=local"], 1, "no tensor 'nothing'; it has conv1_out"),
        (["--retain", "conv1_out"], 2, "expected TENSOR=PLACE"),
        (["--retain", "conv1_out=here"], 2, "recompute, local, global"),
        (["--retain", "conv1_out=local,local", "--tile", "8"], 1, "such as --tile 8x8; add one"),
        (["--mixed", "local", "--tile", "8x8"], 1, "such as --tile 8; add one"),
        (["--order", "rows,columns", "--tile", "8"], 1, "expected a --tile of rows and columns"),
        (["--from", "conv7"], 1, "no layer 'conv7'; it has conv1, conv2"),
        (["--set", "size"], 2, "such as size=224"),
        (["--set", "depth=3"], 1, "no parameter 'depth'"),
        (["--set", "size=1.5"], 1, "expected whole sizes of at least 1, got (1, 2, 1.5, 1.5)"),
        (["--set", "size=big"], 1, "expected concrete sizes, got (1, 2, 'big - 4', 'big - 4')"),
        (["--strategy", "best"], 2, "'best' is not one of"),
        (["--repeats", "0"], 2, "0 is not in the range"),
        (["--threads", "0"], 2, "0 is not in the range"),
        (["--plot", "figure.pdf"], 2, "ends in .png or .svg"),
        (["--json", "no/such/folder/rows.json"], 1, "make the folder"),
        (["--colour"], 2, "--colour"),
    ],
)
def test_bad_input_is_one_line_that_says_what_to_do(pair: str, words: list[str], status: int, message: str) -> None:
    assert message in refused(call("compare", pair, *words), status)


def test_show_refuses_what_compare_refuses(pair: str) -> None:
    assert "larger than the output" in refused(call("show", pair, "--tile", "99"), 1)
    assert "no tensor 'q'" in refused(call("show", pair, "--retain", "q=local"), 1)
    assert "neither a .py file" in refused(call("show", "no_such_workload"), 1)


def test_outputs_are_checked_before_the_workload_is_read(tmp_path: Path) -> None:
    missing = tmp_path / "no" / "rows.json"
    assert str(missing) in refused(call("compare", "no_such_workload", "--json", str(missing)), 1)
    file = tmp_path / "file"
    file.write_text("")
    assert "named" not in refused(call("compare", "no_such_workload", "--emit", str(file)), 1)
    assert file.read_text() == ""


def test_json_keys_are_those_documented(pair: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    assert call("compare", pair, "--tile", "8x8", "--repeats", "1", "--json", str(path)).exit_code == 0
    document = json.loads(path.read_text())
    assert list(document) == ["format", "version", "workload", "machine", "compiler", "flags", "rows"]
    assert {tuple(row) for row in document["rows"]} == {tuple(ROW_KEYS)}
    assert {tuple(row["counted"]) for row in document["rows"]} == {tuple(COUNTED_KEYS)}
    names = [(row["strategy"], row["placement"]) for row in document["rows"]]
    assert names == [
        ("unfused", None),
        ("recompute", None),
        ("local", "first"),
        ("local", "shifted"),
        ("global", "first"),
        ("mixed", "shifted"),
        ("mixed", "shifted"),
    ]


def test_counts_are_as_predicted_and_values_as_the_reference(pair: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    words = ["--tile", "8x7", "--weights", "tile", "--order", "columns,rows", "--placement", "first"]
    names = ["--strategy", "global", "--mixed", "recompute,local", "--mixed", "global,local"]
    result = call("compare", pair, *words, *names, "--repeats", "1", "--json", str(path))
    assert (result.exit_code, result.stderr) == (0, "")
    for row in read_comparison(path).rows:
        assert row.mismatches == []
        assert row.max_rel_error is not None and row.max_rel_error <= 1e-5


def test_retention_of_one_tensor_changes_its_rows_only(pair: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    words = ["--tile", "8x8", "--strategy", "recompute", "--retain", "conv1_out=local,recompute", "--retain", "x=local"]
    assert call("compare", pair, *words, "--no-run", "--json", str(path)).exit_code == 0
    _, recompute, mixed = read_comparison(path).rows
    assert mixed.retention == {"x": ("local", "local"), "conv1_out": ("local", "recompute")}
    assert mixed.executions == 1232 < recompute.executions == 1312
    assert mixed.offchip_read_bytes < recompute.offchip_read_bytes


def test_rows_that_cannot_share_threads_say_so(pair: str) -> None:
    words = ["--tile", "8x8", "--strategy", "recompute", "--strategy", "local", "--placement", "first"]
    result = call("compare", pair, *words, "--repeats", "1", "--threads", "2", width=120)
    assert result.exit_code == 0
    assert "2 thr." in result.output and "1 thr." in result.output
    told = result.output.splitlines()[-1]
    assert "ran on 1 thread, not 2" in told and "8x8 local (first)" in told and "8x8 recompute" not in told


def test_one_tile_has_nothing_to_share(pair: str) -> None:
    words = ["--tile", "16x16", "--strategy", "recompute", "--repeats", "1", "--threads", "2"]
    told = call("compare", pair, *words, width=120).output.splitlines()[-1]
    assert "since they have no tiles that are independent (" in told and "16x16 recompute" in told


@pytest.mark.parametrize("width", [80, 120])
def test_table_fits_the_terminal(pair: str, width: int) -> None:
    result = call("compare", pair, "--tile", "8x8", "--strategy", "recompute", "--repeats", "1", width=width)
    assert result.exit_code == 0
    assert max(map(len, result.output.splitlines())) <= width
    assert "= 1,312" in result.output


def test_no_run_needs_no_compiler(pair: str, tmp_path: Path) -> None:
    result = shell("compare", pair, "--tile", "8x8", "--no-run", PATH=str(tmp_path), CC="")
    assert (result.returncode, result.stderr) == (0, "")
    assert "1,312" in result.stdout and "= 1,312" not in result.stdout


def test_a_missing_compiler_is_told_before_anything_else(tmp_path: Path) -> None:
    result = shell("compare", "no_such_workload", PATH=str(tmp_path), CC="")
    assert result.returncode == 1
    assert result.stderr.startswith("polyfuse: C compiler: expected one of gcc")
    assert result.stderr.count("\n") == 1


@pytest.mark.skipif(shutil.which("gcc") is None, reason="compiles with gcc")
def test_emitted_files_compile_and_replace_older_ones(pair: str, tmp_path: Path) -> None:
    folder = tmp_path / "emitted"
    stale = folder / "recompute_8x8" / "kernel.c"
    stale.parent.mkdir(parents=True)
    stale.write_text("not C")
    (folder / "mine.txt").write_text("kept")
    assert call("compare", pair, "--tile", "8x8", "--no-run", "--emit", str(folder)).exit_code == 0
    assert sorted(path.name for path in folder.iterdir()) == [
        "global-first_8x8",
        "local-first_8x8",
        "local-shifted_8x8",
        "mine.txt",
        "mixed-shifted-LR_8x8",
        "mixed-shifted-RL_8x8",
        "recompute_8x8",
        "unfused",
    ]
    sources = sorted(folder.glob("*/*.c"))
    assert len(sources) == 14
    for source in sources:
        subprocess.run(["gcc", *PLAIN, str(source)], check=True, timeout=60)
    assert all(("counts[" in source.read_text()) == (source.name == "instrumented.c") for source in sources)
    text = (folder / "recompute_8x8" / "schedule.txt").read_text()
    assert "# copy 1: 136 executions\n{ conv1[" in text
    assert not list(folder.rglob(".polyfuse-*"))


def test_emitted_schedules_are_isl_text(pair: str, tmp_path: Path) -> None:
    import islpy as isl

    assert call("compare", pair, "--tile", "8x8", "--no-run", "--emit", str(tmp_path / "e")).exit_code == 0
    lines = [line for path in (tmp_path / "e").glob("*/schedule.txt") for line in path.read_text().splitlines()]
    relations = [line for line in lines if line and not line.startswith("#")]
    assert len(relations) > 20
    assert not any(isl.Map(line).is_empty() for line in relations)


def test_show_prints_what_an_expert_reads(pair: str) -> None:
    result = call("show", pair, "--tile", "8x8")
    assert result.exit_code == 0
    for wanted in (
        "domain        { conv1_update[n = 0, c, h, w, ic, kh, kw]",
        "reads x       { conv1_update[",
        "x          1x2x12x12       288  1,152  4x4",
        "conv1_out  1x2x10x10       200    800  2x2",
        "conv1_out       648    800         800      0       0",
        "copy 0    648 executions",
        "copy 1    136 executions",
        "copy 2    8 executions",
        "conv1_out_buffer[1, 2, 10, 10]     800",
        "23,616 of 20,880 MACs",
        "void polyfuse_run(",
    ):
        assert wanted in result.output


def test_show_takes_the_options_of_compare(pair: str) -> None:
    result = call("show", pair, "--set", "size=28", "--tile", "8x8", "--strategy", "local", "--placement", "shifted")
    assert result.exit_code == 0
    assert "local shifted 8x8" in result.output and "local first" not in result.output
    assert "(ring)" in result.output
    mixed = call("show", pair, "--tile", "8x8", "--retain", "conv1_out=local,recompute")
    assert "mixed shifted 8x8" in mixed.output and "\nrecompute" not in mixed.output


def test_part_of_a_workload(pair: str) -> None:
    result = call("show", pair, "--from", "conv2", "--to", "conv2", "--tile", "8")
    assert result.exit_code == 0
    assert "layer conv1 " not in result.output and "layer conv2 " in result.output


def test_version_and_help_are_quiet_successes() -> None:
    version = call("--version")
    assert version.exit_code == 0 and version.output.startswith("polyfuse 0.")
    for words in (["--help"], ["compare", "-h"], ["show", "-h"]):
        assert call(*words).exit_code == 0


def test_a_plot_is_written(pair: str, tmp_path: Path) -> None:
    path = tmp_path / "figure.svg"
    assert call("compare", pair, "--tile", "4", "--no-run", "--plot", str(path)).exit_code == 0
    assert b"<svg" in path.read_bytes()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk_is_one_line(pair: str) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "polyfuse", "show", pair]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        "polyfuse: output: No space left on device; check the path and the space left"
    ]


def test_a_reader_that_goes_away_is_no_traceback(pair: str) -> None:
    command = [sys.executable, "-m", "polyfuse", "show", pair, "--set", "channels=3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""


def test_an_interrupt_is_one_line_and_130(tmp_path: Path) -> None:
    started = tmp_path / "started"
    slow = tmp_path / "slow.py"
    slow.write_text(
        f"import pathlib, time\n\n\ndef network():\n    pathlib.Path({str(started)!r}).touch()\n    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", HEEDS_INTERRUPTS, "compare", str(slow), "--no-run"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not started.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED
    assert out == ""
    assert len(err.splitlines()) == 1 and err.startswith("polyfuse: interrupted")


def test_a_wrong_count_fails_the_command(pair: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import polyfuse.bench.compare as bench

    monkeypatch.setattr(bench, "executed_points", lambda kernel: 1)
    result = call("compare", pair, "--tile", "8", "--strategy", "recompute", "--repeats", "1")
    assert "counts differ" in refused(result, 1)
    assert "≠ 1" in result.stdout


def test_show_draws_recomputation(pair: str, tmp_path: Path) -> None:
    picture = str(tmp_path / "a.png")
    assert call("show", pair, "--set", "size=H", "--tile", "8", "--plot", picture).exit_code == 0
    assert Path(picture).read_bytes().startswith(b"\x89PNG")
    assert "--plot: expected sizes that are names" in refused(call("show", pair, "--tile", "8", "--plot", picture), 2)


def test_show_prints_formulas_where_sizes_are_parameters(pair: str) -> None:
    found = call("show", pair, "--set", "size=H", "--tile", "8", "--strategy", "local", width=120)
    assert (found.exit_code, found.stderr) == (0, "")
    assert "values at some sizes" in found.stdout and "floor(H/8 + 3/8)" in found.stdout
    line = refused(call("show", pair, "--set", "size=H"), 2)
    assert "sizes depend on H: expected a --tile, such as --tile 8x8" in line
