"""Every kind of row kernel against numpy, over shapes, vector widths and compilers."""

import shutil
from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest

from polyfuse.choices import DEFAULT_FLAGS
from polyfuse.codegen.build import WARNINGS, Options, compile_shared, find_compiler, load
from polyfuse.codegen.rows.shape import Tuning
from polyfuse.codegen.rows.text import prelude
from polyfuse.network.reference import max_relative_error
from tests.codegen.rows.images import NAMED, Case, run
from tests.oracles import rows as oracle

WIDTHS = (16, 8, 4)
COMPILERS = [name for name in ("gcc", "clang-16") if shutil.which(name)]
SAME = (1, 1, 1, 1)

DIRECT = [
    Case("direct", (16, 16), (4, 9), (3, 3), padding=SAME, activation="relu"),
    Case("direct", (32, 48), (3, 29), (3, 3), padding=SAME, residual="before", activation="relu6"),
    Case("direct", (5, 7), (4, 8), (3, 3), padding=SAME, residual="after", activation=("clip", -0.5, 0.75)),
    Case("direct", (24, 20), (5, 11), (3, 3), stride=2, padding=SAME, bias=False),
    Case("direct", (8, 8), (6, 13), (3, 3), stride=2, padding=(0, 0, 1, 1), activation=("at_least", 0.25)),
    Case("direct", (16, 16), (9, 31), (3, 3), dilation=2, padding=(2, 2, 2, 2)),
    Case("direct", (16, 16), (3, 5), (3, 3), dilation=4, padding=(4, 4, 4, 4)),
    Case("direct", (8, 8), (3, 4), padding=(1, 3, 1, 3), activation="relu", tuning=Tuning(pixels=2)),
    Case("direct", (9, 16), (6, 12), (5, 5), padding=(2, 2, 2, 2), activation=("leaky_relu", 0.1)),
    Case("direct", (4, 4), (3, 20), (1, 7), padding=(0, 3, 0, 3)),
    Case("direct", (4, 6), (9, 5), (7, 1), padding=(3, 0, 3, 0)),
    Case("direct", (16, 16), (12, 14), (11, 11), stride=2, padding=(5, 5, 5, 5)),
    Case("direct", (64, 32), (4, 7), (3, 3), padding=SAME, groups=2, activation="hard_swish"),
    Case("direct", (32, 64), (3, 6), (2, 2), groups=2, tuning=Tuning(blocks=2, pixels=3, taps=2)),
    Case("direct", (16, 64), (4, 27), (3, 3), padding=SAME, tuning=Tuning(blocks=2, pixels=6, taps=3)),
    Case("direct", (16, 16), (4, 27), (3, 3), padding=SAME, tuning=Tuning(pixels=5, taps=2, unroll=2, order="columns")),
    Case("direct", (24, 144), (1, 23), activation="relu6"),
    Case("direct", (32, 64), (2, 14), residual="before"),
    Case("direct", (19, 24), (2, 7), stride=2, activation="sigmoid", residual="after"),
    Case("direct", (64, 24), (1, 20), residual="before"),
    Case("direct", (16, 3), (4, 9), (3, 3), padding=SAME, activation="relu"),
    Case("direct", (48, 1), (4, 30), (5, 5), padding=(2, 2, 2, 2), activation="relu6"),
    Case("direct", (24, 34), (4, 7), (3, 3), stride=2, padding=SAME, activation="softplus", residual="after"),
    Case("direct", (8, 3), (2, 1), activation="silu", residual="before"),
]
FEW = [
    Case("few_channels", (3, 32), (7, 15), (3, 3), stride=2, padding=SAME, activation="relu6"),
    Case("few_channels", (3, 16), (5, 30), (3, 3), padding=SAME),
    Case("few_channels", (1, 56), (6, 9), (5, 5), padding=(2, 2, 2, 2), activation="relu"),
    Case("few_channels", (3, 64), (9, 21), (7, 7), stride=2, padding=(3, 3, 3, 3), activation="relu"),
    Case("few_channels", (3, 8), (3, 2), (3, 3), padding=(4, 4, 4, 4), tuning=Tuning(pixels=2, taps=2)),
    Case("few_channels", (2, 5), (4, 6), (2, 2), bias=False, residual="after"),
    Case("few_channels", (4, 32), (4, 33), (3, 3), padding=SAME, tuning=Tuning(blocks=2, pixels=7, taps=1)),
]
DEPTHWISE = [
    Case("depthwise", (16, 16), (5, 17), (3, 3), padding=SAME, activation="relu6"),
    Case("depthwise", (40, 40), (6, 23), (3, 3), stride=2, padding=SAME, activation="relu"),
    Case("depthwise", (3, 3), (5, 8), (5, 5), padding=(2, 2, 2, 2), bias=False, residual="before"),
    Case("depthwise", (20, 20), (5, 8), (3, 3), padding=SAME, activation="softplus"),
    Case("depthwise", (24, 24), (9, 27), (5, 5), stride=2, padding=(2, 2, 2, 2), activation="tanh"),
    Case(
        "depthwise", (16, 16), (5, 9), (3, 3), dilation=2, padding=(2, 2, 2, 2), activation=("hard_sigmoid", 0.2, 0.5)
    ),
    Case("depthwise", (8, 8), (3, 2), (3, 3), dilation=2, padding=(6, 6, 6, 6), tuning=Tuning(pixels=2)),
    Case("depthwise", (17, 17), (3, 1), (3, 3), padding=SAME),
]
SEVERAL = [
    Case("direct", (24, 40), (8, 7), (1, 1), height=4, activation="relu6"),
    Case("direct", (32, 64), (7, 7), (1, 1), height=7, residual="before", activation="relu"),
    Case("direct", (9, 16), (9, 5), (1, 1), stride=2, height=5, bias=False, residual="after"),
    Case("direct", (16, 48), (12, 3), (1, 1), height=6, activation="softplus"),
    Case("direct", (21, 33), (6, 11), (1, 1), height=3, activation="prelu", tuning=Tuning(blocks=1, pixels=22)),
    Case("direct", (8, 8), (6, 4), (1, 1), height=2, tuning=Tuning(blocks=1, pixels=3, taps=1)),
]
STENCIL = [
    Case("stencil", (1, 1), (8, 37), (3, 3), padding=SAME, activation="relu"),
    Case("stencil", (1, 1), (8, 50), (3, 3), padding=SAME, height=8, residual="before"),
    Case("stencil", (1, 1), (4, 5), (3, 3), padding=(4, 4, 4, 4)),
    Case("stencil", (1, 1), (6, 5), (3, 3), padding=SAME, height=2, residual="after", activation="relu6"),
    Case("stencil", (1, 1), (10, 40), (5, 3), padding=(2, 0, 2, 1), height=5, bias=False),
    Case("stencil", (1, 1), (8, 41), (3, 3), padding=(2, 2, 2, 2), dilation=2, height=4, activation="sigmoid"),
]
POOL = [
    Case("max_pool", (24, 24), (6, 14), (2, 2), stride=2),
    Case("max_pool", (16, 16), (7, 19), (3, 3), stride=2, padding=SAME),
    Case("max_pool", (5, 5), (5, 9), (3, 3), padding=SAME, activation="relu"),
    Case("average_pool", (24, 24), (6, 14), (2, 2), stride=2),
    Case("average_pool", (16, 16), (7, 19), (3, 3), stride=2, padding=SAME),
    Case("average_pool", (16, 16), (5, 7), (3, 3), padding=(0, 1, 0, 1), count_pad=True),
    Case("average_pool", (20, 20), (7, 7), (7, 7)),
    Case("average_pool", (20, 20), (3, 42), (3, 42), activation="relu"),
]
OTHER = [
    Case("add", (24, 24), (3, 7), activation="relu"),
    Case("add", (16, 16), (2, 70), residual="after", activation="relu6"),
    Case("mul", (5, 5), (3, 9), activation="silu"),
    Case("mul", (20, 20), (3, 70), spread=True),
    Case("add", (5, 5), (2, 9), spread=True, residual="after", activation="relu"),
    Case("apply", (20, 20), (2, 70), activation="relu6"),
    Case("apply", (5, 5), (3, 9), residual="before", activation="silu"),
    Case("to_blocked", (20, 20), (2, 19)),
    Case("to_blocked", (3, 3), (2, 3)),
    Case("to_blocked", (16, 16), (2, 32)),
    Case("to_planar", (20, 20), (2, 19)),
    Case("to_planar", (3, 3), (2, 3)),
    Case("to_planar", (32, 32), (2, 16)),
]
LRN = [
    Case("lrn", (40, 40), (3, 19), numbers=(5, 1e-1, 0.75, 1.0)),
    Case("lrn", (32, 32), (2, 9), numbers=(4, 0.5, 0.5, 2.0), activation="relu"),
    Case("lrn", (5, 5), (2, 70), numbers=(3, 2.0, 1.0, 0.5), residual="after"),
    Case("lrn", (21, 21), (2, 5), numbers=(9, 1.0, 0.6, 1.5)),
    Case("lrn", (7, 7), (2, 5), numbers=(1, 1.0, 0.75, 1.0)),
]
SLOPED = [
    Case("direct", (16, 40), (3, 29), (3, 3), padding=SAME, activation="prelu", residual="before"),
    Case("direct", (16, 24), (2, 20), bias=False, activation="prelu"),
    Case("direct", (64, 32), (3, 7), (3, 3), padding=SAME, groups=2, activation="prelu", residual="after"),
    Case("few_channels", (1, 56), (6, 9), (5, 5), padding=(2, 2, 2, 2), activation="prelu"),
    Case("depthwise", (20, 20), (5, 17), (3, 3), padding=SAME, activation="prelu"),
    Case("max_pool", (5, 5), (5, 9), (3, 3), padding=SAME, activation="prelu"),
    Case("apply", (21, 21), (2, 70), activation="prelu"),
]
SLOPED_TALL = [
    Case("winograd", (9, 21), (8, 19), (3, 3), padding=SAME, height=4, activation="prelu"),
    Case("winograd", (8, 8), (6, 13), (3, 3), height=2, bias=False, activation="prelu", residual="after"),
]
GROUPED = [
    Case("grouped", (24, 112), (2, 29), groups=4, activation="relu"),
    Case("grouped", (34, 34), (3, 9), groups=2, residual="before"),
    Case("grouped", (12, 6), (5, 11), (3, 3), padding=SAME, groups=3, residual="after", activation="silu"),
    Case("grouped", (40, 36), (5, 17), (3, 3), stride=2, padding=SAME, groups=2, bias=False, activation="prelu"),
    Case("grouped", (10, 20), (4, 7), (2, 3), groups=5, activation="softplus", residual="after"),
    Case("grouped", (16, 48), (3, 3), (3, 3), padding=(4, 4, 4, 4), groups=16, tuning=Tuning(pixels=2, taps=2)),
]
SHUFFLED = tuple((0, c % 4 * 9 + c // 4) for c in range(36))
JOINED = tuple((k, c) for k in (0, 1) for c in range(20))
GATHERED = [
    Case("gather", (36, 36), (2, 19), sources=SHUFFLED),
    Case("gather", (20, 40), (2, 9), sources=JOINED, activation="relu", residual="before"),
    Case("gather", (40, 7), (3, 5), sources=tuple((0, 3 * c + 5) for c in range(7)), activation="softplus"),
    Case("gather", (16, 24), (2, 9), sources=tuple((1, 15 - c % 16) for c in range(24)), residual="after"),
]
CASES = {
    "gather": GATHERED,
    "grouped": GROUPED,
    "sloped": SLOPED,
    "direct": DIRECT,
    "several": SEVERAL,
    "few": FEW,
    "depthwise": DEPTHWISE,
    "stencil": STENCIL,
    "pool": POOL,
    "other": OTHER,
    "lrn": LRN,
}


def supports(case: Case, floats: int) -> bool:
    """Groups are of whole blocks."""
    groups, blocks = case.groups, case.tuning.blocks if case.tuning else 1
    return (
        all(c % (groups * floats) == 0 for c in case.channels)
        if groups > 1 and case.kind == "direct"
        else -(-case.channels[1] // floats) % blocks == 0
    )


def flags_for(floats: int) -> tuple[str, ...]:
    """Eight floats without AVX-512 where the CPU has it, so that both register files are tried."""
    narrow = floats == 8 and "avx512f" in cpu_flags()
    return (*DEFAULT_FLAGS, *(("-mno-avx512f",) if narrow else ()))


def cpu_flags() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def arrays_of(case: Case, seed: int) -> dict[str, np.ndarray]:
    """Seeded inputs, weights, bias and residual."""
    random = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype(np.float32)

    cin, cout = case.channels
    found = {
        "x": draw(cin, *case.image),
        "b": draw(cout),
        "r": draw(cout, *case.out_image),
        "y": draw(cin, *case.image),
    }
    if NAMED[case.kind].weighted:
        found["w"] = draw(cout, 1 if case.kind == "depthwise" else cin // case.groups, *case.kernel)
    if case.activation == "prelu":
        found["slopes"] = draw(cout)
    return found if case.bias else found | {"b": np.zeros(cout, np.float32)}


def expected(case: Case, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """The image in float64."""
    x, r = arrays["x"].astype(np.float64), arrays["r"].astype(np.float64)
    with np.errstate(all="ignore"):
        if "w" in arrays:
            groups = case.channels[0] if case.kind == "depthwise" else case.groups
            bias, w = arrays["b"].astype(np.float64), arrays["w"].astype(np.float64)
            t = oracle.convolution(x, w, bias, case.stride, case.dilation, case.padding, groups)
        elif case.kind.endswith("pool"):
            t = oracle.pool(x, case.kind, case.kernel, case.stride, case.padding, case.count_pad)
        else:
            y = arrays["y"][:, :1, :1] if case.spread else arrays["y"]
            t = {"add": x + y, "mul": x * y}.get(case.kind, x)
            t = np.stack([(x, y)[k][c] for k, c in case.sources]) if case.kind == "gather" else t
            t = oracle.normalised(x, *case.numbers) if case.kind == "lrn" else t
        t = t + r if case.residual == "before" else t
        if case.activation == "prelu":
            t = np.maximum(t, 0) + arrays["slopes"].astype(np.float64)[:, None, None] * np.minimum(t, 0)
        else:
            t = oracle.ACTIVATIONS[case.activation](t)
        return t + r if case.residual == "after" else t


def check(cases: Sequence[Case], floats: int, compiler: str, spoil=lambda arrays: arrays) -> None:
    """Compile all cases as one file and compare each."""
    kernels = [(case, case.row_kernel(f"row{k}", floats)) for k, case in enumerate(cases) if supports(case, floats)]
    source = "\n".join([prelude(floats), *(kernel.text for _, kernel in kernels)])
    built = compile_shared(source, Options(find_compiler(compiler), (*flags_for(floats), *WARNINGS)))
    library = load(built)
    for seed, (case, kernel) in enumerate(kernels):
        arrays = spoil(arrays_of(case, seed))
        want = expected(case, arrays)[:, : case.out_image[0] // case.height * case.height]
        made = run(getattr(library, kernel.name), kernel, case, arrays)
        assert max_relative_error(made, want) < 1e-5, f"V={floats}: {case}"


@pytest.mark.parametrize(
    ("kind", "floats", "compiler"), [c for c in product(CASES, WIDTHS, COMPILERS) if c[1:] != (4, "clang-16")]
)
def test_rows_agree_with_numpy(kind: str, floats: int, compiler: str) -> None:
    check(CASES[kind], floats, compiler)


@pytest.mark.parametrize("floats", WIDTHS)
def test_bands_of_rows_have_slopes_too(floats: int) -> None:
    check(SLOPED_TALL, floats, COMPILERS[0])


def with_specials(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """NaN and both infinities among the inputs, at the border, inside, and in neighbouring channels."""
    x = arrays["x"].copy()
    x[0, 0, 0], x[-1, -1, -1], x[0, x.shape[1] // 2, x.shape[2] // 2] = np.nan, np.inf, -np.inf
    return arrays | {"x": x}


@pytest.mark.parametrize(("kind", "compiler"), list(product(CASES, COMPILERS)))
def test_nan_and_infinity_go_where_the_reference_takes_them(kind: str, compiler: str) -> None:
    check(CASES[kind], 8, compiler, with_specials)


@pytest.mark.parametrize("floats", WIDTHS)
def test_activations_keep_nan_and_bound_infinities(floats: int) -> None:
    cases = [Case("add", (8, 8), (2, 5), activation=a) for a in oracle.ACTIVATIONS]

    def spoil(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        x = np.resize(np.array([np.nan, np.inf, -np.inf, -0.0, 1e-40, 3e38, -3.0], np.float32), arrays["x"].shape)
        return {**arrays, "x": x, "y": np.zeros_like(x)}

    check(cases, floats, "gcc" if "gcc" in COMPILERS else COMPILERS[0], spoil)


def test_padding_is_not_read_whatever_the_weight() -> None:
    case = Case("direct", (8, 8), (3, 6), (3, 3), padding=SAME)

    def spoil(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        w = arrays["w"].copy()
        w[:, :, 0, 0] = np.inf
        return arrays | {"w": w}

    check([case], 8, COMPILERS[0], spoil)
