"""Shrinking: the smallest case found greedily that still fails in the same way, and its text as a test.

A case is made simpler in one respect at a time, the coarsest first; the first simpler case that fails the same way is
kept, until none does.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from pprint import pformat
from typing import Any

from polyfuse.errors import InvalidInput
from tests.fuzz.case import Case, GroupOf, LayerOf, group_networks, network_of
from tests.fuzz.run import Failure, run_cases

SHRINK_SECONDS = 60.0
PLAIN: dict[str, Any] = {"kernel": 1, "stride": 1, "padding": 0, "dilation": 1, "channels": 1, "groups": 1}


def shrink(failure: Failure, seconds: float = SHRINK_SECONDS) -> Failure:
    """The smallest case found that fails with the same kind."""
    deadline = time.monotonic() + seconds
    improved = True
    while improved and time.monotonic() < deadline:
        improved = False
        for case in simpler(failure.case):
            again = fails(case, failure.kind)
            if again is not None:
                failure, improved = again, True
                break
            if time.monotonic() > deadline:
                break
    return failure


def fails(case: Case, kind: str) -> Failure | None:
    """The failure of a case that is valid and fails with this kind."""
    try:
        networks = group_networks(case, network_of(case))
    except (InvalidInput, IndexError, KeyError, TypeError):
        return None
    if any(len(layer.reads) != len(set(layer.reads)) for layer in case.layers if layer.kind == "concat"):
        return None
    for group, network in zip(case.groups, networks, strict=True):
        shape = network.outputs[-1].concrete_shape
        if any(size > shape[2 + d] for d, size in enumerate(group.tile)):
            return None
    return next((each for each in run_cases([case]).failures if each.kind == kind), None)


def simpler(case: Case) -> Iterator[Case]:
    """Cases that are simpler in one respect."""
    yield from with_one_group(case)
    yield from without_a_layer(case)
    yield from with_plainer_groups(case)
    yield from with_smaller_inputs(case)
    yield from with_plainer_layers(case)
    for k in range(len(case.outputs)):
        yield replace(case, outputs=(*case.outputs[:k], *case.outputs[k + 1 :]))
    if case.threads > 1:
        yield replace(case, threads=1)


def with_one_group(case: Case) -> Iterator[Case]:
    """Two groups as one, with either strategy."""
    if len(case.groups) > 1:
        for group in case.groups:
            yield replace(case, groups=(replace(group, layers=len(case.layers), retention={}),))


def without_a_layer(case: Case) -> Iterator[Case]:
    """One layer left out: its readers read what it read."""
    inputs = len(case.inputs)
    for k, layer in enumerate(case.layers):
        if len(case.layers) == 1:
            return
        for instead in dict.fromkeys(layer.reads):
            gone = inputs + k
            moved = {r: r - (r > gone) for r in range(inputs + len(case.layers))} | {gone: instead}
            rest = [each for j, each in enumerate(case.layers) if j != k]
            layers = tuple(replace(each, reads=tuple(moved[r] for r in each.reads)) for each in rest)
            outputs = tuple(moved[r] for r in case.outputs if r != gone)
            yield replace(case, layers=layers, outputs=outputs, groups=without_one(case.groups, k))
    used = {r for layer in case.layers for r in layer.reads}
    for k in range(inputs):
        if k not in used:
            layers = tuple(replace(x, reads=tuple(r - (r > k) for r in x.reads)) for x in case.layers)
            outputs = tuple(r - 1 for r in case.outputs)
            yield replace(case, inputs=case.inputs[:k] + case.inputs[k + 1 :], layers=layers, outputs=outputs)


def without_one(groups: tuple[GroupOf, ...], layer: int) -> tuple[GroupOf, ...]:
    """The groups with one layer less, and retention of the layers after it renamed."""
    found, first = [], 0
    for group in groups:
        count = group.layers - (first <= layer < first + group.layers)
        retention = {}
        for name, places in group.retention.items():
            number = int(name[1:].split("_")[0]) if name.startswith("l") else -1
            if number != layer:
                retention[f"l{number - 1}_out" if number > layer else name] = places
        first += group.layers
        if count:
            found.append(replace(group, layers=count, retention=retention))
    return tuple(found)


def with_plainer_groups(case: Case) -> Iterator[Case]:
    """One group with fewer or smaller tiles, less retention, plainer choices."""
    for k, group in enumerate(case.groups):
        for plainer in plainer_groups(group):
            yield replace(case, groups=(*case.groups[:k], plainer, *case.groups[k + 1 :]))


def plainer_groups(group: GroupOf) -> Iterator[GroupOf]:
    """A group that is simpler in one respect."""
    if len(group.tile) == 2:
        retention = {name: places[:1] for name, places in group.retention.items()}
        yield replace(group, tile=group.tile[:1], others=group.others[:1], retention=retention, order=None)
    if group.order is not None:
        yield replace(group, order=None)
    if group.placement == "shifted":
        yield replace(group, placement="first")
    if group.weights == "tile":
        yield replace(group, weights="once")
    for name in group.retention:
        yield replace(group, retention={n: p for n, p in group.retention.items() if n != name})
    for d, place in enumerate(group.others):
        if place != "recompute":
            yield replace(group, others=(*group.others[:d], "recompute", *group.others[d + 1 :]))
    for d, size in enumerate(group.tile):
        for smaller in {1, size // 2, size - 1} - {0, size}:
            yield replace(group, tile=(*group.tile[:d], smaller, *group.tile[d + 1 :]))


def with_smaller_inputs(case: Case) -> Iterator[Case]:
    """One input smaller along one axis; all inputs where one alone does not fit."""
    for axis in range(4):
        largest = max(shape[axis] for shape in case.inputs)
        for size in sorted({1, largest // 2, largest - 1} - {0, largest}):
            shapes = (tuple(min(s, size) if d == axis else s for d, s in enumerate(x)) for x in case.inputs)
            yield replace(case, inputs=tuple(shapes))  # type: ignore[arg-type]


def with_plainer_layers(case: Case) -> Iterator[Case]:
    """One layer with one attribute left out or plain, or half as large."""
    for k, layer in enumerate(case.layers):
        for name, value in layer.attributes.items():
            for plainer in plainer_values(name, value):
                attributes = {**layer.attributes, name: plainer}
                attributes = {n: v for n, v in attributes.items() if v is not None}
                changed = LayerOf(layer.kind, layer.reads, attributes)
                yield replace(case, layers=(*case.layers[:k], changed, *case.layers[k + 1 :]))


def plainer_values(name: str, value: Any) -> Iterator[Any]:
    """Simpler values of an attribute; None leaves it out."""
    plain = PLAIN.get(name)
    if name not in PLAIN:
        if name != "spec":
            yield None
        return
    if value != plain:
        yield plain
    if isinstance(value, tuple):
        for d, number in enumerate(value):
            if number != plain:
                yield (*value[:d], plain, *value[d + 1 :])
                yield (*value[:d], number - 1, *value[d + 1 :])
    elif value > plain + 1:
        yield value - 1


def as_test(failure: Failure) -> str:
    """A test of one case, to paste into tests/schedule/test_regressions.py."""
    text = pformat(failure.case, width=112, sort_dicts=False).replace("\n", "\n    ")
    name = "".join(c if c.isalnum() else "_" for c in failure.kind)
    return (
        f"\n# {failure.message}\n"
        f"def test_{name}() -> None:\n"
        f"    case = {text}\n"
        "    assert not run_cases([case]).failures\n"
    )
