"""Groups for Polly: what is exported is legal and computes the network, and real Polly imports, runs and refuses it."""

import ctypes
import json
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import islpy as isl
import numpy as np
import pytest

import polyfuse as pf
from polyfuse.codegen.scop.export import ExportedScop, exported, rescheduled, write_exported
from polyfuse.errors import IllegalSchedule, InvalidInput, UnsupportedOperator
from polyfuse.network.scop.jscop import read_jscop, write_jscop
from polyfuse.network.scop.layers import scop_network
from polyfuse.network.scop.order import check_changed
from polyfuse.network.scop.scop import Scop
from polyfuse.schedule.cells import Index
from tests.oracles import polly

TWO_CONVS = Path(__file__).parents[1] / "network" / "scop" / "data" / "two_convs.c"
Make = Callable[[], pf.Network]
SHIFTED_LOCAL = pf.Strategy.named("local", (8, 8), "shifted")


def two_layers() -> pf.Network:
    """Two convolutions, the second one padded."""
    build = pf.Builder("pair")
    x = build.input("x", (1, 2, 20, 20))
    y = build.conv("conv2", build.conv("conv1", x, 3, kernel=3, activation="relu"), 2, kernel=3, padding=1)
    return build.network(y)


def three_layers() -> pf.Network:
    """Three convolutions, one of them strided, with padding."""
    build = pf.Builder("chain")
    a = build.conv("c1", build.input("x", (1, 2, 22, 18)), 3, kernel=3, padding=1, activation="relu")
    return build.network(build.conv("c3", build.conv("c2", a, 2, kernel=3, stride=2), 2, kernel=3, padding=1))


def transposed() -> pf.Network:
    """A convolution and a transposed one, whose domain has holes."""
    build = pf.Builder("up")
    a = build.conv("a", build.input("x", (1, 2, 8, 8)), 2, kernel=3, padding=1)
    return build.network(build.conv_transpose("u", a, 2, kernel=3, stride=2, padding=1))


def doubles() -> pf.Network:
    """The two convolutions in float64."""
    return pf.with_storage(two_layers(), "float64")


CASES = [
    ("two, recompute", two_layers, pf.Strategy.named("recompute", (8, 8)), False),
    ("two, local", two_layers, SHIFTED_LOCAL, True),
    ("two, local in plain loops", two_layers, SHIFTED_LOCAL, False),
    ("two, global", two_layers, pf.Strategy.named("global", (8, 8)), False),
    ("doubles, recompute and global", doubles, pf.Strategy((8, 8), ("recompute", "global")), False),
    ("three, recompute", three_layers, pf.Strategy.named("recompute", (4,)), False),
    ("three, local first", three_layers, pf.Strategy.named("local", (5,)), True),
    ("three, global", three_layers, pf.Strategy.named("global", (4,)), False),
    ("transposed, recompute", transposed, pf.Strategy.named("recompute", (8,)), False),
]
cases = pytest.mark.parametrize("network, strategy, expanded", [case[1:] for case in CASES], ids=[c[0] for c in CASES])


def parameters(source: str) -> list[str]:
    """The names of the arrays that the function of a C file takes, in their order."""
    (signature,) = re.findall(r"^void \w+\(([^)]*)\)$", source, re.MULTILINE)
    return re.findall(r"(?:float|double) (\w+)\[", signature)


def run(network: pf.Network, scop: ExportedScop, loaded: ctypes.CDLL) -> float:
    """The largest error of a compiled function, in units of what is taken for rounding."""
    inputs = pf.random_inputs(network, seed=0)
    outputs = {t.name: np.full(t.concrete_shape, np.nan, t.dtype) for t in network.outputs}
    given = {**inputs, **{name: np.ascontiguousarray(value) for name, value in network.weights.items()}, **outputs}
    polly.call(loaded, scop.function, [given[name] for name in parameters(scop.source)])
    wanted = pf.reference(network, inputs)
    most = {"float32": 1e-5, "float64": 1e-12}[network.outputs[0].dtype]
    return max(pf.max_relative_error(outputs[name], wanted[name]) for name in outputs) / most


