"""Where onnxruntime and polyfuse disagree, float64 arithmetic says who is off, and only polyfuse's own errors fail."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from polyfuse.cli import main
from polyfuse.codegen.kernel import Kernel
from polyfuse.deploy import verify as verifying
from polyfuse.deploy.judging import by_evaluator
from polyfuse.deploy.model import load, plan_of
from polyfuse.deploy.settings import Settings
from polyfuse.deploy.source import Source, read_source, source_of
from polyfuse.deploy.verify import Verified, verify
from polyfuse.network.network import Builder
from tests.deploy.ends import SHAPE, expected, made, node, random_arrays, saved

SETTINGS = Settings(groups="single")


def small_sigmoids(shift: float) -> onnx.ModelProto:
    """Sigmoid of numbers far below zero, where onnxruntime's is a polynomial that is cut off at -18."""
    nodes = [node("Sub", ["x", "c"], "below"), node("Sigmoid", ["below"], "s"), node("Relu", ["x"], "y")]
    return made(nodes, {"x": SHAPE}, ["s", "y"], {"c": np.float32([shift])})


def verified(source: Source) -> Verified:
    settings = SETTINGS.ready
    return verify(source, plan_of(source.network, settings), settings)


@pytest.mark.parametrize("shift", [10.0, 16.0, 30.0])
def test_onnxruntime_is_off_where_it_is(shift: float, tmp_path: Path) -> None:
    path = saved(small_sigmoids(shift), tmp_path)
    found = verified(read_source(path))
    assert not found.failed
    off = [each for each in (*found.checked, *found.called) if each.judged is not None]
    assert {each.tensor for each in off} == {"s"} and {each.way for each in off} == {"", "C", "by position", "by name"}
    for each in off:
        assert each.judged is not None
        assert each.judged.polyfuse < 1e-5 and each.judged.onnxruntime > 1e-4
        assert found.why(each).endswith("onnxruntime is off")
    done = CliRunner().invoke(main, ["verify", str(path), "--groups", "single"])
    assert done.exit_code == 0 and "onnxruntime is off" in " ".join(done.output.split())


Runtime = Callable[[onnx.ModelProto, Sequence[np.ndarray], Sequence[str]], Any]


def test_a_wrong_result_of_onnxruntime_does_not_fail_polyfuse(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    right: Runtime = verifying.by_onnxruntime

    def wrong(model: onnx.ModelProto, arrays: Sequence[np.ndarray], wanted: Sequence[str]) -> Any:
        results, between = right(model, arrays, wanted)
        return [1.01 * each for each in results], {name: 1.01 * each for name, each in between.items()}

    monkeypatch.setattr(verifying, "by_onnxruntime", wrong)
    found = verified(read_source(saved(small_sigmoids(0.0), tmp_path)))
    assert not found.failed and all(each.judged is not None for each in (*found.checked, *found.called))


def off_by_a_percent(kernel: Kernel, /, **inputs: Any) -> dict[str, np.ndarray]:
    kernel.set_inputs(inputs)
    kernel.run()
    return {name: 1.01 * array for name, array in kernel.outputs.items()}


def test_a_wrong_result_of_polyfuse_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = saved(small_sigmoids(0.0), tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Kernel, "__call__", off_by_a_percent)
        found = verified(read_source(path))
        assert {(each.way, each.tensor) for each in found.failed} >= {("", "s"), ("by position", "y"), ("by name", "y")}
        assert found.why(found.worst).endswith("polyfuse is off")
        done = CliRunner().invoke(main, ["verify", str(path), "--groups", "single"])
        assert done.exit_code == 1 and "polyfuse is off" in done.output
    call = verifying.call_library
    for broken in (lambda *given: call(*given)[::-1], lambda *given: [each + 0.1 for each in call(*given)]):
        monkeypatch.setattr(verifying, "call_library", broken)
        assert {each.way for each in verified(read_source(path)).failed} == {"C"}


def test_a_wrong_import_fails_though_float64_agrees_with_it(tmp_path: Path) -> None:
    """The layers say tanh where the model says Sigmoid: the reference computes as polyfuse does, the evaluator not."""
    source = read_source(saved(small_sigmoids(0.0), tmp_path))
    build = Builder("m")
    x = build.input("x", SHAPE)
    s, y = build.activation("n1", x, "tanh"), build.activation("n2", x, "relu")
    wrong = source_of(build.network(s, y))
    names = {"x": "x", "n1_out": "s", "n2_out": "y"}
    found = verified(replace(source, rewritten=wrong.rewritten, names=names))
    assert {each.tensor for each in found.failed if not each.way} == {"s"} and found.worst.judged is None


def test_inputs_that_are_swapped_fail(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = saved(made([node("Sub", ["a", "b"], "y")], {"a": SHAPE, "b": SHAPE}, ["y"]), tmp_path)
    assert not verified(read_source(path)).failed
    call = verifying.call_library
    monkeypatch.setattr(verifying, "call_library", lambda code, arrays, *rest: call(code, arrays[::-1], *rest))
    assert {each.way for each in verified(read_source(path)).failed} == {"C"}


def test_infinities_and_nan_are_compared(tmp_path: Path) -> None:
    nodes = [node("Relu", ["x"], "p"), node("Neg", ["p"], "n"), node("Sqrt", ["n"], "y"), node("Div", ["x", "p"], "z")]
    found = verified(read_source(saved(made(nodes, {"x": SHAPE}, ["y", "z"]), tmp_path)))
    assert not found.failed and found.worst.error <= 1e-4


def test_the_evaluator_computes_in_float64(tmp_path: Path) -> None:
    model = small_sigmoids(10.0)
    (x,) = random_arrays(model)
    exact = by_evaluator(model, [x], ["s"])["s"]
    assert np.allclose(exact, 1 / (1 + np.exp(10 - x.astype(np.float64))), rtol=1e-12)
    ours = load(saved(model, tmp_path), settings=SETTINGS).run(x)["s"]
    theirs = expected(model, [x])[0]
    assert np.abs(ours - exact).max() < np.abs(theirs - exact).max() / 10
