"""The part of an ONNX graph that is imported: its nodes in order, their names, and which tensors are constant.

A `ModelProto` enters; an `OnnxGraph` leaves. Nodes that only make constants are not part of it, so that the unnamed
nodes are n0, n1, ... in the order of the computation.
"""

import heapq
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import onnx

from polyfuse.errors import InvalidInput
from polyfuse.network.onnx.constants import Constants
from polyfuse.network.onnx.subgraphs import operator_of, reads
from polyfuse.network.tensor import safe_name
from polyfuse.text import near

STAGES = "max|sub|exp|sum|log|mean|var|a|b|c|product|scaled[0-9]*|split[0-9]+"
PARTS = "out|init|update|final|weight|bias|scale|shift|zero|multiplier|table|rows|columns|(constant|taps|part)[0-9]*"
ENDING = re.compile(rf"(_({STAGES}))?(_({PARTS}))?")
"""The endings that names of a node's layers, tensors and statements add to the node's name."""


class LayerNames:
    """Names that isl and C can use, none of which is what another becomes with an ENDING."""

    def __init__(self) -> None:
        self.taken: set[str] = set()
        self.beginnings: set[str] = set()
        self.last: dict[str, int] = {}

    def fresh(self, text: str) -> str:
        """A name like the text that is not taken, and taken from now on."""
        stem = safe_name(text)
        name, k = stem, self.last.get(stem, 1)
        if k > 1:
            name = f"{stem}_{k}"
        while name in self.beginnings or _beginnings(name) & self.taken:
            k += 1
            name = f"{stem}_{k}"
        self.last[stem] = k
        self.taken.add(name)
        self.beginnings |= _beginnings(name)
        return name


def _beginnings(name: str) -> set[str]:
    """The name itself, and what it could be made of by an ENDING."""
    cuts = (k for k, character in enumerate(name) if character == "_")
    return {name} | {name[:k] for k in cuts if ENDING.fullmatch(name[k:])}


@dataclass(frozen=True, eq=False)
class Node:
    """A node with the name its layer gets; `inputs` and `outputs` are names of tensors, empty where left out.

    `read` are the names of attributes and the positions of inputs that were asked for.
    """

    name: str
    proto: onnx.NodeProto
    read: set[str | int] = field(default_factory=set)

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """The tensors it reads."""
        return tuple(self.proto.input)

    @cached_property
    def reads(self) -> tuple[str, ...]:
        """The tensors it needs, without gaps: its inputs, and what graphs inside it capture."""
        return tuple(reads(self.proto))

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """The tensors it makes."""
        return tuple(self.proto.output)

    def input(self, position: int) -> str:
        """The tensor it reads at a position; empty where it reads none there."""
        self.read.add(position)
        return self.inputs[position] if position < len(self.inputs) else ""

    @property
    def operator(self) -> str:
        """The operator, with its domain where that is not ONNX's own."""
        return operator_of(self.proto)

    @property
    def label(self) -> str:
        """The name of the node in messages."""
        original = self.proto.name
        return f"node {self.name!r}" + (f" ({original!r})" if original not in ("", self.name) else "")


@dataclass(frozen=True, eq=False)
class OnnxGraph:
    """Nodes in topological order and the tensors they leave for others.

    inputs    what the model is given, in its order
    outputs   what is wanted; of a whole model all that it lists, constants and inputs among them, in its order
    """

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: Constants
    names: LayerNames

    @cached_property
    def readers(self) -> Mapping[str, Sequence[Node]]:
        """The nodes that read each tensor, once for each time they do."""
        found: dict[str, list[Node]] = defaultdict(list)
        for node in self.nodes:
            for name in filter(None, node.inputs):
                found[name].append(node)
        return found

    @cached_property
    def entering(self) -> tuple[str, ...]:
        """The tensors that are read or wanted and none makes, constants left out: inputs of the model come first."""
        made = {name for node in self.nodes for name in node.outputs}
        read = dict.fromkeys(name for node in self.nodes for name in node.reads if name not in made)
        read |= dict.fromkeys(name for name in self.outputs if name in self.inputs)
        found = [name for name in read if not self.constants.known(name)]
        order = {name: k for k, name in enumerate(self.inputs)}
        return tuple(sorted(found, key=lambda name: order.get(name, len(order))))


