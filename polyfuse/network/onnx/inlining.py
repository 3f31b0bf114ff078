"""Graphs inside ONNX models as nodes of the graph around them: bodies of functions, branches of `If`.

    FunctionProto + the node that calls it ──called()──> nodes
    GraphProto of a branch + its If        ──branch()──> nodes and the tensors that the branch stores

All tensors get names of their own, so that nothing that is put in is taken for what is there.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field

import onnx
from onnx import helper

from polyfuse.errors import InvalidInput
from polyfuse.network.onnx.subgraphs import defined_in, graphs_of, own, reads, stored_in

FunctionKey = tuple[str, str, str]
MAX_NODES = 50_000
MAX_BYTES = 2**31 - 1


def key_of(domain: str, name: str, overload: str) -> FunctionKey:
    """The key of a function of the model."""
    return "" if own(domain) else domain, name, overload


def tensor_names(graph: onnx.GraphProto) -> Iterator[str]:
    """Every name of a tensor in a graph and in the graphs inside it."""
    waiting = [graph]
    while waiting:
        inner = waiting.pop()
        yield from (value.name for value in (*inner.input, *inner.output))
        yield from stored_in(inner)
        for node in inner.node:
            yield from (*node.input, *node.output)
            waiting += graphs_of(node)


@dataclass
class Fresh:
    """Names that are taken."""

    taken: set[str]
    counts: dict[str, int] = field(default_factory=dict)

    def like(self, name: str) -> str:
        """A name like another one, or that one, which nothing has yet."""
        found = name
        while not found or found in self.taken:
            self.counts[name] = self.counts.get(name, 0) + 1
            found = f"{name}_{self.counts[name]}"
        self.taken.add(found)
        return found


class Inlining:
    """The state of copying into a graph: the names of tensors and nodes that are taken, and how much was copied."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.tensors = Fresh(set(tensor_names(graph)))
        self.labels = Fresh({node.name for node in graph.node})
        self.nodes = 0
        self.bytes = 0

    def count(self, message: onnx.NodeProto | onnx.TensorProto) -> None:
        """Count what is copied. Errors: InvalidInput where it is too much: functions that call functions multiply."""
        self.nodes += 1
        self.bytes += message.ByteSize()
        if self.nodes > MAX_NODES or self.bytes > MAX_BYTES:
            raise InvalidInput(
                f"model: its functions and branches hold more than {MAX_NODES:,} nodes or {MAX_BYTES:,} bytes when "
                "each is put where it is used; export it with less nesting"
            )


@dataclass(frozen=True, eq=False)
class BodyCopy:
    """The changes to nodes that are copied: names of tensors, values of attributes that refer to a call, a prefix."""

    inlining: Inlining
    tensors: Mapping[str, str]
    attributes: Mapping[str, onnx.AttributeProto] | None
    prefix: str

    def node(self, node: onnx.NodeProto) -> onnx.NodeProto:
        """A node, with the graphs inside it."""
        self.inlining.count(node)
        made = deepcopy(node)
        made.name = self.inlining.labels.like(f"{self.prefix}{node.name or node.op_type}")
        made.input[:] = [self.tensors.get(name, name) for name in node.input]
        made.output[:] = [self.tensors.get(name, name) for name in node.output]
        del made.attribute[:]
        made.attribute.extend(filter(None, map(self._attribute, node.attribute)))
        for graph in graphs_of(made):
            self._rename(graph)
        return made

    def _attribute(self, stored: onnx.AttributeProto) -> onnx.AttributeProto | None:
        """An attribute, taken from the call where it refers to one there; None where the call does not have it."""
        if not stored.ref_attr_name or self.attributes is None:
            return stored
        given = self.attributes.get(stored.ref_attr_name)
        if given is None:
            return None
        made = deepcopy(given)
        made.name = stored.name
        return made

    def _rename(self, graph: onnx.GraphProto) -> None:
        """Copy what is in a graph that is a copy already."""
        inner = {name: self.inlining.tensors.like(name) for name in sorted(defined_in(graph))}
        within = BodyCopy(self.inlining, {**self.tensors, **inner}, self.attributes, "")
        nodes = [within.node(node) for node in graph.node]
        del graph.node[:]
        graph.node.extend(nodes)
        del graph.value_info[:]
        tensors = (*graph.initializer, *(sparse.values for sparse in graph.sparse_initializer))
        for value in (*graph.input, *graph.output, *tensors):
            value.name = within.tensors.get(value.name, value.name)


