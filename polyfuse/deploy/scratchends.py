"""What a model takes and gives, for who runs its plan on a scratchpad machine: by the numbers of tensors off chip.

    Network + numbers ──ends_described()──> lines of a comment;  Network ──constant_arrays()──> C

An output that is constant is no tensor off chip: it is an array of the C file, which the header declares.
"""

from collections.abc import Mapping

import numpy as np

from polyfuse.codegen.c.text import fold
from polyfuse.deploy.csignature import C_TYPES, c_names, in_comment
from polyfuse.network.dtypes import Values
from polyfuse.network.network import Network


def ends_described(network: Network, numbers: Mapping[str, int], name: str) -> list[str]:
    """A line for each input and then each output of the model, in its order."""
    arrays, ends = constants_of(network, name), network.ends
    lines = []
    for each in ends.inputs:
        tensor = None if each.tensor is None else network.inputs[each.tensor].name
        what = "not read" if tensor is None or tensor not in numbers else f"tensor {numbers[tensor]}"
        lines.append(f"input  {in_comment(each.name)}: {what}")
    for k, end in enumerate(ends.outputs):
        if end.tensor is not None:
            what = f"tensor {numbers[network.outputs[end.tensor].name]}"
        elif end.given is not None:
            what = f"the input {in_comment(ends.inputs[end.given].name)} as it is"
        else:
            array, value = arrays[k]
            what = f"constant, {value.dtype} {list(value.shape)}, {array}"
        lines.append(f"output {in_comment(end.name)}: {what}")
    return lines


def constants_of(network: Network, name: str) -> dict[int, tuple[str, Values]]:
    """The outputs that are constant, by their place: the C name of each and its value."""
    called = c_names(name, network.ends)[len(network.ends.inputs) :]
    return {
        k: (f"{name}_output_{called[k]}", end.value)
        for k, end in enumerate(network.ends.outputs)
        if end.value is not None
    }


def constant_arrays(network: Network, name: str, declared: bool = False) -> list[str]:
    """The arrays of constant outputs as C, or their declarations; text and types that C does not have are left out."""
    lines = []
    for array, value in constants_of(network, name).values():
        if (ctype := C_TYPES.get(value.dtype.name)) is None:
            continue
        head = f"const {ctype} {array}[{max(1, value.size)}]"
        if declared:
            lines.append(f"extern {head};")
        else:
            numbers = ", ".join(map(_number, value.ravel().tolist())) or "0"
            lines += [f"{head} = {{", *fold(numbers, "  ", "  "), "};"]
    return lines


def _number(value: float | int) -> str:
    """A number as C: floats to the last bit."""
    if not isinstance(value, float):
        return "INT64_MIN" if value == -(2**63) else f"{int(value)}{'u' if value > 2**63 - 1 else ''}"
    if not np.isfinite(value):
        return "NAN" if value != value else f"{'-' if value < 0 else ''}INFINITY"
    return value.hex()
