"""The C program of docs/use/networks.md, built by the command that stands there, computes what polyfuse does."""

import re
import shlex
import subprocess
from pathlib import Path

import numpy as np

from polyfuse.cli import main
from polyfuse.codegen.compiler import find_compiler
from polyfuse.deploy.model import load
from polyfuse.network.network import Builder
from polyfuse.network.onnx.export import save_onnx

PAGE = (Path(__file__).parents[2] / "docs" / "use" / "networks.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    """The code blocks of the page."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_program_prints_the_scores(tmp_path: Path) -> None:
    namespace: dict[str, object] = {}
    lines = [line[4:] for line in blocks("python")[0].splitlines() if "save_onnx" not in line]
    exec("\n".join(lines), namespace)
    build = namespace["build"]
    assert isinstance(build, Builder)
    network = build.network(build.layers[-1].output)
    save_onnx(network, tmp_path / "tiny.onnx")
    main.main(["compile", str(tmp_path / "tiny.onnx"), "-o", str(tmp_path / "build")], standalone_mode=False)
    (source,) = blocks("c")
    (tmp_path / "build" / "main.c").write_text(source)
    (command,) = re.findall(r"^    (cc .*) && \./tiny$", PAGE, re.MULTILINE)
    words = [str(find_compiler().path), *shlex.split(command)[1:], "-Wall", "-Wextra", "-Werror"]
    subprocess.run(words, cwd=tmp_path / "build", check=True)
    ran = subprocess.run(["./tiny"], cwd=tmp_path / "build", check=True, capture_output=True, text=True)
    image = (np.arange(3 * 32 * 32) % 7 / 7).astype(np.float32).reshape(1, 3, 32, 32)
    expected = np.asarray(load(tmp_path / "tiny.onnx")(image)).ravel()
    assert np.allclose([float(line) for line in ran.stdout.split()], expected, rtol=1e-4)