def called(function: onnx.FunctionProto, call: onnx.NodeProto, inlining: Inlining) -> list[onnx.NodeProto]:
    """The nodes of a function for one call of it, in the order of the function.

    Errors: InvalidInput for calls with more inputs or outputs than the function has, and as `Inlining.count`.
    """
    where = f"node {call.name or call.op_type!r}: the function {call.op_type!r}"
    if len(call.input) > len(function.input) or len(call.output) > len(function.output):
        raise InvalidInput(
            f"{where} takes {len(function.input)} inputs and makes {len(function.output)} outputs, got "
            f"{len(call.input)} and {len(call.output)}"
        )
    if len(set(function.input)) < len(function.input):
        raise InvalidInput(f"{where} has two inputs of one name; export the model again")
    given = dict.fromkeys(function.input, "") | dict(zip(function.input, call.input, strict=False))
    there = {*function.input, *(name for node in function.node for name in node.output)}
    if strange := [name for node in function.node for name in reads(node) if name not in there]:
        raise InvalidInput(f"{where} reads {strange[0]!r}, which it neither gets nor makes; export the model again")
    attributes = {each.name: each for each in (*function.attribute_proto, *call.attribute)}
    return list(
        _inside(inlining, function.node, given, list(function.output), list(call.output), attributes, call, set(given))
    )


def branch(
    graph: onnx.GraphProto, node: onnx.NodeProto, inlining: Inlining
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto], list[onnx.SparseTensorProto]]:
    """The nodes of the branch that an If takes, and the tensors that it stores.

    Errors: InvalidInput for a branch of inputs, or of other outputs than the If, and as `Inlining.count`.
    """
    where = f"node {node.name or node.op_type!r}: its branch {graph.name!r}"
    results = [value.name for value in graph.output]
    kept = set(stored_in(graph))
    if {value.name for value in graph.input} - kept or len(results) < len(node.output):
        raise InvalidInput(
            f"{where} has {len(graph.input)} inputs and {len(results)} outputs, expected none and {len(node.output)}"
        )
    own_names = {name: inlining.tensors.like(name) for name in sorted(kept - {""})}
    tensors, sparse = [], []
    for stored in graph.initializer:
        inlining.count(stored)
        tensors.append(deepcopy(stored))
        tensors[-1].name = own_names.get(stored.name, "")
    for thin in graph.sparse_initializer:
        made = deepcopy(thin)
        made.values.name = own_names.get(thin.values.name, "")
        sparse.append(made)
    nodes = list(_inside(inlining, graph.node, own_names, results, list(node.output), None, node, kept))
    return nodes, tensors, sparse


def _inside(
    inlining: Inlining,
    nodes: Sequence[onnx.NodeProto],
    entering: Mapping[str, str],
    results: Sequence[str],
    wanted: Sequence[str],
    attributes: Mapping[str, onnx.AttributeProto] | None,
    outer: onnx.NodeProto,
    given: set[str],
) -> Iterator[onnx.NodeProto]:
    """Nodes as part of the graph around them: `entering` renames what they do not make, `wanted` are their results.

    A result that no node makes, or that is asked for twice, is copied by an Identity.
    """
    made = {name for node in nodes for name in node.output} - {"", *given}
    tensors = dict(entering)
    for result, name in zip(results, wanted, strict=False):
        if name and result in made and result not in tensors:
            tensors[result] = name
    tensors |= {name: inlining.tensors.like(name) for name in sorted(made - tensors.keys())}
    prefix = f"{outer.name or inlining.labels.like(outer.op_type)}/"
    copy = BodyCopy(inlining, tensors, attributes, prefix)
    for node in nodes:
        yield copy.node(node)
    for result, name in zip(results, wanted, strict=False):
        source = tensors.get(result, result)
        if name and source != name:
            yield helper.make_node("Identity", [source], [name], inlining.labels.like(f"{prefix}{result}"))
