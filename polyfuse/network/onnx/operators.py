"""The ONNX operators that become layers.

A `Node` and an `Import` enter; one layer or a few are added to the builder. Nothing is fused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from polyfuse.errors import InvalidInput, UnsupportedOperator
from polyfuse.network.onnx import attributes
from polyfuse.network.onnx.folding import can_evaluate
from polyfuse.network.onnx.graph import Node, OnnxGraph
from polyfuse.network.onnx.importing import Import
from polyfuse.network.onnx.registry import CONVERTERS
from polyfuse.network.onnx.schemas import check_form

OF_CONSTANTS = " of constants"
MOST_NAMED = 20
"""The most missing operators that an error names."""


def check_operators(graph: OnnxGraph, undecided: Mapping[str, str]) -> None:
    """Refuse a graph with nodes that cannot be converted, or constants that cannot be evaluated; all are named at once.

    `undecided` says why the condition of an If is not known, by its first output.

    Errors: UnsupportedOperator.
    """
    missing = [(node.operator, node) for node in graph.nodes if node.operator not in CONVERTERS]
    makers = graph.constants.leading_to(name for node in graph.nodes for name in node.reads)
    folded = (Node(each.name or each.output[0], each) for each in makers if not can_evaluate(each))
    missing += [(f"{node.operator}{OF_CONSTANTS}", node) for node in folded]
    if missing:
        raise UnsupportedOperator(_missing(missing, undecided))


def _missing(nodes: Sequence[tuple[str, Node]], undecided: Mapping[str, str]) -> str:
    """The error for missing operators: how often each occurs, and where first."""
    found: dict[str, list[Node]] = {}
    for operator, node in nodes:
        found.setdefault(operator, []).append(node)
    parts = []
    for operator, users in sorted(found.items()):
        why = undecided.get(next(filter(None, users[0].outputs), ""), "") if operator == "If" else ""
        first = f"{users[0].label}{f': {why}' if why else ''}"
        parts.append(f"{operator} ({first if len(users) == 1 else f'{len(users)} nodes, the first is {first}'})")
    shown = ", ".join(parts[:MOST_NAMED]) + (f" and {len(parts) - MOST_NAMED} more" if len(parts) > MOST_NAMED else "")
    several = len(parts) > 1
    advice = f"export the model with operators that docs/use/operators.md lists, {len(CONVERTERS)} of them"
    if any(operator.endswith(OF_CONSTANTS) for operator in found):
        advice += "; fold what is computed of constants first, e.g. with onnxsim"
    if "If" in found:
        advice += (
            "; an If is replaced by a branch where its condition is constant, as when --fix NAME=VALUE (values in "
            "Python) decides it"
        )
    return f"model: the operator{'s' * several} {shown} {'are' if several else 'is'} not supported; {advice}"


def add(state: Import, node: Node) -> None:
    """Import a node.

    Nothing of it is ignored: what its converter has not read is refused, unless it is without effect.
    Errors: UnsupportedOperator for operators, attributes, inputs and outputs that are not known.
    """
    convert = CONVERTERS.get(node.operator)
    if convert is None:
        raise UnsupportedOperator(_missing([(node.operator, node)], {}))
    if not node.outputs or not all(node.inputs[:1]):
        raise InvalidInput(f"{node.label}: expected an input and an output for {node.operator}")
    version = state.graph.constants.opset_of(node.proto)
    check_form(node.proto, node.label, version)
    convert(state if version == state.opset else replace(state, version=version), node)
    attributes.check_read(node)
    attributes.check_made(node, state.tensors, {*state.graph.readers, *state.graph.outputs})
