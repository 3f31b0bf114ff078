"""Mutated ONNX files: whole models with changes of their attributes, shapes, types, names, edges, data and graphs.

whole_models() ──drawn(k)──> the bytes of the k-th mutated file
"""

import random
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.network.onnx.conformance import FOLDED, cases, trials
from tests.network.onnx.models import model, values

make = helper.make_node
HUGE = (2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63))
NUMBERS = (0, 1, -1, 2, 3, 4, 5, 7, 64, 1000, 65_536, -2, -3, *HUGE)
FLOATS = (0.0, 1.0, -1.0, 0.5, 1e-45, 1e38, float("nan"), float("inf"), float("-inf"))
WORDS = ("", "NOTSET", "SAME_UPPER", "constant", "edge", "linear", "cubic", "CRD", "tanh", "\u202e", "a" * 300, "a\nb")
NAMES = ("", "x", "y", "row", "int", "0", "../x", "a b", "a\nb", "\u00e9", "/a/b", "x" * 300, "acc", "\x00")
_ATTRIBUTES = (
    "axis axes pads strides dilations kernel_shape group auto_pad ceil_mode count_include_pad alpha beta epsilon perm "
    "to keepdims mode blocksize transA transB output_padding output_shape storage_order num_outputs split value "
    "value_ints noop_with_empty_axes coordinate_transformation_mode nearest_mode exclude_outside allowzero start end "
    "size bias training_mode momentum approximate block_size output_dtype saturate antialias cubic_coeff_a"
)
ATTRIBUTES = _ATTRIBUTES.split()
_OPERATORS = (
    "Conv MaxPool Relu Add Mul Concat Reshape Transpose Slice Split Gather Resize Pad Softmax MatMul Gemm ReduceMean "
    "Flatten Squeeze Unsqueeze Expand Cast Clip Identity If Loop Scan Shape Constant ConstantOfShape Range Tile Where "
    "BatchNormalization InstanceNormalization LRN QuantizeLinear DequantizeLinear QLinearConv ConvTranspose Dropout "
    "RandomNormal Size Einsum GlobalAveragePool DepthToSpace PRelu Upsample Block Outer"
)
OPERATORS = _OPERATORS.split()
LOCATIONS = ("../../etc/passwd", "/dev/zero", "/proc/self/mem", ".", "..", "m.onnx", "", "a\x00b", "nowhere.bin", "//x")
DOMAINS = ("", "ai.onnx", "com.microsoft", "ai.onnx.ml", "my", "a\nb")


def _graph(nodes: list[onnx.NodeProto], outputs: list[str], **stored: np.ndarray) -> onnx.GraphProto:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    return helper.make_graph(nodes, "inner", [], ends, [numpy_helper.from_array(v, n) for n, v in stored.items()])


def convolutions() -> onnx.ModelProto:
    """Windows, normalisation, arithmetic, a product of matrices, softmax."""
    norm = {name: np.abs(values((4,), k)) + 0.1 for k, name in enumerate("bcde")}
    weights = {"w": values((4, 2, 3, 3)), "d": values((4, 1, 3, 3)), "m": values((5, 4)), "v": values((5,))}
    nodes = [
        make("Conv", ["x", "w"], ["c1"], name="c1", pads=[1, 1, 1, 1], strides=[2, 2]),
        make("BatchNormalization", ["c1", "b", "c", "d1", "e"], ["n1"]),
        make("Relu", ["n1"], ["r1"]),
        make("Conv", ["r1", "d"], ["c2"], group=4, auto_pad="SAME_UPPER"),
        make("Clip", ["c2", "", "six"], ["r2"]),
        make("Add", ["r1", "r2"], ["s"]),
        make("MaxPool", ["s"], ["p"], kernel_shape=[2, 2], ceil_mode=1),
        make("ConvTranspose", ["p", "d"], ["t"], group=4, strides=[2, 2]),
        make("GlobalAveragePool", ["t"], ["g"]),
        make("Flatten", ["g"], ["f"]),
        make("Gemm", ["f", "m", "v"], ["l"], transB=1),
        make("Softmax", ["l"], ["y"]),
    ]
    norm["d1"] = norm.pop("d")
    return model(nodes, {"x": ("batch", 2, 8, 8)}, ["y"], {**weights, **norm, "six": np.float32(6)})


