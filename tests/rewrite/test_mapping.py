"""Derived mapping types against the published list, kind by kind, and where sizes make an operator degenerate."""

import numpy as np
import pytest

from polyfuse.network.custom import statement_layer
from polyfuse.network.layer import Layer
from polyfuse.network.layers import copies, normalisation, pointwise
from polyfuse.network.layers.deconvolution import conv_transpose
from polyfuse.network.layers.matrices import gemm, matmul
from polyfuse.network.layers.reductions import reduce, softmax
from polyfuse.network.network import Builder
from polyfuse.network.operator import Custom
from polyfuse.network.tensor import Tensor
from polyfuse.network.window import Window
from polyfuse.rewrite.mapping import MappingType, mapping_of, mapping_type
from tests.rewrite.operator_graphs import TYPES

SHAPES = pytest.mark.parametrize("shape", [(1, 4, 6, 5), (2, 3, 7, 7)], ids=str)


def layer_of(kind: str, shape: tuple[int, ...]) -> Layer:
    """A layer that an ONNX operator becomes."""
    build = Builder("one")
    x, z = build.input("x", shape), build.input("z", shape)
    column = build.weight("column", (1, shape[1], 1, 1), 1)
    match kind:
        case "Conv":
            build.conv("made", x, 3, kernel=3, padding=1)
        case "MaxPool":
            build.max_pool("made", x, kernel=3, stride=2)
        case "AveragePool":
            build.average_pool("made", x, kernel=2)
        case "GlobalAveragePool":
            build.global_average_pool("made", x)
        case "Relu" | "Sigmoid":
            build.activation("made", x, kind.lower())
        case "Clip":
            build.activation("made", x, ("clip", 0, 6))
        case "BatchNormalization":
            build.add(pointwise.affine("made", x, column, column))
        case "PRelu":
            build.add(pointwise.prelu("made", x, column))
        case "Dropout":
            build.add(copies.copy("made", x))
        case "Concat":
            build.concat("made", x, z)
        case _:
            build.arithmetic("made", {"Sum": "add"}.get(kind, kind.lower()), x, z)
    return build.layers[0]


WINDOWS = ("Conv", "MaxPool", "AveragePool", "GlobalAveragePool")
POINTWISE = ("Relu", "Sigmoid", "Clip", "BatchNormalization", "PRelu", "Dropout", "Concat", "Add", "Sub", "Mul", "Sum")


@SHAPES
@pytest.mark.parametrize("kind", WINDOWS + POINTWISE)
def test_derived_types_are_those_of_the_published_list(kind: str, shape: tuple[int, ...]) -> None:
    assert mapping_type(layer_of(kind, shape)) is TYPES[kind]