def onnx_graph(
    model: onnx.ModelProto,
    folder: Path,
    first: str | None,
    last: str | None,
    seed: int | None,
    opsets: Mapping[str, int] | None = None,
) -> OnnxGraph:
    """The nodes between two named ones, both included; without names, those that lead to the outputs.

    `opsets` has the operator sets of nodes of another one than the model's, by their first outputs.
    Errors: InvalidInput for graphs that are no DAG, names that are not in it, and ends that no path joins.
    """
    protos = sorted_nodes(model.graph.node)
    constants = Constants(model, protos, folder, seed, opsets)
    names = LayerNames()
    computed = [proto for proto in protos if not constants.makes(proto)]
    nodes = [Node(names.fresh(proto.name or f"n{k}"), proto) for k, proto in enumerate(computed)]
    inputs = [value.name for value in model.graph.input if not constants.known(value.name)]
    if twice := [name for name in inputs if inputs.count(name) > 1]:
        raise InvalidInput(f"model: {inputs.count(twice[0])} of its inputs are called {twice[0]!r}; correct the model")
    results = [value.name for value in model.graph.output if value.name]
    ends = [] if last is None else [_find(nodes, last)]
    starts = [] if first is None else [_find(nodes, first)]
    if not starts and not ends:
        chosen = _between(nodes, [], [node for node in nodes if set(results) & set(node.outputs)])
        return OnnxGraph(tuple(chosen), tuple(inputs), tuple(results), constants, names)
    chosen = _between(nodes, starts, ends or [node for node in nodes if set(results) & set(node.outputs)])
    if not chosen:
        raise InvalidInput(f"model: no path leads from node {first!r} to {'an output' if last is None else repr(last)}")
    inside = set(chosen)
    wanted = set(results) | {name for node in nodes if node not in inside for name in node.reads}
    left = ((node, name) for node in chosen for name in filter(None, node.outputs))
    outputs = [name for node, name in left if name in wanted or (node in ends and name == node.outputs[0])]
    return OnnxGraph(tuple(chosen), tuple(inputs), tuple(outputs), constants, names)


def sorted_nodes(protos: Iterable[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """The nodes with makers first, in the order of the file where it allows that.

    Errors: InvalidInput for cycles and for tensors with two makers.
    """
    nodes = list(protos)
    maker: dict[str, int] = {}
    for position, node in enumerate(nodes):
        for name in filter(None, node.output):
            if name in maker:
                raise InvalidInput(f"tensor {name!r}: two nodes make it; expected one maker for each tensor")
            maker[name] = position
    waits = [{maker[name] for name in reads(node) if name in maker} for node in nodes]
    followers: dict[int, list[int]] = defaultdict(list)
    for position, before in enumerate(waits):
        for each in before:
            followers[each].append(position)
    ready = [position for position, before in enumerate(waits) if not before]
    order = []
    while ready:
        position = heapq.heappop(ready)
        order.append(nodes[position])
        for follower in followers[position]:
            waits[follower].discard(position)
            if not waits[follower]:
                heapq.heappush(ready, follower)
    if len(order) < len(nodes):
        stuck = nodes[next(position for position, before in enumerate(waits) if before)]
        raise InvalidInput(
            f"node {stuck.name or stuck.op_type!r}: is on or behind a cycle; expected a graph without cycles"
        )
    return order


def _find(nodes: Sequence[Node], wanted: str) -> Node:
    found = [node for node in nodes if wanted == node.name] or [node for node in nodes if wanted == node.proto.name]
    if len(found) == 1:
        return found[0]
    if found:
        raise InvalidInput(f"model: {len(found)} nodes are called {wanted!r}; use {', '.join(n.name for n in found)}")
    names = dict.fromkeys(name for node in nodes for name in (node.name, node.proto.name) if name)
    raise InvalidInput(f"model: has no node {wanted!r}; {near(wanted, names)}")


def _between(nodes: Sequence[Node], starts: Sequence[Node], ends: Sequence[Node]) -> list[Node]:
    """The nodes on the paths from a start to an end, or on those that lead to an end where there is no start."""
    forward = {name for node in starts for name in filter(None, node.outputs)}
    after = set(starts)
    for node in nodes:
        if forward.intersection(node.reads):
            after.add(node)
            forward |= set(node.outputs) - {""}
    backward = {name for node in ends for name in node.reads}
    before = set(ends)
    for node in reversed(nodes):
        if backward.intersection(node.outputs):
            before.add(node)
            backward.update(node.reads)
    return [node for node in nodes if node in before and (node in after or not starts)]
