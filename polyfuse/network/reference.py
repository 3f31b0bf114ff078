"""The reference semantics of networks in float64 numpy: the oracle of generated code.

A `Network` and the values of its inputs enter; the value of every tensor leaves.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polyfuse.errors import InvalidInput
from polyfuse.network.dtypes import EIGHT_BITS, TYPES, Array, Values, bounds, decoded, is_whole, numbers, stored
from polyfuse.network.layer import Layer
from polyfuse.network.network import Network
from polyfuse.network.tensor import Tensor
from polyfuse.whole import whole


def run(network: Network, inputs: Mapping[str, ArrayLike]) -> dict[str, Array]:
    """The float64 value of every input and of every tensor that a layer makes, by name.

    Floats are computed in float64, and those of two bytes rounded where they are stored; whole numbers are exact.
    NaN and infinities go where IEEE arithmetic takes them; maximum and minimum keep NaN; padding is not read.

    Errors: InvalidInput for a missing or unknown input, a wrong shape, values that the type of an input does not have,
    or a layer without a reference.

    >>> from polyfuse.network.network import Builder
    >>> build = Builder("mean")
    >>> net = build.network(build.global_average_pool("mean", build.input("x", (1, 1, 2, 2))))
    >>> float(run(net, {"x": [[[[1, 2], [3, 4]]]]})["mean_out"].squeeze())
    2.5
    """
    values = _checked_inputs(network, inputs)
    tensors = (tensor for layer in network.layers for tensor in layer.weights)
    weights = {tensor.name: decoded(network.weights[tensor.name], tensor.dtype) for tensor in tensors}
    for layer in network.layers:
        values[layer.output.name] = _value(layer, values | weights)
    return values


def expected_outputs(network: Network, inputs: Mapping[str, ArrayLike]) -> dict[str, Array]:
    """The float64 value of every output, by name. Errors: as `run`."""
    values = run(network, inputs)
    return {tensor.name: values[tensor.name] for tensor in network.outputs}


def _checked_inputs(network: Network, inputs: Mapping[str, ArrayLike]) -> dict[str, Array]:
    names = [tensor.name for tensor in network.inputs]
    if wrong := sorted(set(inputs) ^ set(names)):
        raise InvalidInput(
            f"network {network.name!r}: expected the inputs {', '.join(names) or '(none)'}, got "
            f"{', '.join(inputs) or '(none)'}; see {wrong[0]!r}"
        )
    values = {}
    for tensor in network.inputs:
        try:
            array = np.asarray(inputs[tensor.name], dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"input {tensor}: expected an array of numbers, got {error}") from None
        if array.shape != tensor.concrete_shape:
            raise InvalidInput(f"input {tensor}: expected shape {tensor.concrete_shape}, got {array.shape}")
        values[tensor.name] = stored(array, tensor.dtype, f"input {tensor}")
    return values


def _value(layer: Layer, values: Mapping[str, Array]) -> Array:
    if layer.reference is None:
        raise InvalidInput(f"layer {layer.name!r}: has no reference to run; give it one when you make the layer")
    with np.errstate(all="ignore"):
        arrays = (values[tensor.name] for tensor in (*layer.inputs, *layer.weights))
        value = np.asarray(layer.reference(*arrays), dtype=np.float64)
    if value.shape != layer.output.concrete_shape:
        raise InvalidInput(f"layer {layer.name!r}: its reference made shape {value.shape}, expected {layer.output}")
    return stored(value, layer.output.dtype, f"layer {layer.name!r}")


def random_inputs(network: Network, seed: int) -> dict[str, Values]:
    """Seeded values for every input: normal values, or whole numbers of its type.

    Those of int32 are from -32,768 to 32,767; those of narrower floats are values that the type has.

    Errors: InvalidInput for a seed below 0.
    """
    generator = np.random.default_rng(whole(seed, "random inputs: seed", 0))
    return {tensor.name: _random(generator, tensor) for tensor in network.inputs}


def _random(generator: np.random.Generator, tensor: Tensor) -> Values:
    if is_whole(tensor.dtype):
        low, high = bounds(tensor.dtype) if tensor.dtype in EIGHT_BITS else (-(2**15), 2**15 - 1)
        return generator.integers(low, high + 1, tensor.concrete_shape).astype(TYPES[tensor.dtype].held)
    if tensor.dtype == "float64":
        return generator.standard_normal(tensor.concrete_shape)
    drawn = generator.standard_normal(tensor.concrete_shape, dtype=np.float32)
    return stored(drawn, tensor.dtype).astype(np.float32)


def max_relative_error(actual: ArrayLike, expected: ArrayLike) -> float:
    """The largest difference, relative to the largest finite magnitude expected.

    Infinite where shapes differ, or where a NaN or an infinity is on one side only: `<=` never passes by a NaN.

    Errors: InvalidInput for what is no array of real numbers.

    >>> max_relative_error([1.0, 2.5], [1.0, 2.0])
    0.25
    >>> max_relative_error([1.0, float("nan")], [1.0, 2.0])
    inf
    """
    a, e = (
        np.asarray(numbers(values, f"relative error: the {which} values"), dtype=np.float64)
        for which, values in (("actual", actual), ("expected", expected))
    )
    if a.shape != e.shape:
        return np.inf
    finite = np.isfinite(e)
    if not np.array_equal(a[~finite], e[~finite], equal_nan=True) or not np.isfinite(a[finite]).all():
        return np.inf
    return _relative(np.abs(a[finite] - e[finite]), np.abs(e[finite]))


def _relative(difference: NDArray[np.float64], magnitude: NDArray[np.float64]) -> float:
    largest = float(difference.max(initial=0.0))
    scale = float(magnitude.max(initial=0.0))
    if largest == 0.0:
        return 0.0
    return largest / scale if scale > 0.0 else np.inf
