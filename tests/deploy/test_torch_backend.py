"""torch.compile by polyfuse: the same values as eager torch, and torch itself for what is not supported."""

from collections.abc import Iterator

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from polyfuse.deploy import torch_backend  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch.manual_seed(0)
    torch._dynamo.reset()
    torch_backend.reports.clear()
    yield
    torch._dynamo.reset()


class Block(torch.nn.Module):  # type: ignore[misc, name-defined]
    """A residual block with batch normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.wide = torch.nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = torch.nn.BatchNorm2d(channels)
        self.point = torch.nn.Conv2d(channels, channels, 1)

    def forward(self, x: object) -> object:
        return x + self.point(torch.relu(self.norm(self.wide(x))))


class RunningSum(torch.nn.Module):  # type: ignore[misc, name-defined]
    """What polyfuse has no operator for."""

    def forward(self, x: object) -> object:
        return torch.cumsum(x, -1)


def classifier() -> torch.nn.Module:  # type: ignore[name-defined]
    """A small classifier, in eval mode, with statistics that are not 0 and 1."""
    nn = torch.nn
    model = nn.Sequential(
        *(nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU6(), Block(32), nn.MaxPool2d(2), Block(32)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)),
    )
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return model.eval()


def close(a: object, b: object) -> bool:
    """Whether two tensors agree to rounding."""
    return bool((a - b).abs().max() <= 1e-4 * b.abs().max())  # type: ignore[operator, attr-defined]


def test_a_classifier_is_run_by_polyfuse() -> None:
    model, x = classifier(), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        found = torch.compile(model, backend=torch_backend.compiled)(x)
        assert close(found, model(x))
    assert [report.split(":")[0] for report in torch_backend.reports] == ["run by polyfuse"]


def test_the_entry_point_names_the_backend() -> None:
    if "polyfuse" not in torch.compiler.list_backends():
        pytest.skip("polyfuse is not installed where torch is")
    model, x = classifier(), torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert close(torch.compile(model, backend="polyfuse")(x), model(x))


@pytest.mark.parametrize(
    ("module", "shape", "reason"),
    [
        (torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), RunningSum()), (1, 3, 8, 8), "the operator CumSum"),
        (torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).train(), (2, 3, 8, 8), "run by torch"),
        (torch.nn.Conv2d(3, 4, 3).double(), (1, 3, 8, 8), "no float32 tensor"),
    ],
    ids=["unknown operator", "training", "double"],
)
def test_torch_runs_what_polyfuse_does_not(module: torch.nn.Module, shape: tuple[int, ...], reason: str) -> None:  # type: ignore[name-defined]
    x = torch.randn(*shape, dtype=next(module.parameters()).dtype)
    with torch.no_grad():
        torch.manual_seed(1)
        found = torch.compile(module, backend=torch_backend.compiled)(x)
        expected = module(x)
    assert close(found, expected)
    assert reason in torch_backend.reports[0]


def test_gradients_are_left_to_torch() -> None:
    model, x = classifier(), torch.randn(1, 3, 32, 32)
    torch.compile(model, backend=torch_backend.compiled)(x).sum().backward()
    assert model[0].weight.grad is not None
    assert "gradients" in torch_backend.reports[0]


def test_weights_that_change_are_seen() -> None:
    model, x = classifier(), torch.randn(1, 3, 32, 32)
    fast = torch.compile(model, backend=torch_backend.compiled)
    with torch.no_grad():
        fast(x)
        model[0].weight.mul_(3)
        assert close(fast(x), model(x))


def test_other_sizes_are_right() -> None:
    model = classifier()
    fast = torch.compile(model, backend=torch_backend.compiled, dynamic=False)
    with torch.no_grad():
        for size in (32, 48, 32):
            x = torch.randn(1, 3, size, size)
            assert close(fast(x), model(x))
