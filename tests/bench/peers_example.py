"""A made-up comparison with peers."""

from polyfuse.bench.peers.results import PeerComparison, PeerReport, PeerRow


def timed(name: str, milliseconds: float, **more: object) -> PeerRow:
    """A row with times; on the wall it took twice as long."""
    seconds = milliseconds / 1e3
    times = (seconds, 2 * seconds, 0.9 * seconds, 1.8 * seconds)
    return PeerRow(name, "timed", "", "1.2.3", "nchw", "", *times, 50, 11, 2e-7, **more)  # type: ignore[arg-type]


def comparison(workload: str = "pair", *rows: PeerRow) -> PeerComparison:
    """A gigaflop on a machine of 100 GFLOP/s."""
    chosen = rows or (
        timed("polyfuse local", 12.5),
        timed("onnxruntime", 20.0),
        PeerRow("openvino", "missing", "not installed; pip install openvino"),
        PeerRow("ncnn", "failed", "died of SIGSEGV: the last words"),
        PeerRow("halide", "wrong", "wrong result: relative error 3.0e-01, more than 1e-04", max_rel_error=0.3),
    )
    return PeerComparison(workload, 1, "preferred", "CPU time", 10**9, 4 * 10**6, 100.0, 50.0, "L3", chosen)


def report() -> PeerReport:
    """Two workloads."""
    return PeerReport({"cpu": "Example CPU"}, (comparison(), comparison("other")), {"threads": "1"})
