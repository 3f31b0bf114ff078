"""Concats inside groups where that saves memory."""

from collections.abc import Sequence

import pytest

from polyfuse.codegen.build import Options
from polyfuse.codegen.compiler import find_compiler
from polyfuse.codegen.lower.selection import Selection, select_kernels
from polyfuse.codegen.target import Target, probe
from polyfuse.deploy import lean
from polyfuse.deploy.grouping import grouped
from polyfuse.deploy.lean import leaner, memory
from polyfuse.deploy.model import load
from polyfuse.deploy.plan import planned
from polyfuse.network.network import Builder, Network
from polyfuse.network.reference import max_relative_error, random_inputs, run
from polyfuse.schedule.storage import Storage

TARGET = Target(4, 16)


def skipping(levels: int = 2, channels: int = 8) -> Network:
    """Down and up again, with a concat on each level."""
    build = Builder("skipping", seed=4)
    x = build.input("x", (1, 4, 32, 32))
    skips = []
    for level in range(levels):
        x = build.conv(f"down{level}", x, channels << level, kernel=3, padding=1, activation="relu")
        skips.append(x)
        x = build.max_pool(f"pool{level}", x, kernel=2, stride=2)
    x = build.conv("bottom", x, channels << levels, kernel=3, padding=1, activation="relu")
    for level in reversed(range(levels)):
        wide = build.conv_transpose(f"wider{level}", x, channels << level, kernel=2, stride=2)
        both = build.concat(f"join{level}", wide, skips[level])
        x = build.conv(f"up{level}", both, channels << level, kernel=3, padding=1, activation="relu")
    return build.network(x)


def test_concats_join_their_readers_where_that_saves_memory() -> None:
    network = skipping()
    kernels = select_kernels(network, TARGET, exact=True)
    apart = grouped(network, kernels, lambda groups, _: float(len(groups)) + 100.0, longest=1)
    assert any(part.layers == ("join0",) for part in apart.parts)
    found = leaner(apart, kernels, lambda groups, _: float(len(groups)) + 100.0)
    assert any("join0" in part.layers and "up0" in part.layers for part in found.parts)
    assert memory(found, kernels) < memory(apart, kernels)
    assert sorted(n for p in found.parts for n in p.layers) == sorted(layer.name for layer in network.layers)


def test_nothing_is_joined_that_costs_too_much_or_saves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    network = skipping()
    kernels = select_kernels(network, TARGET, exact=True)

    def dear(groups: Sequence[Storage], _: Selection) -> float:
        return sum(10.0 if len(group.schedule.network.layers) > 1 else 1.0 for group in groups)

    apart = grouped(network, kernels, dear, longest=1)
    assert leaner(apart, kernels, dear) is apart
    monkeypatch.setattr(lean, "least_layer_by_layer", lambda network: 1 << 40)
    assert leaner(apart, kernels, lambda groups, _: 1.0) is apart


def test_lean_plans_compute_the_same() -> None:
    network = skipping(1, 16)
    target = probe(find_compiler(), tuple(Options().flags))
    plan = planned(network, target, lambda groups, _: 1.0, longest=1, exact=True)
    assert any(set(group.layers) >= {"join0", "up0"} for group in plan.groups)
    given = random_inputs(network, 3)
    found = load(network, plan=plan).run(*given.values())
    expected = run(network, given)[network.outputs[0].name]
    assert max_relative_error(next(iter(found.values())), expected) < 1e-5