def by_step(scop: ExportedScop, ran: Mapping[str, int]) -> dict[str, int]:
    """Executions of statements, added for the steps that they belong to."""
    found = dict.fromkeys(scop.statements.values(), 0)
    for statement, step in scop.statements.items():
        found[step] += ran[statement.removeprefix("Stmt_")]
    return found


@cases
def test_the_c_computes_the_network_in_its_own_order(
    network: Make, strategy: pf.Strategy, expanded: bool, tmp_path: Path
) -> None:
    net = network()
    (group,) = pf.fused(net, strategy)
    scop = exported(group, expanded=expanded)
    write_exported(scop, tmp_path)
    gcc = ["gcc", "-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-Wno-unused-label"]
    sanitised = ["-fsanitize=undefined", "-fno-sanitize-recover", "-shared", "-fPIC", f"{scop.function}.c", "-lm"]
    subprocess.run([*gcc, *sanitised, "-o", "plain.so"], cwd=tmp_path, check=True)
    assert run(net, scop, ctypes.CDLL(str(tmp_path / "plain.so"))) < 1


@cases
def test_the_fused_schedule_has_as_many_instances_as_are_predicted(
    network: Make, strategy: pf.Strategy, expanded: bool
) -> None:
    (group,) = pf.fused(network(), strategy)
    scop = exported(group, expanded=expanded)
    predicted = pf.counts(group).steps
    for kind in (scop.original, scop.fused):
        points = {s.name: int(str(s.domain.count_val())) for s in kind.statements}
        found = by_step(scop, {name.removeprefix("Stmt_"): count for name, count in points.items()})
        assert found == {step: predicted[step] for step in found}
    assert {f"{layer.name}_update" for layer in group.schedule.network.layers} <= set(scop.statements.values())
    check_changed(scop.original, scop.fused)


def test_recomputation_is_expanded_and_what_is_kept_is_not() -> None:
    arrays = {}
    for name in ("recompute", "local", "global"):
        (group,) = pf.fused(two_layers(), pf.Strategy.named(name, (8, 8)))
        scop = exported(group)
        arrays[name] = (scop.expanded, [str(array) for array in scop.fused.arrays if "conv1_out" in array.name])
    assert arrays == {
        "recompute": (True, ["float MemRef_tiles_conv1_out[*, 3, 3, 10, 10]", "float chip_conv1_out[3, 10, 10]"]),
        "local": (False, ["float MemRef_conv1_out[*, 18, 18]", "float chip_conv1_out[3, 10, 18]"]),
        "global": (False, ["float MemRef_conv1_out[*, 18, 18]"]),
    }


def test_a_ring_that_is_too_small_is_never_exported() -> None:
    (group,) = pf.fused(two_layers(), SHIFTED_LOCAL)
    buffer = group.buffers["conv1_out"]
    indices = [Index(index.origin, index.window - 1, True) if index.folded else index for index in buffer.indices]
    small = replace(group, buffers={**group.buffers, "conv1_out": replace(buffer, indices=tuple(indices))})
    with pytest.raises(IllegalSchedule, match="in its place"):
        exported(small)


def test_what_cannot_be_exported_is_refused_in_one_line() -> None:
    build = pf.Builder("clamped")
    x, y = build.input("x", (16,)), pf.Tensor("y", (16,))
    read = "{ S[i] -> x[i - 1] : i > 0; S[0] -> x[0] }"
    layer = pf.statement_layer("s", domain="{ S[i] : 0 <= i < 16 }", output=y, reads={"x": (x, read)}, expression="x")
    (group,) = pf.fused(build.network(build.add(layer)), pf.Strategy.named("recompute", (4,)))
    with pytest.raises(UnsupportedOperator, match="has several pieces, which Polly does not take"):
        exported(group)
    made = scop_network(read_jscop(TWO_CONVS.with_suffix(".jscop")))
    (group,) = pf.fused(made.network, pf.Strategy.named("global", (8,)))
    with pytest.raises(InvalidInput, match="'Stmt_set_t': what it computes is not known"):
        exported(group)


