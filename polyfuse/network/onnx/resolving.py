"""ONNX models without functions and, where a condition is known at import, without `If`.

    path + Fixed ──resolved()──> Resolved: a ModelProto whose nodes are operators, and the operator sets of some of them

A node that calls a function of the model becomes the nodes of that function; an `If` becomes the nodes of its branch,
also where its condition depends on the shapes of computed tensors. One whose condition is computed stays.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from polyfuse.errors import InvalidInput, PolyfuseError, UnsupportedOperator
from polyfuse.network.network import Builder
from polyfuse.network.onnx.constants import Constants
from polyfuse.network.onnx.file import MAX_OPSET, MIN_OPSET, opset_of, read_model
from polyfuse.network.onnx.fixing import Fixed, fix, inputs_of
from polyfuse.network.onnx.graph import LayerNames, Node, OnnxGraph, sorted_nodes
from polyfuse.network.onnx.importing import Import
from polyfuse.network.onnx.inlining import Fresh, FunctionKey, Inlining, branch, called, key_of, tensor_names
from polyfuse.network.onnx.operators import add
from polyfuse.network.onnx.shapes import OpenSizes, declared_shape, entering_tensors
from polyfuse.network.onnx.subgraphs import defined_in, own, reads


@dataclass(frozen=True, eq=False)
class Resolved:
    """A model of operators.

    opsets       the versions of the operators of nodes of another version than the model's, by their first outputs
    undecided    why the condition of an If is not known, by its first output
    """

    model: onnx.ModelProto
    opsets: Mapping[str, int]
    undecided: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Pending:
    """A node that is looked at later, the version of its operator, and the functions that it is inside of."""

    node: onnx.NodeProto
    opset: int
    inside: tuple[FunctionKey, ...] = ()


def resolved(path: str | Path, fixed: Fixed | None = None) -> Resolved:
    """The model in a file, with inputs fixed, functions put where they are called, and branches where they are taken.

    Errors: InvalidInput for files, sizes, values, functions and branches that are not usable; UnsupportedOperator.
    """
    model = fix(read_model(path), fixed or Fixed())
    _check_outputs(model)
    _name_gaps(model)
    if not model.functions and all(node.op_type != "If" for node in model.graph.node):
        return Resolved(model, {}, {})
    resolving = Resolving(model, Path(path).parent)
    resolving.run()
    del model.graph.node[:], model.functions[:]
    model.graph.node.extend(resolving.nodes)
    return Resolved(model, resolving.opsets, resolving.undecided)


def _check_outputs(model: onnx.ModelProto) -> None:
    """Refuse a model with an output that is nowhere."""
    there = defined_in(model.graph)
    for value in model.graph.output:
        if value.name not in there:
            raise InvalidInput(f"output {value.name!r}: no node of the model makes it; export or download it again")


def _name_gaps(model: onnx.ModelProto) -> None:
    """Give the outputs that a Split leaves out names: onnxruntime 1.32 ends the process where one is left out."""
    gaps = [node for node in model.graph.node if node.op_type == "Split" and not all(node.output)]
    fresh = Fresh(set(tensor_names(model.graph))) if gaps else Fresh(set())
    for node in gaps:
        node.output[:] = [name or fresh.like("left_out") for name in node.output]


class Resolving:
    """Nodes of a model, each replaced by those that it stands for, makers first."""

    def __init__(self, model: onnx.ModelProto, folder: Path) -> None:
        self.model = model
        self.functions = {key_of(each.domain, each.name, each.overload): each for each in model.functions}
        self.inlining = Inlining(model.graph)
        self.opsets: dict[str, int] = {}
        self.undecided: dict[str, str] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.constants = Constants(model, (), folder, None, self.opsets)
        self.read = {value.name for value in model.graph.output}
        self.constants.shape_of = Shapes(model, self.constants, self.nodes, self.read).of

    def run(self) -> None:
        """Replace all nodes. Errors: as `resolved`."""
        version = opset_of(self.model)
        waiting = self._waiting([Pending(node, version) for node in sorted_nodes(self.model.graph.node)])
        while waiting:
            each = waiting.pop()
            inner = self._inside(each)
            if inner is None:
                self._keep(each)
            else:
                waiting += self._waiting(inner)

    def _waiting(self, nodes: Sequence[Pending]) -> list[Pending]:
        """Nodes, the last of which is the first to be looked at; what they read is known from now on."""
        for each in nodes:
            self.read.update(reads(each.node))
        return list(reversed(nodes))

    def _inside(self, each: Pending) -> list[Pending] | None:
        """The nodes that replace a node; None for one that stays."""
        node = each.node
        key = key_of(node.domain, node.op_type, node.overload)
        if key in self.functions:
            return self._call(each, key)
        if node.op_type == "If" and own(node.domain):
            taken = self._taken(node)
            if taken is not None:
                nodes, stored, sparse = branch(taken, node, self.inlining)
                self.model.graph.initializer.extend(stored)
                self.model.graph.sparse_initializer.extend(sparse)
                self.constants.store(onnx.GraphProto(initializer=stored, sparse_initializer=sparse))
                return [Pending(inner, each.opset, each.inside) for inner in sorted_nodes(nodes)]
        return None

    def _call(self, each: Pending, key: FunctionKey) -> list[Pending]:
        function = self.functions[key]
        label = ".".join(filter(None, key))
        if key in each.inside:
            raise InvalidInput(f"function {label!r}: calls itself; ONNX has no recursion, export the model again")
        version = each.opset
        known = {entry.domain for entry in self.model.opset_import}
        for entry in function.opset_import:
            if own(entry.domain):
                version = int(entry.version)
            elif entry.domain not in known:
                self.model.opset_import.append(entry)
        if not MIN_OPSET <= version <= MAX_OPSET:
            raise UnsupportedOperator(
                f"function {label!r}: expected ONNX operator set {MIN_OPSET} or later, got {version}; convert it"
            )
        nodes = sorted_nodes(called(function, each.node, self.inlining))
        return [Pending(node, version, (*each.inside, key)) for node in nodes]

    def _taken(self, node: onnx.NodeProto) -> onnx.GraphProto | None:
        """The branch of an If that is taken, None where that is not known, for a reason that is kept."""
        condition = node.input[0] if node.input else ""
        why = f"its condition {condition!r} is computed"
        if self.constants.known(condition):
            try:
                value = self.constants.value(condition)
                wanted = "then_branch" if bool(value.reshape(()).item()) else "else_branch"
                found: list[onnx.GraphProto] = [
                    each.g for each in node.attribute if each.name == wanted and each.HasField("g")
                ]
                if found:
                    return found[0]
                why = f"it has no {wanted}"
            except OpenSizes:
                raise
            except PolyfuseError as error:
                why = f"its condition {condition!r} is not known: {str(error).partition(';')[0]}"
            except ValueError:
                why = f"its condition {condition!r} is no single value"
        self.undecided |= {next(filter(None, node.output), ""): why}
        return None

    def _keep(self, each: Pending) -> None:
        """A node of an operator."""
        self.nodes.append(each.node)
        first = next(filter(None, each.node.output), "")
        if each.opset != opset_of(self.model) and _differs(each.node, each.opset, opset_of(self.model)):
            self.opsets[first] = each.opset
        self.constants.see(each.node)


def _differs(node: onnx.NodeProto, version: int, other: int) -> bool:
    """An operator is not the same in two versions."""
    if not own(node.domain):
        return False
    try:
        found = {onnx.defs.get_schema(node.op_type, v, "").since_version for v in (version, other)}
    except onnx.defs.SchemaError:
        return True
    return len(found) > 1


class Shapes:
    """Shapes of computed tensors, known by importing what leads to them.

    `nodes`, and `read`, the tensors that these read, may grow.
    """

    def __init__(
        self, model: onnx.ModelProto, constants: Constants, nodes: Sequence[onnx.NodeProto], read: Collection[str]
    ) -> None:
        self.inputs = inputs_of(model)
        self.model = model
        self.constants = constants
        self.nodes = nodes
        self.read = read
        self.makers: dict[str, onnx.NodeProto] = {}
        self.seen = 0
        self.state = Import(Builder("shapes"), OnnxGraph((), (), (), constants, LayerNames()), {}, {})

    def of(self, name: str) -> Sequence[int]:
        """The shape of a tensor.

        Errors: InvalidInput for inputs of open sizes, UnsupportedOperator for operators before it that are not known.
        """
        if name in self.inputs:
            return declared_shape(self.model, name)
        for node in self.nodes[self.seen :]:
            self.makers |= dict.fromkeys(filter(None, node.output), node)
        self.seen = len(self.nodes)
        names = self.state.graph.names
        state = replace(self.state, graph=OnnxGraph((), (), tuple(self.read), self.constants, names))
        for node in self._before(name):
            add(state, Node(names.fresh(node.name or node.op_type), node))
        return state.shape_of(name)

    def _before(self, name: str) -> Iterator[onnx.NodeProto]:
        """The nodes that have to be imported for a tensor, makers first; inputs of the model are added at once."""
        tensors, visited = self.state.tensors, set[str]()
        waiting = [(name, False)]
        while waiting:
            top, done = waiting.pop()
            node, constant = self.makers.get(top), self.constants.known(top)
            if done and node is not None and not constant and tensors.keys().isdisjoint(node.output):
                yield node
            if done or top in tensors or top in visited:
                continue
            visited.add(top)
            if node is not None:
                needed = (each for each in reads(node) if not (constant and each in self.inputs))
                waiting += [(top, True), *((each, False) for each in needed)]
            elif top in self.inputs:
                for tensor in entering_tensors(self.model, [top], self.state.graph.names).values():
                    self.state.build.input(tensor.name, tensor.shape, tensor.dtype)
                    tensors[top] = tensor
