"""`python -m tests.fuzz.models --models N --seed S`: random ONNX models against onnxruntime.

Each is one node, or a few that read each other, with random attributes, types, names and operator set. What polyfuse
makes of it, by its reference and for some of them compiled, is what onnxruntime makes; or polyfuse refuses it in one
line. Exits with 1 where a model failed, and prints it with its seed; `--only SEED` draws that one again.
"""

import argparse
import multiprocessing
import os
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from polyfuse.deploy.model import load
from polyfuse.errors import PolyfuseError
from polyfuse.network.onnx.load import imported
from polyfuse.network.reference import run
from tests.fuzz.draft import NEWEST, Draft, Value, Values
from tests.fuzz.movers import DRAWS

TOLERANCE = 2e-5
"""The largest error, relative to the largest value or 1: float32 against float64."""
BATCH = 50
ROUND = 20
"""So many batches are done by the same processes, which are then started anew."""
COMPILED_EVERY = 50
"""One model of so many is compiled, too."""
OLDEST = 7


@dataclass(frozen=True)
class Drawn:
    """A model, the values of its inputs, and what onnxruntime makes: None where it refuses the model."""

    seed: int
    model: onnx.ModelProto
    inputs: dict[str, Values]
    expected: dict[str, Values] | None


@dataclass
class Tally:
    """What became of models: counts by outcome, refusals by operator, failures with their seed."""

    outcomes: Counter[str] = field(default_factory=Counter)
    operators: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        """Add another tally to this one."""
        self.outcomes += other.outcomes
        self.operators += other.operators
        self.refusals += other.refusals
        self.failures += other.failures


def onnxruntime_outputs(model: onnx.ModelProto, inputs: dict[str, Values]) -> dict[str, Values] | None:
    """What onnxruntime makes, without its rewriting; None where it refuses the model."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        made = session.run(None, inputs)
    except Exception:  # onnxruntime raises classes of its own that share no other base
        return None
    return {value.name: np.asarray(array) for value, array in zip(session.get_outputs(), made, strict=True)}


def draw(seed: int) -> Drawn:
    """The model of a seed."""
    rng = random.Random(seed)
    draft = Draft(rng, rng.choice((*range(OLDEST, NEWEST + 1), 13, 17, 20)))
    last: Value | None = None
    outputs: list[str] = []
    expected: dict[str, Values] | None = None
    for _ in range(rng.choices((1, 2, 3, 4), (6, 2, 1, 1))[0]):
        before = len(draft.nodes), len(draft.inputs), len(draft.constants)
        made = rng.choice(DRAWS)(draft, last)
        named = made if rng.random() < 0.8 else [*outputs, *made]
        inputs = {each.name: each.array for each in draft.inputs if each.array is not None}
        found = onnxruntime_outputs(draft.model(named), inputs)
        if found is None and outputs:
            del draft.nodes[before[0] :], draft.inputs[before[1] :], draft.constants[before[2] :]
            break
        outputs, expected = named, found
        if found is None:
            break
        value = found[made[0]]
        whole = value.size and value.ndim and not np.isnan(value).any()  # onnxruntime's minimum may lose NaN
        last = Value(made[0], value.shape, str(value.dtype)) if whole else None
        if last is None:
            break
    inputs = {each.name: each.array for each in draft.inputs if each.array is not None}
    return Drawn(seed, draft.model(outputs), inputs, expected)


def check(drawn: Drawn, compiled: bool = False) -> Tally:
    """Read a model and compare what is made."""
    tally = Tally()
    names = {node.op_type for node in drawn.model.graph.node}
    tally.operators.update(names)
    valid = "" if drawn.expected is not None else " of those that onnxruntime refuses"
    try:
        compared = _compared(drawn, compiled)
    except PolyfuseError as error:
        if "\n" in str(error) or len(str(error)) > 1000:
            tally.failures.append(f"seed {drawn.seed}: a refusal of more than one line: {error}")
        tally.outcomes[f"refused{valid}"] += 1
        if drawn.expected is not None:
            tally.refusals[f"{'+'.join(sorted(names))}: {_reason(str(error))}"] += 1
    except Exception as error:  # whatever else polyfuse raises is a failure
        tally.failures.append(f"seed {drawn.seed}: {type(error).__name__}: {error}\n{text(drawn.model)}")
    else:
        tally.outcomes[f"{compared}{valid}"] += 1
    tally.outcomes["models"] += 1
    return tally


def _reason(message: str) -> str:
    """A message without what is in quotes or a number."""
    words = message.partition(": ")[2].split()
    return " ".join(word for word in words if not any(c.isdigit() or c in "'\"[]" for c in word))[:90]


def _compared(drawn: Drawn, compiled: bool) -> str:
    """What was compared. Errors: AssertionError where it differs, PolyfuseError where it is refused."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.onnx"
        path.write_bytes(drawn.model.SerializeToString())
        found = imported(path)
        network = found.network
        entering = {tensor.name: tensor for tensor in network.inputs}
        given = {found.tensors[name].name: array for name, array in drawn.inputs.items() if name in found.tensors}
        feeds = {
            name: array.reshape(entering[name].concrete_shape) for name, array in given.items() if name in entering
        }
        values = run(network, feeds)
        if drawn.expected is None:
            return "read"
        made = {name: values[found.tensors[name].name] for name in drawn.expected}
        for name, expected in drawn.expected.items():
            dtype = found.tensors[name].dtype
            assert dtype == str(expected.dtype), f"output {name!r} is {dtype}, expected {expected.dtype}"
        if is_judged_otherwise(drawn, made):
            return "agree with ONNX's evaluator, onnxruntime is off"
        if not compiled or any(array.dtype != np.float32 for array in (*given.values(), *drawn.expected.values())):
            return "agree"
        model = load(path)
        arrays = {name: array for name, array in drawn.inputs.items() if name in model.inputs}
        made = model.run(**{name: array.reshape(array.shape or (1,)) for name, array in arrays.items()})
        for name, expected in drawn.expected.items():
            compare(f"{name} compiled", made[name], expected)
        return "agree, compiled too"


