"""The kernels that are no networks of images: every strategy right and counted, values as numpy has them.

numpy's side is written here with slices and products of arrays, apart from the relations of the kernels.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

import polyfuse as pf
from docs.measured import attention_benchmarks as attention
from polyfuse.network.network import Network
from tests.kernels.test_kernels import kernel

Arrays = Mapping[str, np.ndarray]


def stepped(x: np.ndarray, steps: int, border: str) -> np.ndarray:
    """Averages over an element and its neighbours along every axis."""
    for _ in range(steps):
        mode: Any = {"zero": "constant", "clamped": "edge"}.get(border)
        padded = x if mode is None else np.pad(x, 1, mode=mode)
        middle = tuple(slice(1, -1) for _ in x.shape)
        total = padded[middle].copy()
        for axis in range(x.ndim):
            for slices in (slice(None, -2), slice(2, None)):
                total += padded[tuple(slices if a == axis else s for a, s in enumerate(middle))]
        x = total / (1 + 2 * x.ndim)
    return x


def correlated(x: np.ndarray, window: np.ndarray) -> np.ndarray:
    """A window over every place where all of it is inside, in any number of dimensions."""
    views = np.lib.stride_tricks.sliding_window_view(x, window.shape)
    return np.einsum(views, [*range(2 * x.ndim)], window, [*range(x.ndim, 2 * x.ndim)], [*range(x.ndim)])


def corners(a: Arrays) -> np.ndarray:
    sobel = np.outer([1, 2, 1], [-1, 0, 1]) / 12
    dx, dy = correlated(a["x"], sobel), correlated(a["x"], sobel.T)
    xx, xy, yy = (correlated(p, np.ones((3, 3))) for p in (dx * dx, dx * dy, dy * dy))
    return np.asarray(xx * yy - xy**2 - 0.04 * (xx + yy) ** 2)


def blended(a: Arrays) -> np.ndarray:
    def half(x: np.ndarray) -> np.ndarray:
        return (x[::2, ::2] + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2]) / 4

    def twice(x: np.ndarray) -> np.ndarray:
        return np.repeat(np.repeat(x, 2, 0), 2, 1)

    def level(x: np.ndarray, y: np.ndarray, m: np.ndarray, left: int) -> np.ndarray:
        if not left:
            return np.asarray(m * x + (1 - m) * y)
        u, v = half(x), half(y)
        return np.asarray(m * (x - twice(u)) + (1 - m) * (y - twice(v)) + twice(level(u, v, half(m), left - 1)))

    return level(a["a"], a["b"], a["m"], 2)


def filtered(a: Arrays) -> np.ndarray:
    return np.asarray(2 * a["x"][2:-2, 2:-2] - correlated(a["x"], np.full((5, 5), 1 / 25)))


def convolved(a: Arrays) -> np.ndarray:
    x = a["x"]
    for name in sorted(name for name in a if name.startswith("w")):
        views = np.lib.stride_tricks.sliding_window_view(x, a[name].shape[2], axis=0)
        x = np.einsum("tdk,cdk->tc", views, a[name])
    return x


def longest(a: Arrays) -> np.ndarray:
    x = a["A"]
    for name in sorted(name for name in a if name.startswith("B")):
        x = (x[:, :, None] + a[name][None]).max(axis=1)
    return x


BORDERS = ("zero", "clamped", "shrinking")
CASES: dict[str, tuple[str, dict[str, object], tuple[int, ...], Callable[[Arrays], np.ndarray]]] = {
    **{
        f"jacobi1d-{border}": (
            "jacobi1d",
            {"size": 30, "border": border},
            (7,),
            lambda a, b=border: stepped(a["x"], 4, b),
        )
        for border in BORDERS
    },
    **{
        f"jacobi2d-{border}": (
            "jacobi2d",
            {"size": 10, "steps": 2, "border": border},
            (4,),
            lambda a, b=border: stepped(a["x"], 2, b),
        )
        for border in BORDERS
    },
    "harris": ("harris", {"size": 14}, (4, 6), corners),
    "pyramid": ("pyramid", {"size": 16}, (8, 8), blended),
    "matmul_chain": ("matmul_chain", {"rows": 10, "columns": 6}, (4,), lambda a: a["A"] @ a["B1"] @ a["B2"] @ a["B3"]),
    "attention": ("attention", {"queries": 10, "keys": 12, "width": 5}, (4,), attention.attended),
    "online_attention": (
        "online_attention",
        {"queries": 8, "keys": 6, "width": 3, "block": 4},
        (4,),
        attention.attended,
    ),
    "conv1d": ("conv1d", {"size": 40, "channels": 2}, (9,), convolved),
    "conv3d": (
        "conv3d",
        {"size": 9},
        (3, 2, 4),
        lambda a: correlated(correlated(a["x"], a["w1"]), a["w2"]),
    ),
    "separable": ("separable", {"size": 14}, (4, 6), filtered),
    "maxplus": ("maxplus", {"rows": 10, "columns": 6}, (4,), longest),
}


def built(case: str) -> tuple[Network, tuple[int, ...]]:
    name, parameters, tile, _ = CASES[case]
    return kernel(name, **parameters), tile


@pytest.mark.parametrize("case", CASES)
def test_references_are_numpys(case: str) -> None:
    network, _ = built(case)
    inputs = pf.random_inputs(network, seed=1)
    (output,) = network.outputs
    wanted = CASES[case][3]({**{k: v.astype(float) for k, v in inputs.items()}, **weights(network)})
    np.testing.assert_allclose(pf.reference(network, inputs)[output.name], wanted, rtol=1e-9, atol=1e-9)


def weights(network: Network) -> dict[str, np.ndarray]:
    return {name: np.asarray(value, float) for name, value in network.weights.items()}


@pytest.mark.parametrize("places", ["recompute", "local", "global"])
@pytest.mark.parametrize("case", CASES)
def test_strategies_are_legal_right_and_counted(case: str, places: str) -> None:
    """Every statement runs as often as predicted, in C that counts, and gives the numbers of numpy."""
    network, tile = built(case)
    (group,) = pf.fused(network, pf.Strategy.named(places, tile, "shifted"))
    counts = pf.counts(group)
    inputs = pf.random_inputs(network, seed=1)
    run = pf.build(pf.generate(network, [group], kernels="scalar", instrumented=True))
    wanted = CASES[case][3]({**{k: v.astype(float) for k, v in inputs.items()}, **weights(network)})
    assert pf.max_relative_error(run(**inputs)[network.outputs[0].name], wanted) < 1e-4
    counted = {counter.name: n for counter, n in run.counts.items() if counter.kind == "executions"}
    assert counted == {name: n for name, n in counts.steps.items() if name in counted} and len(counted) > 1
    assert counts.recomputed == 0 or places == "recompute"


@pytest.mark.parametrize("block", [3, 4])
def test_online_attention_keeps_as_much_whatever_the_number_of_keys(block: int) -> None:
    kept = set()
    for keys in (9, 12, 18):
        group = attention.online(8, keys, 3, rows=4, block=block)
        network = group.schedule.network
        inputs = pf.random_inputs(network, seed=keys)
        run = pf.build(pf.generate(network, [group], kernels="scalar"))
        assert pf.max_relative_error(run(**inputs)["out"], attention.attended(inputs)) < 1e-5
        counts = pf.counts(group)
        assert counts.recomputed == 0
        kept.add(counts.onchip_bytes)
    assert len(kept) == 1


def test_attention_is_timed_against_its_own_layers() -> None:
    sizes = ((8, 256, 4), (8, 512, 4))
    lines = list(attention.lines(sizes, repeats=1))
    assert [tuple(map(int, line[:3])) for line in lines] == [*sizes]
    assert len({onchip for *_, onchip, _, _, _ in lines}) == 1
    for *_, own, whole, error in lines:
        assert float(own) > 0 and float(whole) > 0 and float(error) < 1e-5
