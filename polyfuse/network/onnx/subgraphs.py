"""The tensors that nodes of an ONNX graph read: their inputs, and those that graphs inside them capture.

A `NodeProto` enters; names of tensors leave. An empty name is never a tensor: it is an input or output left out.
"""

from collections.abc import Iterator

import onnx


def graphs_of(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs that a node holds as attributes: branches and bodies."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def stored_in(graph: onnx.GraphProto) -> Iterator[str]:
    """The names of the tensors that a graph stores."""
    yield from (tensor.name for tensor in graph.initializer)
    yield from (tensor.values.name for tensor in graph.sparse_initializer)


def defined_in(graph: onnx.GraphProto) -> set[str]:
    """The tensors that a graph has itself: its inputs, what it stores, and what its nodes make."""
    made = {name for node in graph.node for name in node.output}
    return {*(value.name for value in graph.input), *stored_in(graph), *made} - {""}


def captured(node: onnx.NodeProto) -> set[str]:
    """The tensors that the graphs inside a node read from around it."""
    found: set[str] = set()
    for graph in graphs_of(node):
        wanted = {name for inner in graph.node for name in reads(inner)} | {value.name for value in graph.output}
        found |= wanted - defined_in(graph) - {""}
    return found


def reads(node: onnx.NodeProto) -> list[str]:
    """The tensors that a node needs, each once: its inputs first, then those that graphs inside it capture."""
    return list(dict.fromkeys([*filter(None, node.input), *sorted(captured(node))]))


def own(domain: str) -> bool:
    """The domain is that of ONNX's own operators."""
    return domain in ("", "ai.onnx")


def operator_of(node: onnx.NodeProto) -> str:
    """The operator of a node, with its domain where that is not ONNX's own."""
    name = node.op_type if own(node.domain) else f"{node.domain}.{node.op_type}"
    return name if name.isprintable() else repr(name)
