"""The C signature of a compiled network: its model's inputs and outputs, in their order, under names that C can use.

    Program ──parameters()──> Parameters of NAME_run ──declarations(), described()──> C and comments

Computed outputs are float; an output that is constant, and an input that nothing reads, have the model's type.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np

from polyfuse.codegen.c.elements import ELEMENTS, FLOAT
from polyfuse.codegen.lower.layout import PLANAR
from polyfuse.codegen.program import Program
from polyfuse.errors import InvalidInput
from polyfuse.network.dtypes import Values
from polyfuse.network.signature import Input, Output, Signature
from polyfuse.network.tensor import AVOIDED, Tensor, is_taken, safe_name

C_TYPES: Mapping[str, str] = {dtype: each.name for dtype, each in ELEMENTS.items() if not each.definition}
"""The C type of each numpy type that has one."""
PLURALS = {FLOAT.name: "FLOATS"}
"""What the macros that count elements call them; others are ELEMENTS."""


@dataclass(frozen=True)
class ArrayParameter:
    """One input or output of `NAME_run`.

    original   its name in the model; `name` is that of the parameter
    tensor     the network's tensor, None for what is constant, passed on, or not read
    ctype      the type of an element; elements: how many, None where that is not known, of what nothing reads
    """

    kind: Literal["input", "output"]
    original: str
    name: str
    tensor: Tensor | None
    ctype: str
    elements: int | None
    description: str

    @property
    def declaration(self) -> str:
        """The parameter in the prototype."""
        return f"{'const ' if self.kind == 'input' else ''}{self.ctype} *{self.name}"

    def macro(self, big: str) -> str:
        """The name of the macro that counts its elements."""
        return f"{big}_{self.name.upper()}_{PLURALS.get(self.ctype, 'ELEMENTS')}"

    @property
    def described(self) -> str:
        """A line of a comment: its name, that in the model where it is another, and what it holds."""
        called = self.name if self.original == self.name else f"{self.name} (the model's {in_comment(self.original)})"
        return f"{self.kind:<7}{called}: {self.description}"


def parameters(program: Program) -> tuple[ArrayParameter, ...]:
    """The parameters of `NAME_run` behind weights and arena.

    Errors: InvalidInput for an output that is no array of numbers, or of unknown size.
    """
    network = program.network
    ends, names = network.ends, c_names(network.name, network.ends)
    passed = {end.given for end in ends.outputs}
    entering = (_input(program, each, names[k], k in passed) for k, each in enumerate(ends.inputs))
    leaving = (_output(program, each, name) for each, name in zip(ends.outputs, names[len(ends.inputs) :], strict=True))
    return (*entering, *leaving)


def c_names(network: str, ends: Signature) -> list[str]:
    """A name for each input and then each output, like the model's; none is another's, whatever the case."""
    big = network.upper()
    own = (f"{network}_run", f"{network}_load", f"{network}_weights", f"{big}_H", f"{big}_ALIGNMENT")
    taken = {each.lower() for each in (*own, f"{big}_WEIGHTS_BYTES", f"{big}_ARENA_BYTES")}
    found: list[str] = []
    for name in ends.input_names:
        found.append(_free(safe_name(name), big, taken))
    for name in ends.output_names:
        wish = safe_name(name)
        found.append(_free(f"{wish}_out" if wish.lower() in taken else wish, big, taken))
    return found


def _free(wish: str, big: str, taken: set[str]) -> str:
    """A name that neither is taken nor makes a macro that is; taken from now on."""
    name, k = wish, 1
    while (made := {name.lower(), *(f"{big}_{name}_{each}".lower() for each in ("FLOATS", "ELEMENTS"))}) & taken or (
        name in AVOIDED or is_taken(name)
    ):
        k += 1
        name = f"{wish}_{k}"
    taken |= made
    return name


def _input(program: Program, each: Input, name: str, passed: bool) -> ArrayParameter:
    if each.tensor is not None:
        return _of_tensor(program, "input", each.name, name, program.network.inputs[each.tensor])
    ctype = C_TYPES.get(each.dtype or "", "void")
    sizes = None if each.shape is None or None in each.shape else prod(size or 0 for size in each.shape)
    read = "" if passed else ", not read; may be NULL"
    shape = "" if each.shape is None else f" [{', '.join('?' if size is None else str(size) for size in each.shape)}]"
    return ArrayParameter("input", each.name, name, None, ctype, sizes, f"{each.dtype or 'of any type'}{shape}{read}")


def _output(program: Program, each: Output, name: str) -> ArrayParameter:
    network = program.network
    if each.tensor is not None:
        return _of_tensor(program, "output", each.name, name, network.outputs[each.tensor])
    if each.given is not None:
        source = network.ends.inputs[each.given]
        dtype, shape = source.dtype, source.shape
    else:
        assert each.value is not None
        dtype, shape = each.value.dtype.name, each.value.shape
    if dtype is None or dtype not in C_TYPES or shape is None or None in shape:
        raise InvalidInput(
            f"output {each.name!r}: expected numbers of a type that C has and fixed sizes, got {dtype} of shape "
            f"{shape}; leave it out of the model's outputs"
        )
    what = "constant" if each.given is None else "the input as it is"
    sizes = tuple(size or 0 for size in shape)
    return ArrayParameter(
        "output", each.name, name, None, C_TYPES[dtype], prod(sizes), f"{dtype} {list(sizes)}, {what}"
    )


def _of_tensor(
    program: Program, kind: Literal["input", "output"], original: str, name: str, tensor: Tensor
) -> ArrayParameter:
    """A parameter for a tensor: its shape and how it lies in memory."""
    array = program.array(tensor)
    dense = "row-major" if array.layout == PLANAR else f"{array.layout}: {' x '.join(map(str, array.shape))}"
    description = f"float32 {list(tensor.concrete_shape)}, {dense}"
    return ArrayParameter(kind, original, name, tensor, FLOAT.name, array.elements, description)


def copied(program: Program, ends: Sequence[ArrayParameter], offsets: Mapping[int, int]) -> list[str]:
    """The C that gives what no group makes: constants, inputs as they are, and outputs that are listed twice.

    `offsets` has the place of each constant output in the weights, in bytes.
    """
    signature = program.network.ends
    inputs, outputs = ends[: len(signature.inputs)], ends[len(signature.inputs) :]
    first: dict[int, str] = {}
    lines = [f"  (void){each.name};" for each in inputs if each.tensor is None]
    for k, (each, end) in enumerate(zip(outputs, signature.outputs, strict=True)):
        if end.tensor is not None and end.tensor not in first:
            first[end.tensor] = each.name
            continue
        if end.tensor is not None:
            source = first[end.tensor]
        else:
            source = inputs[end.given].name if end.given is not None else f"(const char *)weights + {offsets[k]}"
        if each.elements:
            lines.append(f"  memcpy({each.name}, {source}, {each.elements} * sizeof *{each.name});")
    return lines


def constant_outputs(program: Program) -> dict[int, Values]:
    """The outputs that are constant, by their place, as the file of weights holds them: little-endian."""
    return {
        k: np.ascontiguousarray(each.value, each.value.dtype.newbyteorder("<"))
        for k, each in enumerate(program.network.ends.outputs)
        if each.value is not None
    }


def in_comment(name: str) -> str:
    r"""A model's name as a comment of C has it: quoted, in ASCII, and without what ends or begins a comment.

    >>> in_comment("a*/b"), in_comment("é")
    ("'a*\\/b'", "'\\xe9'")
    """
    return ascii(name).replace("*/", "*\\/").replace("/*", "/\\*").replace("??", "?\\?")
