"""The table: what it says, in which width, and without colour."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from polyfuse.bench.results import Comparison, Row
from polyfuse.report.table import print_comparison
from tests.bench.example import example, row

GOLDEN_80 = """
conv3x3-conv3x3 on Example CPU
gcc (Example) 12.2.0 -O3 -march=native; 1 thread
                                            off-chip off-chip
                             recom- on chip     read  written  time max rel
tile    strategy  executions  puted     KiB      KiB      KiB ratio   error
───────────────────────────────────────────────────────────────────────────
untiled unfused          580     0%       0     2.83        1 12 µs 1.2e-07
                       = 580            = 0   = 2.83      = 1 1.00x

8x8     recompute        656  13.1%    1.27     1.56        1 10 µs 1.2e-07
                       ≠ 657         = 1.27   = 1.56      = 1 0.83x
        local            580     0%    1.27     1.56        1  9 µs 1.2e-07
        first          = 580         = 1.27   = 1.56      = 1 0.75x

generated C: up to 2.53 KiB of buffers and 2 KiB of workspace in each thread
second lines: counted by an instrumented run, = or ≠ the prediction
halo that neighbouring tiles of 8x8 share: conv1_out 2x2, x 4x4
8x8 recompute: executions predicted 656, counted 657
"""

GOLDEN_120 = """
conv3x3-conv3x3 on Example CPU
gcc (Example) 12.2.0 -O3 -march=native; 1 thread
                                                                        in C  off-chip  off-chip
                                           recom-      MACs  on chip  + work      read   written  for   time  max rel
tile     strategy   instances  executions   puted  executed      KiB     KiB       KiB       KiB   if  ratio    error
─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
untiled  unfused          580         580      0%     5,220        0       0      2.83         1   14  12 µs  1.2e-07
                                    = 580           = 5,220      = 0            = 2.83       = 1    0  1.00x

8x8      recompute        580         656   13.1%     5,904     1.27    2.53      1.56         1   14  10 µs  1.2e-07
                                    ≠ 657           = 5,904   = 1.27     + 2    = 1.56       = 1    0  0.83x
         local            580         580      0%     5,220     1.27    2.53      1.56         1   14   9 µs  1.2e-07
         first                      = 580           = 5,220   = 1.27            = 1.56       = 1    0  0.75x

second lines: counted by an instrumented run, = or ≠ the prediction
halo that neighbouring tiles of 8x8 share: conv1_out 2x2, x 4x4
8x8 recompute: executions predicted 656, counted 657
"""


def printed(comparison: Comparison, width: int = 80) -> str:
    """What goes into a pipe."""
    file = io.StringIO()
    print_comparison(comparison, Console(file=file, width=width))
    return file.getvalue()


def of(*rows: Row) -> Comparison:
    return replace(example(), rows=rows)


def small() -> Comparison:
    """Three rows: unfused, one with a wrong count, one without recomputation."""
    return of(
        row("unfused", (), onchip_bytes=0, read_bytes=2896, seconds=1.2e-5),
        row("recompute", (8, 8), executions=656, workspace_bytes=2048, wrong={"executions": 657}),
        row("local", (8, 8), placement="first", retention=("local", "local"), seconds=9e-6),
    )


def counts_of(like: Row, executions: int) -> dict[str, int]:
    return {**(like.counted or {}), "executions": executions}


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_lines_fit_and_nothing_is_cut_off(width: int) -> None:
    text = printed(example(wrong={"executions": 581}), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert "\x1b" not in text
    for value in ("recompute", "shifted", "72x60", "43.1%", "18.2 µs", "1.2e-07", "0.67x", "33.75"):
        assert value in text


@pytest.mark.parametrize("width", [80, 120])
def test_large_numbers_fit(width: int) -> None:
    large = row("recompute", (112, 112), onchip_bytes=5 * 1024**2, read_bytes=123_456_789_012, seconds=123.4e-6)
    counts = {"instances": 12_000_000_000, "executions": 12_345_678_901, "recomputed": 345_678_901}
    text = printed(of(replace(large, **counts, counted=counts_of(large, 12_345_678_901))), width)
    assert max(map(len, text.splitlines())) <= width
    for value in ("= 12.35 G", "2.9%", "= 5,120", "= 115", "123 µs"):
        assert value in text


@pytest.mark.parametrize(("width", "golden"), [(80, GOLDEN_80), (120, GOLDEN_120)])
def test_table_is_the_golden_one(width: int, golden: str) -> None:
    lines = printed(small(), width).splitlines()
    assert "\n".join(line.rstrip() for line in lines) == golden.strip("\n")


def test_mismatch_is_red_and_told_exactly() -> None:
    file = io.StringIO()
    wrong = of(row("recompute", (16, 16), wrong={"onchip_bytes": 1297}))
    print_comparison(wrong, Console(file=file, width=80, force_terminal=True, color_system="standard"))
    assert "\x1b[1;31m≠ 1.27" in file.getvalue()
    assert "16x16 recompute: onchip_bytes predicted 1,296, counted 1,297" in printed(wrong)


def test_equal_counts_are_not_called_different() -> None:
    assert "predicted" not in printed(example())
    assert "≠" not in printed(example()).split("second lines")[0]


def test_pipe_that_takes_only_ascii() -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    print_comparison(example(wrong={"executions": 581}), Console(file=file, width=80))
    file.flush()
    file.seek(0)
    text = file.read()
    assert "!= 581" in text
    assert "18.2 us" in text


def test_columns_without_values_are_left_out() -> None:
    bare = replace(row("local", (8, 8), seconds=None), counted=None)
    text = printed(of(bare))
    for absent in ("time", "error", "=\n", "second lines"):
        assert absent not in text


def test_mixed_rows_say_what_they_retain() -> None:
    retention = {"a": ("local", "recompute"), "b": ("global", "recompute")}
    text = printed(of(replace(row("mixed", (8, 8)), retention=retention)), 120)
    assert "mixed LR" in text
    assert "GR" in text
    assert "R recompute, L local, G global" in text
    assert "mixed LR " in printed(of(replace(row("mixed", (8, 8)), retention={**retention, "b": retention["a"]})))


def test_threads_are_in_the_heading_or_in_the_rows() -> None:
    assert "; 1 thread\n" in printed(example())
    text = printed(of(row("local", (8, 8)), row("local", (8, 8), threads=4)))
    assert "; 1 thread" not in text
    assert "4 thr." in text


def test_halo_is_told_once_for_each_tile() -> None:
    tiles = {each.tile for each in example().rows if each.tile}
    assert printed(example()).count("that neighbouring tiles of") == len(tiles) > 1


def test_nan_error_is_shown() -> None:
    assert " nan" in printed(of(replace(row("local", (8, 8)), max_rel_error=float("nan"))))


def test_names_are_not_read_as_markup() -> None:
    assert "net[red] on Example CPU" in printed(replace(example(), workload="net[red]"))


def test_comparison_without_rows_says_so() -> None:
    assert "no rows" in printed(of())


def test_recomputed_is_a_share_of_what_is_executed() -> None:
    """Of 1000 points 400 are needed; 180 executions are further ones of these."""
    needed = replace(row("recompute", (8, 8)), instances=1000, recomputed=180)
    assert "45%" in printed(of(needed))


def test_tiles_without_a_halo_share_nothing() -> None:
    alone = replace(row("recompute", (8, 8)), halo={"conv1_out": (0, 0), "x": (0, 0)})
    assert "halo that neighbouring tiles of 8x8 share: nothing" in printed(of(alone))
