"""Write the C and the schedules of a comparison where people can read, edit and compile them.

Enters: prepared cases and a folder. Leaves: for each case a folder with

    kernel.c         the C that is timed
    instrumented.c   the C that counts executions and bytes
    schedule.txt     the schedule of each layer, its copies and the buffers, as isl text
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from polyfuse.bench.compare import Candidate, Case
from polyfuse.bench.results import letters
from polyfuse.files import make_folder, write_atomically
from polyfuse.network.network import Network
from polyfuse.network.tensor import safe_name
from polyfuse.schedule.describe import schedule_text
from polyfuse.text import tile_label

LONGEST_NAME = 100


def emit(network: Network, cases: Iterable[Case], folder: Path) -> list[Path]:
    """Write every case and return their folders; each file is replaced as a whole, other files are left alone.

    Errors: InvalidInput where the folder cannot be written.
    """
    every = list(cases)
    folders = [folder / name for name in row_names(network, [case.candidate for case in every])]
    for case, own in zip(every, folders, strict=True):
        make_folder(own)
        groups = [schedule_text(group) for group in case.groups]
        write_atomically(own / "kernel.c", case.timed.source.encode())
        write_atomically(own / "instrumented.c", case.counting.source.encode())
        write_atomically(own / "schedule.txt", "\n".join(groups).encode())
    return folders


def row_names(network: Network, rows: Sequence[Candidate]) -> list[str]:
    """A file name for each row, such as `local-first_8x8` and `mixed-shifted-LR_8x8`; all different.

    >>> from polyfuse.bench.compare import candidates
    >>> from polyfuse.network.network import Builder
    >>> build = Builder("one")
    >>> net = build.network(build.conv("conv1", build.input("x", (1, 1, 20, 20)), 1, kernel=3))
    >>> row_names(net, candidates([(8, 8)]))[:4]
    ['unfused', 'recompute_8x8', 'local-first_8x8', 'local-shifted_8x8']
    """
    names: list[str] = []
    for row in rows:
        words = [row.label, *([row.placement] if row.placement else [])]
        if row.label == "mixed":
            words += retention_codes(row, network)
        name = "-".join(words)[:LONGEST_NAME] + (f"_{tile_label(row.tile, row.axes)}" if row.tile else "")
        others = sum(other == name or other.startswith(f"{name}.") for other in names)
        names.append(f"{name}.{others + 1}" if others else name)
    return names


def retention_codes(row: Candidate, network: Network) -> list[str]:
    """One letter per tile dimension, once for all tensors, and those of tensors that differ with their names."""
    assert row.strategy is not None
    codes = {name: letters(places) for name, places in row.retention(network).items()}
    common = letters(row.strategy.others)
    own = [f"{safe_name(name)}-{code}" for name, code in codes.items() if code != common]
    return [common, *own]
