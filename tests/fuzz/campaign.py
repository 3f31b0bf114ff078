"""`python -m tests.fuzz --minutes M --seed S [--cases N]`: random cases until time or cases run out.

Exits with 1 where a case failed; each is shrunk and printed as a test to paste.
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait

from tests.fuzz.draw import draw
from tests.fuzz.run import FAST_FLAGS, OPTIMISED_FLAGS, Failure, Outcome, run_cases
from tests.fuzz.shrink import as_test, shrink

BATCH = 24
OPTIMISED_EVERY = 16
"""One batch of so many is compiled with optimisation, which shows what `restrict` promises wrongly."""
MOST_SHRUNK = 5


def batch(seed: int, index: int) -> Outcome:
    """Run one batch of cases, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["POLYFUSE_CACHE"] = folder
        cases = [draw(case_seed(seed, index * BATCH + k)) for k in range(BATCH)]
        flags = OPTIMISED_FLAGS if index % OPTIMISED_EVERY == OPTIMISED_EVERY - 1 else FAST_FLAGS
        return run_cases(cases, flags)


def case_seed(seed: int, k: int) -> int:
    """The seed of the k-th case."""
    return seed * 1_000_003 + k


def campaign(seconds: float, seed: int, cases: int | None, jobs: int) -> Outcome:
    """Run batches in processes until the time is over or the cases are done."""
    deadline = time.monotonic() + seconds
    total, indices = Outcome(), iter(range(10**9 if cases is None else -(-cases // BATCH)))
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), max_tasks_per_child=40) as pool:
        pending = set(submitted(pool, seed, indices, jobs))
        printed = 0
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                total.add(future.result())
            for failure in total.failures[printed:]:
                print(f"{failure.kind}: {failure.message}\n  {failure.case}", flush=True)
            printed = len(total.failures)
            if time.monotonic() < deadline:
                pending |= set(submitted(pool, seed, indices, jobs - len(pending)))
            if total.cases % (20 * BATCH) == 0:
                print(f"{total.cases} cases, {printed} failures", flush=True)
    return total


def submitted(pool: ProcessPoolExecutor, seed: int, indices: Iterator[int], count: int) -> list[Future[Outcome]]:
    """Start some more batches."""
    return [pool.submit(batch, seed, index) for _, index in zip(range(count), indices, strict=False)]


def distinct(failures: list[Failure]) -> list[Failure]:
    """One failure of each kind, the smallest case first."""
    smallest: dict[str, Failure] = {}
    for failure in sorted(failures, key=lambda each: len(repr(each.case))):
        smallest.setdefault(failure.kind, failure)
    return list(smallest.values())


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    started = time.monotonic()
    total = campaign(options.minutes * 60, options.seed, options.cases, options.jobs)
    seconds = time.monotonic() - started
    print(f"{total.cases} cases in {seconds:.0f} s ({total.cases / seconds:.1f} a second), seed {options.seed}")
    print(f"checks: {dict(total.checks)}")
    print(f"seconds: { {name: round(value, 1) for name, value in total.seconds.items()} }")
    print(f"{len(total.failures)} failures, kinds: {sorted({failure.kind for failure in total.failures})}")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["POLYFUSE_CACHE"] = folder
        for failure in distinct(total.failures)[:MOST_SHRUNK]:
            print(as_test(shrink(failure)), flush=True)
    return 1 if total.failures else 0
