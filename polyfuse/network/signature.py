"""The inputs and outputs of a model, in its order and by its names, and their correspondence to tensors of a network.

A `Network` has names that isl and C can use, and only what layers read and make. A model may also have inputs that
nothing reads, outputs that are constant or an input as it is, and outputs that are listed twice. A `Signature` says all
of it: arrays by the model's names enter `entering()`, the network's results enter `leaving()`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from polyfuse.errors import InvalidInput
from polyfuse.network.dtypes import Values
from polyfuse.network.tensor import Tensor


@dataclass(frozen=True)
class Input:
    """An input of a model: `tensor` is its position among the network's inputs, None for one that nothing reads.

    For an input that nothing reads, `dtype` is its numpy type and `shape` its sizes, each None where it is not known.
    `scalar` says that the model's has no axes, where the network's tensor has one.
    """

    name: str
    tensor: int | None
    dtype: str | None = None
    shape: tuple[int | None, ...] | None = None
    scalar: bool = False


@dataclass(frozen=True, eq=False)
class Output:
    """An output of a model: a tensor that layers make, by its position among the network's outputs, or something else.

    value   of an output that is constant, in the model's type
    given   the position among the model's inputs of an output that is an input which nothing else reads
    scalar  the model's has no axes, where the network's tensor has one
    """

    name: str
    tensor: int | None = None
    value: Values | None = field(default=None)
    given: int | None = None
    scalar: bool = False


@dataclass(frozen=True, eq=False)
class Signature:
    """The inputs and outputs of a model, in its order."""

    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]

    @staticmethod
    def of(inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> "Signature":
        """The signature of a network that no model gave names to: those of its tensors."""
        return Signature(
            tuple(Input(tensor.name, k) for k, tensor in enumerate(inputs)),
            tuple(Output(tensor.name, k) for k, tensor in enumerate(outputs)),
        )

    @property
    def input_names(self) -> tuple[str, ...]:
        """The names of the inputs."""
        return tuple(each.name for each in self.inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of the outputs; one that is listed twice is there twice."""
        return tuple(each.name for each in self.outputs)

    def check(self, where: str, inputs: int, outputs: int) -> None:
        """Refuse a signature that does not have each input and output of a network.

        Errors: InvalidInput.
        """
        read = sorted(each.tensor for each in self.inputs if each.tensor is not None)
        made = {each.tensor for each in self.outputs if each.tensor is not None}
        if read != list(range(inputs)) or made != set(range(outputs)) or len(set(self.input_names)) < len(self.inputs):
            raise InvalidInput(
                f"{where}: expected a signature with each of {inputs} inputs once and each of {outputs} outputs, got "
                f"{', '.join(map(repr, self.input_names))} -> {', '.join(map(repr, self.output_names))}; leave it out "
                "where inputs or outputs change"
            )

    def check_said(self, where: str, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Refuse a plan of a model with other inputs or outputs, where it says which it has.

        Errors: InvalidInput.
        """
        for kind, said, names in (("inputs", inputs, self.input_names), ("outputs", outputs, self.output_names)):
            if said and tuple(said) != names:
                raise InvalidInput(
                    f"{where}: expected a model with the {kind} {', '.join(map(shown, said))}, got one with "
                    f"{', '.join(map(shown, names)) or 'none'}; give the model that it was made for, or plan again"
                )

    def bound(
        self, where: str, arrays: Sequence[ArrayLike], named: Mapping[str, ArrayLike]
    ) -> tuple[ArrayLike | None, ...]:
        """One array for each input, in order: those in order first, then by name; None for one that nothing needs.

        Errors: InvalidInput for too many, unknown and missing inputs.
        """
        given = {**named, **dict(zip(self.input_names, arrays, strict=False))}
        passed = {each.given for each in self.outputs}
        optional = {each.name for k, each in enumerate(self.inputs) if each.tensor is None and k not in passed}
        missing = set(self.input_names) - set(given) - optional
        if len(given) != len(arrays) + len(named) or missing or not set(given) <= set(self.input_names):
            raise InvalidInput(
                f"{where}: expected the inputs {', '.join(map(shown, self.input_names)) or '(none)'}, each once, got "
                f"{len(arrays)} in order and {', '.join(map(shown, named)) or 'none'} by name"
            )
        return tuple(given.get(name) for name in self.input_names)

    def entering(self, bound: Sequence[ArrayLike | None], tensors: Sequence[Tensor]) -> dict[str, ArrayLike]:
        """The arrays of the network's inputs, by their names there."""
        return {
            tensors[each.tensor].name: _with_axis(array) if each.scalar else array
            for each, array in zip(self.inputs, bound, strict=True)
            if each.tensor is not None and array is not None
        }

    def leaving(
        self, made: Mapping[str, Values], tensors: Sequence[Tensor], bound: Sequence[ArrayLike | None]
    ) -> dict[str, Values]:
        """The outputs by the model's names, in its order, each an array of its own."""
        found: dict[str, Values] = {}
        used: set[int] = set()
        for each in self.outputs:
            if each.tensor is not None:
                value = made[tensors[each.tensor].name]
                value = value.reshape(()) if each.scalar else value
                found[each.name] = value.copy() if each.tensor in used else value
                used.add(each.tensor)
            else:
                found[each.name] = (
                    np.array(each.value)
                    if each.given is None
                    else np.array(bound[each.given], dtype=self.inputs[each.given].dtype)
                )
        return found


def _with_axis(array: ArrayLike) -> ArrayLike:
    """A number as an array of one element; anything else as it is."""
    is_number = isinstance(array, int | float | np.generic) or (isinstance(array, np.ndarray) and array.ndim == 0)
    return np.asarray(array).reshape(1) if is_number else array


def shown(name: str) -> str:
    """A model's name as text of a message: as it is, or quoted where it holds more than letters that print.

    >>> shown("data/0"), shown("a\\nb"), shown("")
    ('data/0', "'a\\\\nb'", "''")
    """
    return name if name.isprintable() and name.strip() == name and name else ascii(name)