def is_judged_otherwise(drawn: Drawn, made: dict[str, Values]) -> bool:
    """False where what is made is what onnxruntime makes; True where ONNX's evaluator in float64 makes it instead.

    Errors: AssertionError where neither agrees.
    """
    assert drawn.expected is not None
    try:
        for name, expected in drawn.expected.items():
            compare(name, made[name], expected)
        return False
    except AssertionError as difference:
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                judged = ReferenceEvaluator(doubled(drawn.model)).run(
                    None, {n: wide(a) for n, a in drawn.inputs.items()}
                )
        except Exception:  # it has not every operator, and raises anything
            raise difference from None
        for value, array in zip(drawn.model.graph.output, judged, strict=True):
            try:
                compare(value.name, made[value.name], np.asarray(array).astype(drawn.expected[value.name].dtype))
            except AssertionError:
                raise difference from None
        return True


def wide(array: Values) -> Values:
    """float32 as float64; other types as they are."""
    return array.astype(np.float64) if array.dtype == np.float32 else array


def doubled(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with constants in float64."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.initializer[:]
    for tensor in model.graph.initializer:
        made.graph.initializer.append(numpy_helper.from_array(wide(numpy_helper.to_array(tensor)), tensor.name))
    return made


def compare(name: str, actual: Values, expected: Values) -> None:
    """Whole numbers are equal; floats are as close as float32 allows, infinities and NaN in the same places."""
    assert actual.shape == (expected.shape or (1,)), f"output {name!r}: shape {actual.shape}, expected {expected.shape}"
    wanted = expected.reshape(actual.shape).astype(np.float64)
    if expected.dtype != np.float32:
        np.testing.assert_array_equal(actual, wanted, err_msg=name)
        return
    with np.errstate(over="ignore"):
        actual = np.asarray(actual, dtype=np.float32).astype(np.float64)
    finite = np.isfinite(wanted)
    np.testing.assert_array_equal(actual[~finite], wanted[~finite], err_msg=name)
    largest = np.abs(wanted[finite]).max(initial=1.0)
    np.testing.assert_allclose(actual[finite], wanted[finite], rtol=0, atol=TOLERANCE * largest, err_msg=name)


def text(model: onnx.ModelProto) -> str:
    """A model in a few lines."""
    opset = model.opset_import[0].version
    lines = [" ".join(helper.printable_node(node).split()) for node in model.graph.node]
    shapes = [f"{v.name}{[d.dim_value for d in v.type.tensor_type.shape.dim]}" for v in model.graph.input]
    known = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    constants = [f"{name}={array.tolist() if array.size < 9 else array.shape}" for name, array in known.items()]
    return "\n".join(f"    {line}" for line in (f"opset {opset}", *shapes, *constants, *lines))


def batch(seeds: Sequence[int]) -> Tally:
    """Draw and check models, in a process of its own."""
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["POLYFUSE_CACHE"] = folder
        for seed in seeds:
            tally.add(check(draw(seed), compiled=seed % COMPILED_EVERY == 0))
    return tally


def campaign(models: int, seed: int, jobs: int) -> Tally:
    """Check models in processes; one that is killed is a failure of its model, and the others go on."""
    total, printed = Tally(), 0
    seeds = [seed * 1_000_003 + k for k in range(models)]
    batches = [seeds[k : k + BATCH] for k in range(0, models, BATCH)]
    while batches:
        now, batches = batches[:ROUND], batches[ROUND:]
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
            for each, future in [(each, pool.submit(batch, each)) for each in now]:
                try:
                    total.add(future.result())
                except BrokenProcessPool:
                    batches += [[one] for one in each] if len(each) > 1 else []
                    if len(each) == 1:
                        total.failures.append(f"seed {each[0]}: the process was killed")
        for failure in total.failures[printed:]:
            print(failure)
        printed = len(total.failures)
        print(f"{total.outcomes['models']} models, {printed} failures", flush=True)
    return total


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.models", description=__doc__)
    parser.add_argument("--models", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", type=int, metavar="SEED")
    options = parser.parse_args()
    if options.only is not None:
        alone = check(draw(options.only), compiled=True)
        print(text(draw(options.only).model), dict(alone.outcomes), *alone.failures, sep="\n")
        return 1 if alone.failures else 0
    started = time.monotonic()
    total = campaign(options.models, options.seed, options.jobs)
    print(f"{options.models} models in {time.monotonic() - started:.0f} s, seed {options.seed}: {dict(total.outcomes)}")
    print(f"operators: {dict(total.operators.most_common())}")
    print("refused, though onnxruntime runs them:")
    for reason, count in total.refusals.most_common(60):
        print(f"  {count:5d}  {reason}")
    print(f"{len(total.failures)} failures")
    return 1 if total.failures else 0


if __name__ == "__main__":
    sys.exit(main())
