"""Random schedules made by hand, legal and broken: judged by `check`, and by running them one execution after another.

    python -m tests.schedule.drawn_schedules 10000 --seed 1

A schedule that is accepted, and what random transformations make of it, must give the values of the reference,
interpreted and, one in ten, as compiled C that counts itself. One that is refused and gives them all the same is
counted by the reason of the refusal. Nothing but an error of polyfuse may be raised.
"""

import random
import re
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import islpy as isl
import numpy as np

import polyfuse as pf
from polyfuse.schedule.interpreter import interpret

TOLERANCE = 1e-9
EXPLAINED = {
    "a sum in another order": "keep the order of the sum|keeps the order of its sum",
    "two executions at one time": "have the same time",
    "a value that only another tile holds": (
        "nothing was written before|no tile makes it|which is later|only tile|not retained|has put .* in its place"
    ),
}
"""What is refused though it may give the right values, one execution after another: by the words of its witness."""


@dataclass(frozen=True)
class Drawn:
    """A network, the text of a schedule for it, and how it is stored."""

    network: pf.Network
    text: str
    options: dict[str, Any]


def network(rng: random.Random) -> pf.Network:
    """Up to three layers of one or two axes: stencils, maxima and pointwise ones, each of any tensors before it."""
    rank = rng.choice([1, 1, 2])
    size = rng.randint(5, 9) if rank == 1 else rng.randint(4, 5)
    tensors = [pf.Tensor("x", (size,) * rank)]
    layers: list[pf.Layer] = []
    for name in "ABC"[: rng.randint(1, 3)]:
        source = tensors[-1] if rng.random() < 0.8 else rng.choice(tensors)
        taps, stride = rng.choice([1, 2, 3]), rng.choice([1, 1, 1, 2])
        pad = rng.choice([0, 0, 1]) if taps > 1 else 0
        *others, last = source.concrete_shape
        extent = (last + 2 * pad - taps) // stride + 1
        if extent < 1:
            continue
        output = pf.Tensor(name.lower(), (*others, extent))
        layers.append(stencil(rng, name, source, output, taps, stride, pad))
        tensors.append(output)
    if not layers:
        return network(rng)
    read = {tensor for layer in layers for tensor in layer.inputs}
    outputs = tuple(tensor for tensor in tensors[1:] if tensor not in read or rng.random() < 0.1)
    return pf.Network("drawn", (tensors[0],), tuple(layers), outputs, {})


def stencil(
    rng: random.Random, name: str, source: pf.Tensor, output: pf.Tensor, taps: int, stride: int, pad: int
) -> pf.Layer:
    """A sum or a maximum over `taps` neighbours along the last axis."""
    point = [f"i{d}" for d in range(len(output.shape))]
    bounds = [f"0 <= {i} < {n}" for i, n in zip(point, output.concrete_shape, strict=True)]
    last = f"{stride} * {point[-1]} + k - {pad}"
    index = ", ".join([*point[:-1], last])
    inside = f"0 <= {last} < {source.concrete_shape[-1]}"
    init, expression = rng.choice([("0.5", "acc + x"), ("0.5", "acc + x"), ("-INFINITY", "maximum(acc, x)")])
    return pf.statement_layer(
        name,
        domain=f"{{ {name}[{', '.join(point)}, k] : {' and '.join([*bounds, f'0 <= k < {taps}'])} }}",
        output=output,
        reads={"x": (source, f"{{ {name}[{', '.join(point)}, k] -> {source.name}[{index}] : {inside} }}")},
        expression=expression,
        init=init,
    )


def drawn(rng: random.Random) -> Drawn:
    """A schedule: tiles of the last axis or none, with executions inside of them by layer or interleaved, and edits."""
    net = network(rng)
    tiles = rng.choice([0, 1, 1, 1])
    size = rng.randint(2, 4)
    whole = rng.random() < 0.4
    row = rng.random() < 0.6
    outside = tiles > 0 and rng.random() < 0.2
    pieces: list[str] = []
    shift = 0
    for position, layer in enumerate(net.layers):
        if layer.output not in net.outputs and rng.random() < 0.1:
            continue
        pieces += layer_text(rng, layer, position, shift, size if tiles else 0, whole, row, outside)
        shift += rng.choice([0, 1, 1, 2, 2, 3])
    places = ["recompute", "local", "local", "global"]
    options: dict[str, Any] = {"tile": (1,) if outside else tiles, "reorder": rng.random() < 0.4}
    if tiles:
        options["others"] = (rng.choice(places),)
        options["retention"] = {layer.output.name: (rng.choice(places),) for layer in net.layers if rng.random() < 0.3}
    return Drawn(net, f"{{ {'; '.join(pieces)} }}", options)


