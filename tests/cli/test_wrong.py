"""Every command with files that are missing, folders, of another kind or junk: one clear line, and no traceback."""

from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from polyfuse.cli import main
from tests.cli.calls import commands

NET = str(Path(__file__).parents[2] / "kernels" / "two_convs.py")
READS = {"plan_file", "machine", "machine_file", "changed", "inputs", "model", "path", "sweep_file"}
"""Options that name a file which is read, or read and written."""
WRITES = {"json_file", "picture", "folder", "output", "report_file", "path", "sweep_file"}
"""Options that name a file or folder which is written."""
BEFORE = {
    "export-scop": ["--tile", "8x8", "--strategy", "local"],
    "import-scop": ["--tile", "8x8", "--strategy", "local"],
    "plan": ["--no-baselines"],
    "bench": ["--peers", "none"],
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of what is no file of any kind."""
    folder = tmp_path_factory.mktemp("wrong")
    for suffix in ("onnx", "py", "jscop", "json", "toml", "npy"):
        (folder / f"junk.{suffix}").write_bytes(bytes(range(256)) * 3)
    for suffix in ("onnx", "json"):
        (folder / f"empty.{suffix}").write_bytes(b"")
        (folder / f"text.{suffix}").write_text("[1, 2, {")
        (folder / f"folder.{suffix}").mkdir()
    (folder / "list.json").write_text("[1, 2]")
    (folder / "list.jscop").write_text('{"arrays": 3, "statements": [7]}')
    (folder / "none.py").write_text("def network():\n    return None\n")
    (folder / "raises.py").write_text("def network():\n    return {}['x']\n")
    (folder / "args.py").write_text("def network(a, /, b=2):\n    return a\n")
    (folder / "plan.json").write_text('{"format": "polyfuse-plan", "version": 1}')
    (folder / "scratch.json").write_text('{"format": "polyfuse-scratchpad-plan", "version": 1}')
    (folder / "deep.json").write_text("[" * 100_000)
    np.save(folder / "names.npy", np.array(["a", "b"]))
    return folder


def wrong(files: Path) -> list[str]:
    return [*map(str, sorted(files.iterdir())), str(files / "missing"), str(files), "", "nul\0", "x" * 5000, "\udcff"]


def assert_one_line(words: list[str]) -> None:
    result = CliRunner().invoke(main, words, prog_name="polyfuse")
    told = f"{' '.join(words)[:200]!r}: {result.exception!r} {result.stderr[:300]}"
    assert result.exception is None or isinstance(result.exception, SystemExit), told
    assert result.exit_code in (1, 2), told
    assert result.stderr.startswith("polyfuse: ") and result.stderr.count("\n") == 1, told
    assert "this is a polyfuse bug" not in result.stderr, told


@pytest.mark.parametrize("name", sorted(commands()))
def test_wrong_workloads(name: str, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    output = ["-o", str(tmp_path / "out")] if name == "export-scop" else []
    for file in wrong(files):
        if name == "machine" and not file:
            continue
        assert_one_line([name, file, *BEFORE.get(name, []), *output])


def options_with(name: str, kinds: set[str]) -> list[click.Option]:
    params = commands()[name].params
    return [p for p in params if isinstance(p, click.Option) and p.name in kinds]


@pytest.mark.parametrize("name", sorted({*commands()} - {"machine", "tune", "compare", "show"}))
def test_wrong_files_to_read(name: str, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for option in options_with(name, READS - WRITES):
        if name == "explain":
            continue
        for file in wrong(files):
            assert_one_line([name, NET, *BEFORE.get(name, []), max(option.opts, key=len), file])


@pytest.mark.parametrize("name", sorted(commands()))
def test_wrong_places_to_write(name: str, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders that are not there, files in the place of folders, and the other way round."""
    monkeypatch.chdir(tmp_path)
    first = [] if name == "machine" else [NET]
    before = ["--probe", "--seconds", "0.01"] if name == "machine" else BEFORE.get(name, [])
    before = [*before, "--sweep", "8KiB:16KiB"] if name == "plan" else before
    places = [f"{NET}/under", str(files / "no" / "such"), "nul\0", f"{'x' * 300}.json", ""]
    for option in options_with(name, WRITES):
        if name == "import-scop":
            continue
        for place in places:
            if place == str(files / "no" / "such") and option.name == "folder":
                continue
            assert_one_line([name, *first, *before, max(option.opts, key=len), place])
