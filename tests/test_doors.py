"""Whatever is given to a public function, it works or says in one line what is wrong."""

import inspect
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import islpy as isl
import numpy as np
import pytest

import polyfuse as pf
from polyfuse.doors import described
from tests.test_pickling import EXAMPLES, network, storage, strategy

SLOW = {"probe", "fit", "tune"}
"""They measure this host for seconds once their arguments are right; wrong ones are given all the same."""


@cache
def folder() -> Path:
    """Files of the wrong kinds."""
    found = Path(tempfile.mkdtemp(prefix="polyfuse-doors-"))
    (found / "junk.onnx").write_bytes(bytes(range(256)) * 8)
    (found / "junk.json").write_bytes(b"\xff\xfe\x00{")
    (found / "list.json").write_text("[1, 2]")
    (found / "junk.py").write_text("def network(:\n")
    (found / "junk.jscop").write_text('{"arrays": 3}')
    (found / "junk.toml").write_bytes(b"\x80 = = 3")
    (found / "empty").write_bytes(b"")
    return found


def wrong_values() -> list[Any]:
    return [
        *(None, 3.5, "text", b"", [], (), {}, object(), float("nan"), float("inf"), 10**30, -1, 0, True, "8x8"),
        *(np.int64(4), np.float32(2), np.zeros((2, 2)), np.array("x"), [[1, 2], [3]], {"x": 3}, {1: None}, [None]),
        *(pf.Objective(), pf.Tensor("t", (2,)), strategy(), isl.Set("{ [i] : i >= 0 }"), lambda *_: None, int),
        *("", "a" * 300, "nul\0", "no/such/file.onnx", ".", str(folder()), folder(), folder() / "nothing.json"),
        *(str(folder() / name) for name in ("junk.onnx", "junk.json", "list.json", "junk.py", "junk.jscop")),
        *(folder() / name for name in ("junk.toml", "empty")),
        *("}", "{ S[i] -> [i] }", "{ tile[t] -> [t] } more", "{ S[i : }", isl.Map("{ S[i] -> T[i] }")),
        *(isl.UnionMap("{ A[i] -> B[i]; C[j] -> D[j] }"), [10**30], [-1, 0], {"a": "{ b[i] -> tile[i] }"}),
        *foreign(),
    ]


@cache
def foreign() -> tuple[Any, ...]:
    """A network that has nothing to do with the right values, and what is of it."""
    build = pf.Builder("foreign")
    net = build.network(build.max_pool("pooled", build.input("image", (1, 1, 6, 6)), kernel=2))
    (group,) = pf.fused(net, pf.Strategy((1,)))
    return net, group, [group], group.schedule, net.layers[0], pf.generate(net, [group], kernels="scalar")


@cache
def right_values() -> Mapping[str, Any]:
    """A value for each parameter by its name, or by function and name, so that the others are reached."""
    net = network()
    group = storage()
    program = pf.generate(group.schedule.network, [group], kernels="scalar")
    plan = EXAMPLES["ScratchPlan"]()
    small = net.select(["a", "p", "b"])
    found: dict[str, Any] = {
        "network": small,
        "strategy": strategy(),
        "storage": group,
        "groups": [group],
        "program": program,
        "schedule": group.schedule,
        "plan": plan,
        "machine": pf.accelerator("npu"),
        "graph": pf.graph_of(small),
        "capacities": [1 << 14],
        "tile": (2, 3),
        "tiles": [(2, 3)],
        "rows": pf.candidates([(2,)], ["local"]),
        "relation": group.schedule.executions(group.schedule.network.layer("a")),
        "schedule_map": group.schedule.executions(group.schedule.network.layer("a")),
        "name": "given",
        "x": pf.Tensor("x", (1, 2, 8, 8)),
        "kernel": 3,
        "channels": 2,
        "s": isl.Set("{ [i] : 0 <= i < 4 }"),
        "domain": "{ S[i] : 0 <= i < 4 }",
        "output": pf.Tensor("y", (4,)),
        "reads": {"x": (pf.Tensor("x", (4,)), "{ S[i] -> x[i] }")},
        "expression": "x",
        "tiled": [pf.Overlap(2, 2, 1, 8)],
        "executions": {},
        "tile_to_time": "{ tile[a, b, c] -> [a, b, c] }",
        "layer": "a",
        "reader": "p",
        "times": pf.union_map(group.schedule),
        "dim": 3,
        "size": 2,
        "factor": 2,
        "width": 2,
    }
    return found


def functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    for name in pf.__all__:
        value = getattr(pf, name)
        if inspect.isfunction(value):
            yield name, value
        elif inspect.isclass(value) and not issubclass(value, BaseException):
            yield name, value
            for key, method in inspect.getmembers(value, callable):
                if not key.startswith("_") and (key in vars(value)):
                    yield f"{name}.{key}", method
            if "__call__" in vars(value):
                yield f"{name}.__call__", value.__call__


@cache
def instance(name: str) -> Any:
    """An object of a public class, to call its methods on."""
    if name == "Builder":
        return None
    if name == "Kernel":
        return pf.build(right_values()["program"])
    if name == "Model":
        return pf.load(network().select(["a"]))
    return EXAMPLES[name]()