def parts_of(kind: str, shape: tuple[int, ...]) -> tuple[Layer, ...]:
    """The layers that an operator becomes which moves, reduces or multiplies."""
    n, c, h, w = shape
    x = Tensor("x", shape)
    column = Tensor("column", (1, c, 1, 1))
    match kind:
        case "Reshape":
            return (copies.reshape("made", x, (n * c, h, w)),)
        case "Flatten":
            return (copies.reshape("made", x, (n, c * h * w)),)
        case "Unsqueeze":
            return (copies.reshape("made", x, (n, 1, c, h, w)),)
        case "Transpose":
            return (copies.transpose("made", x, (0, 2, 3, 1)),)
        case "DepthToSpace":
            return (copies.depth_to_space("made", Tensor("x", (n, 4 * c, h, w)), 2),)
        case "SpaceToDepth":
            return (copies.space_to_depth("made", Tensor("x", (n, c, 2 * h, 2 * w)), 2),)
        case "Slice":
            return (copies.slice_of("made", x, (0, 1, 2, 1), (n, c - 1, 2, 2), (1, 1, 2, 2)),)
        case "Split":
            return (copies.split("made", x, 1, 1, 2),)
        case "Expand":
            return (copies.expand("made", column, shape),)
        case "Resize":
            tables = [range(n), range(c), [k // 2 for k in range(2 * h)], [k // 2 for k in range(2 * w)]]
            out = Tensor("made_out", (n, c, 2 * h, 2 * w))
            return (
                Layer(
                    "made", Custom("resize"), out, copies.gathered("made", x, out, [list(t) for t in tables]), (x,), ()
                ),
            )
        case "Gemm":
            return (gemm("made", Tensor("x", (n + 1, c)), Tensor("w", (5, c))),)
        case "MatMul":
            return (matmul("made", x, Tensor("y", (n, c, w, 3))),)
        case "ReduceMean":
            return (reduce("made", "mean", x, (1, 3)),)
        case "Softmax":
            return softmax("made", x, (1,))
        case "LRN":
            return (normalisation.lrn("made", x, 3),)
        case "InstanceNormalization":
            return normalisation.instance_norm("made", x, column, column)
        case _:
            return (conv_transpose("made", x, Tensor("w", (c, 2, 3, 3)), window=Window((3, 3), (2, 2))),)


MOVING = ("Reshape", "Flatten", "Unsqueeze", "Transpose", "DepthToSpace", "SpaceToDepth", "Slice", "Split", "Expand")
SUMMING = ("Gemm", "MatMul", "ReduceMean", "Softmax", "LRN", "InstanceNormalization", "ConvTranspose")


@SHAPES
@pytest.mark.parametrize("kind", (*MOVING, "Resize", *SUMMING))
def test_the_most_complex_part_of_an_operator_has_the_published_type(kind: str, shape: tuple[int, ...]) -> None:
    found = [mapping_type(layer) for layer in parts_of(kind, shape)]
    assert max(found, key=lambda each: each.complexity) is TYPES[kind]


def test_a_convolution_of_one_element_is_many_to_many_because_of_channels() -> None:
    build = Builder("one")
    build.conv("made", build.input("x", (1, 2, 4, 4)), 2, kernel=1)
    assert mapping_type(build.layers[0]) is MappingType.MANY_TO_MANY


@pytest.mark.parametrize("stride", [1, 2])
def test_windows_of_one_element_in_one_channel_are_one_to_one(stride: int) -> None:
    build = Builder("one")
    x = build.input("x", (1, 3, 5, 5))
    build.depthwise("depthwise", x, kernel=1, stride=stride)
    build.max_pool("pool", x, kernel=1, stride=stride)
    assert {mapping_type(layer) for layer in build.layers} == {MappingType.ONE_TO_ONE}


def test_a_global_pool_of_one_element_is_one_to_one() -> None:
    build = Builder("one")
    build.global_average_pool("made", build.input("x", (1, 3, 1, 1)))
    assert mapping_type(build.layers[0]) is MappingType.ONE_TO_ONE


def test_the_most_complex_input_decides() -> None:
    build = Builder("one")
    x, row = build.input("x", (1, 3, 4, 5)), build.input("row", (1, 1, 1, 5))
    build.arithmetic("made", "mul", x, row)
    layer = build.layers[0]
    assert mapping_of(layer, x) is MappingType.ONE_TO_ONE
    assert mapping_of(layer, row) is MappingType.ONE_TO_MANY
    assert mapping_type(layer) is MappingType.ONE_TO_MANY


def test_a_tensor_that_is_concatenated_with_itself_is_read_twice() -> None:
    build = Builder("one")
    x = build.input("x", (1, 3, 4, 5))
    build.concat("made", x, x)
    assert mapping_type(build.layers[0]) is MappingType.ONE_TO_MANY


COPIES = [
    ("transpose", (1, 3, 4, 5), (1, 4, 3, 5), "n, h, c, w", MappingType.SHUFFLE),
    ("transpose of size 1", (1, 3, 1, 1), (3, 1, 1, 1), "0, n, 0, 0", MappingType.REORGANIZE),
    ("reshape", (1, 3, 4, 5), (1, 12, 5, 1), "n, floor(c / 4), c mod 4, h", MappingType.REORGANIZE),
    ("squeeze to rows", (1, 3, 4, 1), (1, 3, 1, 4), "n, c, w, 0", MappingType.REORGANIZE),
    ("reshape to the same", (1, 3, 4, 5), (1, 3, 4, 5), "n, c, h, w", MappingType.ONE_TO_ONE),
    ("slice", (1, 3, 9, 9), (1, 2, 4, 4), "n, c + 1, 2h, w + 3", MappingType.ONE_TO_ONE),
    ("reversed", (1, 3, 4, 5), (1, 3, 4, 5), "n, c, 3 - h, w", MappingType.SHUFFLE),
    ("shuffle of channels", (1, 6, 4, 5), (1, 6, 4, 5), "n, 3 * (c mod 2) + floor(c / 2), h, w", MappingType.SHUFFLE),
    (
        "depth to space",
        (1, 4, 3, 3),
        (1, 1, 6, 6),
        "n, 2 * (h mod 2) + w mod 2, floor(h / 2), floor(w / 2)",
        MappingType.SHUFFLE,
    ),
    ("nearest neighbours", (1, 2, 3, 3), (1, 2, 6, 6), "n, c, floor(h / 2), floor(w / 2)", MappingType.ONE_TO_MANY),
    ("expand", (1, 2, 1, 1), (1, 2, 4, 4), "n, c, 0, 0", MappingType.ONE_TO_MANY),
]


@pytest.mark.parametrize(("source", "target", "index", "expected"), [each[1:] for each in COPIES], ids=lambda x: None)
def test_copies_by_their_relation(
    source: tuple[int, ...], target: tuple[int, ...], index: str, expected: MappingType
) -> None:
    assert mapping_type(copied(source, target, index)) is expected


def copied(source: tuple[int, ...], target: tuple[int, ...], index: str) -> Layer:
    """A layer that reads one element for each of its own."""
    n, c, h, w = target
    domain = f"{{ S[n, c, h, w] : 0 <= n < {n} and 0 <= c < {c} and 0 <= h < {h} and 0 <= w < {w} }}"
    x, relation = Tensor("x", source), f"{{ S[n, c, h, w] -> x[{index}] }}"
    return statement_layer(
        "made", domain=domain, output=Tensor("made_out", target), reads={"x": (x, relation)}, expression="x"
    )


@pytest.mark.parametrize("case", range(len(COPIES)))
def test_types_match_what_enumeration_says(case: int) -> None:
    """A second derivation, from the pairs of elements themselves."""
    _, source, target, index, expected = COPIES[case]
    pairs = enumerated(source, target, index)
    read = [a for a, _ in pairs]
    if len(set(read)) < len(read):
        assert expected is MappingType.ONE_TO_MANY
        return
    ordered = [t for _, t in sorted(pairs)] == sorted(t for _, t in pairs)
    whole = len(read) == np.prod(source)
    by_axis = all(rises({a[d]: {t[d] for b, t in pairs if b[d] == a[d]} for a, _ in pairs}) for d in range(4))
    kind = MappingType.ONE_TO_ONE if by_axis else MappingType.REORGANIZE if ordered and whole else MappingType.SHUFFLE
    assert kind is expected


def enumerated(
    source: tuple[int, ...], target: tuple[int, ...], index: str
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Element read and element made, for every element made."""
    text = index.replace("2h", "2 * h").replace(" mod ", " % ")
    scope = {"floor": lambda value: int(value // 1)}
    return [(eval(f"({text})", scope, dict(zip("nchw", place, strict=True))), place) for place in np.ndindex(*target)]


def rises(images: dict[int, set[int]]) -> bool:
    """Each index has one image, and larger ones have larger images."""
    return all(len(each) == 1 for each in images.values()) and [
        min(images[index]) for index in sorted(images)
    ] == sorted({min(each) for each in images.values()})
