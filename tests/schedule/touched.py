"""What the accesses of a step amount to, from its number of executions."""

from polyfuse.schedule.steps import Step


def bytes_touched(step: Step, executed: int) -> list[tuple[str, str, int]]:
    """What the accesses of a step amount to: (read_bytes or write_bytes, array, bytes)."""
    return [
        ("write_bytes" if t.writes else "read_bytes", t.array, executed * t.tensor.element_bytes) for t in step.touches
    ]