def test_recomputation_has_no_place_in_c_that_is_there() -> None:
    made = scop_network(read_jscop(TWO_CONVS.with_suffix(".jscop")))
    (group,) = pf.fused(made.network, pf.Strategy.named("recompute", (8, 8)))
    with pytest.raises(IllegalSchedule, match=r"Stmt_set_t would run several times.*export-scop"):
        rescheduled(made, group)


@polly.needs_polly
@cases
def test_polly_imports_and_runs_it_with_the_counts_predicted(
    network: Make, strategy: pf.Strategy, expanded: bool, tmp_path: Path
) -> None:
    net = network()
    (group,) = pf.fused(net, strategy)
    scop = exported(group, expanded=expanded)
    write_exported(scop, tmp_path)
    polly.done("sh", "build.sh", folder=tmp_path)
    labels = [name.removeprefix("Stmt_") for name in scop.statements]
    loaded = polly.library(polly.counted((tmp_path / f"{scop.function}.polly.ll").read_text(), labels), tmp_path)
    assert run(net, scop, loaded) < 1
    found, predicted = by_step(scop, polly.executions(loaded, labels)), pf.counts(group).steps
    assert found == {step: predicted[step] for step in found}
    (theirs,) = (path for path in tmp_path.glob("*.jscop") if "___" in path.name)
    assert_same(read_jscop(theirs), scop.original)


