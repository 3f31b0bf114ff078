"""A short run of mutated files, and the run itself on a traceback, a crash, a hang and a message of two lines."""

from collections import Counter
from pathlib import Path

import pytest

from polyfuse.errors import PolyfuseError
from tests.fuzz import files
from tests.fuzz.files import TEXTS, Case, Worker, cases_of, outcome_of, results, whole_text
from tests.fuzz.mutate_onnx import drawn, whole_models


def test_mutated_files_are_used_or_refused_in_one_line() -> None:
    found = list(results(cases_of(120, 40, seed=3)))
    assert [f"{each.case}: {each.message}" for each in found if each.outcome == "failed"] == []
    counts = Counter((each.case.kind == "model", each.outcome) for each in found)
    assert all(counts[kind, outcome] >= 10 for kind in (True, False) for outcome in ("used", "refused")), counts


def test_files_are_the_same_for_the_same_number() -> None:
    assert drawn(11, whole_models()) == drawn(11, whole_models())
    assert len({drawn(k, whole_models()) for k in range(30)}) > 25
    assert all(whole_text(kind) for kind in TEXTS)


def test_a_traceback_and_two_lines_are_failures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(case: Case, folder: Path) -> None:
        raise PolyfuseError("one line\nanother") if case.number else IndexError("list index out of range")

    monkeypatch.setattr(files, "use", broken)
    assert outcome_of(Case("model", 0), tmp_path)[0] == "failed"
    outcome, message = outcome_of(Case("model", 1), tmp_path)
    assert outcome == "failed" and "expected one line" in message


def test_a_crash_and_a_hang_are_failures_and_the_next_file_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker({"model"})
    worker.process.kill()
    worker.process.join()
    assert "crashes" in worker.run(Case("model", 1)).message
    with monkeypatch.context() as short:
        short.setattr(files, "LONGEST", 0.0)
        assert "hangs" in worker.run(Case("model", 0)).message
    assert worker.run(Case("model", 0)).outcome in ("used", "refused")
    worker.stop()
