"""Workloads by name, and what is wrong with those that do not load."""

import re
from pathlib import Path

import pytest
from onnx import helper

from polyfuse.errors import InvalidInput
from polyfuse.loading import load_workload
from tests.network.onnx.models import model

KERNELS = Path(__file__).parents[1] / "kernels"
GOOD = """
from polyfuse.network.network import Builder

def network(size: int = 8, *, scale: float = 1.0, kind: str = "relu"):
    build = Builder("k")
    x = build.input("x", (1, 1, size, size))
    y = build.activation("act", x, kind)
    z = build.activation("end", y, ("leaky_relu", scale))
    return build.network(z)
"""


def written(folder: Path, text: str) -> str:
    path = folder / "kernel.py"
    path.write_text(text)
    return str(path)


def refused(path: str, why: str, **options: object) -> None:
    with pytest.raises(InvalidInput, match=re.escape(why)) as error:
        load_workload(path, **options)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def test_files_and_bare_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(KERNELS.parent)
    assert load_workload("two_convs").name == "two_convs"
    assert load_workload("kernels/two_convs.py", parameters={"size": "12"}).inputs[0].shape == (1, 16, 12, 12)
    refused("two_conv", "did you mean two_convs")
    refused("kernels/none.py", "no such file")
    refused("../kernels/two_convs", "neither a .py file")
    monkeypatch.chdir(tmp_path)
    refused("two_convs", "there is no kernels/ here")


def test_parameters_are_numbers_or_text(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    network = load_workload(path, parameters={"size": "5", "scale": "0.5", "kind": "tanh"})
    assert network.inputs[0].shape == (1, 1, 5, 5) and [layer.kind for layer in network.layers] == [
        "tanh",
        "leaky_relu",
    ]
    refused(path, "no parameter 'sise'; did you mean size", parameters={"sise": "5"})
    refused(path, "no parameter 'q'; it has size, scale, kind", parameters={"q": "5"})
    refused(path, "random weights are for ONNX models", random_weights=1)
    with pytest.raises(InvalidInput, match=r"^activation 'swoosh': expected one of"):
        load_workload(path, parameters={"kind": "swoosh"})


def test_a_part_of_a_kernel(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    assert [layer.name for layer in load_workload(path, first="end").layers] == ["end"]
    assert [layer.name for layer in load_workload(path, last="act").layers] == ["act"]
    refused(path, "has no layer 'none'", first="none")
    refused(path, "no path leads", first="end", last="act")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x = 1", "defines no network()"),
        ("network = 3", "defines no network()"),
        ("def network():\n    return 3", "returned int, expected a Network"),
        ("def network():\n\n    return 1 / 0", "ZeroDivisionError in line 3: division by zero"),
        ("def network(:\n", "SyntaxError in line 1"),
        ("import does_not_exist\n", "ModuleNotFoundError in line 1"),
        ("raise ValueError('two\\nlines')", "ValueError in line 1: two lines"),
        ("import sys\nsys.exit(3)", "SystemExit in line 2"),
        ("def network(size): ...", "needs a value for size"),
    ],
)
def test_kernel_files_that_do_not_work(tmp_path: Path, text: str, why: str) -> None:
    refused(written(tmp_path, text), why)


def test_onnx_models_take_no_parameters(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    made = model([helper.make_node("Relu", ["x"], ["y"])], {"x": (1, 1, 2, 2)}, ["y"])
    path.write_bytes(made.SerializeToString())
    assert load_workload(str(path), random_weights=1).layers[0].kind == "relu"
    refused(str(path), "no named dimension 'size'; all sizes are numbers", parameters={"size": "3"})
