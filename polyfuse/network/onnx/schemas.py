"""Checks of nodes against ONNX's schemas: attributes, inputs and outputs of an operator in the model's operator set.

A `NodeProto` enters before it is converted or evaluated; it is refused, or nothing happens.
"""

from collections.abc import Collection

import onnx

from polyfuse.errors import InvalidInput, UnsupportedOperator

EARLY = {"DequantizeLinear": "axis", "QuantizeLinear": "axis"}
"""Attributes that are read before the operator set that has them: onnxruntime's quantiser writes them in any."""


def check_form(proto: onnx.NodeProto, where: str, opset: int) -> None:
    """Refuse attributes, inputs and outputs that an operator does not have in the model's operator set.

    Operators that ONNX does not define in it are left to the converters.
    Errors: UnsupportedOperator, InvalidInput.
    """
    names = [each.name for each in proto.attribute]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidInput(f"{where}: expected the attribute {twice!r} once, got it {names.count(twice)} times")
    schema = _schema(proto, opset)
    if schema is None:
        return
    strange = next((name for name in names if name not in (*schema.attributes, EARLY.get(proto.op_type))), None)
    if strange is not None:
        raise UnsupportedOperator(
            f"{where}: {proto.op_type} of operator set {opset} has the attribute {strange!r}; supported: "
            f"{', '.join(sorted(schema.attributes)) or 'none'}"
        )
    for what, given, least, most in (
        ("inputs", _given(proto.input), schema.min_input, schema.max_input),
        ("outputs", _given(proto.output), schema.min_output, schema.max_output),
    ):
        if not least <= given <= most:
            span = f"{least}" if least == most else f"{least} to {most}" if most < 2**31 - 1 else f"{least} or more"
            raise InvalidInput(
                f"{where}: expected {span} {what} of {proto.op_type} in operator set {opset}, got {given}"
            )


def _given(names: Collection[str]) -> int:
    """The number of names, without those left out at the end."""
    return max((k for k, name in enumerate(names, 1) if name), default=0)


def _schema(proto: onnx.NodeProto, opset: int) -> onnx.defs.OpSchema | None:
    """ONNX's schema of an operator; None for other domains and operator sets that ONNX does not have."""
    if proto.domain not in ("", "ai.onnx"):
        return None
    try:
        return onnx.defs.get_schema(proto.op_type, opset, "")
    except onnx.defs.SchemaError:
        return None
