"""Operations of a network: what runs, what is a view, in which parts operands are read."""

from pathlib import Path

import numpy as np
import onnx
import pytest

import polyfuse as pf
from polyfuse.errors import InvalidInput
from polyfuse.network.layers.copies import reshape
from polyfuse.network.network import Builder, Network
from polyfuse.plan.graph.operations import Graph, Part, graph_of
from tests.kernels import LOOPS

LIGHT = sorted((Path(onnx.__file__).parent / "backend/test/data/light").glob("*.onnx"))
KERNELS = sorted((Path(__file__).parents[3] / "kernels").glob("*.py"))


def consistent(network: Network, graph: Graph) -> None:
    """Layers are operations or views, operands are covered by parts, tensors are made before they are read."""
    known = set(graph.inputs)
    for operation in graph.operations:
        for tensor, parts in zip(operation.layer.inputs, operation.operands, strict=True):
            elements = [part.channels * int(np.prod(tensor.shape[2:])) for part in parts]
            assert elements == [np.prod(graph.tensors[part.tensor].shape[1:]) for part in parts]
            assert sum(elements) * (tensor.shape[0] if len(tensor.shape) > 1 else 1) == tensor.elements
            assert [part.offset for part in parts] == [
                sum(part.channels for part in parts[:k]) for k in range(len(parts))
            ]
        assert set(operation.reads) <= known
        assert graph.producer(operation.output) == operation.name
        known.add(operation.output)
    assert {*known} == {*graph.tensors}
    for layer in network.layers:
        assert layer.name in graph.by_name or layer.kind in ("concat", "reshape")
    for name in graph.outputs:
        assert graph.producer(name) is not None
    for name in graph.tensors:
        assert all(name in graph.operation(reader).reads for reader in graph.readers(name))


@pytest.mark.parametrize("path", KERNELS, ids=lambda path: path.stem)
def test_every_kernel_is_operations(path: Path) -> None:
    network = pf.load_workload(str(path))
    if path.stem in LOOPS - {"jacobi1d"}:
        with pytest.raises(InvalidInput, match="plan one image at a time"):
            graph_of(network)
    else:
        consistent(network, graph_of(network))


@pytest.mark.parametrize("name", ["squeezenet", "inception_v1", "shufflenet", "resnet50"])
def test_real_graphs_are_operations(name: str) -> None:
    (path,) = [path for path in LIGHT if name in path.name]
    network = pf.load_onnx(path, random_weights=0)
    graph = graph_of(network, "int8")
    consistent(network, graph)
    concats = {layer.name for layer in network.layers if layer.kind == "concat"}
    assert not concats & set(graph.by_name)


def test_nested_concats_are_one_list_of_parts() -> None:
    build = Builder("net")
    x = build.input("x", (1, 2, 6, 6))
    a, b = build.conv("a", x, 3, kernel=1), build.conv("b", x, 4, kernel=1)
    inner = build.concat("inner", a, x)
    outer = build.concat("outer", b, inner, b)
    graph = graph_of(build.network(build.conv("c", outer, 1, kernel=3)))
    assert graph.operation("c").operands == (
        (Part("b_out", 4, 0), Part("a_out", 3, 4), Part("x", 2, 7), Part("b_out", 4, 9)),
    )
    assert graph.readers("b_out") == ("c",) and graph.readers("x") == ("a", "b", "c")


def test_concat_that_is_an_output_is_computed() -> None:
    build = Builder("net")
    x = build.input("x", (1, 2, 6, 6))
    both = build.concat("both", build.conv("a", x, 3, kernel=1), x)
    graph = graph_of(build.network(both))
    assert [operation.name for operation in graph.operations] == ["a", "both"]
    assert graph.operation("both").cls == "elementwise" and graph.outputs == ("both_out",)


