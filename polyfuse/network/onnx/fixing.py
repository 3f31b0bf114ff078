"""What a user fixes about the inputs of an ONNX model: their sizes, the sizes behind names, and values.

    ModelProto + Fixed ──fix()──> the same ModelProto, with these sizes, and without the inputs that have a value

Declared sizes may be replaced. What the model says of the shapes behind its inputs is dropped then: it may be stale.
"""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from operator import index
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import helper, numpy_helper

from polyfuse.errors import InvalidInput
from polyfuse.network.onnx.file import MAX_CONSTANT_ELEMENTS, MAX_ELEMENTS
from polyfuse.text import near

MAX_RANK = 8
"""The most axes of a tensor that enters."""
MAX_SIZE = 2**31 - 1
TYPICAL = {1: 3, 2: 224, 3: 224}
"""Sizes of axes in messages that show how sizes are given; 1 for other axes."""
NUMBERS = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,4})?|[-+]?(inf|nan)|true|false", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Fixed:
    """What a user fixes, by name: shapes of inputs, sizes of named dimensions, values of inputs as text or arrays."""

    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    dimensions: Mapping[str, int | str] = field(default_factory=dict)
    values: Mapping[str, ArrayLike] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.shapes or self.dimensions or self.values)

    @staticmethod
    def of(
        shapes: Mapping[str, Sequence[int]] | None = None,
        dimensions: Mapping[str, int | str] | None = None,
        values: Mapping[str, ArrayLike] | None = None,
    ) -> "Fixed":
        """The `Fixed` of what a user gives. Errors: InvalidInput for what is no mapping of names."""
        for word, given in (("shapes", shapes), ("dimensions", dimensions), ("values", values)):
            if given is not None and not (isinstance(given, Mapping) and all(isinstance(name, str) for name in given)):
                raise InvalidInput(
                    f"{word}: expected a dictionary by name, such as {EXAMPLES[word]}, got {_got(given)}"
                )
        return Fixed(shapes or {}, dimensions or {}, values or {})


EXAMPLES = {"shapes": '{"x": (1, 3, 224, 224)}', "dimensions": '{"batch": 1}', "values": '{"n": 3}'}


def inputs_of(model: onnx.ModelProto) -> dict[str, onnx.ValueInfoProto]:
    """The inputs that a model has to be given, by name: not those for which it stores a value."""
    stored = {tensor.name for tensor in model.graph.initializer}
    return {value.name: value for value in model.graph.input if value.name and value.name not in stored}


def fix(model: onnx.ModelProto, fixed: Fixed) -> onnx.ModelProto:
    """The model, changed in place.

    Errors: InvalidInput for names that are not there, shapes of another rank, sizes that are not positive or too large,
    sizes that contradict each other, and values that do not fit.
    """
    if not fixed:
        return model
    shapes = {name: _checked_shape(model, name, shape) for name, shape in fixed.shapes.items()}
    sizes = {name: _checked_size(model, name, size) for name, size in fixed.dimensions.items()}
    _bind(model, shapes, sizes)
    for name, value in fixed.values.items():
        _fix_value(model, name, value)
    del model.graph.value_info[:]
    for result in model.graph.output:
        if result.type.HasField("tensor_type"):
            result.type.tensor_type.ClearField("shape")
    return model


def _input(model: onnx.ModelProto, name: str, known: Mapping[str, onnx.ValueInfoProto]) -> onnx.ValueInfoProto:
    if name not in known:
        dimension = f"; {name!r} is a dimension: {pasted('--set', name, 1)}" if name in _dimensions(model) else ""
        raise InvalidInput(f"model: has no input {name!r}; {near(name, known)}{dimension}")
    return known[name]


def _got(value: object) -> str:
    """A value of the user as text, shortened to one line."""
    return " ".join(f"{value!r:.80}".split())


def _whole(where: str, size: object) -> int:
    """A size. Errors: InvalidInput."""
    if isinstance(size, str) and re.fullmatch(r"[0-9]{1,10}", size):
        size = int(size)
    try:
        number = 0 if isinstance(size, bool | np.bool_) else index(size)  # type: ignore[arg-type]
    except TypeError:
        number = 0
    if not 1 <= number <= MAX_SIZE:
        raise InvalidInput(f"{where}: expected a whole number from 1 to {MAX_SIZE:,}, got {_got(size)}")
    return number


