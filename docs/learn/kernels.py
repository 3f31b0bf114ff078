"""Write docs/learn/kernels.md: the kernels that are no networks of images, under every strategy and shape of tile.

`python docs/learn/kernels.py`. Everything in it is counted from sets, so that it is the same on every host.
"""

from collections.abc import Iterator
from functools import reduce
from pathlib import Path

import islpy as isl

import polyfuse as pf
from polyfuse.schedule.shapes import Shape
from polyfuse.text import tile_label

SET = isl.dim_type.set
HERE = Path(__file__).parent
KERNELS = HERE.parents[1] / "kernels"
LOOPS: dict[str, tuple[dict[str, str], tuple[int, ...]]] = {
    "jacobi1d": ({"size": "256"}, (32,)),
    "jacobi2d": ({"size": "24", "steps": "2", "border": "zero"}, (8,)),
    "harris": ({"size": "36"}, (8, 16)),
    "pyramid": ({"size": "32"}, (8, 8)),
    "matmul_chain": ({"rows": "64", "columns": "16"}, (8,)),
    "attention": ({"queries": "64", "keys": "64", "width": "16"}, (8,)),
    "online_attention": ({"queries": "16", "keys": "16", "width": "4"}, (8,)),
    "conv1d": ({"size": "140", "channels": "4"}, (32,)),
    "conv3d": ({"size": "20"}, (4, 8, 8)),
    "separable": ({"size": "36"}, (8, 16)),
    "maxplus": ({"rows": "64", "columns": "16"}, (8,)),
}
SHAPES: tuple[Shape, ...] = ("overlapped", "uniform", "parallelogram", "split", "hexagonal")
BAND = 2
"""Layers in a band of hexagons."""
HEAD = """# Kernels that are no networks of images

Layers are sets and relations, so that stencils in time, image pipelines, products of matrices and attention are fused,
tiled and counted like convolutions. `kernels/` has these, each a file of its own to copy:

| kernel | what it is |
|---|---|
{files}

Compare them as any workload; sizes are parameters:

```console
$ polyfuse compare kernels/jacobi1d.py --set size=256 --tile 32 --strategy local --no-run
jacobi1d_shrinking on ... 1,004 ...
halo that neighbouring tiles of 32 share: a3 2, a2 4, a1 6, x 8
$ polyfuse compare kernels/attention.py --set queries=32 --set keys=32 --tile 8 --strategy recompute --no-run
attention on ... 4,160 ...
halo that neighbouring tiles of 8 share: K 32, V 32
```

Without `--no-run` every row is compiled, counted, checked against the reference and timed.

## Strategies

Executions are those of all points of all layers; *recomputed* is what is executed beyond the first time. Bytes on chip
are all buffers of the fused group. `python docs/learn/kernels.py` counts this again and writes this page.

| kernel | tile | strategy | executions | recomputed | on chip, B | off-chip, B |
|---|---|---|---:|---:|---:|---:|
{strategies}

In tiles of rows, a chain of products recomputes nothing, and attention keeps the scores of a tile's rows only: its
buffers grow with the number of keys, not with that of queries:

```python
>>> import polyfuse as pf
>>> def on_chip(queries, keys):
...     sizes = {{"queries": str(queries), "keys": str(keys), "width": "8"}}
...     attention = pf.load_workload("kernels/attention.py", parameters=sizes)
...     return pf.counts(pf.fused(attention, pf.Strategy((8,), ("local",)))[0]).onchip_bytes
>>> on_chip(16, 16) == on_chip(32, 16) < on_chip(16, 32)
True
```

With the softmax made as blocks of keys come, and times that name tiles and blocks, they do not grow with either:

```python
>>> def online(keys):
...     sizes = {{"queries": "8", "keys": str(keys), "width": "4", "block": "4"}}
...     attention = pf.load_workload("kernels/online_attention.py", parameters=sizes)
...     times = f'''{{{{
...         scores[i, j] -> [floor(i/4), floor(j/4), 0, i, j];  top[i, u] -> [floor(i/4), u, 1, i, 0];
...         most[i, u] -> [floor(i/4), u, 2, i, 0];             factors[i, u] -> [floor(i/4), u, 3, i, 0];
...         shares[i, j] -> [floor(i/4), floor(j/4), 4, i, j];  part[i, u] -> [floor(i/4), u, 5, i, 0];
...         total[i, u] -> [floor(i/4), u, 6, i, 0];            weighted[i, u, d] -> [floor(i/4), u, 7, i, d];
...         summed[i, u, d] -> [floor(i/4), u, 8, i, d];        out[i, d] -> [floor(i/4), {{keys // 4 - 1}}, 9, i, d]
...     }}}}'''
...     group = pf.storage(pf.schedule_from(attention, times, tile=2, others=("recompute", "local")))
...     pf.check(group)
...     return pf.counts(group).onchip_bytes
>>> online(8), online(16)
(688, 688)
```

How fast that is: [attention, fused by rows](../measured/attention-benchmarks.md).

## Shapes of tiles

`pf.shaped` makes tiles of other shapes for chains of stencil-like layers. A *phase* is a set of tiles that are
independent of one another; phases run one after the other. Parallelograms depend on the tile before, so that each is a
phase. *uniform* widens each layer by the widest window of all layers, as compilers of image pipelines do; *overlapped*
takes exactly what is needed, so that it recomputes less where windows differ, with as many independent tiles. Right
rectangles (Zhao and Cohen, "Flextended Tiles", TACO 2019) are one or the other in skewed coordinates: *overlapped*
where each layer's own reads give the slopes, *uniform* where the steepest of all do. *split* recomputes nothing, in two
phases. *hexagonal* does so in bands of a few layers, {band} of them here; tiles may then be narrower than what the
whole chain reaches over, and each band takes one more phase.

| chain | shape | executions | recomputed | phases | on chip, B | off-chip, B |
|---|---|---:|---:|---:|---:|---:|
{shapes}

```python
>>> jacobi = pf.load_workload("kernels/jacobi1d.py", parameters={{"size": "64"}})
>>> group = pf.storage(pf.shaped(jacobi, "split", (16,)))
>>> pf.check(group)
>>> pf.counts(group).recomputed
0
```
"""


