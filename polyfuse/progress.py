"""How far a long task is: what is going on, how many steps are done, how many there are."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]


def silent(_what: str, _done: int, _of: int) -> None:
    """No progress is shown."""
