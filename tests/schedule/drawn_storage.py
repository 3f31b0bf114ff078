"""Random storage, legal and broken: judged by `check`, by replays with real cells, and one in ten as compiled C.

    python -m tests.schedule.drawn_storage 10000 --seed 1

Small networks in random schedules get random maps from elements to cells: what `pf.storage` finds, edited (windows,
rings, offsets, order, skew, lines, halves, lost indices), and tensors in one array. What is accepted must be right when
executions run one after another, and as C. It must be accepted exactly if it is right with a stage of a tile as one
moment; what is right only in the finer order is counted. Nothing but an error of polyfuse may be raised.
"""

import random
import re
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import islpy as isl
import numpy as np
from numpy.typing import NDArray

import polyfuse as pf
from polyfuse.schedule.executions import with_tile_order
from tests.schedule import drawn_schedules
from tests.schedule.replay import Place, Replays

MAPS_OF_A_SCHEDULE = 8
EDITS = ("order", *("ring", "skew", "line") * 2, "wider", "offset", "slope", "halves", "drop", "flip")
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Expression:
    """`floor((sum of factors * variables + constant) / divisor) mod modulus`; no modulus where it is 0."""

    factors: tuple[int, ...]
    constant: int = 0
    divisor: int = 1
    modulus: int = 0

    def text(self, names: Sequence[str]) -> str:
        """The expression in isl's notation."""
        terms = [f"{factor}{name}" for factor, name in zip(self.factors, names, strict=True) if factor]
        text = " + ".join([*terms, str(self.constant)])
        text = f"floor(({text}) / {self.divisor})" if self.divisor > 1 else text
        return f"({text}) mod {self.modulus}" if self.modulus else text

    def values(self, at: Ints) -> Ints:
        """The value at each row."""
        found = (at @ np.array(self.factors, np.int64) + self.constant) // self.divisor
        return found % self.modulus if self.modulus else found


@dataclass(frozen=True)
class Cell:
    """The storage of one tensor: its array and an expression over `[t.., a..]` for each index."""

    array: str
    indices: tuple[Expression, ...]

    def values(self, at: Ints) -> Ints:
        """The cell at each row."""
        return np.column_stack([index.values(at) for index in self.indices])

    def text(self, tensor: pf.Tensor, coordinates: int) -> str:
        """The map in isl's notation."""
        tiles, elements = [f"t{d}" for d in range(coordinates)], [f"a{d}" for d in range(len(tensor.shape))]
        cell = ", ".join(index.text([*tiles, *elements]) for index in self.indices)
        domain = f"[tile[{', '.join(tiles)}] -> {tensor.name}[{', '.join(elements)}]]"
        return f"{{ {domain} -> {self.array}[{cell}] }}"


