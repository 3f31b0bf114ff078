"""ONNX graphs as operators, their mapping types looked up in the published list: an oracle without polyfuse's importer.

The list is of Niu et al., DNNFusion, PLDI 2021, table 1. Operators that only make constants are left out.
"""

from collections.abc import Iterator
from math import prod
from pathlib import Path

import onnx
from onnx import shape_inference

from polyfuse.rewrite.fusion import FusionOperator
from polyfuse.rewrite.mapping import MappingType

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
PUBLISHED = {
    MappingType.ONE_TO_ONE: "Add BatchNormalization Clip Concat Dropout Mul PRelu Relu Sigmoid Slice Split Sub Sum",
    MappingType.ONE_TO_MANY: "Expand Gather Resize Upsample",
    MappingType.MANY_TO_MANY: "AveragePool Conv ConvTranspose Gemm GlobalAveragePool InstanceNormalization LRN MatMul "
    "MaxPool ReduceMean Softmax",
    MappingType.REORGANIZE: "Flatten Reshape Squeeze Unsqueeze",
    MappingType.SHUFFLE: "DepthToSpace SpaceToDepth Transpose",
}
TYPES = {name: mapping for mapping, names in PUBLISHED.items() for name in names.split()}


def operators(path: Path) -> tuple[FusionOperator, ...]:
    """The operators of a model that compute something from its inputs, in the order of the file."""
    graph = shape_inference.infer_shapes(onnx.load(path)).graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.input, *graph.output)
    }
    return tuple(_computing(graph, shapes))


def _computing(graph: onnx.GraphProto, shapes: dict[str, list[int]]) -> Iterator[FusionOperator]:
    given = {each.name for each in graph.initializer}
    flowing = {each.name for each in graph.input if each.name not in given}
    for position, node in enumerate(graph.node):
        inputs = tuple(name for name in node.input if name in flowing)
        if not inputs:
            continue
        flowing |= set(node.output)
        mapping, outputs = TYPES[node.op_type], tuple(node.output)
        read, made = sum(prod(shapes.get(name, [0])) for name in node.input), prod(shapes[outputs[0]])
        yield FusionOperator(
            f"n{position}", node.op_type, mapping, inputs, outputs, read, made, f"{node.op_type} {made}"
        )
