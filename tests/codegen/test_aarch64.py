"""The same C on another architecture: cross-compiled for AArch64 and run under qemu."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from polyfuse.codegen.lower.selection import select_kernels
from polyfuse.codegen.program import Program, generate
from polyfuse.codegen.target import Target
from polyfuse.network.network import Network
from polyfuse.network.reference import max_relative_error, random_inputs, run
from polyfuse.schedule.groups import fused
from polyfuse.schedule.strategy import Strategy
from tests.codegen.test_programs import kernel

COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
pytestmark = pytest.mark.skipif(
    not (shutil.which(COMPILER) and shutil.which(EMULATOR)), reason=f"{COMPILER} and {EMULATOR} are not installed"
)
NEON = Target(4, 32)
SIZES = {
    "stencil3": {"size": 37},
    "mbv2_block": {"size": 13, "channels": 6},
    "vgg_pair": {"size": 14, "channels": 10},
    "fsrcnn": {"rows": 9, "columns": 11},
}


def main_of(program: Program) -> str:
    """A `main` that reads inputs and constants from standard input and writes the outputs to standard output."""
    network = program.network
    kinds = {
        "inputs": [program.array(t).elements for t in network.inputs],
        "weights": [value.size for value in program.constants.values()],
        "outputs": [program.array(t).elements for t in network.outputs],
        "scratch": [program.array(t).elements for t in program.scratch],
    }
    lines = ["#include <stdio.h>", "#include <stdlib.h>", "int main(void) {"]
    for kind, sizes in kinds.items():
        arrays = ", ".join(f"aligned_alloc(64, {(4 * size + 63) // 64 * 64})" for size in sizes) or "0"
        lines.append(f"  float *{kind}[] = {{{arrays}}};")
    for kind in ("inputs", "weights"):
        for k, size in enumerate(kinds[kind]):
            lines.append(f"  if (fread({kind}[{k}], 4, {size}, stdin) != {size}) return 1;")
    lines += [
        "  void *chips = aligned_alloc(64, (polyfuse_chip_bytes() + 63) / 64 * 64);",
        "  void *kept = aligned_alloc(64, (polyfuse_kept_bytes() + 63) / 64 * 64);",
        "  polyfuse_run(inputs, weights, outputs, scratch, chips, kept, 1, 0);",
        *(f"  fwrite(outputs[{k}], 4, {size}, stdout);" for k, size in enumerate(kinds["outputs"])),
        "  return 0;",
        "}",
    ]
    return "\n".join([*lines, ""])


def outputs_of(network: Network, program: Program, folder: Path) -> list[np.ndarray]:
    source, executable = folder / "program.c", folder / "program"
    source.write_text(program.source + main_of(program))
    flags = ["-std=c11", "-O3", "-ffp-contract=fast", "-Wall", "-Wextra", "-Werror", "-static"]
    subprocess.run([COMPILER, *flags, str(source), "-o", str(executable), "-lm"], check=True)
    given = [*random_inputs(network, 5).values(), *program.constants.values()]
    sent = b"".join(np.ascontiguousarray(value, np.float32).tobytes() for value in given)
    ran = subprocess.run([EMULATOR, str(executable)], input=sent, capture_output=True, check=True, timeout=120)
    values = np.frombuffer(ran.stdout, np.float32)
    ends = np.cumsum([t.elements for t in network.outputs])
    parts = np.split(values, ends[:-1])
    return [part.reshape(t.concrete_shape) for part, t in zip(parts, network.outputs, strict=True)]


@pytest.mark.parametrize("name", SIZES)
def test_fused_programs_are_right_on_aarch64(name: str, tmp_path: Path) -> None:
    network = kernel(name, **SIZES[name])
    strategy = Strategy((3, 4), ("local", "recompute"), placement="shifted")
    program = generate(network, fused(network, strategy), kernels=select_kernels(network, NEON))
    expected = run(network, random_inputs(network, 5))
    for tensor, value in zip(network.outputs, outputs_of(network, program, tmp_path), strict=True):
        assert max_relative_error(value, expected[tensor.name]) <= 1e-5