def moving() -> onnx.ModelProto:
    """Sizes, axes and positions as constants, computed ones among them."""
    numbers = {"s": [1, -1], "q": [1, 2, 2, 2], "p": [0, 0, 1, 0, 0, 0, 0, 1], "i": [1], "e": [4], "h": [1, 2, 8, 4]}
    nodes = [
        make("Pad", ["x", "p"], ["a"], mode="reflect"),
        make("Slice", ["a", "i", "e", "i"], ["b0"]),
        make("Resize", ["x", "", "", "h"], ["b1"], mode="linear"),
        make("Shape", ["b1"], ["n"]),
        make("Gather", ["n", "i"], ["m"]),
        make("Tile", ["i", "m"], ["t"]),
        make("ConstantOfShape", ["t"], ["k"], value=numpy_helper.from_array(np.ones(1, np.float32))),
        make("Split", ["b1"], ["u", "o"], axis=2, num_outputs=2),
        make("Concat", ["u", "o", "x"], ["c"], axis=1),
        make("Transpose", ["c"], ["d"], perm=[0, 2, 3, 1]),
        make("ReduceMean", ["d", "i"], ["r"], keepdims=0),
        make("Unsqueeze", ["r", "i"], ["z"]),
        make("Mul", ["z", "two"], ["y"]),
        make("Reshape", ["b0", "s"], ["y2"]),
    ]
    constants = {name: np.array(value, dtype=np.int64) for name, value in numbers.items()}
    return model(nodes, {"x": (1, 2, 4, 4)}, ["y", "y2"], {**constants, "two": np.float32(2)})  # type: ignore[dict-item]


def branching() -> onnx.ModelProto:
    """An If that depends on a shape, functions that call each other, and an input of whole numbers."""
    then = _graph([make("Relu", ["a"], ["t"]), make("Add", ["t", "k"], ["r"])], ["r"], k=values((2, 1, 1)))
    other = _graph([make("Neg", ["a"], ["t"])], ["t"])
    block = helper.make_function(
        "my",
        "Block",
        ["u", "v"],
        ["o", "p"],
        [make("LeakyRelu", ["u"], ["t"]), make("Clip", ["t", "v"], ["o"]), make("Exp", ["u"], ["p"])],
        [helper.make_opsetid("", 20)],
        ["alpha"],
    )
    block.node[0].attribute.append(onnx.AttributeProto(name="alpha", ref_attr_name="alpha", type=1))
    calls = [make("Block", ["u"], ["q", ""], domain="my", alpha=0.3), make("Block", ["q"], ["o"], domain="my")]
    outer = helper.make_function("my", "Outer", ["u"], ["o"], calls, [helper.make_opsetid("", 20)])
    nodes = [
        make("Abs", ["x"], ["a"]),
        make("Shape", ["a"], ["s"]),
        make("Gather", ["s", "zero"], ["g"]),
        make("Equal", ["g", "one"], ["c"]),
        make("If", ["c"], ["b"], then_branch=then, else_branch=other),
        make("Outer", ["b"], ["e"], domain="my"),
        make("Reshape", ["e", "n"], ["y"]),
    ]
    made = model(nodes, {"x": (1, 2, "h", 4)}, ["y"], {"zero": np.int64(0), "one": np.int64(1)})  # type: ignore
    made.graph.input.append(helper.make_tensor_value_info("n", TensorProto.INT64, [2]))
    made.functions.extend([outer, block])
    made.opset_import.append(helper.make_opsetid("my", 1))
    return made


