"""An interrupt waits until isl has returned, and is not lost."""

import signal
from collections.abc import Iterator
from threading import Thread

import pytest

from polyfuse.sets.interrupts import interrupts_held


@pytest.fixture(autouse=True)
def heeded() -> Iterator[None]:
    """Interrupts raise KeyboardInterrupt, also where a shell in the background has them ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_takes_effect_at_the_end() -> None:
    reached = []
    with pytest.raises(KeyboardInterrupt), interrupts_held():
        signal.raise_signal(signal.SIGINT)
        reached.append(1)
    assert reached == [1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_nested_blocks_hold_it_to_the_outermost_end() -> None:
    reached = []
    with pytest.raises(KeyboardInterrupt), interrupts_held():
        with interrupts_held():
            signal.raise_signal(signal.SIGINT)
        reached.append(1)
    assert reached == [1]


def test_an_error_is_told_where_there_is_no_interrupt() -> None:
    with pytest.raises(ValueError, match="own"), interrupts_held():
        raise ValueError("own")


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL])
def test_what_python_does_not_handle_is_left_alone(handler: signal.Handlers) -> None:
    signal.signal(signal.SIGINT, handler)
    with interrupts_held():
        assert signal.getsignal(signal.SIGINT) is handler


def test_threads_have_nothing_to_hold() -> None:
    found = []

    def hold() -> None:
        with interrupts_held():
            found.append(signal.getsignal(signal.SIGINT))

    thread = Thread(target=hold)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]
