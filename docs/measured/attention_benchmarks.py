"""Attention fused by rows against its own layers: `python docs/measured/attention_benchmarks.py` writes the page.

`kernels/online_attention.py` with the times of `online`, the same kernel layer by layer, and `kernels/attention.py`
(softmax of whole rows) layer by layer; plain C, one thread.
"""

import datetime
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from polyfuse.bench.measure import measure
from polyfuse.choices import DEFAULT_FLAGS
from polyfuse.codegen.compiler import find_compiler
from polyfuse.codegen.kernel import build
from polyfuse.codegen.program import generate
from polyfuse.deploy.host import host_facts
from polyfuse.loading import load_workload
from polyfuse.network.network import Network
from polyfuse.network.reference import max_relative_error, random_inputs
from polyfuse.schedule.counts import counts
from polyfuse.schedule.given import schedule_from
from polyfuse.schedule.groups import layer_by_layer
from polyfuse.schedule.legality import check
from polyfuse.schedule.storage import Storage, storage

FOLDER = Path(__file__).parent
KERNELS = FOLDER.parents[1] / "kernels"
SIZES = ((1024, 1024, 32), (1024, 2048, 32), (1024, 4096, 32), (1024, 2048, 64))
"""Queries, keys and width."""
ROWS, BLOCK = 8, 128
PAGE = """\
# Attention, fused by rows

Measured {date} on {cpu}, {cores} cores, {compiler}, `{flags}`; one thread, fp32, plain C loops.

One head of attention. *Fused* is `kernels/online_attention.py` in tiles of {rows} rows of queries, which take blocks
of {block} keys one after the other: maxima, sums and weighted values of a row wait on chip, and no tensor between
layers is in memory. *Its own layers* is the same kernel layer by layer, *whole rows* is `kernels/attention.py`, the
usual softmax, layer by layer. `python docs/measured/attention_benchmarks.py` measures this again and writes this page.
Ratios are of medians of CPU time, measured in one run in turns. They are what one machine showed, not promises.

| queries | keys | width | on chip, B | its own layers / fused | whole rows / fused | max rel error |
|---:|---:|---:|---:|---:|---:|---:|
{table}

What is on chip does not depend on the number of keys. Errors are those of the fused code against numpy in double
precision. Plain C computes `expf` one value at a time in all forms.
"""


def attention(name: str, **sizes: int) -> Network:
    """A kernel of attention at some sizes."""
    return load_workload(str(KERNELS / f"{name}.py"), parameters={key: str(size) for key, size in sizes.items()})


def online(queries: int, keys: int, width: int, rows: int = ROWS, block: int = BLOCK) -> Storage:
    """Blocks of keys one after the other for each tile of rows, all layers of a block together; proved."""
    tile, piece = f"floor(i / {rows})", f"floor(j / {block})"
    instances = {
        "scores_init[i, j]": f"{piece}, 0, i, j, 0",
        "scores_update[i, j, d]": f"{piece}, 1, i, d, j",
        "top[i, u]": "u, 2, i, 0, 0",
        "most[i, u]": "u, 3, i, 0, 0",
        "factors[i, u]": "u, 4, i, 0, 0",
        "shares[i, j]": f"{piece}, 5, i, j, 0",
        "part[i, u]": "u, 6, i, 0, 0",
        "total[i, u]": "u, 7, i, 0, 0",
        "weighted_init[i, u, d]": "u, 8, i, 0, d",
        "weighted_update[i, u, d, j]": "u, 9, i, j, d",
        "summed[i, u, d]": "u, 10, i, 0, d",
        "out[i, d]": f"{(keys - 1) // block}, 11, i, 0, d",
    }
    times = [f"{instance} -> [{tile}, {time}]" for instance, time in instances.items()]
    network = attention("online_attention", queries=queries, keys=keys, width=width, block=block)
    group = storage(schedule_from(network, f"{{ {'; '.join(times)} }}", tile=2, others=("recompute", "local")))
    check(group)
    return group


def attended(inputs: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float64]:
    """`softmax(Q K / sqrt(width)) V` as numpy has it, in double precision."""
    q, k, v = (inputs[name].astype(np.float64) for name in "QKV")
    scores = q @ k / np.sqrt(q.shape[1])
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(shares @ v / shares.sum(axis=1, keepdims=True))


def lines(sizes: tuple[tuple[int, int, int], ...], repeats: int) -> Iterator[tuple[str, ...]]:
    """For some sizes: what they are, bytes on chip, how many times slower the unfused codes are, and the error."""
    for queries, keys, width in sizes:
        group = online(queries, keys, width)
        network = group.schedule.network
        usual = attention("attention", queries=queries, keys=keys, width=width)
        programs = {
            "fused": generate(network, [group], kernels="scalar"),
            "own": generate(network, layer_by_layer(network), kernels="scalar"),
            "whole rows": generate(usual, layer_by_layer(usual), kernels="scalar"),
        }
        kernels = {name: build(program) for name, program in programs.items()}
        inputs = random_inputs(network, 0)
        for kernel in kernels.values():
            kernel.set_inputs(inputs)
        found = measure({name: kernel.run for name, kernel in kernels.items()}, repeats=repeats)
        error = max_relative_error(kernels["fused"].outputs["out"], attended(inputs))
        ratios = [f"{found[name].median / found['fused'].median:.2f}" for name in ("own", "whole rows")]
        yield str(queries), str(keys), str(width), f"{counts(group).onchip_bytes:,}", *ratios, f"{error:.0e}"


@click.command()
@click.option("--repeats", default=11, type=click.IntRange(1), help="Samples of each form.")
def main(repeats: int) -> None:
    """Measure, and write the page."""
    found, compiler = host_facts(), find_compiler()
    page = PAGE.format(
        date=datetime.date.today().isoformat(),
        cpu=found["cpu"],
        cores=found["cores"],
        compiler=compiler.version,
        flags=" ".join(DEFAULT_FLAGS),
        rows=ROWS,
        block=BLOCK,
        table="\n".join(f"| {' | '.join(line)} |" for line in lines(SIZES, repeats)),
    )
    (FOLDER / "attention-benchmarks.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
