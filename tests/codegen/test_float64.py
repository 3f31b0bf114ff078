"""Networks of float64: C, executions and bytes counted, the interpreter, and SCoPs of arrays of double."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import polyfuse as pf
from polyfuse.bench.compare import Candidate, compare
from polyfuse.choices import Place
from polyfuse.codegen.build import WARNINGS, Options
from polyfuse.codegen.device import device_program
from polyfuse.codegen.lower.selection import named_selection, select_kernels
from polyfuse.codegen.opencl import OPENCL
from polyfuse.codegen.target import Target
from polyfuse.errors import InvalidInput
from polyfuse.network.activation import ACTIVATIONS, Activation
from polyfuse.network.reference import random_inputs
from polyfuse.network.scop.load import load_scop
from polyfuse.rewrite.rewriting import rewrite
from polyfuse.schedule.interpreter import interpret

ATAX = Path(__file__).parents[1] / "network" / "scop" / "data" / "atax.jscop"
ATAX_EXPRESSIONS = {
    "Stmt_set_tmp": "0.0",
    "Stmt_add_tmp": "acc + A * x",
    "Stmt_set_y": "0.0",
    "Stmt_add_y": "acc + A * tmp",
}
QUICK = Options(flags=("-std=c11", "-O1")).with_flags(*WARNINGS)
ROUNDING = 1e-12


def chain() -> pf.Network:
    """Convolutions, the second one of sums that are long enough to be in blocks, and pooling."""
    build = pf.Builder("chain")
    y = build.conv("c1", build.input("x", (1, 2, 14, 13)), 32, kernel=3, activation="relu")
    y = build.conv("c2", y, 3, kernel=3, padding=1, activation="silu")
    return build.network(build.average_pool("p", y, kernel=2))


def test_c_computes_in_float64_and_counts_eight_bytes_an_element() -> None:
    single = chain()
    network = pf.with_storage(single, "float64")
    rows = [Candidate(name, pf.Strategy.named(name, (2,))) for name in ("local", "recompute")]
    wide, narrow = compare(network, rows, repeats=1, options=QUICK).rows, compare(single, rows, run=False).rows
    for row, other in zip(wide, narrow, strict=True):
        assert row.max_rel_error is not None and row.max_rel_error < ROUNDING
        assert row.counted is not None and not row.mismatches
        for name in ("onchip_bytes", "offchip_read_bytes", "offchip_write_bytes"):
            assert row.counted[name] == getattr(row, name) == 2 * getattr(other, name) > 0


def test_nothing_in_the_c_is_a_float() -> None:
    network = pf.with_storage(chain(), "float64")
    program = pf.generate(network, pf.fused(network, pf.Strategy.named("local", (2,))), kernels="rows")
    assert program.buffer_bytes == pf.build(program, options=QUICK).onchip_bytes
    assert "add_block" in program.source and not re.search(r"\bfloat\b", program.source)
    inputs = pf.random_inputs(network, seed=3)
    assert (inputs["x"] != inputs["x"].astype(np.float32)).any()
    (found,) = pf.build(program, options=QUICK)(**inputs).values()
    assert found.dtype == np.float64
    assert pf.max_relative_error(found, pf.reference(network, inputs)["p_out"]) < ROUNDING


def test_functions_are_those_of_doubles() -> None:
    """Every activation of 64 numbers, above 0 where it has no others, added up by one statement."""
    x, y = pf.Tensor("x", (64,), "float64"), pf.Tensor("y", (64,), "float64")
    values = np.random.default_rng(6).standard_normal(64)
    wanted, texts = np.arange(64) / 7, ["i / 7"]
    for name, (_, function, arguments) in ACTIVATIONS.items():
        numbers = (0.1, 0.7)[:arguments]
        with np.errstate(all="ignore"):
            positive = not np.isfinite(function(values, *numbers)).all()
        wanted = wanted + function(np.abs(values) if positive else values, *numbers)
        texts.append(Activation(name, numbers).text("fabsf(x)" if positive else "x"))
    reads = {"x": (x, "{ S[i] -> x[i] }")}
    domain, expression = "{ S[i] : 0 <= i < 64 }", " + ".join(texts)
    layer = pf.statement_layer("s", domain=domain, output=y, reads=reads, expression=expression)
    network = pf.Network("functions", (x,), (layer,), (y,), {})
    found = pf.build(pf.generate(network, pf.layer_by_layer(network)), options=QUICK)(x=values)["y"]
    assert pf.max_relative_error(found, wanted) < ROUNDING


def test_the_interpreter_agrees() -> None:
    build = pf.Builder("net")
    c = build.conv("c", build.input("x", (1, 2, 7, 6)), 3, kernel=3, activation="silu")
    network = pf.with_storage(build.network(build.average_pool("p", c, kernel=2)), "float64")
    (group,) = pf.fused(network, pf.Strategy((2, 2), ("local", "recompute")))
    inputs = random_inputs(network, seed=4)
    assert (
        pf.max_relative_error(interpret(group, inputs).outputs["p_out"], pf.reference(network, inputs)["p_out"])
        < ROUNDING
    )


@pytest.mark.parametrize("places", ["local", "recompute"])
def test_arrays_of_double_run_in_double(places: Place) -> None:
    """PolyBench's atax, as Polly exports it."""
    network = load_scop(ATAX, ATAX_EXPRESSIONS).network
    assert network.dtypes == {"float64"}
    inputs = random_inputs(network, seed=5)
    (group,) = pf.fused(network, pf.Strategy.named(places, (4,)))
    (found,) = pf.build(pf.generate(network, [group]), options=QUICK)(**inputs).values()
    assert pf.max_relative_error(found, inputs["A"].T @ (inputs["A"] @ inputs["x"])) < ROUNDING