def _checked_shape(model: onnx.ModelProto, name: str, shape: object) -> tuple[int, ...]:
    declared = _input(model, name, inputs_of(model)).type.tensor_type
    where = f"input {name!r}"
    if isinstance(shape, str) or not isinstance(shape, Sequence | np.ndarray):
        raise InvalidInput(f"{where}: expected a shape such as (1, 3, 224, 224), got {_got(shape)}")
    sizes = tuple(_whole(f"{where}: axis {axis}", size) for axis, size in enumerate(shape))
    if declared.HasField("shape") and len(declared.shape.dim) != len(sizes):
        raise InvalidInput(
            f"{where}: expected {len(declared.shape.dim)} sizes, for {declared_text(declared)}, got {_text(sizes)}"
        )
    if len(sizes) > MAX_RANK or prod(sizes) > MAX_ELEMENTS:
        raise InvalidInput(
            f"{where}: expected at most {MAX_RANK} axes and {MAX_ELEMENTS:,} elements, got {_text(sizes)}"
        )
    return sizes


def _dimensions(model: onnx.ModelProto) -> list[str]:
    """The named dimensions of the inputs, each once."""
    dims = (dim for value in inputs_of(model).values() for dim in value.type.tensor_type.shape.dim)
    return list(dict.fromkeys(dim.dim_param for dim in dims if dim.dim_param))


def _checked_size(model: onnx.ModelProto, name: str, size: object) -> int:
    known = _dimensions(model)
    if name not in known:
        here = f"; {name!r} is an input: --shape or --fix" if name in inputs_of(model) else ""
        hint = near(name, known) if known else "all sizes are numbers, --shape gives other ones"
        raise InvalidInput(f"model: its inputs have no named dimension {name!r}; {hint}{here}")
    return _whole(f"dimension {name!r}", size)


def _bind(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]], sizes: Mapping[str, int]) -> None:
    """Give the inputs their sizes. A name that a given shape decides stands for that size in other inputs, too.

    Errors: InvalidInput where a shape contradicts a named dimension.
    """
    inputs = inputs_of(model)
    said: dict[str, set[int]] = {}
    for name, shape in shapes.items():
        declared = inputs[name].type.tensor_type
        for dim, size in zip(declared.shape.dim, shape, strict=False):
            if dim.dim_param:
                said.setdefault(dim.dim_param, set()).add(size)
            if sizes.get(dim.dim_param, size) != size:
                raise InvalidInput(
                    f"input {name!r}: its dimension {dim.dim_param!r} is {size} in {_text(shape)} and is set to "
                    f"{sizes[dim.dim_param]}; give one of both"
                )
    known = {name: each for name, (each, *more) in ((name, tuple(found)) for name, found in said.items()) if not more}
    known |= sizes
    for name, value in inputs.items():
        declared = value.type.tensor_type
        if name in shapes:
            declared.shape.CopyFrom(helper.make_tensor_type_proto(1, shapes[name]).tensor_type.shape)
        for axis, dim in enumerate(declared.shape.dim):
            if dim.dim_param in known:
                dim.dim_value = _whole(f"input {name!r}: axis {axis}", known[dim.dim_param])


def _array(name: str, value: object) -> np.ndarray:
    """Numbers as an array; of text such as `480,640` those in it."""
    if isinstance(value, str):
        parts = [part.strip() for part in value.split(",")]
        if len(parts) > 4096 or not all(NUMBERS.fullmatch(part) for part in parts):
            raise InvalidInput(f"input {name!r}: expected numbers such as 3, 480,640 or true, got {_got(value)}")
        numbers = [_number(part) for part in parts]
        return np.array(numbers[0] if len(numbers) == 1 else numbers, dtype=object)
    try:
        made = np.asarray(value)
    except (ValueError, TypeError, OverflowError):
        made = np.empty(0, dtype=object)
    if made.dtype.kind not in "biuf" or not 0 < made.size <= MAX_CONSTANT_ELEMENTS:
        raise InvalidInput(f"input {name!r}: expected a number or an array of numbers, got {_got(value)}")
    return made


def _number(text: str) -> int | float | bool:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return int(text) if len(text) <= 40 else float(text)
    except ValueError:
        return float(text)


def _fix_value(model: onnx.ModelProto, name: str, value: object) -> None:
    """Store a value for an input, which is none any more."""
    graph = model.graph
    declared = _input(model, name, {each.name: each for each in graph.input}).type.tensor_type
    converted = _converted(f"input {name!r}", _array(name, value), _dtype(name, declared.elem_type))
    shape = _shape_for(f"input {name!r}", converted, declared)
    whole = np.broadcast_to(converted.reshape(()), shape) if converted.size == 1 else converted.reshape(shape)
    _without(graph.initializer, name)
    _without(graph.input, name)
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(whole).reshape(shape), name))


def _without(entries: Any, name: str) -> None:
    """Take what has a name out of a repeated field."""
    for position in reversed(range(len(entries))):
        if entries[position].name == name:
            del entries[position]


def _dtype(name: str, element_type: int) -> np.dtype[Any]:
    """The type of the elements of an input. Errors: InvalidInput where they are no numbers."""
    try:
        found = np.dtype(helper.tensor_dtype_to_np_dtype(element_type))
    except (KeyError, TypeError, ValueError):
        found = np.dtype(object)
    if found.kind not in "biuf":
        raise InvalidInput(
            f"input {name!r}: cannot be fixed to a value, its elements are not of a plain type of numbers"
        )
    return found


