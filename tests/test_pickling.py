"""Every public dataclass can be pickled, copied and deep-copied, before it is used and after."""

import copy
import dataclasses
import pickle
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any

import islpy as isl
import numpy as np
import pytest

import polyfuse as pf
from tests.machines.example import example

WAYS: Mapping[str, Callable[[Any], Any]] = {
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


def network() -> pf.Network:
    """Rows that are kept, padding, pooling, an activation, and a layer of isl text."""
    build = pf.Builder("net")
    y = build.conv("a", build.input("x", (1, 2, 12, 12)), 3, kernel=3, padding=1, activation="relu")
    y = build.conv("b", build.max_pool("p", y, kernel=2), 2, kernel=3)
    out = pf.Tensor("doubled", y.shape)
    text = "{ S[n, c, h, w] : n = 0 and 0 <= c < 2 and 0 <= h, w < 4 }"
    read = (y, "{ S[n, c, h, w] -> b_out[n, c, h, w] }")
    layer = pf.statement_layer("twice", domain=text, output=out, reads={"a": read}, expression="a + a")
    return build.network(build.add(layer))


def strategy() -> pf.Strategy:
    return pf.Strategy((2, 3), ("local", "recompute"), {"x": ("recompute", "recompute")})


@cache
def used() -> pf.Network:
    net = network()
    pf.fused(net, strategy())
    pf.reference(net, pf.random_inputs(net, seed=1))
    return net


def storage() -> pf.Storage:
    return pf.fused(used(), strategy())[0]


def scratch() -> pf.ScratchPlan:
    return pf.plan_for(used().select(["a", "p", "b"]), pf.accelerator("npu"))


def compared() -> pf.Comparison:
    return pf.compare(used(), pf.candidates([(2,)], ["local"]), run=False)


def swept() -> pf.Sweep:
    with ThreadPoolExecutor(1) as executor:
        return pf.sweep(used().select(["a"]), pf.accelerator("npu"), [1 << 14, 1 << 15], executor=executor)


def tried() -> pf.Experiment:
    with ThreadPoolExecutor(1) as executor:
        return pf.experiment(used(), [strategy()], {"moved": lambda counts: counts.offchip_bytes}, executor=executor)


EXAMPLES: Mapping[str, Callable[[], Any]] = {
    "Accelerator": lambda: pf.accelerator("npu"),
    "Choices": pf.Choices,
    "Comparison": compared,
    "Counts": lambda: pf.counts(storage()),
    "Experiment": tried,
    "Explanation": lambda: pf.explain(used().select(["a", "p", "b"])),
    "Hierarchy": lambda: pf.hierarchy(used(), {"l2": pf.Strategy((4,)), "l1": pf.Strategy((2,))}),
    "Layer": lambda: used().layer("twice"),
    "Lowered": lambda: pf.lower(storage().schedule.executions(used().layer("a"))),
    "Machine": example,
    "Network": network,
    "Objective": pf.Objective,
    "Options": pf.Options,
    "Overlap": lambda: pf.Overlap(2, tile_size=8, overlap=2, outputs="H", before=1),
    "Plan": lambda: pf.load(used().select(["a"])).plan,
    "Program": lambda: pf.generate(used(), [storage()], kernels="scalar", staged=True),
    "Proof": lambda: pf.prove_plan(scratch(), pf.graph_of(used().select(["a", "p", "b"]))),
    "Row": lambda: compared().rows[-1],
    "Schedule": lambda: pf.scheduled(used(), strategy()),
    "ScratchPlan": scratch,
    "Settings": pf.Settings,
    "Storage": storage,
    "Strategy": strategy,
    "Sweep": swept,
    "Trial": lambda: tried().trials[0],
    "Tensor": lambda: pf.Tensor("x", (1, "H", 4), "int8"),
}


def public_dataclasses() -> list[str]:
    return [name for name in pf.__all__ if dataclasses.is_dataclass(getattr(pf, name))]


def test_there_is_an_example_of_every_public_dataclass() -> None:
    assert sorted(EXAMPLES) == sorted(public_dataclasses())


def use(value: Any) -> None:
    """Have it work out what it keeps: texts, and every property."""
    str(value), repr(value)
    for name in dir(type(value)):
        if not name.startswith("__") and not callable(getattr(type(value), name)):
            try:
                getattr(value, name)
            except pf.PolyfuseError:  # such as the concrete shape of a symbolic tensor
                continue


def assert_same(a: Any, b: Any, where: str) -> None:
    """Equal fields, down to sets of isl and arrays."""
    assert type(a) is type(b), where
    if dataclasses.is_dataclass(a) and not isinstance(a, type):
        for field in dataclasses.fields(a):
            assert_same(getattr(a, field.name), getattr(b, field.name), f"{where}.{field.name}")
    elif isinstance(a, isl.Map | isl.Set | isl.UnionMap):
        assert a.get_space() == b.get_space() and a.is_equal(b), where
    elif isinstance(a, isl.Aff | isl.PwAff | isl.PwMultiAff):
        assert a.plain_is_equal(b), where
    elif isinstance(a, np.ndarray):
        np.testing.assert_array_equal(a, b, where)
    elif isinstance(a, Mapping):
        assert list(a) == list(b), where
        for key in a:
            assert_same(a[key], b[key], f"{where}[{key!r}]")
    elif isinstance(a, tuple | list):
        assert len(a) == len(b), where
        for k, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}[{k}]")
    elif isinstance(a, partial):
        assert a.func is b.func, where
    elif not isinstance(a, isl.AstNode) and not callable(a):
        assert a == b, where