def mixed() -> pf.Network:
    """A layer of float64 that reads float32."""
    x, y = pf.Tensor("x", (4,)), pf.Tensor("y", (4,), "float64")
    reads = {"x": (x, "{ S[i] -> x[i] }")}
    layer = pf.statement_layer("s", domain="{ S[i] : 0 <= i < 4 }", output=y, reads=reads, expression="x + 1")
    return pf.Network("mixed", (x,), (layer,), (y,), {})


def test_what_computes_in_float32_refuses_float64_in_one_line() -> None:
    network = pf.with_storage(chain(), "float64")
    groups = pf.layer_by_layer(network)
    vectors = Target(8, 16)
    refused: list[tuple[Callable[[], object], str]] = [
        (lambda: select_kernels(network, vectors), "a row kernel needs float32, and x.* float64 is not"),
        (lambda: pf.generate(network, groups, kernels=select_kernels(chain(), vectors)), "row kernels: expected"),
        (lambda: named_selection(network, "rows", "blocked"), "scalar code works on nchw"),
        (lambda: device_program(network, groups, OPENCL), "OpenCL C needs float32, and x.* float64 is not"),
        (lambda: pf.onnx_model(network), "an ONNX model needs float32, and x.* float64 is not"),
        (lambda: rewrite(network), "is stored in float64; rewrite it before with_storage"),
        (lambda: pf.load(network), "float64"),
        (lambda: pf.plan_for(network, pf.accelerator("npu")), r"x\[.*\] float64: no scratchpad machine computes in"),
        (lambda: pf.graph_of(network, "float32"), r"x\[.*\] float64: no scratchpad machine computes in it"),
        (lambda: pf.with_storage(network, "float64"), "storing in float64 needs float32"),
        (lambda: pf.generate(mixed(), pf.layer_by_layer(mixed())), r"needs float32 everywhere, and y\[4\] float64 is"),
    ]
    for call, message in refused:
        with pytest.raises(InvalidInput, match=message) as error:
            call()
        assert "\n" not in str(error.value)
