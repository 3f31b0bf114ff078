"""Running cases: schedule, prove, generate; compile many cases as one library; run each and compare with the oracles.

gcc's start-up costs more than a small case, so a batch is one C file in which the names of every case have a prefix.
"""

import ctypes
import re
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle
from unittest.mock import patch

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polyfuse.codegen import kernel as kernel_module
from polyfuse.codegen.build import OPENMP, Built, Options, compile_shared, load
from polyfuse.codegen.emit.cfile import ROW_PRELUDE, start
from polyfuse.codegen.kernel import Kernel
from polyfuse.codegen.lower.selection import Interface, Selection, select_kernels
from polyfuse.codegen.program import Program, generate
from polyfuse.codegen.rows.winograd import Winograd, is_suitable
from polyfuse.codegen.target import Target
from polyfuse.network.network import Network
from polyfuse.network.reference import max_relative_error, random_inputs, run
from polyfuse.schedule.interpreter import interpret
from polyfuse.schedule.legality import check
from polyfuse.schedule.schedule import scheduled
from polyfuse.schedule.storage import Storage, storage
from tests.fuzz.case import Case, group_networks, network_of
from tests.oracles.brute import Brute, Counts

TOLERANCE = 1e-5
SMALLEST_SCALE = 0.1
WINOGRAD_SCALE = 10.0
"""Errors of Winograd's algorithm are relative to sums that a later layer may scale or subtract."""
INTERPRETED = 300
"""The most executions of a case that is interpreted too."""
MIXES = ((6, (4, 2)), (4, (2, 2)), (6, (2, 0)), (2, (0, 0)), (6, (0, 0)))
"""Winograd's tiles, and smaller ones in the last rows and columns."""
MIXED = re.compile(r"F\((\d)x(?!\1)\d, 3x3\)")
FAST_FLAGS = ("-std=c11", "-O0", "-w")
OPTIMISED_FLAGS = ("-std=c11", "-O2", "-w")
EXPORTED = re.compile(r"\b(polyfuse_\w+|group\d+|chip\d+|kept\d+|row\d+_\w+)\b|\b(union) (chip|kept)\b")
TARGET = Target(4, 16)
"""Narrow vectors, so that few channels fill several blocks."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A case that is ready to be compiled, and what its run must show."""

    case: Case
    network: Network
    groups: tuple[Storage, ...]
    program: Program
    expected: tuple[Counts, ...]


@dataclass(frozen=True)
class Failure:
    """A case and what was wrong with it; `kind` stays the same while a case is shrunk."""

    case: Case
    kind: str
    message: str


@dataclass
class Outcome:
    """What became of some cases."""

    cases: int = 0
    failures: list[Failure] = field(default_factory=list)
    checks: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Outcome") -> None:
        """Add another outcome to this one."""
        self.cases += other.cases
        self.failures += other.failures
        self.checks += other.checks
        self.seconds += other.seconds


class Prefixed:
    """A library that holds many cases, seen as the library of one."""

    def __init__(self, library: ctypes.CDLL, prefix: str) -> None:
        self._library, self._prefix = library, prefix

    def __getattr__(self, name: str) -> object:
        found = getattr(self._library, self._prefix + name)
        object.__setattr__(self, name, found)
        return found


def prepare(case: Case) -> Prepared:
    """Everything before the compiler; whatever polyfuse raises is an error of the case."""
    network = network_of(case)
    networks = group_networks(case, network)
    strategies = [group.strategy for group in case.groups]
    groups = tuple(storage(scheduled(n, s)) for n, s in zip(networks, strategies, strict=True))
    for each in groups:
        check(each)
    if "rows" in case.form:
        kernels = row_leaves(case.form, network)
        program = generate(network, groups, kernels=kernels, instrumented=True)
    else:
        forms = {"staged": case.form != "in place", "instrumented": case.form == "instrumented"}
        program = generate(network, groups, kernels="scalar", **forms)
    expected = tuple(Brute(n, s).counts for n, s in zip(networks, strategies, strict=True))
    return Prepared(case, network, groups, program, expected)


def row_leaves(form: str, network: Network) -> Selection:
    """Row kernels of one form; with Winograd's algorithm wherever it can be, in tiles of all sizes, mixed ones too."""
    interface: Interface = "blocked" if form == "blocked rows" else "nchw"
    exact = select_kernels(network, TARGET, interface, exact=True)
    suitable = [name for name, kind in exact.kinds.items() if is_suitable(network.layer(name), kind)]
    used = dict(zip(suitable, cycle(MIXES), strict=False)) if form == "winograd rows" else {}
    winograd = {name: Winograd(tile, edge=edge) for name, (tile, edge) in used.items()}
    return replace(exact, kinds={**exact.kinds, **winograd})


def run_cases(cases: Sequence[Case], flags: Sequence[str] = FAST_FLAGS) -> Outcome:
    """Prepare, compile together, run and compare."""
    outcome = Outcome(len(cases))
    prepared = []
    started = time.perf_counter()
    for case in cases:
        try:
            prepared.append(prepare(case))
        except Exception as error:
            outcome.failures.append(failure_of(case, error))
    outcome.seconds["prepare"] += time.perf_counter() - started
    started = time.perf_counter()
    kernels = compile_batch(prepared, flags)
    outcome.seconds["compile"] += time.perf_counter() - started
    started = time.perf_counter()
    for each, kernel in zip(prepared, kernels, strict=True):
        try:
            if isinstance(kernel, Exception):
                raise kernel
            outcome.checks.update(compare(each, kernel))
        except Exception as error:
            outcome.failures.append(failure_of(each.case, error))
    outcome.seconds["run and compare"] += time.perf_counter() - started
    return outcome


