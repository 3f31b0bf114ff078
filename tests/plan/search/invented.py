"""Small graphs with invented options, for searches that must not depend on what options cost."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from polyfuse.plan.price.options import Option
from polyfuse.plan.search.choices import Fetch, Problem
from polyfuse.plan.search.ideals import Dag
from polyfuse.plan.tiles.tables import Tile

WHOLE = Tile(1, 0, 0, {}, "resident")


@dataclass(frozen=True, eq=False)
class Invented:
    """A graph as the oracle wants it, and the numbers behind its options."""

    nodes: tuple[tuple[str, tuple[str, ...], str], ...]
    outputs: frozenset[str]
    sizes: Mapping[str, int]
    seed: int

    def ways(
        self, group: Sequence[str], sources: Mapping[str, str], sinks: Mapping[str, str]
    ) -> list[tuple[int, int, int]]:
        """Workspace, cycles and bytes of each option: streaming takes a ring, cycles and bytes more than in place."""
        drawn = random.Random(f"{self.seed} {sorted(group)}")
        found = []
        for _ in range(drawn.randint(1, 3)):
            space, cycles, moved = drawn.randint(1, 12), drawn.randint(0, 8) * len(group), drawn.randint(0, 5)
            rings = {t: (drawn.randint(0, self.sizes[t]), drawn.randint(0, 4)) for t in sorted({*sources, *sinks})}
            for tensor, place in (*sources.items(), *sinks.items()):
                if place == "on":
                    continue
                ring, wait = rings[tensor]
                space += ring if place == "off" else 0
                cycles += wait + self.sizes[tensor] // 2
                moved += self.sizes[tensor]
            found.append((space, cycles, moved))
        return found

    def loads(self, tensor: str) -> tuple[int, int]:
        """Cycles and bytes of loading a tensor whole."""
        return 1 + self.sizes[tensor] // 2, self.sizes[tensor]

    def problem(self) -> Problem:
        """The same for polyfuse."""
        names, reads, makes = zip(*self.nodes, strict=True)
        dag = Dag(names, reads, makes, self.outputs)
        fetches = {name: Fetch(self.loads(name)[1], float(self.loads(name)[0]), 0.0) for name in self.sizes}
        return Problem(dag, self.sizes, fetches, self._options)

    def _options(self, group: tuple[str, ...], sources: Mapping[str, str], sinks: Mapping[str, str]) -> list[Option]:
        return [
            Option(
                group, WHOLE, dict(sources), dict(sinks), {"scratch": space}, space, moved, 0, 0, float(cycles), 0, 0.0
            )
            for space, cycles, moved in self.ways(group, sources, sinks)
        ]


@st.composite
def invented(draw: st.DrawFn, most: int = 5) -> Invented:
    """Graphs of up to `most` operations of one or two operands, of one or two inputs."""
    tensors = ["x", "y"][: draw(st.integers(1, 2))]
    nodes = []
    for index in range(draw(st.integers(1, most))):
        reads = tuple(sorted(draw(st.sets(st.sampled_from(tensors), min_size=1, max_size=2))))
        nodes.append((f"op{index}", reads, f"t{index}"))
        tensors.append(f"t{index}")
    read = {tensor for _, reads, _ in nodes for tensor in reads}
    ends = {output for _, _, output in nodes} - read
    more = draw(st.sets(st.sampled_from([output for _, _, output in nodes]), max_size=1))
    sizes = {tensor: draw(st.integers(1, 9)) for tensor in tensors}
    return Invented(tuple(nodes), frozenset(ends | more), sizes, draw(st.integers(0, 10**6)))


def chain(sizes: Sequence[int], seed: int = 0) -> Invented:
    """Operations one after the other; the first size is that of the input."""
    nodes = tuple((f"op{k}", ("x" if k == 0 else f"t{k - 1}",), f"t{k}") for k in range(len(sizes) - 1))
    names = ["x", *(output for _, _, output in nodes)]
    return Invented(nodes, frozenset([names[-1]]), dict(zip(names, sizes, strict=True)), seed)
