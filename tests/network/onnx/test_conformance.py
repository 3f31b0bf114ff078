"""ONNX's own cases pass or are refused for a reason that docs/use/operators.md gives; its table is what is true."""

import onnx
import pytest

from tests.network.onnx import conformance


@pytest.mark.parametrize("operator", conformance.OPERATORS)
def test_cases_pass_or_are_refused_for_a_known_reason(operator: str) -> None:
    found = conformance.cases_of(operator)
    messages = {case.name: conformance.refusal(case) for case in found}
    assert found
    assert not [message for message in messages.values() if message and conformance.reason(message) is None]
    assert any(message is None for message in messages.values())


def test_the_table_is_what_is_true() -> None:
    page = conformance.PAGE.read_text(encoding="utf-8")
    if f"Cases of onnx {onnx.__version__}:" not in page:
        pytest.skip(f"the table is of another version than onnx {onnx.__version__}")
    assert conformance.written(page) == page, "run python -m tests.network.onnx.conformance"
