"""Tasks in processes of this host, or in any executor of `concurrent.futures`, as they are finished.

A function and the arguments of each call enter; results leave, each with the position of its arguments.
"""

import multiprocessing
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from threading import Lock
from typing import TypeVar

from polyfuse.machines.host import usable_cores

Result = TypeVar("Result")
ONE_AT_A_TIME = Lock()
"""What a task that works with isl holds: isl has one context in a process, whatever the number of threads."""


def finished(
    function: Callable[..., Result], calls: Sequence[Sequence[object]], executor: Executor | None = None
) -> Generator[tuple[int, Result], None, None]:
    """`(k, function(*calls[k]))` in the order in which calls end, each as soon as it does.

    `executor` is not shut down; without one, the calls run in processes of this host that end with the last. An
    exception in a call or in the caller cancels what has not begun.
    """
    with _workers(executor, len(calls)) as workers:
        tasks = {workers.submit(function, *arguments): index for index, arguments in enumerate(calls)}
        try:
            for task in as_completed(tasks):
                yield tasks[task], task.result()
        except BaseException:
            for task in tasks:
                task.cancel()
            raise


@contextmanager
def _workers(executor: Executor | None, tasks: int) -> Iterator[Executor]:
    """The executor, or processes that end with the block."""
    if executor is not None:
        yield executor
        return
    with processes(max(1, tasks)) as made:
        yield made


@contextmanager
def processes(most: int | None = None) -> Iterator[Executor]:
    """Fresh processes of this host, one for each core that may be used, up to `most`; they end with the block.

    An exception in the block, such as an interrupt, ends them at once.
    """
    cores, others = usable_cores(), set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        min(cores, most or cores), multiprocessing.get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN)
    )
    try:
        yield pool
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
