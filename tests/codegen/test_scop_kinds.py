"""Kinds of C through real Polly and back: updated in place, set again, in triangles, swept, stepped in time, summed up.

Each function is exported, becomes a network, is tiled, and goes back through Polly, whose code must leave in all arrays
what the C does and execute each statement as often as was predicted.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import polyfuse as pf
from polyfuse.codegen.scop.export import rescheduled
from polyfuse.network.scop.jscop import read_jscop, write_jscop
from polyfuse.network.scop.layers import scop_network
from tests.oracles import polly

LOCAL = ("local", "local")


@dataclass(frozen=True)
class Kind:
    """C of a function `f` of float arrays `A`, `B` (24x24) and `x`, `y` (24), its tiles, and its network."""

    body: str
    strategy: pf.Strategy
    layers: int
    recurring: int
    inputs: tuple[str, ...]


KINDS = {
    "updated, with constants": Kind(
        """for (long i = 0; i < 24; i++)
    for (long j = 0; j < 24; j++) {
      scale: A[i][j] *= *alpha;
      for (long k = 0; k < 24; k++) add: A[i][j] += *beta * B[i][k] * B[k][j];
    }""",
        pf.Strategy((8, 8), LOCAL),
        1,
        0,
        ("A_in", "B"),
    ),
    "set again by a loop": Kind(
        """for (long i = 0; i < 24; i++) {
    for (long j = 0; j < 24; j++) sum: x[j] = A[i][j] + y[j];
    for (long j = 0; j < 24; j++) use: B[i][j] = x[j] * x[23 - j];
  }""",
        pf.Strategy((1, 8), LOCAL),
        2,
        0,
        ("A", "y"),
    ),
    "in a triangle": Kind(
        """for (long i = 0; i < 24; i++)
    for (long j = 0; j <= i; j++) {
      start: A[i][j] = 0;
      for (long k = 0; k < 24; k++) add: A[i][j] += B[i][k] * B[j][k];
    }""",
        pf.Strategy((8, 8), LOCAL),
        1,
        0,
        ("B",),
    ),
    "solved forwards": Kind(
        """for (long i = 0; i < 24; i++) {
    start: x[i] = y[i];
    for (long j = 0; j < i; j++) add: x[i] -= A[i][j] * x[j];
  }""",
        pf.Strategy((4,), ("local",)),
        1,
        1,
        ("y", "A"),
    ),
    "steps of time": Kind(
        """for (long t = 0; t < 6; t++) {
    for (long i = 1; i < 23; i++) there: y[i] = x[i - 1] + x[i] + x[i + 1];
    for (long i = 1; i < 23; i++) back: x[i] = y[i - 1] - y[i] + y[i + 1];
  }""",
        pf.Strategy((2, 2), LOCAL),
        1,
        1,
        ("x", "y"),
    ),
    "swept in place": Kind(
        """for (long t = 0; t < 3; t++)
    for (long i = 1; i < 23; i++)
      for (long j = 1; j < 23; j++) sweep: A[i][j] = A[i - 1][j] + A[i][j] - A[i][j + 1];""",
        pf.Strategy((2,), ("local",)),
        1,
        1,
        ("A_in",),
    ),
    "summed up in no array": Kind(
        """for (long i = 0; i < 24; i++) {
    float s = 0;
    for (long j = 0; j < 24; j++) s = s * 0.5f + A[i][j];
    put: x[i] = s;
  }""",
        pf.Strategy((1,), ("local",)),
        0,
        0,
        (),
    ),
    "corners that nobody reads": Kind(
        """for (long i = 1; i < 23; i++)
    for (long j = 1; j < 23; j++) first: B[i][j] = A[i][j] + A[i - 1][j] + A[i + 1][j] + A[i][j - 1] + A[i][j + 1];
  for (long i = 2; i < 22; i++)
    for (long j = 2; j < 22; j++) second: A[i][j] = B[i][j] + B[i - 1][j] + B[i + 1][j] + B[i][j - 1] + B[i][j + 1];""",
        pf.Strategy((8, 8), LOCAL),
        2,
        0,
        ("A_in",),
    ),
}


@polly.needs_polly
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_polly_runs_the_tiles_of_c_as_it_is(kind: Kind, tmp_path: Path) -> None:
    source = tmp_path / "f.c"
    arrays = "float A[24][24], float B[24][24], float x[24], float y[24], float *alpha, float *beta"
    source.write_text(f"void f({arrays}) {{\n  {kind.body}\n}}\n")
    prepared = polly.prepare(source)
    file = polly.export(prepared)
    made = scop_network(read_jscop(file))
    if kind.layers:
        assert len(made.network.layers) == kind.layers
        assert sum(layer.recurs for layer in made.network.layers) == kind.recurring
        assert {*kind.inputs} <= {tensor.name for tensor in made.network.inputs}
    (group,) = pf.fused(made.network, kind.strategy)
    write_jscop(rescheduled(made, group), Path(f"{file}.tiled"))
    imported = polly.imported(prepared, "tiled")
    assert imported.returncode == 0 and "dependences" not in imported.stderr, imported.stderr
    labels = {s.name: s.name.removeprefix("Stmt_") for s in made.scop.statements}
    results = []
    for ir in (prepared.read_text(), polly.counted((tmp_path / "tiled.ll").read_text(), list(labels.values()))):
        folder = tmp_path / f"run{len(results)}"
        folder.mkdir()
        plain = polly.library(ir, folder)
        draw = np.random.default_rng(3)
        values = [draw.standard_normal(shape).astype(np.float32) for shape in [(24, 24)] * 2 + [(24,)] * 2 + [(1,)] * 2]
        polly.call(plain, "f", values)
        results.append(values)
    ran = polly.executions(plain, list(labels.values()))
    assert sum(ran.values()) == sum(pf.count(s.domain) for s in made.scop.statements)
    steps = pf.counts(group).steps
    assert sum(ran.values()) == sum(
        steps[p.name] for parts in made.parts.values() for p in parts if p.write == parts[0].write
    )
    kept = {array for array in made.whole if f"chip_{made.whole[array].name}" in Path(f"{file}.tiled").read_text()}
    for name, old, new in zip(["A", "B", "x", "y"], *results, strict=False):
        if f"MemRef_{name}" not in kept:
            np.testing.assert_array_equal(new, old)