def assert_same(theirs: Scop, ours: Scop) -> None:
    """Polly finds the statements, domains, accesses and arrays that were foreseen."""
    assert theirs.arrays == ours.arrays
    for one, other in zip(theirs.statements, ours.statements, strict=True):
        assert one.name == other.name and one.domain == other.domain
        for mine, other_access in zip(one.accesses, other.accesses, strict=True):
            assert mine.kind == other_access.kind
            assert mine.relation.intersect_domain(one.domain) == other_access.relation.intersect_domain(one.domain)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The IR of two_convs.c and what Polly exports of it."""
    folder = tmp_path_factory.mktemp("two_convs")
    (folder / TWO_CONVS.name).write_text(TWO_CONVS.read_text())
    ir = polly.prepare(folder / TWO_CONVS.name)
    return ir, polly.export(ir)


@polly.needs_polly
def test_the_file_of_this_suite_is_what_polly_exports(prepared: tuple[Path, Path]) -> None:
    assert json.loads(prepared[1].read_text()) == json.loads(TWO_CONVS.with_suffix(".jscop").read_text())


@polly.needs_polly
def test_a_round_trip_leaves_schedule_and_domains_as_they_were(prepared: tuple[Path, Path], tmp_path: Path) -> None:
    """Exported by Polly, read, written, imported by Polly, and exported by it again."""
    ir, file = prepared
    for path in (ir, file):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    scop = read_jscop(file)
    write_jscop(scop, tmp_path / f"{file.name}.again")
    passes = ["-polly-import-jscop-postfix=again", "-passes=polly-import-jscop,polly-export-jscop"]
    (tmp_path / file.name).unlink()
    polly.done(polly.OPT, *polly.flags("two_convs"), *passes, "-disable-output", ir.name, folder=tmp_path)
    back = read_jscop(tmp_path / file.name)
    assert_same(back, scop)
    for one, other in zip(back.statements, scop.statements, strict=True):
        assert one.schedule.intersect_domain(one.domain) == other.schedule.intersect_domain(other.domain)


@polly.needs_polly
@pytest.mark.parametrize(
    "strategy",
    [SHIFTED_LOCAL, pf.Strategy.named("local", (5,)), pf.Strategy.named("global", (8, 8))],
    ids=["local shifted", "local first", "global"],
)
def test_c_of_somebody_else_runs_with_the_schedule_and_the_counts_predicted(
    strategy: pf.Strategy, prepared: tuple[Path, Path], tmp_path: Path
) -> None:
    ir, file = prepared
    made = scop_network(read_jscop(file))
    (group,) = pf.fused(made.network, strategy)
    write_jscop(rescheduled(made, group), file.with_name(f"{file.name}.polyfuse"))
    finished = polly.imported(ir, "polyfuse")
    assert finished.returncode == 0 and "Reading JScop" in finished.stderr
    labels = ["set_t", "add_t", "set_y", "add_y"]
    loaded = polly.library(polly.counted((ir.parent / "polyfuse.ll").read_text(), labels), tmp_path)
    draw = np.random.default_rng(0)
    x, w1, w2 = (draw.standard_normal(shape, np.float32) for shape in ((20, 20), (3, 3), (3, 3)))
    t, y = np.full((18, 18), np.nan, np.float32), np.full((16, 16), np.nan, np.float32)
    polly.call(loaded, "two_convs", [x, w1, t, w2, y])
    windows = np.lib.stride_tricks.sliding_window_view
    middle = np.einsum("hwab,ab->hw", windows(x.astype(float), (3, 3)), w1)
    assert pf.max_relative_error(y, np.einsum("hwab,ab->hw", windows(middle, (3, 3)), w2)) < 1e-5
    assert polly.executions(loaded, labels) == {"set_t": 324, "add_t": 2916, "set_y": 256, "add_y": 2304}
    kept = "local" in strategy.others
    assert bool(np.isnan(t).all()) == kept, "with local rows, t is in a ring that Polly allocates"


@polly.needs_polly
def test_an_illegal_schedule_is_refused_by_polyfuse_and_by_polly(prepared: tuple[Path, Path]) -> None:
    """y one row too early: t[h + 2] is not there."""
    ir, file = prepared
    scop = read_jscop(file)
    times = {
        "Stmt_set_t": "[h, 0, w, 0, 0, 0]",
        "Stmt_add_t": "[h, 0, w, 1, a, b]",
        "Stmt_set_y": "[h + LATER, 1, w, 0, 0, 0]",
        "Stmt_add_y": "[h + LATER, 1, w, 1, a, b]",
    }

    def rows(later: int) -> Scop:
        fused = []
        for s in scop.statements:
            indices = ", ".join("hwab"[: s.domain.dim(isl.dim_type.set)])
            time = times[s.name].replace("LATER", str(later))
            fused.append(replace(s, schedule=isl.Map(f"{{ {s.name}[{indices}] -> {time} }}")))
        return replace(scop, statements=tuple(fused))

    for later, legal in ((2, True), (1, False)):
        changed = rows(later)
        write_jscop(changed, file.with_name(f"{file.name}.rows{later}"))
        finished = polly.imported(ir, f"rows{later}")
        assert (finished.returncode == 0) == legal
        if legal:
            check_changed(scop, changed)
        else:
            assert "changes the dependences" in finished.stderr
            with pytest.raises(IllegalSchedule, match=r"_t\[.* must run before Stmt_add_y\[.* writes MemRef_t\["):
                check_changed(scop, changed)


@polly.needs_polly
def test_the_script_says_that_polly_refuses_a_schedule(tmp_path: Path) -> None:
    (group,) = pf.fused(two_layers(), pf.Strategy.named("global", (8, 8)))
    scop = exported(group)
    reversed_layers = [replace(s, schedule=s.schedule.neg()) for s in scop.fused.statements]
    write_exported(replace(scop, fused=replace(scop.fused, statements=tuple(reversed_layers))), tmp_path)
    finished = polly.run("sh", "build.sh", folder=tmp_path)
    assert finished.returncode == 1 and not (tmp_path / "pair.o").exists()
    assert re.fullmatch(r"build.sh: Polly has refused pair.jscop: .*changes the dependences.*\n", finished.stderr)