def loaded(name: str, parameters: dict[str, str]) -> pf.Network:
    """A kernel of ./kernels."""
    return pf.load_workload(str(KERNELS / f"{name}.py"), parameters=parameters)


def file_rows() -> Iterator[str]:
    """The first line of what each kernel says of itself."""
    for name in LOOPS:
        text = (KERNELS / f"{name}.py").read_text(encoding="utf-8").split('"""')[1].strip().partition("\n")[0]
        yield f"| [{name}](../../kernels/{name}.py) | {text} |"


def strategy_rows() -> Iterator[str]:
    """Layer by layer, and each retention in one tile size."""
    for name, (parameters, tile) in LOOPS.items():
        network = loaded(name, parameters)
        yield row(network.name, "untiled", "unfused", counted=pf.total(map(pf.counts, pf.layer_by_layer(network))))
        for places in ("recompute", "local", "global"):
            (group,) = pf.fused(network, pf.Strategy.named(places, tile, "shifted"))
            yield row(network.name, tile_label(tile), places, counted=pf.counts(group))


def chains() -> dict[str, tuple[pf.Network, int]]:
    """A Jacobi over a line, whose windows are alike, and convolutions over rows, whose windows are not."""
    build = pf.Builder("conv_rows")
    x = build.input("x", (1, 1, 70, 4))
    for number, taps in enumerate((1, 5, 3)):
        x = build.conv(f"c{number}", x, 1, kernel=(taps, 1))
    return {"jacobi1d, 4 steps, 136": (loaded("jacobi1d", {"size": "136"}), 32),
            "convolutions of 1, 5 and 3 rows": (build.network(x), 16)}  # fmt: skip


def shape_rows() -> Iterator[str]:
    """Every shape of tile for each chain."""
    for name, (network, tile) in chains().items():
        for shape in SHAPES:
            band = BAND if shape == "hexagonal" else None
            group = pf.storage(pf.shaped(network, shape, (tile,), band=band))
            pf.check(group)
            counts = pf.counts(group)
            executed = [group.schedule.executions(layer).range() for layer in network.layers]
            tiles = reduce(isl.Set.union, executed)
            first = tiles.project_out(SET, 1, tiles.n_dim() - 1)
            phases = {"parallelogram": tiles, "split": first, "hexagonal": first}.get(shape)
            yield row(name, shape, counted=counts, after_recomputed=f"{pf.count(phases) if phases else 1} |")


def row(*cells: str, counted: pf.Counts, after_recomputed: str = "") -> str:
    """Counts as a row of a table."""
    share = 100 * counted.recomputed / counted.instances
    figures = f"{counted.executions:,} | {share:.1f}% |"
    return " ".join(
        ["|", " | ".join(cells), "|", figures, *filter(None, [after_recomputed]),
         f"{counted.onchip_bytes:,} | {counted.offchip_bytes:,} |"]
    )  # fmt: skip


def page() -> str:
    """The text of the page."""
    parts = {"files": file_rows(), "strategies": strategy_rows(), "shapes": shape_rows()}
    return HEAD.format(band=BAND, **{name: "\n".join(rows) for name, rows in parts.items()})


if __name__ == "__main__":
    (HERE / "kernels.md").write_text(page(), encoding="utf-8")
