"""A made-up comparison of every strategy: the worked example of the design, with made-up times."""

from polyfuse.bench.results import COUNTED, Comparison, Row

MACHINE: dict[str, object] = {"cpu": "Example CPU", "cores": 2}


def row(
    strategy: str,
    tile: tuple[int, ...],
    *,
    placement: str | None = None,
    retention: tuple[str, ...] = (),
    executions: int = 580,
    onchip_bytes: int = 1296,
    read_bytes: int = 1600,
    workspace_bytes: int = 0,
    seconds: float | None = 1e-5,
    wrong: dict[str, int] | None = None,
    threads: int = 1,
) -> Row:
    """A row of 580 instances whose counts equal the predictions but for `wrong`."""
    predicted = {
        "executions": executions,
        "macs_executed": 9 * executions,
        "onchip_bytes": onchip_bytes,
        "offchip_read_bytes": read_bytes,
        "offchip_write_bytes": 1024,
        "buffer_bytes": 2 * onchip_bytes,
        "workspace_bytes": workspace_bytes,
    }
    assert set(predicted) == set(COUNTED)
    return Row(
        strategy=strategy,
        placement=placement,
        retention={"conv1_out": retention} if retention else {},
        tile=tile,
        instances=580,
        macs=5220,
        recomputed=executions - 580,
        halo={"conv1_out": (2,) * len(tile), "x": (4,) * len(tile)} if tile else {},
        loops=14,
        branches=0,
        counted={**predicted, **(wrong or {})},
        seconds_median=seconds,
        seconds_min=seconds,
        ratio_to_unfused=None if seconds is None else seconds / 1.2e-5,
        max_rel_error=None if seconds is None else 1.2e-7,
        threads=threads,
        **predicted,
    )


def rows_of_tile(tile: tuple[int, ...], redone: int, scale: float) -> list[Row]:
    """One row per strategy; `redone` executions are repeated by recomputing."""
    area = tile[0] * tile[-1]
    return [
        row("recompute", tile, executions=580 + redone, onchip_bytes=8 * area, seconds=1.30e-5 * scale),
        row("local", tile, placement="first", retention=("local",) * 2, onchip_bytes=12 * area, seconds=9e-6 * scale),
        row("local", tile, placement="shifted", retention=("local",) * 2, onchip_bytes=9 * area, seconds=8e-6 * scale),
        row(
            "global",
            tile,
            placement="shifted",
            retention=("global",) * 2,
            onchip_bytes=8 * area,
            read_bytes=1600 + 4 * redone,
            seconds=1.1e-5 * scale,
        ),
        row(
            "mixed",
            tile,
            placement="shifted",
            retention=("local", "recompute"),
            executions=580 + redone // 2,
            onchip_bytes=9 * area,
            seconds=8.5e-6 * scale,
        ),
    ]


def example(*, wrong: dict[str, int] | None = None) -> Comparison:
    """Unfused and five strategies at three tile sizes; `wrong` counts spoil one row."""
    rows = [row("unfused", (), seconds=1.2e-5, onchip_bytes=0, read_bytes=2896)]
    rows += rows_of_tile((4, 4), 250, 1.4) + rows_of_tile((8, 8), 76, 1.0) + rows_of_tile((72, 60), 0, 1.1)
    if wrong is not None:
        rows.append(row("recompute", (16, 16), wrong=wrong))
    return Comparison("conv3x3-conv3x3", MACHINE, "gcc (Example) 12.2.0", ("-O3", "-march=native"), tuple(rows))
