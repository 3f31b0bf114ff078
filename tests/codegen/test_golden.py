"""The C of a few small cases, kept in golden/ where a change of it can be read; what is kept also runs.

After a change that is meant, `pytest tests/codegen/test_golden.py --update-golden` writes the files again: read the
diff before it is committed.
"""

import os
import re
import shutil
from functools import cache
from pathlib import Path

import pytest

from polyfuse.codegen.build import Options
from polyfuse.codegen.compiler import find_compiler
from polyfuse.codegen.kernel import Kernel, rebuild
from polyfuse.codegen.program import Program, generate
from polyfuse.network.network import Builder, Network
from polyfuse.network.reference import max_relative_error, random_inputs, run
from polyfuse.schedule.counts import counts
from polyfuse.schedule.groups import fused
from polyfuse.schedule.strategy import Strategy
from tests.schedule.touched import bytes_touched

GOLDEN = Path(__file__).parent / "golden"
STRATEGIES = {
    "recompute_8x8": Strategy.named("recompute", (8, 8)),
    "local_first_rows": Strategy.named("local", (4,)),
    "local_shifted_column_ring": Strategy((8, 4), ("recompute", "local"), placement="shifted"),
    "global_8x8": Strategy.named("global", (8, 8)),
    "instrumented_rows": Strategy.named("local", (4,), "shifted"),
}
FLAGS = ("-std=c11", "-O1", "-Wall", "-Wextra", "-Werror")


def compilers() -> list[str]:
    """gcc, and one clang where there is any, under whatever version its name carries."""
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if Path(folder).is_dir()]
    clangs = sorted({path.name for folder in folders for path in folder.glob("clang*")})
    named = [name for name in clangs if re.fullmatch(r"clang(-\d+)?", name)]
    return [name for name in ("gcc", *named[:1]) if shutil.which(name)]


@cache
def worked_example() -> Network:
    """Two 3x3 convolutions: 20x20 to 18x18 to 16x16."""
    build = Builder("two_convs")
    x = build.input("x", (1, 1, 20, 20))
    return build.network(build.conv("conv2", build.conv("conv1", x, 1, kernel=3), 1, kernel=3))


@cache
def program(name: str) -> Program:
    network = worked_example()
    groups = fused(network, STRATEGIES[name])
    return generate(network, groups, kernels="scalar", instrumented=name.startswith("instrumented"))


def kept(name: str, compiler: str) -> Kernel:
    """The golden file, compiled with every warning an error."""
    return rebuild(program(name), GOLDEN / f"{name}.c", options=Options(compiler=find_compiler(compiler), flags=FLAGS))


@pytest.mark.parametrize("name", STRATEGIES)
def test_generated_c_is_as_kept(name: str, request: pytest.FixtureRequest) -> None:
    path = GOLDEN / f"{name}.c"
    if request.config.getoption("--update-golden"):
        path.write_text(program(name).source)
    assert program(name).source == path.read_text(), "if the change is meant, run again with --update-golden"


def test_nothing_else_is_kept() -> None:
    assert sorted(path.stem for path in GOLDEN.iterdir()) == sorted(STRATEGIES)


@pytest.mark.parametrize("compiler", compilers())
@pytest.mark.parametrize("name", STRATEGIES)
def test_kept_c_agrees_with_the_reference(name: str, compiler: str) -> None:
    kernel, inputs = kept(name, compiler), random_inputs(worked_example(), seed=3)
    kernel.set_inputs(inputs)
    kernel.poison()
    kernel.run()
    expected = run(worked_example(), inputs)["conv2_out"]
    assert max_relative_error(kernel.outputs["conv2_out"], expected) <= 1e-6


def test_kept_c_counts_as_predicted() -> None:
    kernel = kept("instrumented_rows", compilers()[0])
    kernel(**random_inputs(worked_example(), seed=3))
    (group,) = kernel.program.groups
    predicted = counts(group.storage)
    expected = {("executions", name): n for name, n in predicted.steps.items()}
    for step in (*group.steps, *group.preload):
        for kind, array, amount in bytes_touched(step, predicted.steps[step.name]):
            expected[kind, array] = expected.get((kind, array), 0) + amount
    assert {(counter.kind, counter.name): n for counter, n in kernel.counts.items()} == expected


def test_columns_of_the_ring_wrap() -> None:
    (ring,) = [
        index
        for index in program("local_shifted_column_ring").groups[0].storage.buffers["conv1_out"].indices
        if index.folded
    ]
    assert ring.window < 18
    assert "% " not in innermost_loops((GOLDEN / "local_shifted_column_ring.c").read_text())


def innermost_loops(source: str) -> str:
    """The bodies of loops that hold no other."""
    return "\n".join(re.findall(r"for \([^{]*\{\n([^{}]*)\}", source))
