"""ONNX Resize and Upsample as layers; scales and sizes have to be constant."""

from collections.abc import Sequence
from fractions import Fraction
from math import floor

import numpy as np

from polyfuse.errors import InvalidInput, UnsupportedOperator
from polyfuse.network.layer import Layer
from polyfuse.network.layers.resizing import resize as resized
from polyfuse.network.onnx import attributes
from polyfuse.network.onnx.file import MAX_ELEMENTS, Constant
from polyfuse.network.onnx.graph import Node
from polyfuse.network.onnx.importing import Import
from polyfuse.network.onnx.writing import OPSET, Parts, Writers, node
from polyfuse.network.operator import Resize
from polyfuse.network.resampling import COORDINATES, HALF, ROUNDINGS, Resampling, fraction_of

POLICIES = ("stretch", "not_larger", "not_smaller")


def upsample(state: Import, node: Node) -> None:
    """Upsample, of operator sets up to 9."""
    scales = attributes.floats(node, "scales") or _scales(state, node, 1)
    how = Resampling(_mode(node), "asymmetric", "floor")
    _add(state, node, how, scales, None)


def resize(state: Import, node: Node) -> None:
    """Resize, of operator set 10 as Upsample, later with all its attributes but `antialias` and cropping."""
    if state.opset < 11:
        scales = _scales(state, node, 1)
        _add(state, node, Resampling(_mode(node), "asymmetric", _rounding(node, scales)), scales, None)
        return
    if attributes.flag(node, "antialias"):
        raise UnsupportedOperator(f"{node.label}: antialias is not supported; resize without it")
    coordinates = attributes.text(node, "coordinate_transformation_mode", "half_pixel")
    rounding = attributes.text(node, "nearest_mode", "round_prefer_floor")
    if coordinates not in COORDINATES or rounding not in ROUNDINGS:
        raise UnsupportedOperator(
            f"{node.label}: points lie as {coordinates!r} and are rounded as {rounding!r}; supported: "
            f"{', '.join(COORDINATES)} and {', '.join(ROUNDINGS)}"
        )
    cubic = attributes.attribute(node, "cubic_coeff_a", -0.75)
    how = Resampling(_mode(node), coordinates, rounding, cubic, attributes.flag(node, "exclude_outside"))
    sizes = state.integers(node, 3) or None
    if sizes is not None and _scales(state, node, 2):
        raise InvalidInput(f"{node.label}: expected scales or sizes, got both")
    _add(state, node, how, None if sizes else _scales(state, node, 2), sizes)


def _rounding(node: Node, scales: Sequence[float]) -> str:
    """How operator set 10, which does not say it, finds the nearest element: as its cases and onnxruntime have it."""
    if min(scales, default=1.0) >= 1.0:
        return "floor"
    if max(scales) > 1.0 and _mode(node) == "nearest":
        raise UnsupportedOperator(
            f"{node.label}: scales {list(scales)} of which some are below 1 and some above; convert the model to "
            "operator set 11 or later"
        )
    return "ceil"


def _mode(node: Node) -> str:
    mode = attributes.text(node, "mode", "nearest")
    if mode not in ("nearest", "linear", "bilinear", "cubic"):
        raise UnsupportedOperator(f"{node.label}: the mode is {mode!r}; supported: nearest, linear, cubic")
    return mode.removeprefix("bi")


def _scales(state: Import, node: Node, position: int) -> tuple[float, ...]:
    """The scales that a node reads; none where it reads nothing."""
    name = node.input(position)
    if not name:
        return ()
    if not state.is_constant(node, position):
        raise UnsupportedOperator(f"{node.label}: its scales {name!r} are computed; expected a constant")
    return tuple(float(scale) for scale in state.graph.constants.floats(name, node.label).ravel())


def _add(
    state: Import, node: Node, how: Resampling, scales: tuple[float, ...] | None, sizes: tuple[int, ...] | None
) -> None:
    x = state.tensor(node)
    old, named = x.concrete_shape, attributes.integers(node, "axes")
    axes = attributes.axes_of(node, x, named if named is not None else range(len(x.shape)))
    policy = attributes.text(node, "keep_aspect_ratio_policy", "stretch")
    if policy not in POLICIES:
        raise UnsupportedOperator(f"{node.label}: the policy is {policy!r}; supported: {', '.join(POLICIES)}")
    given = scales or sizes or ()
    largest = MAX_ELEMENTS if scales else np.inf
    if len(given) != len(axes) or not all(0.0 < each < largest for each in given):
        raise InvalidInput(f"{node.label}: expected a positive scale or size for each of axes {axes} of {x}")
    ratios, new = [Fraction(1)] * len(old), list(old)
    if sizes:
        found = _with_policy(policy, [old[axis] for axis in axes], sizes)
    else:
        found = [(floor(np.float32(scale) * old[a]), fraction_of(scale)) for a, scale in zip(axes, given, strict=True)]
    for axis, (size, ratio) in zip(axes, found, strict=True):
        new[axis], ratios[axis] = size, ratio
    if tuple(new) == old and all(ratio == 1 for ratio in ratios):
        state.alias(node, x)
        return
    layer, weights = resized(node.name, x, new, ratios, how)
    state.add(node, layer, values=weights)


def _with_policy(policy: str, old: Sequence[int], sizes: Sequence[int]) -> list[tuple[int, Fraction]]:
    """The sizes that are made along some axes, and their scales, as `keep_aspect_ratio_policy` has them."""
    ratios = [Fraction(size, before) for size, before in zip(sizes, old, strict=True)]
    if policy == "stretch":
        return list(zip(sizes, ratios, strict=True))
    ratio = min(ratios) if policy == "not_larger" else max(ratios)
    return [(floor(ratio * before + HALF), ratio) for before in old]


READS = {"Resize": resize, "Upsample": upsample}


def _resize(made: Resize, layer: Layer, y: str) -> Parts:
    how, name = made.how, layer.name
    if how.coordinates == "tf_half_pixel_for_nn":
        raise UnsupportedOperator(f"layer {name!r}: ONNX {OPSET} has no Resize of the mode {how.coordinates}")
    sizes, scales = np.array(made.sizes, np.int64), np.array(made.scales, np.float32)
    whole = np.array_equal(scales, (sizes / np.array(layer.inputs[0].concrete_shape)).astype(np.float32))
    constants: dict[str, Constant] = {f"{name}/sizes": sizes} if whole else {f"{name}/scales": scales}
    reads = [layer.inputs[0].name, "", "", *constants] if whole else [layer.inputs[0].name, "", *constants]
    written = node(
        "Resize",
        reads,
        y,
        name,
        mode=how.mode,
        coordinate_transformation_mode=how.coordinates,
        nearest_mode=how.rounding,
        cubic_coeff_a=how.cubic,
        exclude_outside=int(how.exclude_outside),
    )
    return [written], constants


WRITES: Writers = {Resize: _resize}
