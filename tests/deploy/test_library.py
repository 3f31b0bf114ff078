"""Files of a network, built and called by a C program as a user would write it."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from polyfuse.choices import DEFAULT_FLAGS
from polyfuse.codegen.compiler import find_compiler
from polyfuse.codegen.program import generate
from polyfuse.deploy.files import library_files
from polyfuse.deploy.library import Library, library
from polyfuse.deploy.model import plan_of, program_of
from polyfuse.deploy.settings import Settings
from polyfuse.errors import InvalidInput
from polyfuse.network.network import Network
from polyfuse.network.reference import max_relative_error, random_inputs
from polyfuse.network.reference import run as run_reference
from polyfuse.schedule.groups import layer_by_layer
from tests.deploy.networks import block, branches, chain

MAIN = """\
#include <stdio.h>
#include "{name}.h"
static _Alignas({big}_ALIGNMENT) unsigned char weights[{big}_WEIGHTS_BYTES], arena[{big}_ARENA_BYTES];
static _Alignas({big}_ALIGNMENT) float x[{big}_X_FLOATS], y[{big}_{out}_FLOATS];
int main(int count, char **names) {{
  int error = {name}_load(count > 1 ? names[1] : "{name}.weights", weights);
  if (error) return error;
  if (fread(x, 4, {big}_X_FLOATS, stdin) != {big}_X_FLOATS) return 9;
  for (int k = 0; k < 2; k++) {name}_run(weights, arena, x, y);
  return fwrite(y, 4, {big}_{out}_FLOATS, stdout) != {big}_{out}_FLOATS;
}}
"""
SANITIZE = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def written(made: Library, folder: Path, out: str) -> Path:
    """The files of a library in a folder, and a program that calls it."""
    for suffix, data in ((".c", made.source), (".h", made.header)):
        (folder / f"{made.name}{suffix}").write_text(data)
    (folder / f"{made.name}.weights").write_bytes(made.weights)
    main = MAIN.format(name=made.name, big=made.name.upper(), out=out.upper())
    (folder / "main.c").write_text(main)
    return folder


def compiled(folder: Path, name: str, *flags: str) -> Path:
    """The program; the header is included by the library too, so that its prototypes are checked."""
    compiler = str(find_compiler().path)
    warnings = ("-Wall", "-Wextra", "-Werror")
    common = [compiler, *DEFAULT_FLAGS, *warnings, *flags]
    subprocess.run([*common, "-include", f"{name}.h", "-c", f"{name}.c", "-o", "library.o"], cwd=folder, check=True)
    subprocess.run([*common, "main.c", "library.o", "-lm", "-o", "program"], cwd=folder, check=True)
    return folder / "program"


def expected(network: Network, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """The reference's output."""
    return run_reference(network, inputs)[network.outputs[0].name]


@pytest.mark.parametrize("network", [block(), branches(), chain()], ids=lambda network: network.name)
@pytest.mark.parametrize("flags", [(), SANITIZE], ids=["plain", "sanitized"])
def test_a_c_program_computes_what_the_reference_does(network: Network, flags: tuple[str, ...], tmp_path: Path) -> None:
    settings = Settings().ready
    made = library(program_of(network, plan_of(network, settings), settings))
    program = compiled(written(made, tmp_path, network.outputs[0].name), made.name, *flags)
    inputs = random_inputs(network, seed=3)
    ran = subprocess.run([program], cwd=tmp_path, input=inputs["x"].tobytes(), capture_output=True, check=True)
    found = np.frombuffer(ran.stdout, np.float32).reshape(network.outputs[0].concrete_shape)
    assert max_relative_error(found, expected(network, inputs)) < 2e-5


def test_damaged_files_of_weights_are_refused(tmp_path: Path) -> None:
    network = block()
    settings = Settings(groups="single").ready
    made = library(program_of(network, plan_of(network, settings), settings))
    program = compiled(written(made, tmp_path, network.outputs[0].name), made.name)
    flipped = bytearray(made.weights)
    flipped[-5] ^= 4
    cases = {
        "missing": (None, 1),
        "empty": (b"", 2),
        "other": (b"x" * len(made.weights), 2),
        "short": (made.weights[:-1], 3),
        "damaged": (bytes(flipped), 3),
    }
    for name, (data, status) in cases.items():
        if data is not None:
            (tmp_path / name).write_bytes(data)
        ran = subprocess.run([program, name], cwd=tmp_path, input=b"", capture_output=True)
        assert ran.returncode == status, name


def test_embedded_weights_are_those_of_the_file(tmp_path: Path) -> None:
    network = block()
    settings = Settings().ready
    plan = plan_of(network, settings)
    files = library_files(program_of(network, plan, settings), plan, settings, prefix="small", embed=True)
    assert sorted(files) == ["libsmall.so", "plan.json", "small.c", "small.h", "small.weights", "small_weights.c"]
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    main = MAIN.format(name="small", big="SMALL", out="MEAN_OUT")
    lines = [line for line in main.splitlines() if "error" not in line]
    (tmp_path / "main.c").write_text("\n".join(lines).replace("_run(weights", "_run(small_weights") + "\n")
    compiler = str(find_compiler().path)
    command = [compiler, *DEFAULT_FLAGS, "main.c", "small.c", "small_weights.c", "-lm", "-o", "program"]
    subprocess.run(command, cwd=tmp_path, check=True)
    inputs = random_inputs(network, seed=5)
    ran = subprocess.run(["./program"], cwd=tmp_path, input=inputs["x"].tobytes(), capture_output=True, check=True)
    found = np.frombuffer(ran.stdout, np.float32).reshape(network.outputs[0].concrete_shape)
    assert max_relative_error(found, expected(network, inputs)) < 2e-5


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_the_header_is_cpp_too(tmp_path: Path) -> None:
    network = block()
    settings = Settings().ready
    made = library(program_of(network, plan_of(network, settings), settings))
    (tmp_path / "block.h").write_text(made.header)
    (tmp_path / "use.cpp").write_text('#include "block.h"\nint main() { return BLOCK_ARENA_BYTES < 1; }\n')
    subprocess.run(["g++", "-Wall", "-Werror", "-c", "use.cpp"], cwd=tmp_path, check=True)


def test_programs_that_count_are_no_libraries() -> None:
    network = chain(2)
    counting = generate(network, layer_by_layer(network), instrumented=True)
    with pytest.raises(InvalidInput, match="does not count"):
        library(counting)