def layer_text(
    rng: random.Random, layer: pf.Layer, position: int, shift: int, size: int, whole: bool, row: bool, outside: bool
) -> list[str]:
    """The relations of a layer: its points, or its sum with its reduction somewhere, in tiles that overlap or not."""
    point = [f"i{d}" for d in range(layer.rank)]
    names = [*point, "k"] if whole and rng.random() < 0.5 else point
    order = rng.sample(names, len(names)) if rng.random() < 0.5 else names
    terms = [("-" if rng.random() < 0.15 else "") + name for name in order]
    if rng.random() < 0.15:
        terms[0] = f"{terms[0]} + {terms[-1]}"
    inner = [str(position if rng.random() < 0.95 else 1), "0", *terms]
    if row:
        lead = point[-1] if rng.random() < 0.9 else point[0]
        inner[:2] = [f"{rng.choice([1, 1, 1, 2])}{lead} + {shift}", str(position)]
    inner += ["0"] * (layer.rank + 1 - len(names))
    before = [point[0] if layer.rank == 2 else "0"] if outside else []
    tile, bound = before, ""
    if size:
        below, above = rng.choice([0, 0, 0, 1]), rng.choice([0, 0, 1, 2, 2, 3])
        count = -(-layer.output.concrete_shape[-1] // size)
        tile = [*before, "t"]
        bound = f" : {size}t - {below} <= {point[-1]} < {size}t + {size + above} and 0 <= t < {count}"
    pieces = [f"{layer.name}[{', '.join(names)}] -> [{', '.join([*tile, *inner])}]{bound}"]
    if rng.random() < 0.2:
        pieces.append(again(rng, layer, names, inner, [*before, str(rng.randint(0, 1))] if size else before))
    return pieces


def again(rng: random.Random, layer: pf.Layer, names: list[str], inner: list[str], tile: list[str]) -> str:
    """Some instances once more, at another time."""
    moved = list(inner)
    d = rng.randrange(len(moved))
    moved[d] = f"{moved[d]} + {rng.choice([-7, -1, 1, 7])}"
    at = rng.randrange(layer.output.concrete_shape[-1])
    return f"{layer.name}[{', '.join(names)}] -> [{', '.join([*tile, *moved])}] : i{layer.rank - 1} = {at}"


def wrong_by(found: pf.Storage, seed: int) -> float:
    """The largest relative error of a schedule that is run whether it is legal or not; infinite where values lack."""
    net = found.schedule.network
    inputs = pf.random_inputs(net, seed)
    expected = pf.reference(net, inputs)
    values = interpret(found, inputs, forced=True).outputs
    return max(error(values.get(tensor.name), expected[tensor.name]) for tensor in net.outputs)


def error(value: np.ndarray | None, expected: np.ndarray) -> float:
    """The largest error, relative to 1 where values are smaller; infinite for what is not a number."""
    if value is None or not np.isfinite(value).all():
        return float("inf")
    return float(np.max(np.abs(value - expected) / np.maximum(1, np.abs(expected)), initial=0))


def judge(case: Drawn, seed: int, *, compiled: bool) -> str:
    """What becomes of a case: in words, `unsound` and `raw` first where they are wrong."""
    try:
        found = pf.storage(pf.schedule_from(case.network, case.text, **case.options))
        pf.check(found)
    except pf.IllegalSchedule as refusal:
        return judged_refusal(case, str(refusal), seed)
    except pf.PolyfuseError as refusal:
        return f"not taken: {type(refusal).__name__}: {re.sub(r'[0-9]+', 'n', str(refusal))[:60]}"
    except Exception:
        return f"raw: {traceback.format_exc()}"
    if not wrong_by(found, seed) <= TOLERANCE:
        return "unsound: accepted, and wrong"
    try:
        found, steps = transformed(random.Random(seed), found)
    except Exception:
        return f"raw: transformed: {traceback.format_exc()}"
    if steps and not wrong_by(found, seed) <= TOLERANCE:
        return f"unsound: wrong after {', '.join(steps)}"
    if compiled:
        return judged_c(found, seed)
    return "accepted"


def transformed(rng: random.Random, found: pf.Storage) -> tuple[pf.Storage, list[str]]:
    """A schedule after some of a few random transformations, those that are legal, and their names."""
    schedule, taken = found.schedule, []
    for _ in range(rng.choice([0, 0, 1, 2, 3])):
        name, step = transformation(rng, schedule)
        try:
            schedule = step(schedule)
        except (pf.IllegalSchedule, pf.InvalidInput):
            continue
        taken.append(name)
    return (pf.storage(schedule) if taken else found), taken


def transformation(rng: random.Random, schedule: pf.Schedule) -> tuple[str, Callable[[pf.Schedule], pf.Schedule]]:
    """A transformation with random arguments, many of them wrong."""
    length = max((times.dim(isl.dim_type.out) for times in schedule.times.values()), default=6)
    dim, other = rng.randrange(length), rng.randrange(length)
    size, layer = rng.randint(1, 3), rng.choice(schedule.network.layers)
    reader = rng.choice(schedule.network.layers)
    once = rng.random() < 0.5
    steps: dict[str, Callable[[pf.Schedule], pf.Schedule]] = {
        "split": lambda s: pf.split(s, dim, size),
        "interchange": lambda s: pf.interchange(s, dim, other),
        "reverse": lambda s: pf.reverse(s, dim),
        "shift": lambda s: pf.shift(s, layer.name, dim, size - 2),
        "skew": lambda s: pf.skew(s, dim, other, size - 2),
        "tile": lambda s: pf.tile(s, [dim], [size]),
        "fuse": lambda s: pf.fuse(s, dim, other),
        "fission": lambda s: pf.fission(s, dim, other),
        "compute_at": lambda s: pf.compute_at(s, layer.name, reader.name, dim, once=once),
        "unroll_and_jam": lambda s: pf.unroll_and_jam(s, dim, size),
        "vectorize": lambda s: pf.vectorize(s, dim, size),
        "parallel": lambda s: pf.parallel(s, dim),
        "with_retention": lambda s: pf.with_retention(s, tile=1, others=("local",)),
    }
    name = rng.choice([*steps])
    return name, steps[name]


def judged_refusal(case: Drawn, why: str, seed: int) -> str:
    """A refusal: right, or of a schedule that gives the right values one execution after another."""
    found = pf.storage(pf.schedule_from(case.network, case.text, **case.options))
    if not wrong_by(found, seed) <= TOLERANCE:
        return "refused, and wrong"
    for reason, words in EXPLAINED.items():
        if re.search(words, why):
            return f"refused though right: {reason}"
    early = re.match(r"illegal: (\w+)\[.* makes it later", why)
    if early is not None and not found.schedule.times[early[1]].is_single_valued():
        return "refused though right: an execution comes too early, and again before its value is read"
    if early is not None and is_unread(found, why):
        return "refused though right: an execution comes too early, and nobody reads its value"
    return f"refused though right, unexplained: {re.sub(r'[0-9]+', 'n', why)}"


def is_unread(found: pf.Storage, why: str) -> bool:
    """Whether no layer reads the element that the reader in a witness makes, and it is of no output."""
    reader = re.match(r"illegal: (\w+)_\w+(\[[^]]*\])", why)
    assert reader is not None
    output = found.schedule.network.layer(reader[1]).output
    point = isl.Set(f"{{ {output.name}[{', '.join(reader[2][1:-1].split(', ')[: len(output.shape)])}] }}")
    return output not in found.schedule.network.outputs and point.is_disjoint(
        found.schedule.flows[output.name].need.domain()
    )


def judged_c(found: pf.Storage, seed: int) -> str:
    """The C of a schedule that is accepted: its values and, instrumented, its counts."""
    net = found.schedule.network
    inputs = pf.random_inputs(net, seed)
    expected = pf.reference(net, inputs)
    for instrumented in (False, True):
        program = pf.generate(net, [found], instrumented=instrumented)
        kernel = pf.build(program, threads=2 if program.is_parallel else 1)
        values = kernel(**inputs)
        if max(error(values[tensor.name], expected[tensor.name]) for tensor in net.outputs) > 1e-4:
            return f"unsound: the C is wrong, instrumented {instrumented}"
        if instrumented:
            ran = {counter.name: n for counter, n in kernel.counts.items() if counter.kind == "executions"}
            if ran != {name: n for name, n in pf.counts(found).steps.items() if n}:
                return "unsound: the C does not run what is counted"
    return "accepted, and its C is right"


def run(count: int, seed: int, *, every: int = 10, seconds: float = float("inf")) -> Counter[str]:
    """The verdicts on cases `seed * 1,000,000 + k`; one in `every` accepted ones is compiled."""
    verdicts: Counter[str] = Counter()
    started = time.monotonic()
    for k in range(count):
        number = seed * 1_000_000 + k
        case = drawn(random.Random(number))
        verdict = judge(case, number % 1000, compiled=k % every == every - 1)
        verdicts[verdict] += 1
        if verdict.startswith(("unsound", "raw")) or "unexplained" in verdict:
            print(f"case {number}: {verdict}\n  {case.network}\n  {case.text}\n  {case.options}", flush=True)
        if k % 500 == 499:
            print(f"{k + 1:,} cases in {time.monotonic() - started:,.0f} s: {dict(verdicts)}", flush=True)
        if time.monotonic() - started > seconds:
            break
    return verdicts


def main() -> int:
    """Judge as many as the command line asks for; the exit status says whether one was wrong."""
    count, seed = int(sys.argv[1]), int(sys.argv[sys.argv.index("--seed") + 1]) if "--seed" in sys.argv else 1
    verdicts = run(count, seed)
    for verdict, n in verdicts.most_common():
        print(f"{n:8,}  {verdict}")
    return int(any(verdict.startswith(("unsound", "raw")) for verdict in verdicts))


if __name__ == "__main__":
    sys.exit(main())