def test_flattened_concat_is_read_in_parts_of_all_elements() -> None:
    build = Builder("net")
    x = build.input("x", (1, 2, 3, 3))
    both = build.concat("both", build.conv("a", x, 3, kernel=1), x)
    graph = graph_of(build.network(build.linear("fc", both, 7)))
    assert graph.operation("fc").operands == ((Part("a_out", 27, 0), Part("x", 18, 27)),)
    assert graph.operation("fc").cls == "matmul"


def test_reshape_that_cuts_parts_is_computed() -> None:
    build = Builder("net")
    x = build.input("x", (1, 1, 2, 3))
    both = build.concat("both", x, build.conv("a", x, 2, kernel=1))
    tall = build.add(reshape("tall", both, (1, 2, 3, 3)))
    graph = graph_of(build.network(build.conv("b", tall, 1, kernel=1)))
    assert "tall" in graph.by_name and graph.operation("tall").operands == ((Part("x", 1, 0), Part("a_out", 2, 1)),)


def test_classes_follow_from_what_layers_do() -> None:
    build = Builder("net")
    x = build.input("x", (1, 4, 8, 8))
    y = build.depthwise("dw", build.conv("full", x, 4, kernel=3, padding=1), kernel=3, padding=1)
    y = build.conv("grouped", y, 4, kernel=3, padding=1, groups=2)
    y = build.arithmetic(
        "sum", "add", build.max_pool("largest", y, kernel=3, stride=1, padding=1), y, activation="relu"
    )
    y = build.linear("fc", build.global_average_pool("mean", y), 3)
    graph = graph_of(build.network(y))
    assert {o.name: o.cls for o in graph.operations} == {
        "full": "conv",
        "dw": "depthwise",
        "grouped": "conv",
        "largest": "pool",
        "sum": "elementwise",
        "mean": "pool",
        "fc": "matmul",
    }
    assert [o.name for o in graph.operations if o.accumulates] == ["mean"]


def test_pool_over_the_whole_map_accumulates_whatever_its_kind() -> None:
    build = Builder("net")
    x = build.input("x", (1, 4, 5, 5))
    whole = build.max_pool("whole", x, kernel=5)
    part = build.average_pool("part", x, kernel=4)
    graph = graph_of(build.network(whole, part))
    assert [o.accumulates for o in graph.operations] == [True, False]


def test_type_prices_tensors_and_weights_but_not_biases() -> None:
    build = Builder("net")
    x = build.input("x", (1, 2, 8, 8))
    network = build.network(build.conv("a", x, 3, kernel=3))
    found = {dtype: graph_of(network, dtype).operation("a").weight_bytes for dtype in (None, "float16", "int8")}
    assert found == {None: (54 + 3) * 4, "float16": (54 + 3) * 2, "int8": 54 + 3 * 4}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_are_priced_as_what_they_are(dtype: str) -> None:
    build = Builder("half")
    network = pf.with_storage(build.network(build.conv("a", build.input("x", (1, 2, 8, 8)), 3, kernel=3)), dtype)
    assert {tensor.dtype for tensor in graph_of(network).tensors.values()} == {dtype}
    assert graph_of(network, "int8").tensors["x"].bytes == 128


def test_batch_is_kept_apart_or_refused() -> None:
    build = Builder("net")
    x = build.input("x", (3, 2, 8, 8))
    y = build.conv("a", x, 3, kernel=3)
    assert graph_of(build.network(y)).images == 3
    mixed = build.network(build.conv("b", build.add(reshape("one", y, (1, 9, 6, 6))), 1, kernel=1))
    with pytest.raises(InvalidInput, match=r"layer 'one': expected every image of a batch.*plan one image"):
        graph_of(mixed)


def test_unknown_type_and_operation_are_refused() -> None:
    build = Builder("net")
    network = build.network(build.conv("a", build.input("x", (1, 2, 8, 8)), 3, kernel=3))
    with pytest.raises(InvalidInput, match="type 'int4': expected one of float32"):
        graph_of(network, "int4")
    with pytest.raises(InvalidInput, match="expected an operation, got 'b'"):
        graph_of(network).operation("b")