def quantised() -> onnx.ModelProto:
    """Integers with scales, of Q and DQ nodes and of QLinear operators."""
    constants = {
        "s": np.float32(0.05),
        "z": np.uint8(128),
        "w": np.int8(np.arange(18).reshape(1, 2, 3, 3) - 9),
        "ws": np.float32([0.1]),
        "wz": np.int8([0]),
        "f": np.int8(np.arange(18).reshape(1, 2, 3, 3) - 9),
    }
    nodes = [
        make("QuantizeLinear", ["x", "s", "z"], ["q"]),
        make("QLinearConv", ["q", "s", "z", "w", "ws", "wz", "s", "z"], ["c"], pads=[1, 1, 1, 1]),
        make("DequantizeLinear", ["c", "s", "z"], ["d"]),
        make("DequantizeLinear", ["f", "ws", "wz"], ["fd"], axis=0),
        make("DequantizeLinear", ["q", "s", "z"], ["xd"]),
        make("Conv", ["xd", "fd"], ["e"], pads=[1, 1, 1, 1]),
        make("Add", ["d", "e"], ["y"]),
    ]
    return model(nodes, {"x": (1, 2, 4, 4)}, ["y"], constants)


@cache
def whole_models() -> tuple[bytes, ...]:
    """The models that are mutated."""
    return tuple(made().SerializeToString() for made in (convolutions, moving, branching, quantised))


@cache
def operator_models() -> tuple[bytes, ...]:
    """A model for each of ONNX's own cases of an operator; collecting them takes some seconds."""
    return tuple(made.SerializeToString() for case in cases() if case.operator not in FOLDED for made in trials(case))


def drawn(k: int, wholes: Sequence[bytes]) -> bytes:
    """The k-th mutated file of some whole ones."""
    chance = random.Random(k)
    whole = chance.choice(wholes)
    if chance.random() < 0.08:
        return mutated_bytes(whole, chance)
    made = onnx.ModelProto.FromString(whole)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 5))):
        try:
            chance.choice(MUTATIONS)(made, chance)
        except (ValueError, TypeError, IndexError, OverflowError, onnx.checker.ValidationError):
            continue
    content: bytes = made.SerializeToString()
    return mutated_bytes(content, chance) if chance.random() < 0.05 else content


