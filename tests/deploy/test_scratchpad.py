"""Plans for a scratchpad machine compiled: the run that checks them, and their files."""

from dataclasses import replace

import numpy as np
import pytest

from polyfuse.codegen.scratchpad.kernel import Simulated
from polyfuse.deploy.scratchpad import Compiled, checked_run, compiled, scratch_files, worst_error
from polyfuse.errors import InvalidInput, PolyfuseError
from polyfuse.network.network import Network
from polyfuse.plan.planning import plan_for
from polyfuse.plan.scratchplan import OffchipBytes
from tests.plan.planned import branches, chain, machine, residual


def made(network: Network, dtype: str | None = "int8") -> Compiled:
    return compiled(plan_for(network, machine(32768), dtype=dtype), network)


@pytest.fixture(scope="module")
def whole() -> Compiled:
    return made(residual())


@pytest.mark.parametrize("dtype", [None, "int8"])
@pytest.mark.parametrize("make", [chain, branches, residual])
def test_runs_move_what_was_planned_and_give_what_is_right(make: type, dtype: str | None) -> None:
    built = made(make(), dtype)
    found = checked_run(built, seed=3)
    assert found.simulated.offchip_bytes == found.planned_bytes == built.plan.totals.offchip_bytes.all
    assert found.error < 1e-5 and found.cycles_error > -0.1


def test_bytes_that_differ_are_refused(whole: Compiled) -> None:
    moved = whole.plan.totals.offchip_bytes
    totals = replace(whole.plan.totals, offchip_bytes=OffchipBytes(moved.feature_maps + 1, moved.weights))
    wrong = replace(whole, plan=replace(whole.plan, totals=totals))
    with pytest.raises(PolyfuseError, match=rf"planned {moved.feature_maps + 1:,} B of feature maps.*polyfuse bug"):
        checked_run(wrong)


def test_results_that_differ_are_refused(whole: Compiled) -> None:
    class Wrong:
        """The kernel, one element of whose output is off."""

        def __call__(self, **inputs: np.ndarray) -> tuple[dict[str, np.ndarray], Simulated]:
            outputs, taken = whole.kernel(**inputs)
            (name,) = outputs
            outputs[name][0, 0, 5, 5] = np.nan
            return outputs, taken

    with pytest.raises(PolyfuseError, match="expected results within 1e-05 of the reference, got inf"):
        checked_run(replace(whole, kernel=Wrong()))


def test_whole_numbers_may_be_one_off() -> None:
    network = residual()
    (output,) = network.outputs
    whole = replace(network.outputs[0], dtype="int8")

    class Quantised:
        outputs = (whole,)

    value = np.array([3, -7], np.int8)
    assert worst_error(Quantised(), {output.name: value}, {output.name: np.array([4, -7], np.int8)}) == (1.0, 1.0)  # type: ignore[arg-type]
    assert worst_error(Quantised(), {output.name: value}, {output.name: np.array([3, 100], np.int8)})[0] == 107  # type: ignore[arg-type]


def test_a_plan_of_another_network_is_refused(whole: Compiled) -> None:
    with pytest.raises(InvalidInput, match="got a network 'chain'; give the network it was made for"):
        compiled(whole.plan, chain())


def test_files_have_the_names_asked_for(whole: Compiled) -> None:
    files = scratch_files(whole, "other")
    assert set(files) == {
        *("other.c", "other.h", "other.weights", "other_simulated.c", "libother_simulated.so"),
        *("scratchpad.h", "simulator.c", "plan.json"),
    }
    assert b"void other_run(void)" in files["other.c"] and b"void other_run(void);" in files["other.h"]
    for name, info in whole.graph.tensors.items():
        assert f"{name}: {list(info.shape)}, {info.bytes} bytes" in files["other.h"].decode()
    assert len(files["other.weights"]) == 4 * sum(operation.weight_bytes for operation in whole.graph.operations)
    with pytest.raises(InvalidInput):
        scratch_files(whole, "no name")
