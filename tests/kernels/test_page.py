"""The page of kernels is what its script writes."""

import importlib.util
from pathlib import Path
from types import ModuleType

LEARN = Path(__file__).parents[2] / "docs" / "learn"


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kernels_page", LEARN / "kernels.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_as_it_is_written() -> None:
    assert script().page() == (LEARN / "kernels.md").read_text(encoding="utf-8")