def mutated_bytes(content: bytes, chance: random.Random) -> bytes:
    """Some bytes changed, put in, doubled or left out."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(5):
            case 0:
                del data[at:]
            case 1:
                data[at:at] = chance.randbytes(chance.randrange(1, 9))
            case 2:
                data[at:at] = data[at : at + chance.randrange(1, 60)]
            case 3:
                del data[at : at + chance.randrange(1, 9)]
            case _ if at < len(data):
                data[at] = chance.randrange(256)
    return bytes(data)


def _graphs(made: onnx.ModelProto) -> list[onnx.GraphProto]:
    """The graph, and those inside its nodes."""
    found = [made.graph]
    for graph in found:
        found.extend(each.g for node in graph.node for each in node.attribute if each.HasField("g"))
    return found


def _node(made: onnx.ModelProto, chance: random.Random) -> onnx.NodeProto:
    nodes = [node for graph in _graphs(made) for node in graph.node]
    nodes += [node for function in made.functions for node in function.node]
    return chance.choice(nodes)


def _tensor_names(made: onnx.ModelProto) -> list[str]:
    nodes = [node for graph in _graphs(made) for node in graph.node]
    stored = [tensor.name for tensor in made.graph.initializer]
    return [*(name for node in nodes for name in (*node.input, *node.output)), *stored, *NAMES]


def _value(chance: random.Random) -> object:
    """A value of an attribute, of any type."""
    match chance.randrange(8):
        case 0 | 1:
            return chance.choice(NUMBERS)
        case 2:
            return chance.choice(FLOATS)
        case 3:
            return chance.choice(WORDS)
        case 4 | 5:
            return [chance.choice(NUMBERS) for _ in range(chance.choice((1, 2, 3, 4, 4, 8, 100)))]
        case 6:
            return [chance.choice(FLOATS) for _ in range(chance.randrange(1, 5))]
        case _:
            return numpy_helper.from_array(np.array([chance.choice(NUMBERS[:12])], dtype=np.int64), "t")


def attribute(made: onnx.ModelProto, chance: random.Random) -> None:
    """Change, drop, add or double an attribute."""
    node = _node(made, chance)
    if node.attribute and chance.random() < 0.7:
        position = chance.randrange(len(node.attribute))
        chosen = node.attribute[position]
        match chance.randrange(6):
            case 0:
                del node.attribute[position]
            case 1:
                node.attribute.append(chosen)
            case 2:
                chosen.name = chance.choice(ATTRIBUTES)
            case 3:
                chosen.type = chance.randrange(15)
            case 4:
                chosen.ref_attr_name = chance.choice(ATTRIBUTES)
            case _:
                name = chosen.name
                chosen.CopyFrom(helper.make_attribute(name, _value(chance)))
        return
    node.attribute.append(helper.make_attribute(chance.choice(ATTRIBUTES), _value(chance)))


def near(made: onnx.ModelProto, chance: random.Random) -> None:
    """Change a number of an attribute by a little."""
    single = [each for graph in _graphs(made) for node in graph.node for each in node.attribute if each.type == 2]
    lists = [each.ints for graph in _graphs(made) for node in graph.node for each in node.attribute if each.ints]
    if lists and (chance.random() < 0.6 or not single):
        ints = chance.choice(lists)
        position = chance.randrange(len(ints))
        ints[position] += chance.choice((1, -1, 2, -3))
    elif single:
        chance.choice(single).i += chance.choice((1, -1, 2, -3))


def contents(made: onnx.ModelProto, chance: random.Random) -> None:
    """Change a number that is stored, of sizes, axes and positions above all."""
    entries = [tensor for tensor in made.graph.initializer if tensor.data_type in (6, 7) or chance.random() < 0.1]
    tensor = chance.choice(entries)
    array = numpy_helper.to_array(tensor).copy()
    flat = array.reshape(-1)
    position = chance.randrange(flat.size)
    flat[position] = flat[position] + chance.choice((1, -1, 2, -2)) if chance.random() < 0.7 else chance.choice(NUMBERS)
    if chance.random() < 0.2:
        array = array.reshape(-1)[: chance.randrange(flat.size + 1)]
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def shape(made: onnx.ModelProto, chance: random.Random) -> None:
    """Change a declared shape."""
    value = chance.choice([*made.graph.input, *made.graph.input, *made.graph.output, *made.graph.value_info])
    tensor = value.type.tensor_type
    match chance.randrange(6):
        case 0:
            tensor.ClearField("shape")
        case 1:
            tensor.shape.dim.add().dim_value = chance.choice(NUMBERS)
        case 2 if tensor.shape.dim:
            del tensor.shape.dim[chance.randrange(len(tensor.shape.dim))]
        case 3 if tensor.shape.dim:
            chance.choice(tensor.shape.dim).dim_param = chance.choice((*NAMES, "h"))
        case 4:
            for _ in range(chance.choice((9, 40, 70))):
                tensor.shape.dim.add().dim_value = 1
        case _ if tensor.shape.dim:
            chance.choice(tensor.shape.dim).dim_value = chance.choice(NUMBERS)


def kind(made: onnx.ModelProto, chance: random.Random) -> None:
    """Change the type of elements of an input or of what is stored, or the kind of value that an input is."""
    value = chance.choice(made.graph.input)
    match chance.randrange(4):
        case 0:
            value.type.CopyFrom(helper.make_sequence_type_proto(value.type))
        case 1 if made.graph.initializer:
            chance.choice(made.graph.initializer).data_type = chance.randrange(30)
        case 2:
            value.ClearField("type")
        case _:
            value.type.tensor_type.elem_type = chance.randrange(30)


def name(made: onnx.ModelProto, chance: random.Random) -> None:
    """Change a name in one place."""
    names = _tensor_names(made)
    node = _node(made, chance)
    match chance.randrange(6):
        case 0:
            node.name = chance.choice((*NAMES, *names))
        case 1:
            chance.choice((*made.graph.input, *made.graph.output, *made.graph.initializer)).name = chance.choice(names)
        case 2:
            node.output[chance.randrange(len(node.output))] = chance.choice(names)
        case 3:
            made.graph.name = chance.choice(NAMES)
        case 4:
            node.domain = chance.choice(DOMAINS)
        case _:
            node.op_type = chance.choice((*OPERATORS, *NAMES))


def edge(made: onnx.ModelProto, chance: random.Random) -> None:
    """Change what a node reads or makes."""
    node, names = _node(made, chance), _tensor_names(made)
    match chance.randrange(7):
        case 0:
            node.input.append(chance.choice(names))
        case 1:
            node.output.append(chance.choice((*names, "more", "")))
        case 2:
            del node.input[chance.randrange(len(node.input))]
        case 3:
            node.input[:] = list(node.input)[::-1]
        case 4:
            del node.output[chance.randrange(len(node.output))]
        case 5:
            node.input.extend(list(node.input) * chance.choice((1, 2, 60)))
        case _:
            node.input[chance.randrange(len(node.input))] = chance.choice(names)


def nodes(made: onnx.ModelProto, chance: random.Random) -> None:
    """Drop, double, or move a node, or change its operator."""
    graph = chance.choice(_graphs(made))
    position = chance.randrange(len(graph.node))
    match chance.randrange(5):
        case 0:
            del graph.node[position]
        case 1:
            graph.node.append(graph.node[position])
        case 2:
            rest = list(graph.node)
            chance.shuffle(rest)
            copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in rest]
            del graph.node[:]
            graph.node.extend(copies)
        case _:
            graph.node[position].op_type = chance.choice(OPERATORS)


def operator_sets(made: onnx.ModelProto, chance: random.Random) -> None:
    """Change versions."""
    match chance.randrange(5):
        case 0:
            del made.opset_import[:]
        case 1:
            made.opset_import.append(helper.make_opsetid(chance.choice(DOMAINS), chance.choice(NUMBERS)))
        case 2:
            made.ir_version = chance.choice((0, 1, 3, 8, 99, 2**62))
        case 3 if made.functions:
            entries = chance.choice(made.functions).opset_import
            entries.append(helper.make_opsetid(chance.choice(DOMAINS), chance.choice(NUMBERS)))
        case _:
            made.opset_import[0].version = chance.choice((*range(1, 30), *NUMBERS))


def stored(made: onnx.ModelProto, chance: random.Random) -> None:
    """Change what is stored: its data, its shape, where it is."""
    entries = made.graph.initializer
    position = chance.randrange(len(entries))
    tensor = entries[position]
    match chance.randrange(9):
        case 0:
            tensor.raw_data = tensor.raw_data[: chance.randrange(len(tensor.raw_data) + 1)]
        case 1:
            tensor.raw_data += chance.randbytes(chance.randrange(1, 20))
        case 2:
            tensor.dims.append(chance.choice(NUMBERS))
        case 3 if tensor.dims:
            tensor.dims[chance.randrange(len(tensor.dims))] = chance.choice(NUMBERS)
        case 4:
            del entries[position]
        case 5:
            entries.append(tensor)
        case 6:
            tensor.data_location = TensorProto.EXTERNAL
            tensor.ClearField("raw_data")
            tensor.external_data.add(key="location", value=chance.choice(LOCATIONS))
            for key in ("offset", "length"):
                if chance.random() < 0.6:
                    tensor.external_data.add(key=key, value=str(chance.choice((*NUMBERS, "x", "1e3", ""))))
        case 7:
            values_info = helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            made.graph.input.append(values_info)
        case _:
            size = chance.randrange(len(tensor.raw_data) + 1)
            tensor.raw_data = chance.randbytes(size) + tensor.raw_data[size:]


def sparse(made: onnx.ModelProto, chance: random.Random) -> None:
    """Store something as a sparse tensor, rightly or not."""
    thin = made.graph.sparse_initializer.add()
    thin.values.name = chance.choice(_tensor_names(made))
    thin.values.data_type = chance.choice((1, 7))
    thin.values.dims.append(chance.choice(NUMBERS))
    thin.dims.append(chance.choice(NUMBERS))


def ends(made: onnx.ModelProto, chance: random.Random) -> None:
    """Drop, double or add inputs and outputs."""
    graph = chance.choice(_graphs(made))
    entries = chance.choice((graph.input, graph.output))
    match chance.randrange(3):
        case 0:
            del entries[chance.randrange(len(entries))]
        case 1:
            entries.append(entries[chance.randrange(len(entries))])
        case _:
            shapes = [chance.choice(NUMBERS) for _ in range(chance.randrange(5))]
            entries.append(
                helper.make_tensor_value_info(chance.choice(_tensor_names(made)), chance.randrange(20), shapes)
            )


def subgraph(made: onnx.ModelProto, chance: random.Random) -> None:
    """Put a node into a branch or a body, once or many times."""
    node = chance.choice(made.graph.node)
    for _ in range(chance.choice((1, 1, 2, 12))):
        inner = onnx.NodeProto.FromString(node.SerializeToString())
        graph = _graph([inner], list(node.output))
        node.Clear()
        operator = chance.choice(("If", "If", "If", "Loop", "Scan"))
        condition = chance.choice((*_tensor_names(made), *inner.input)) or "x"
        reads = [condition] if operator == "If" else ["", condition, *inner.input]
        node.CopyFrom(make(operator, reads, list(inner.output)))
        for branch in ("then_branch", "else_branch") if operator == "If" else ("body",):
            if chance.random() < 0.9:
                node.attribute.append(helper.make_attribute(branch, graph))


def functions(made: onnx.ModelProto, chance: random.Random) -> None:
    """Add functions: of a node, that call themselves, or that multiply."""
    node = chance.choice(made.graph.node)
    versions = [helper.make_opsetid("", chance.choice((7, 13, 20, 20)))]
    inner = onnx.NodeProto.FromString(node.SerializeToString())
    match chance.randrange(4):
        case 0:
            body = [inner]
        case 1:
            body = [make(node.op_type, list(node.input), list(node.output), domain="fz")]
        case 2:
            body = [inner]
            for level in range(30):
                calls = [make(node.op_type, list(node.input), [f"t{level}_{k}"], domain=f"l{level}") for k in (0, 1)]
                calls += [make("Add", [f"t{level}_0", f"t{level}_1"], list(node.output)[:1])]
                source, target = (f"l{level}", "fz" if level == 29 else f"l{level + 1}")
                contents = body if level == 0 else calls
                made.functions.append(
                    helper.make_function(
                        source, node.op_type, list(node.input), list(node.output)[:1], contents, versions
                    )
                )
                body = [make(node.op_type, list(node.input), list(node.output)[:1], domain=target)]
                if level == 29:
                    body = calls
        case _:
            body = [make("Identity", list(node.input)[:1], ["t"])]
    if node.domain == "":
        made.functions.append(
            helper.make_function("fz", node.op_type, list(node.input), list(node.output), body, versions)
        )
        node.domain = "fz"
    function = chance.choice(made.functions)
    if chance.random() < 0.3:
        function.input.append(chance.choice(NAMES))
    if chance.random() < 0.2 and function.output:
        del function.output[0]


MUTATIONS: tuple[Callable[[onnx.ModelProto, random.Random], None], ...] = (
    attribute,
    near,
    near,
    contents,
    contents,
    contents,
    shape,
    kind,
    name,
    edge,
    nodes,
    operator_sets,
    stored,
    sparse,
    ends,
    subgraph,
    functions,
)
