"""Comparisons with peers on the terminal."""

import io

import pytest
from rich.console import Console

from polyfuse.bench.peers.results import PeerRow
from polyfuse.report.peers import print_peers
from tests.bench.peers_example import comparison, timed

GOLDEN = """
pair
1 thread, CPU time, medians; each at the layout it prefers
bound 10 ms: 1 GFLOP at 100 GFLOP/s, 3.815 MiB at 50 GB/s (L3)
contender           ms  GFLOP/s  of peak  to best  to bound  max error
──────────────────────────────────────────────────────────────────────
polyfuse local    12.5       80      80%    1.00x     1.25x    2.0e-07
onnxruntime         20       50      50%    1.60x     2.00x    2.0e-07
ncnn            failed
halide           wrong                                         3.0e-01
best peer / polyfuse: 1.60 (onnxruntime / polyfuse local)
peers that ran: onnxruntime; not compared: openvino not installed, ncnn failed,
halide wrong
ncnn failed: died of SIGSEGV: the last words
halide wrong: wrong result: relative error 3.0e-01, more than 1e-04
not installed: openvino; pip install openvino
"""


def printed(*comparisons: object, width: int = 80) -> str:
    file = io.StringIO()
    print_peers(comparisons, Console(file=file, width=width))  # type: ignore[arg-type]
    return "\n" + "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())


def test_table_is_what_people_saw_last() -> None:
    assert printed(comparison()) == GOLDEN


@pytest.mark.parametrize("width", [80, 100, 112, 120, 200])
def test_tables_fit_the_terminal(width: int) -> None:
    rows = (
        timed("torch-inductor", 123456.789),
        timed("polyfuse recompute", 0.000123),
        PeerRow("ncnn", "failed", "y" * 300),
    )
    text = printed(comparison(), comparison("w" * 60, *rows), width=width)
    assert max(map(len, text.splitlines())) <= width
    assert ("wall ms" in text) == (width >= 112)


def test_layers_without_arithmetic_have_no_rate() -> None:
    from dataclasses import replace

    text = printed(replace(comparison(), flops=0))
    assert "80%" not in text and "12.5" in text