@dataclass(frozen=True, eq=False)
class Subject:
    """A schedule whose own storage is legal, and what is replayed of it."""

    group: pf.Storage
    replays: Replays

    @property
    def schedule(self) -> pf.Schedule:
        """The schedule."""
        return self.group.schedule

    @cached_property
    def own(self) -> Mapping[str, Cell]:
        """The storage that `pf.storage` finds, as expressions."""
        return {name: own_cell(buffer) for name, buffer in self.group.buffers.items()}

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shapes of its buffers."""
        return {name: buffer.shape for name, buffer in self.group.buffers.items()}

    @cached_property
    def accessed(self) -> Mapping[str, Ints]:
        """`[t.., a..]` of all accesses to each buffer."""
        found: dict[str, list[Ints]] = {}
        for accesses in (*self.replays.stages, *self.replays.executions):
            found.setdefault(accesses.tensor, []).append(accesses.at)
        return {name: np.unique(np.concatenate(rows), axis=0) for name, rows in found.items()}

    @cached_property
    def inputs(self) -> dict[str, np.ndarray]:
        """Values of the inputs."""
        return {name: value.astype(np.float32) for name, value in pf.random_inputs(self.schedule.network, 3).items()}

    @cached_property
    def expected(self) -> Mapping[str, np.ndarray]:
        """What the network makes of them."""
        return pf.reference(self.schedule.network, self.inputs)


def own_cell(buffer: object) -> Cell:
    """A buffer as expressions."""
    indices = []
    for index in buffer.indices:  # type: ignore[attr-defined]
        aff = index.affine
        factors = [
            int(aff.get_coefficient_val(isl.dim_type.in_, d).to_python()) for d in range(aff.dim(isl.dim_type.in_))
        ]
        constant = int(aff.get_constant_val().to_python())
        indices.append(Expression(tuple(factors), constant, 1, index.window if index.folded else 0))
    return Cell(f"own_{buffer.tensor.name}", tuple(indices))  # type: ignore[attr-defined]


def convolutions(rng: random.Random) -> pf.Network:
    """One or two layers on a small image of one or two channels."""
    build = pf.Builder("convolutions")
    tensor = build.input("x", (1, rng.choice([1, 2]), rng.randint(3, 5), rng.randint(3, 4)))
    for name in "ab"[: rng.randint(1, 2)]:
        if rng.random() < 0.7:
            tensor = build.conv(name, tensor, rng.choice([1, 2]), kernel=(2, 2), padding=rng.choice([0, 1]))
        else:
            tensor = build.max_pool(name, tensor, kernel=(2, 2), stride=1)
    return build.network(tensor)


def subject(rng: random.Random) -> Subject | None:
    """A random schedule, if it is legal as `pf.storage` stores it."""
    network = convolutions(rng) if rng.random() < 0.25 else drawn_schedules.network(rng)
    shape = network.outputs[-1].concrete_shape
    sizes = [rng.randint(1, max(1, n - 1)) for n in (shape[2:] if len(shape) == 4 else shape)]
    tile = tuple(sizes[: rng.randint(1, len(sizes))])
    places = ["recompute", "local", "local", "global"]
    others = tuple(rng.choice(places) for _ in tile)
    names = [tensor.name for tensor in (*network.inputs, *(layer.output for layer in network.layers))]
    retention = {name: tuple(rng.choice(places[:3]) for _ in tile) for name in names if rng.random() < 0.3}
    try:
        strategy = pf.Strategy(
            tile, others, retention, rng.choice(("first", "shifted")), weights=rng.choice(("once", "tile"))
        )
        schedule = pf.scheduled(network, strategy)
        if rng.random() < 0.15:
            tiles = [f"t{d}" for d in range(len(schedule.tiling.dims))]
            times = [*tiles[:-1], f"{rng.choice(['', '-'])}{tiles[-1]}"]
            times[0] = f"{times[0]} + {rng.choice([0, 1, 2])}{tiles[-1]}"
            schedule = with_tile_order(schedule, f"{{ tile[{', '.join(tiles)}] -> [{', '.join(times)}] }}")
        group = pf.storage(schedule)
        pf.check(group)
    except pf.PolyfuseError:
        return None
    return Subject(group, Replays(schedule))


def changed(rng: random.Random, cell: Cell, k: int, **fields: int | tuple[int, ...]) -> Cell:
    """A cell with another expression at one index."""
    indices = list(cell.indices)
    indices[k] = replace(indices[k], **fields)  # type: ignore[arg-type]
    return replace(cell, indices=tuple(indices))


def edited(rng: random.Random, cell: Cell, extents: Sequence[int]) -> Cell:
    """A cell with one random edit; `extents` are the sizes of its indices."""
    k = rng.randrange(len(cell.indices))
    index, size = cell.indices[k], extents[k]
    what = rng.choice(EDITS)
    others = [d for d in range(len(cell.indices)) if d != k]
    if what == "order":
        return replace(cell, indices=tuple(rng.sample(cell.indices, len(cell.indices))))
    if what == "ring":
        return changed(rng, cell, k, modulus=max(1, size + rng.choice([-2, -1, -1, 0, 0, 1, 3])))
    if what == "wider":
        return changed(rng, cell, k, modulus=index.modulus + 2 if index.modulus else 0, constant=index.constant + 1)
    if what == "offset":
        return changed(rng, cell, k, constant=index.constant + rng.choice([-1, 1, 2]))
    if what == "slope":
        at, by = rng.randrange(len(index.factors)), rng.choice([-1, 1, 2])
        return changed(rng, cell, k, factors=tuple(f + by * (d == at) for d, f in enumerate(index.factors)))
    if what == "flip" and not index.modulus:
        return changed(rng, cell, k, factors=tuple(-f for f in index.factors), constant=size - 1 - index.constant)
    if what == "halves" and not index.modulus:
        halves = (replace(index, divisor=2 * index.divisor), replace(index, modulus=2))
        return replace(cell, indices=(*cell.indices[:k], *halves, *cell.indices[k + 1 :]))
    if what == "drop" and others:
        return replace(cell, indices=tuple(cell.indices[d] for d in others))
    if what in ("skew", "line") and others:
        other = cell.indices[rng.choice(others)]
        by = rng.choice([1, -1]) if what == "skew" else max(1, extents[k] + rng.choice([-1, 0, 0, 0, 1]))
        if other.modulus or other.divisor > 1 or index.divisor > 1 or (index.modulus and what == "line"):
            return cell
        factors = tuple(f + by * g for f, g in zip(index.factors, other.factors, strict=True))
        moved = replace(index, factors=factors, constant=index.constant + by * other.constant)
        if what == "skew":
            return replace(cell, indices=(*cell.indices[:k], moved, *cell.indices[k + 1 :]))
        return replace(cell, indices=tuple(moved if i is index else i for i in cell.indices if i is not other))
    return cell


def extents_of(subject: Subject, name: str, cell: Cell) -> list[int]:
    """One more than the largest value of each index, where anything is accessed."""
    at = subject.accessed[name]
    return [max(1, int(index.values(at).max(initial=0)) + 1) for index in cell.indices]


def together(rng: random.Random, subject: Subject, cells: dict[str, Cell]) -> dict[str, Cell]:
    """Two or three tensors in one array: one over the other, or told apart by one more index in front."""
    names = rng.sample(sorted(subject.accessed), min(len(subject.accessed), rng.choice([2, 2, 3])))
    rank = max(len(cells[name].indices) for name in names)
    first, beside = 0, rng.random() < 0.4
    for name in names:
        indices = cells[name].indices
        zero = Expression((0,) * len(indices[0].factors))
        padded = [*indices, *[zero] * (rank - len(indices))]
        if beside:
            padded = [replace(zero, constant=first), *padded]
            first += rng.choice([1, 1, 1, 0])
        cells[name] = Cell("both", tuple(padded))
    return cells


def drawn(rng: random.Random, subject: Subject) -> dict[str, Cell]:
    """Storage for some tensors of a schedule."""
    cells = dict(subject.own)
    names = sorted(subject.accessed)
    for name in rng.sample(names, min(len(names), rng.choice([1, 1, 2]))):
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            cells[name] = edited(rng, cells[name], extents_of(subject, name, cells[name]))
    if rng.random() < 0.4 and len(names) > 1:
        cells = together(rng, subject, cells)
    return cells


def shapes_of(rng: random.Random, subject: Subject, cells: Mapping[str, Cell]) -> dict[str, tuple[int, ...]]:
    """The shape of each array: what is used of it, now and then less or more."""
    found: dict[str, list[int]] = {}
    for name, cell in cells.items():
        sizes = extents_of(subject, name, cell) if name in subject.accessed else [1] * len(cell.indices)
        found[cell.array] = [max(pair) for pair in zip(found.get(cell.array, sizes), sizes, strict=True)]
    if rng.random() < 0.15:
        array = rng.choice(sorted(found))
        k = rng.randrange(len(found[array]))
        found[array][k] = max(1, found[array][k] + rng.choice([-1, -1, 2]))
    return {array: tuple(sizes) for array, sizes in found.items()}


def judge(
    subject: Subject, cells: Mapping[str, Cell], shapes: Mapping[str, tuple[int, ...]]
) -> tuple[str, pf.Storage | None]:
    """What becomes of storage, `unsound` and `raw` first where that is wrong; and the group, if it is accepted."""
    coordinates = len(subject.schedule.tiling.dims)
    tensors = {name: buffer.tensor for name, buffer in subject.group.buffers.items()}
    same = {
        name for name, cell in cells.items() if cell == subject.own[name] and shapes[cell.array] == subject.shapes[name]
    }
    maps = {name: cell.text(tensors[name], coordinates) for name, cell in cells.items() if name not in same}
    places = {name: Place(cell.array, shapes[cell.array], cell.values) for name, cell in cells.items()}
    try:
        wanted = {array: shape for array, shape in shapes.items() if any(cells[name].array == array for name in maps)}
        group = pf.storage(subject.schedule, maps, wanted)
        pf.check(group)
    except pf.InvalidInput as refusal:
        return f"not taken: {re.sub(r'[0-9]+', 'n', str(refusal))[:70]}", None
    except pf.IllegalSchedule as refusal:
        return refused(subject, places, str(refusal)), None
    except Exception:
        return f"raw: {traceback.format_exc()}", None
    replays = subject.replays
    for judged in (replays.wrong_executions, replays.wrong_stages, replays.wrong_weights):
        if (wrong := judged(places)) is not None:
            return f"unsound: accepted, and {wrong}", None
    return "accepted", group


def refused(subject: Subject, places: Mapping[str, Place], why: str) -> str:
    """A refusal: of what is wrong, of what is right only in the order inside of a stage, or of neither."""
    replays = subject.replays
    if replays.wrong_weights(places) is not None:
        return "refused, and wrong"
    if replays.wrong_stages(places) is None:
        return f"refused though right: {re.sub(r'[0-9]+', 'n', why)}"
    if replays.wrong_executions(places) is None:
        return "refused, and right only in the order of executions inside of a stage"
    return "refused, and wrong"


def judged_c(subject: Subject, group: pf.Storage, form: int) -> str:
    """The C of storage that is accepted: its values, and the bytes on chip where all buffers are there."""
    network = subject.schedule.network
    staged = form % 2 == 0
    kernel = pf.build(pf.generate(network, [group], staged=staged), options=pf.Options(flags=("-std=c11", "-O0")))
    values = kernel(**subject.inputs)
    for tensor in network.outputs:
        if not pf.max_relative_error(values[tensor.name], subject.expected[tensor.name]) < 1e-4:
            return f"unsound: the C is wrong, staged {staged}"
    if staged and kernel.onchip_bytes != group.onchip_bytes:
        return f"unsound: {kernel.onchip_bytes} B on chip, predicted {group.onchip_bytes}"
    return "accepted, and its C is right"


def cases(seed: int) -> Iterator[tuple[int, Subject, dict[str, Cell], dict[str, tuple[int, ...]]]]:
    """Numbered cases without end: some storage for each schedule that is legal."""
    number = 0
    for k in range(seed * 1_000_000, (seed + 1) * 1_000_000):
        rng = random.Random(k)
        found = subject(rng)
        if found is None:
            continue
        for _ in range(MAPS_OF_A_SCHEDULE):
            cells = drawn(rng, found)
            yield number, found, cells, shapes_of(rng, found, cells)
            number += 1


def run(count: int, seed: int, *, every: int = 10, seconds: float = float("inf")) -> Counter[str]:
    """The verdicts; one in `every` cases is compiled, if it is accepted."""
    verdicts: Counter[str] = Counter()
    started = time.monotonic()
    for number, found, cells, shapes in cases(seed):
        if number >= count or time.monotonic() - started > seconds:
            break
        verdict, group = judge(found, cells, shapes)
        if group is not None and number % every == every - 1:
            try:
                verdict = judged_c(found, group, number // every)
            except Exception:
                verdict = f"raw: {traceback.format_exc()}"
        verdicts[verdict] += 1
        if verdict.startswith(("unsound", "raw", "refused though right")):
            coordinates = len(found.schedule.tiling.dims)
            print(f"case {seed}/{number}: {verdict}\n{found.schedule}\n  {shapes}", flush=True)
            for name, cell in cells.items():
                print("  ", cell.text(found.group.buffers[name].tensor, coordinates), flush=True)
    return verdicts


def main() -> int:
    """Judge as many as the command line asks for; the exit status says whether one was judged wrongly."""
    count, seed = int(sys.argv[1]), int(sys.argv[sys.argv.index("--seed") + 1]) if "--seed" in sys.argv else 1
    verdicts = run(count, seed)
    for verdict, n in verdicts.most_common():
        print(f"{n:8,}  {verdict}")
    return int(any(verdict.startswith(("unsound", "raw")) for verdict in verdicts))


if __name__ == "__main__":
    sys.exit(main())