@pytest.mark.parametrize("name", public_dataclasses())
def test_public_dataclasses_are_pickled_and_copied(name: str) -> None:
    value = EXAMPLES[name]()
    for state in ("new", "used"):
        for way, again in WAYS.items():
            found = again(value)
            assert_same(value, found, f"{state} {name} by {way}")
            assert str(found) == str(value)
            if type(value).__eq__ is not object.__eq__:
                assert found == value and {value: 1}[found] == 1 and hash(found) == hash(value), f"{name} by {way}"
        use(value)


def test_what_is_read_again_works() -> None:
    group, net = storage(), used()
    inputs = pf.random_inputs(net, seed=1)
    wanted = pf.reference(net, inputs)["doubled"]
    for again in WAYS.values():
        pf.check(again(group))
        assert np.array_equal(pf.reference(again(net), inputs)["doubled"], wanted)
        program = again(pf.generate(net, [group], kernels="scalar"))
        assert pf.max_relative_error(pf.build(program)(**inputs)["doubled"], wanted) < 1e-5


def test_what_was_worked_out_is_not_sent() -> None:
    found = pickle.loads(pickle.dumps(used()))
    for value in (found, found.layers[0], found.layers[0].statements[0], found.inputs[0]):
        assert set(vars(value)) == {field.name for field in dataclasses.fields(value)}


TEXTS = (
    "{ S[i] -> x[i] }",
    "{ S[a0] -> x[b] : b = a0 + 1 and exists e : a0 = 3e }",
    "[H, W] -> { S[i, j] -> [x[i] -> y[j + H]] : 0 <= i < H }",
    "{ S[i] -> x[i'] : i < i' }",
    "{ [[tile[t] -> A[a]] -> b[t, a]] -> c[(a) mod 3] : 0 <= t, a < 9 }",
)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("way", WAYS)
def test_relations_of_isl(text: str, way: str) -> None:
    relation = isl.Map(text)
    nowhere = isl.Map.empty(relation.get_space())
    objects = [relation, relation.reverse(), relation.wrap(), relation.range(), nowhere, nowhere.domain()]
    objects += relation.get_basic_maps()
    objects += [isl.UnionMap.from_map(relation)]
    for value in objects:
        found = WAYS[way](value)
        assert type(found) is type(value) and found.is_equal(value) and found.get_space() == value.get_space()


def test_loaded_code_says_what_to_pickle() -> None:
    kernel = pf.build(pf.generate(used(), [storage()], kernels="scalar"))
    model = pf.load(used().select(["a"]))
    for value, advice in ((kernel, "pickle its program"), (model, "keep its plan")):
        for again in WAYS.values():
            with pytest.raises(pf.InvalidInput, match=advice):
                again(value)