def failure_of(case: Case, error: Exception) -> Failure:
    """An exception as a failure; mismatches say their own kind."""
    if isinstance(error, AssertionError) and error.args and isinstance(error.args[0], str):
        return Failure(case, error.args[0].split(":")[0], error.args[0])
    place = traceback.extract_tb(error.__traceback__)[-1]
    return Failure(case, f"{type(error).__name__} in {place.name}", f"{type(error).__name__}: {error}")


def compile_batch(prepared: Sequence[Prepared], flags: Sequence[str]) -> list[Kernel | Exception]:
    """A kernel of each case, all in one library; one by one where that library cannot be made."""
    try:
        built = compile_shared(batch_source([each.program for each in prepared]), Options(flags=(*flags, *OPENMP)))
    except Exception as error:
        if len(prepared) <= 1:
            return [error for _ in prepared]
        return [kernel for each in prepared for kernel in compile_batch([each], flags)]
    library = load(built)
    return [kernel_of(each, built, library, f"case{k}_") for k, each in enumerate(prepared)]


def kernel_of(prepared: Prepared, built: Built, library: ctypes.CDLL, prefix: str) -> Kernel | Exception:
    """The kernel of one case of a library."""
    program = prepared.program
    threads = prepared.case.threads if program.is_parallel else 1
    with patch.object(kernel_module, "load", lambda _: Prefixed(library, prefix)):
        return Kernel(program, built, threads)


def batch_source(programs: Iterable[Program]) -> str:
    """One C file of many programs."""

    def prefixed(source: str, k: int) -> str:
        return EXPORTED.sub(lambda m: f"union case{k}_{m[3]}" if m[2] else f"case{k}_{m[1]}", source)

    bodies = (p.source.replace(start(), "").replace(ROW_PRELUDE, "") for p in programs)
    return start() + "#include <stddef.h>\n" + ROW_PRELUDE + "\n".join(prefixed(b, k) for k, b in enumerate(bodies))


def compare(prepared: Prepared, kernel: Kernel) -> list[str]:
    """Run a kernel and assert that values, counts and buffers are what they have to be; the names of the checks."""
    inputs = random_inputs(prepared.network, seed=1)
    reference = run(prepared.network, inputs)
    kernel.poison()
    outputs = kernel(**inputs)
    for name, value in outputs.items():
        error = difference(value, reference[name])
        most = TOLERANCE + WINOGRAD_SCALE * prepared.program.error_bound
        assert error <= most, f"values: output {name} of the generated C differs by {error:g}"
    done = [prepared.case.form, "threads" if kernel.threads > 1 else "one thread"]
    if MIXED.search(prepared.program.source):
        done.append("mixed tiles")
    if prepared.program.selection.target.has_rows:
        compare_points(prepared, kernel)
    elif prepared.program.instrumented:
        compare_counts(prepared, kernel)
    if prepared.program.staged:
        compare_bytes(prepared, kernel)
    if sum(sum(v for (kind, _), v in c.items() if kind == "executions") for c in prepared.expected) <= INTERPRETED:
        compare_interpreted(prepared, reference, done)
    return done


def difference(actual: ArrayLike, expected: ArrayLike) -> float:
    """The largest error relative to the largest value or to 0.1: sums that cancel keep the rounding of their terms."""
    return max_relative_error(np.append(actual, SMALLEST_SCALE), np.append(expected, SMALLEST_SCALE))


def compare_counts(prepared: Prepared, kernel: Kernel) -> None:
    """Executions and bytes, exactly."""
    got: list[Counts] = [Counter() for _ in prepared.groups]
    for counter, value in kernel.counts.items():
        got[counter.group][counter.kind, counter.name] += value
    for group, (counted, expected) in enumerate(zip(got, prepared.expected, strict=True)):
        counted = +counted
        wrong = {key: (counted[key], expected[key]) for key in counted | expected if counted[key] != expected[key]}
        assert not wrong, f"counts: group {group}, (counted, expected): {wrong}"


def compare_points(prepared: Prepared, kernel: Kernel) -> None:
    """Row kernels, and scalar code where there is no row kernel, execute as many points as expected."""
    for index, (group, expected) in enumerate(zip(prepared.groups, prepared.expected, strict=True)):
        got = {(c.kind, c.name): n for c, n in kernel.counts.items() if c.group == index}
        for layer in group.schedule.network.layers:
            starts = [("executions", s.name) for s in layer.statements if not s.accumulates]
            scalar = sum(got.get(start, 0) for start in starts)
            ran, wanted = got.get(("points", layer.output.name), scalar), sum(expected[start] for start in starts)
            assert ran == wanted, f"points: group {index}, layer {layer.name}: {ran} executed, {wanted} expected"


def compare_bytes(prepared: Prepared, kernel: Kernel) -> None:
    """The buffers that the compiled code has are those that were planned."""
    planned = [group.onchip_bytes for group in prepared.groups]
    assert kernel.onchip_bytes == max(planned), f"chip bytes: {kernel.onchip_bytes} compiled, {planned} planned"


def compare_interpreted(prepared: Prepared, reference: Mapping[str, NDArray[np.float64]], done: list[str]) -> None:
    """The interpreter computes the reference, group after group."""
    values = {tensor.name: reference[tensor.name] for tensor in prepared.network.inputs}
    for group in prepared.groups:
        network = group.schedule.network
        values |= interpret(group, {tensor.name: values[tensor.name] for tensor in network.inputs}).outputs
    for tensor in prepared.network.outputs:
        error = difference(values[tensor.name], reference[tensor.name])
        assert error <= TOLERANCE, f"interpreted: output {tensor.name} differs by {error:g}"
    done.append("interpreted")
