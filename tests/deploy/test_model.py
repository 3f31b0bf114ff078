"""Models: planned, compiled, called, verified; plans as files."""

import json
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from polyfuse.deploy import model as model_module
from polyfuse.deploy import prices
from polyfuse.deploy.model import load, plan_of
from polyfuse.deploy.plan import Plan, read_plan
from polyfuse.deploy.settings import Settings
from polyfuse.deploy.source import source_of
from polyfuse.deploy.verify import verify
from polyfuse.errors import InvalidInput
from polyfuse.network.network import Builder, Network
from polyfuse.network.onnx.export import onnx_model
from polyfuse.network.reference import max_relative_error, random_inputs
from polyfuse.network.reference import run as run_reference
from tests.deploy.networks import block, branches, chain


def two_ends() -> Network:
    """Two inputs, two outputs; one output is read by the layer of the other."""
    build = Builder("ends")
    x, y = build.input("x", (1, 16, 9, 9)), build.input("y", (1, 16, 9, 9))
    a = build.arithmetic("a", "add", x, y)
    return build.network(a, build.conv("b", a, 16, kernel=3, padding=1))


@pytest.mark.parametrize("settings", [Settings(), Settings(groups="single"), Settings(interface="blocked", exact=True)])
@pytest.mark.parametrize("network", [block(), branches(), chain(), two_ends()], ids=lambda network: network.name)
def test_a_model_computes_what_the_reference_does(network: Network, settings: Settings) -> None:
    model = load(network, settings=settings)
    inputs = random_inputs(network, seed=2)
    values = run_reference(network, inputs)
    for name, found in model.run(**inputs).items():
        assert max_relative_error(found, values[name]) < 2e-5


def test_inputs_come_in_order_or_by_name() -> None:
    model = load(two_ends())
    x, y = random_inputs(model.network, seed=1).values()
    by_order, by_name = model(x, y), model(y=y, x=x)
    assert isinstance(by_order, dict) and isinstance(by_name, dict)
    assert set(by_order) == {"a_out", "b_out"}
    assert all(np.array_equal(by_order[name], by_name[name]) for name in by_order)
    for arrays, named in (((x, y, x), {}), ((x,), {"x": x}), ((x,), {}), ((), {"z": x})):
        with pytest.raises(InvalidInput, match="expected"):
            model.run(*arrays, **named)


def test_results_are_copies() -> None:
    model = load(chain(2))
    x = random_inputs(model.network, seed=1)["x"]
    first = np.asarray(model(x)).copy()
    kept = model(x)
    model(-x)
    assert np.array_equal(np.asarray(kept), first)


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    network = block()
    plan = plan_of(network, Settings().ready)
    path = tmp_path / "plan.json"
    path.write_text(plan.to_json())
    assert read_plan(path) == plan
    again = load(network, plan=read_plan(path))
    assert again.program.source == load(network, plan=plan).program.source


def test_plans_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    network = block()
    plan = plan_of(network, Settings(groups="single").ready)
    document = json.loads(plan.to_json())
    with pytest.raises(InvalidInput, match="'c0' does not fit"):
        load(network, plan=plan_of(chain(), Settings(groups="single").ready))
    swapped = {**document, "groups": [document["groups"][1], document["groups"][0], *document["groups"][2:]]}
    with pytest.raises(InvalidInput, match="before a group stores it"):
        load(network, plan=Plan.from_json(json.dumps(swapped)))
    for change, message in (
        ({"machine": {**document["machine"], "kind": "npu"}}, "kind: expected one of 'host', 'scratchpad', got 'npu'"),
        ({"machine": {**document["machine"], "kind": "scratchpad"}}, "of kind 'host', got a plan for a scratchpad"),
        ({"version": 7}, "expected format 'polyfuse-plan' version 2"),
        ({"interface": "nhwc"}, "interface: expected one of 'nchw', 'blocked', got 'nhwc'"),
        ({"colour": 1}, "unknown 'colour'"),
        ({"machine": {**document["machine"], "vector_floats": 5}}, "vectors of 5 floats"),
        ({"groups": document["groups"][1:]}, "'stem' does not fit"),
        ({"groups": [*document["groups"], document["groups"][0]]}, "does not fit"),
    ):
        with pytest.raises(InvalidInput, match=message):
            load(network, plan=Plan.from_json(json.dumps({**document, **change})))
    with pytest.raises(InvalidInput, match="No such file"):
        read_plan(tmp_path / "none.json")


def test_tensors_between_groups_share_memory() -> None:
    network = chain(6)
    model = load(network, settings=Settings(groups="single"))
    sizes = [4 * model.program.array(tensor).elements for tensor in model.program.scratch]
    assert len(sizes) == 5
    assert model.program.arena.bytes == 2 * max(sizes)
    assert model.program.arena.gap == 0


def test_onnxruntime_agrees_with_every_group() -> None:
    pytest.importorskip("onnxruntime")
    network = branches()
    settings = Settings(groups="single").ready
    found = verify(source_of(network), plan_of(network, settings), settings)
    stored = ["stem_out", "a1_out", "a2_out", "b1_out", "b2_out", "both_out", "end_out"]
    assert [each.tensor for each in found.checked] == stored
    assert found.worst.error < 1e-5 + found.error_bound


def test_verify_sees_a_wrong_weight() -> None:
    pytest.importorskip("onnxruntime")
    network = branches()
    settings = Settings(groups="single").ready
    plan = plan_of(network, settings)
    source = replace(source_of(network), model=onnx_model(network))
    source.network.weights["b2_weight"][0, 0, 0, 0] += 1
    assert verify(source, plan, settings).worst.tensor in ("b2_out", "end_out", "both_out")


def test_a_process_that_may_not_have_children_plans_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a worker of multiprocessing.Pool, which is a daemon."""
    monkeypatch.setattr(prices, "FEW", 1)
    monkeypatch.setattr(model_module, "usable_cores", lambda: 2)
    network = chain(8)
    with get_context("fork").Pool(1) as pool:
        assert pool.apply(plan_of, (network, Settings().ready)) == plan_of(network, Settings().ready)
