"""A machine on the terminal."""

import io
from dataclasses import replace

from rich.console import Console

from polyfuse.report.machine import print_machine
from tests.machines.example import example

GOLDEN = """
Example 9000
gcc (Example) 12.2.0 -O3 -march=native
2 cores at 3.5 GHz, cache lines of 64 B, vectors of 32 B

          GFLOP/s  multiply-adds
vectors  one core      per cycle
──────────────────────────────────────
64 B         11.5            0.1
32 B          112              2  used

                           1 core  1 core  1 core  2 cores  2 cores  2 cores
                    cores    GB/s    GB/s    GB/s     GB/s     GB/s     GB/s
level  capacity  share it    read   write    copy     read    write     copy
────────────────────────────────────────────────────────────────────────────
L1       32 KiB         1     200     100     210      400      200      421
DRAM      8 GiB         2      30      20      25       50       30       40
GB/s: 10^9 bytes per second; a copy counts what it reads and what it writes
"""


def printed(cores: int = 2) -> str:
    """What goes into a pipe."""
    file = io.StringIO()
    print_machine(replace(example(), cores=cores), Console(file=file, width=80))
    return "\n" + "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())


def test_table_is_what_people_saw_last() -> None:
    assert printed() == GOLDEN


def test_one_core_is_no_plural() -> None:
    assert "1 core at 3.5 GHz" in printed(1) and "cores at" not in printed(1)


def test_table_of_many_cores_fits_80_columns() -> None:
    assert max(map(len, printed(cores=128).splitlines())) <= 80
