"""A machine made up for tests."""

from polyfuse.machines.host import Bandwidth, Level, Machine, Peak


def example() -> Machine:
    """Two cores, two widths of vectors, one cache."""
    return Machine(
        name="Example 9000",
        compiler="gcc (Example) 12.2.0",
        flags=("-O3", "-march=native"),
        cores=2,
        clock_ghz=3.5,
        cache_line_bytes=64,
        vector_bytes=32,
        peaks=(Peak(64, 11.5, 0.1), Peak(32, 112.0, 2.0)),
        levels=(
            Level("L1", 32768, 1, Bandwidth(200.0, 100.0, 210.5), Bandwidth(400.0, 200.0, 421.0)),
            Level("DRAM", 8 << 30, 2, Bandwidth(30.0, 20.0, 25.0), Bandwidth(50.0, 30.0, 40.0)),
        ),
    )
