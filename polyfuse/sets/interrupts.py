"""Hold an interrupt back while isl calls Python.

A signal handler runs between any two steps of Python, those of a function that isl calls included. islpy drops what is
raised there, and after a failed AST callback isl goes on with memory that it has freed.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Ctrl-C inside the block takes effect at its end.

    Nothing to do in threads, which interrupts do not reach, and where something other than Python handles them.
    """
    handler = signal.getsignal(signal.SIGINT)
    if current_thread() is not main_thread() or not callable(handler):
        yield
        return
    held: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _frame: held.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if held:
            signal.raise_signal(signal.SIGINT)
