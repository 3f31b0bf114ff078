"""A bar on the terminal for what takes longer than a second.

Enters: calls that say what is going on. Leaves: nothing, once the work is over; nothing at all in a pipe.
"""

from threading import Timer
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

PATIENCE_SECONDS = 1.0
_PER_SECOND = 4


class ProgressBar:
    """Call it with what is going on, how many steps are done and how many there are; use it as a context."""

    def __init__(self, console: Console | None = None, patience: float = PATIENCE_SECONDS) -> None:
        console = console or Console(stderr=True)
        shown = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*shown, console=console, transient=True, refresh_per_second=_PER_SECOND)
        self._task = self._progress.add_task("starting", total=None)
        self._what = "starting"
        self._timer = Timer(patience, self._progress.start) if console.is_terminal else None

    def __call__(self, what: str, done: int, of: int) -> None:
        if what != self._what:
            self._progress.reset(self._task)
            self._what = what
        self._progress.update(self._task, description=what, completed=done, total=of)

    def __enter__(self) -> "ProgressBar":
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
            self._progress.stop()
