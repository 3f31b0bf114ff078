"""ONNX files, which are not trusted: a path enters, a parsed model and the values of its tensors leave.

Nothing outside of the model's folder is read and nothing is allocated before its size is checked.
"""

from collections.abc import Iterator
from math import prod
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import numpy_helper

from polyfuse.errors import InvalidInput, UnsupportedOperator
from polyfuse.network.onnx.subgraphs import graphs_of

MAX_FILE_BYTES = 2**31 - 1
MAX_ELEMENTS = 2**31 - 1
MAX_CONSTANT_ELEMENTS = 2**28
MAX_GRAPHS = 10_000
MIN_OPSET = 7
MAX_OPSET = 1_000
"""Far beyond what there is: numbers above are damage."""

Constant = NDArray[np.generic]


def read_model(path: str | Path) -> onnx.ModelProto:
    """The model in a file, its external data left where it is.

    Errors: InvalidInput for files that are missing, too large, truncated or not ONNX; UnsupportedOperator for
    operator sets older than 7.
    """
    file = Path(path)
    try:
        if not file.is_file():
            raise InvalidInput(f"model {str(file)!r}: no such file; expected the path of an .onnx file")
        size = file.stat().st_size
        if size > MAX_FILE_BYTES:
            raise InvalidInput(
                f"model {str(file)!r}: {size:,} bytes, expected at most {MAX_FILE_BYTES:,}; save its weights as "
                "external data"
            )
        content = file.read_bytes()
    except (OSError, ValueError) as error:
        raise InvalidInput(f"model {str(file)!r}: cannot be read ({' '.join(str(error).split())})") from None
    try:
        model = onnx.ModelProto.FromString(content)
    except DecodeError:
        raise InvalidInput(
            f"model {str(file)!r}: not an ONNX model, or truncated; export or download it again"
        ) from None
    if not model.ir_version or not (model.graph.node or model.graph.output):
        raise InvalidInput(f"model {str(file)!r}: holds no ONNX graph; export or download it again")
    names = (text for graph in (model.graph, *model.functions) for text in _texts(graph))
    if not all(isinstance(text, str) for text in names):
        raise InvalidInput(f"model {str(file)!r}: some of its names are not text; export or download it again")
    return _known_opset(file, model)


def _texts(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[object]:
    """All names in a graph or a function, which protobuf leaves as bytes where they are not UTF-8."""
    waiting, seen = [graph], 0
    while waiting:
        inner = waiting.pop()
        seen += 1
        if seen + len(waiting) > MAX_GRAPHS:
            raise InvalidInput(
                f"model: holds more than {MAX_GRAPHS:,} graphs inside nodes; export it with less nesting"
            )
        yield inner.name
        for node in inner.node:
            yield from (node.name, node.op_type, node.domain, node.overload, *node.input, *node.output)
            yield from (text for each in node.attribute for text in (each.name, each.ref_attr_name))
            waiting += graphs_of(node)
        yield from (value.name for value in inner.value_info)
        yield from _texts_of_ends(inner)


def _texts_of_ends(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[object]:
    """The names in what a graph or a function has beyond its nodes."""
    if isinstance(graph, onnx.FunctionProto):
        yield from (graph.domain, graph.overload, *graph.input, *graph.output, *graph.attribute)
        yield from (entry.domain for entry in graph.opset_import)
        yield from (attribute.name for attribute in graph.attribute_proto)
        return
    for tensor in (*graph.initializer, *(sparse.values for sparse in graph.sparse_initializer)):
        yield tensor.name
        yield from (text for entry in tensor.external_data for text in (entry.key, entry.value))
    for value in (*graph.input, *graph.output):
        yield value.name
        yield from (dim.dim_param for dim in value.type.tensor_type.shape.dim)


def opset_of(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators; 0 where the model has none."""
    return next((int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)


def _known_opset(file: Path, model: onnx.ModelProto) -> onnx.ModelProto:
    if opset_of(model) > MAX_OPSET:
        raise InvalidInput(
            f"model {str(file)!r}: expected an ONNX operator set up to {MAX_OPSET:,}, got {opset_of(model)}; export or "
            "download it again"
        )
    if opset_of(model) < MIN_OPSET:
        got = opset_of(model) or "none"
        raise UnsupportedOperator(
            f"model {str(file)!r}: expected ONNX operator set {MIN_OPSET} or later, got {got}; convert it with "
            "onnx.version_converter.convert_version"
        )
    return model


def tensor_value(tensor: onnx.TensorProto, folder: Path | None) -> Constant:
    """The value of a stored tensor, from the model or from a file in its folder, if it may have one.

    Errors: InvalidInput for sizes that are too large or do not match the data, and for paths out of the folder.
    """
    where = f"constant {tensor.name!r}"
    check_size(where, tuple(tensor.dims))
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        if folder is None:
            raise InvalidInput(f"{where}: an attribute keeps its data in a file; expected it in the model")
        return _external(where, tensor, folder)
    try:
        value: Constant = np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        why = " ".join(str(error).split())
        raise InvalidInput(f"{where}: its data does not fit its shape {tuple(tensor.dims)} ({why})") from None
    return value


def check_size(where: str, shape: tuple[int, ...]) -> None:
    """Refuse shapes whose constants would take more than a gibibyte as float32. Errors: InvalidInput."""
    if min(shape, default=0) < 0 or prod(shape) > MAX_CONSTANT_ELEMENTS:
        raise InvalidInput(f"{where}: expected at most {MAX_CONSTANT_ELEMENTS:,} elements, got shape {shape}")


def _external(where: str, tensor: onnx.TensorProto, folder: Path) -> Constant:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    try:
        home = folder.resolve()
        file = (home / location).resolve()
        if not location or Path(location).is_absolute() or not file.is_relative_to(home):
            raise InvalidInput(
                f"{where}: its data is in {location!r}, outside of the model's folder; move it next to the model"
            )
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        wanted = prod(tensor.dims) * dtype.itemsize
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", wanted))
        size = file.stat().st_size
        if not file.is_file() or offset < 0 or length != wanted or offset + wanted > size:
            raise InvalidInput(f"{where}: expected {wanted:,} bytes at {offset:,} in {location!r}, which has {size:,}")
        values = np.fromfile(file, dtype=dtype.newbyteorder("<"), count=prod(tensor.dims), offset=offset)
    except (OSError, ValueError, KeyError) as error:
        raise InvalidInput(
            f"{where}: its data in {location!r} cannot be read ({' '.join(str(error).split())})"
        ) from None
    return values.astype(dtype, copy=False).reshape(tuple(tensor.dims))