def bound(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A method of an object; Builders are new each time."""
    kind, _, method = name.partition(".")
    if not method:
        return function
    if isinstance(inspect.getattr_static(getattr(pf, kind), method), staticmethod | classmethod):
        return function
    held = pf.Builder("net") if kind == "Builder" else instance(kind)
    return getattr(held, method)  # type: ignore[no-any-return]


def parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return [p for p in inspect.signature(function).parameters.values() if p.name not in ("self", "progress")]


def assert_clear(name: str, call: Callable[[], Any], what: str) -> None:
    """It works, or raises an error of polyfuse of one line."""
    try:
        call()
    except pf.PolyfuseError as error:
        text = str(error)
        assert text and len(text) < 2000, f"{name}({what}): {text}"
        if isinstance(error, pf.InvalidInput):
            assert "\n" not in text, f"{name}({what}): {text}"
        assert name not in OWN_WORDS or "cannot work with these arguments" not in text, f"{name}({what}): {text}"
    except Exception as error:
        raise AssertionError(f"{name}({what}): {type(error).__name__}: {error}") from error


NAMES = [name for name, _ in functions()]
CHEAP: Mapping[str, Mapping[str, Any]] = {
    "compare": {"run": False},
    "sweep": {"capacities": [1 << 13], "executor": ThreadPoolExecutor(1)},
    "experiment": {"chosen": [strategy()], "executor": ThreadPoolExecutor(1)},
}
"""What makes a call short whose other arguments are right."""
OWN_WORDS = {
    *("with_executions", "with_tile_order", "overlapped", "overlapped_executions", "prove_overlap", "Overlap"),
    *("schedule_from", "union_map", "schedule_tree", "split", "interchange", "fuse", "fission", "reverse", "shift"),
    *("skew", "tile", "compute_at", "unroll", "unroll_and_jam", "vectorize", "parallel", "lower", "count", "storage"),
    *("statement_layer", "check", "counts", "shaped", "strategies", "scheduled", "fused", "generate", "halos", "total"),
    *("reference", "random_inputs", "with_storage", "graph_of", "max_relative_error", "Strategy", "Storage", "Row"),
    *("Builder.activation", "Builder.constant", "Builder.conv", "Builder.conv_transpose", "Builder.depthwise"),
    *("Builder.global_average_pool", "Builder.linear", "Builder.max_pool", "Builder.average_pool", "Builder.input"),
    *("Schedule.executions", "Schedule.reads", "Schedule.stage", "Network.layer", "Network.select"),
}
"""Functions that say in words of their own whatever is wrong: never what isl, numpy or Python say of it."""
FEW = 9
"""Wrong values for an argument of a function that works for a second where it is right."""
LONG = {
    "compare",
    "experiment",
    "plan_for",
    "sweep",
    "explain",
    "load",
    "verify",
    "build",
    "rebuild",
    "Model.run",
    *SLOW,
}


@pytest.mark.parametrize("name", NAMES)
def test_every_public_function_says_what_is_wrong(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    function = dict(functions())[name]
    every = [p for p in parameters(bound(name, function)) if p.kind is not inspect.Parameter.VAR_KEYWORD]
    required = [p for p in every if p.default is p.empty and p.kind is not p.VAR_POSITIONAL]
    known = {**right_values(), **CHEAP.get(name, {})}
    for wrong in wrong_values() if required else ():
        assert_clear(name, lambda w=wrong: bound(name, function)(**{p.name: w for p in required}), f"only {wrong!r}")
    for parameter in every:
        some = wrong_values()[: FEW if name in LONG else None]
        for wrong in some:
            if name in SLOW and not fails_early(function, wrong, parameter):
                continue
            given = {p.name: known.get(p.name, wrong) for p in required} | dict(CHEAP.get(name, {}))
            words = f"{parameter.name}={wrong!r}"
            if parameter.kind is parameter.VAR_POSITIONAL:
                assert_clear(name, lambda g=given, w=wrong: bound(name, function)(*g.values(), w), words)
            else:
                given[parameter.name] = wrong
                assert_clear(name, lambda g=given: bound(name, function)(**g), words)


def fails_early(function: Callable[..., Any], wrong: Any, parameter: inspect.Parameter) -> bool:
    """Whether a value cannot be right, so that nothing is measured."""
    return isinstance(wrong, bytes | dict) and described(parameter.annotation) != "anything"


def test_a_wrong_number_of_arguments_is_told_by_python() -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        pf.check()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        pf.check(storage(), strictly=True)  # type: ignore[call-arg]


@pytest.mark.parametrize("size", [4, np.int64(4), np.uint8(4), np.int32(4)])
def test_whole_numbers_of_numpy_are_whole(size: Any) -> None:
    net = network()
    made = pf.Strategy((size,), order=[np.int64(0)])  # type: ignore[arg-type]
    assert made.tile == (4,) and type(made.tile[0]) is int and made.order == (0,)
    pf.fused(net, made)
    assert pf.candidates([(size,)], ["recompute"])[1].tile == (4,)
    assert pf.default_tiles(net) and pf.halos(net, (size,)) == pf.halos(net, (4,))


@pytest.mark.parametrize(
    "tile", ["8x8", "4", True, (True,), (4.0,), 4, (None,), ("4",), b"4", {4: 4}, (np.bool_(True),)]
)
def test_what_is_no_tile_is_refused(tile: Any) -> None:
    for call in (pf.Strategy, lambda tile: pf.candidates([tile]), lambda tile: pf.halos(network(), tile)):
        with pytest.raises(pf.InvalidInput, match=r"^argument 'tiles?' of pf\."):
            call(tile)


def test_errors_of_the_users_own_functions_stay_theirs() -> None:
    def mine(*_: Any) -> None:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        pf.compare(network(), pf.candidates([(2,)], ["local"]), run=False, progress=mine)
    with pytest.raises(ZeroDivisionError, match="mine"):
        pf.layer_by_layer(network(), mine)


def test_help_shows_what_the_function_is() -> None:
    assert list(inspect.signature(pf.fused).parameters) == ["network", "strategy"]
    assert "Errors: InvalidInput" in (inspect.getdoc(pf.fused) or "")
    assert "tile" in inspect.signature(pf.Strategy).parameters
    assert pf.fused.__module__ == "polyfuse.schedule.groups"