def _converted(where: str, given: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """The numbers in a type. Errors: InvalidInput where the type does not have them."""
    try:
        with np.errstate(all="ignore"):
            made = given.astype(dtype)
        same = dtype.kind not in "biu" or np.array_equal(made, given)
    except (ValueError, TypeError, OverflowError):
        same = False
    if not same:
        raise InvalidInput(f"{where}: expected numbers that {dtype} has, got {', '.join(map(str, given.ravel()[:8]))}")
    return made


def _shape_for(where: str, value: np.ndarray, declared: onnx.TypeProto.Tensor) -> tuple[int, ...]:
    """The shape that a value gets: that which is declared, with free sizes as the value has them.

    Errors: InvalidInput where it has too few numbers, or too many.
    """
    if max(value.ndim, len(declared.shape.dim)) > MAX_RANK:
        raise InvalidInput(f"{where}: expected at most {MAX_RANK} axes, got {max(value.ndim, len(declared.shape.dim))}")
    if not declared.HasField("shape"):
        return value.shape
    dims = [dim.dim_value if dim.dim_value > 0 else None for dim in declared.shape.dim]
    if value.ndim == len(dims) and all(size in (None, got) for size, got in zip(dims, value.shape, strict=True)):
        return value.shape
    known, free = prod(size for size in dims if size is not None), dims.count(None)
    if value.size == 1 and known <= MAX_CONSTANT_ELEMENTS:
        return tuple(size or 1 for size in dims)
    if value.ndim <= 1 and free <= 1 and (value.size % known == 0 if free else value.size == known):
        return tuple(size or value.size // known for size in dims)
    raise InvalidInput(
        f"{where}: expected one number, or as many as {declared_text(declared)} holds, got "
        f"{value.size if value.ndim <= 1 else _text(value.shape)}"
    )


def _text(shape: Iterable[object]) -> str:
    return "x".join(map(str, shape)) or "a single number"


def declared_text(declared: onnx.TypeProto.Tensor) -> str:
    """A shape as a model declares it: `batch x 3 x ? x ?`."""
    dims = (str(dim.dim_value) if dim.dim_value > 0 else dim.dim_param or "?" for dim in declared.shape.dim)
    text = " x ".join(dims) or "a single number"
    return text if text.isprintable() else repr(text)


def pasted(option: str, name: str, value: object) -> str:
    """An option with its value, as a shell takes it."""
    text = f"{name}={value}"
    return f"{option} {shlex.quote(text) if text.isprintable() else repr(text)}"


def _is_open(dim: onnx.TensorShapeProto.Dimension) -> bool:
    """A size is left out, named, or -1, as some exporters have it."""
    return not dim.HasField("dim_value") or dim.dim_value < 0


def is_free(value: onnx.ValueInfoProto) -> bool:
    """A size of an input, or its rank, is open."""
    declared = value.type.tensor_type
    return value.type.HasField("tensor_type") and (
        not declared.HasField("shape") or any(map(_is_open, declared.shape.dim))
    )


def free_sizes(values: Sequence[onnx.ValueInfoProto]) -> str:
    """Advice for inputs of open sizes: the options, ready to paste, and the same in Python."""
    shapes = {value.name: _typical(value.type.tensor_type) for value in values}
    named: dict[str, int] = {}
    whole: dict[str, tuple[int, ...]] = {}
    for value in values:
        pairs = zip(value.type.tensor_type.shape.dim, shapes[value.name], strict=False)
        free = {dim.dim_param: size for dim, size in pairs if _is_open(dim)}
        if free and all(name.isprintable() and name and "=" not in name for name in free):
            named |= {name: size for name, size in free.items() if name not in named}
        else:
            whole[value.name] = shapes[value.name]
    options = [pasted("--set", *pair) for pair in named.items()]
    options += [pasted("--shape", name, _text(shape)) for name, shape in whole.items()]
    python = [f"dimensions={named}"] if named else []
    python += [f"shapes={whole}"] if whole else []
    every = " ".join(pasted("--shape", name, _text(shape)) for name, shape in shapes.items())
    also = f", or {every}" if named else ""
    return f"give sizes, such as {' '.join(options)}{also} (in Python {', '.join(python)})"


def _typical(declared: onnx.TypeProto.Tensor) -> tuple[int, ...]:
    """A shape such as is declared, that of an image where its rank is open."""
    if not declared.HasField("shape"):
        return 1, 3, 224, 224
    dims = declared.shape.dim
    guesses = (TYPICAL.get(axis, 1) if len(dims) == 4 else 1 for axis in range(len(dims)))
    return tuple(dim.dim_value if dim.dim_value > 0 else guess for dim, guess in zip(dims, guesses, strict=True))
