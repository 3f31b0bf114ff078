"""`polyfuse import-scop` and `polyfuse export-scop` as people use them."""

from pathlib import Path

import pytest

from polyfuse.network.scop.jscop import read_jscop
from tests.cli.calls import KERNEL, call, refused

SCOP = str(Path(__file__).parents[1] / "network" / "scop" / "data" / "two_convs.jscop")
COMPUTED = [
    word
    for setting in ("Stmt_set_t=0.0", "Stmt_add_t=acc + w1 * x", "Stmt_set_y=0.0", "Stmt_add_y=acc + w2 * t")
    for word in ("--set", setting)
]


@pytest.fixture
def pair(tmp_path: Path) -> str:
    path = tmp_path / "pair.py"
    path.write_text(KERNEL)
    return str(path)


def test_import_tells_layers_footprints_and_counts(tmp_path: Path) -> None:
    out = tmp_path / "out.jscop"
    found = call("import-scop", SCOP, "--tile", "8x8", "--strategy", "local", "-o", str(out), width=120)
    assert (found.exit_code, found.stderr) == (0, "")
    for words in (
        "make_t (scop): w1[3, 3], x[20, 20] -> t[18, 18]",
        "acc = unknown(w1, x, acc)",
        "10x10",
        "580 executions of 580 instances (0 recomputed)",
        "no longer written: MemRef_t",
    ):
        assert words in found.stdout
    scop = read_jscop(out)
    assert [str(array) for array in scop.arrays if array.allocation] == ["float chip_t[10, 18]"]
    checked = call("import-scop", SCOP, "--check", str(out))
    assert checked.exit_code == 0 and f"legal: {out} computes what {SCOP} does" in checked.stdout


def test_a_changed_file_that_is_illegal_is_refused_with_a_witness(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.jscop"
    wrong.write_text(Path(SCOP).read_text().replace("-> [1, i0", "-> [0, i0"))
    line = refused(call("import-scop", SCOP, "--check", str(wrong)), 1)
    assert "must run before Stmt_" in line and "the one writes MemRef_t[" in line


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["none.jscop"], 1, "no such file"),
        ([SCOP, "--set", "Stmt_add=acc"], 1, "no parameter or statement 'Stmt_add'"),
        ([SCOP, "--tile", "8x8"], 2, "one --tile and one --strategy"),
        ([SCOP, "--strategy", "local"], 2, "a schedule needs a --tile"),
        ([SCOP, "-o", "out.jscop"], 2, "a schedule needs a --tile"),
        ([SCOP, "--tile", "8x8", "--strategy", "recompute", "-o", "out.jscop"], 1, "would run several times"),
        ([SCOP, "--tile", "99", "--strategy", "local"], 1, "larger than the output"),
    ],
)
def test_import_refuses_in_one_line(
    words: list[str], status: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refused(call("import-scop", *words), status)
    assert not (tmp_path / "out.jscop").exists()


@pytest.mark.parametrize("strategy, form", [("recompute", "copies expanded"), ("local", "plain loops")])
def test_export_writes_c_jscop_and_a_script(pair: str, strategy: str, form: str, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    found = call("export-scop", pair, "--tile", "8x8", "--strategy", strategy, "-o", str(folder), width=120)
    assert (found.exit_code, found.stderr) == (0, "") and f"pair: {form}" in found.stdout
    assert sorted(path.name for path in folder.iterdir()) == ["build.sh", "pair.c", "pair.jscop"]
    names = [statement.name for statement in read_jscop(folder / "pair.jscop").statements]
    assert names == ["Stmt_conv1_init", "Stmt_conv1_update", "Stmt_conv2_init", "Stmt_conv2_update"]
    for name in names:
        assert f"{name.removeprefix('Stmt_')}: {{" in (folder / "pair.c").read_text()


def test_export_expands_what_it_is_asked_to(pair: str, tmp_path: Path) -> None:
    words = ["--tile", "8x8", "--strategy", "mixed", "--mixed", "local,local", "--expand", "-o", str(tmp_path / "out")]
    assert "pair: copies expanded" in call("export-scop", pair, *words).stdout
    assert "for (long ty = 0" in (tmp_path / "out" / "pair.c").read_text()


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--tile", "8", "--strategy", "global"], 2, "Missing option '-o'"),
        (["--tile", "8", "-o", "out"], 2, "one --tile and one --strategy"),
        (["--strategy", "global", "-o", "out"], 2, "one --tile and one --strategy"),
        (["--tile", "8", "--tile", "4", "--strategy", "global", "-o", "out"], 2, "got 2"),
    ],
)
def test_export_refuses_in_one_line(
    words: list[str], status: int, message: str, pair: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refused(call("export-scop", pair, *words), status)


def test_a_scop_is_a_workload_of_every_command(tmp_path: Path) -> None:
    words = ["--tile", "8", "--strategy", "recompute"]
    found = call("compare", SCOP, *COMPUTED, *words, "--repeats", "1", width=120)
    assert (found.exit_code, found.stderr) == (0, "") and "recompute" in found.stdout
    assert "only what it reads is known" in refused(call("compare", SCOP, *words), 1)
    assert "copies expanded" in call("export-scop", SCOP, *COMPUTED, *words, "-o", str(tmp_path)).stdout
