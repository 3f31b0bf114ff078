"""A comparison of which one row is too much for isl."""

from pathlib import Path

import pytest

import polyfuse.bench.compare as compare
from polyfuse.codegen.lower.selection import SCALAR, Selection
from polyfuse.errors import TooComplex
from polyfuse.network.network import Network
from tests.cli.calls import KERNEL, call, refused


def test_rows_that_pass_the_limit_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pair.py").write_text(KERNEL)
    prepare = compare.prepare
    refuses = ["global"]

    def limited(network: Network, row: compare.Candidate, kernels: Selection = SCALAR) -> compare.Case:
        if row.label in refuses:
            raise TooComplex("schedule: it needs more")
        return prepare(network, row, kernels)

    monkeypatch.setattr(compare, "prepare", limited)
    words = ["compare", str(tmp_path / "pair.py"), "--tile", "8x8", "--strategy", "global", "--no-run"]
    found = call(*words, width=120)
    assert (found.exit_code, found.stderr) == (0, "")
    lines = found.stdout.splitlines()
    assert any("unfused" in line for line in lines)
    assert [line for line in lines if "global" in line] == ["left out: global first 8x8: schedule: it needs more"]
    refuses.append("unfused")
    assert "schedule: it needs more" in refused(call(*words), 1)
