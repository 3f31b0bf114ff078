"""Random sets as plain Python data: the text isl reads, and an oracle that evaluates the same conditions by itself."""

from dataclasses import dataclass
from itertools import product

from hypothesis import strategies as st

LOW, HIGH = 0, 4


@dataclass(frozen=True)
class RandomCondition:
    """`weights . (parameters + point) + offset`, compared with a bound as `kind` says."""

    kind: str
    weights: tuple[int, ...]
    offset: int
    modulus: int
    bound: int

    def text(self, names: list[str]) -> str:
        total = " + ".join([f"{weight}{name}" for weight, name in zip(self.weights, names, strict=True)])
        value = f"({total} + {self.offset})"
        return {
            "at least": f"{value} >= {self.bound}",
            "equal": f"{value} = {self.bound}",
            "mod": f"{value} mod {self.modulus} = {self.bound % self.modulus}",
            "floor": f"floor({value}/{self.modulus}) <= {self.bound}",
        }[self.kind]

    def holds(self, values: tuple[int, ...]) -> bool:
        value = sum(weight * x for weight, x in zip(self.weights, values, strict=True)) + self.offset
        return {
            "at least": value >= self.bound,
            "equal": value == self.bound,
            "mod": value % self.modulus == self.bound % self.modulus,
            "floor": value // self.modulus <= self.bound,
        }[self.kind]


@dataclass(frozen=True)
class RandomSet:
    """Points of a small box that satisfy all conditions of at least one alternative."""

    parameters: int
    dimensions: int
    alternatives: tuple[tuple[RandomCondition, ...], ...]

    @property
    def symbols(self) -> list[str]:
        return [f"p{index}" for index in range(self.parameters)]

    def text(self) -> str:
        dimensions = [f"x{index}" for index in range(self.dimensions)]
        names = self.symbols + dimensions
        box = [f"{LOW} <= {name} <= {HIGH}" for name in dimensions]
        told = [" and ".join([*box, *(one.text(names) for one in together)]) for together in self.alternatives]
        points = " or ".join(f"({one})" for one in told)
        return f"[{', '.join(self.symbols)}] -> {{ A[{', '.join(dimensions)}] : {points} }}"

    def points(self, values: tuple[int, ...] = ()) -> int:
        """How many points, by trying all of the box."""
        box = product(range(LOW, HIGH + 1), repeat=self.dimensions)
        return sum(any(all(one.holds(values + x) for one in both) for both in self.alternatives) for x in box)


def random_sets(parameters: int, dimensions: int, largest: int = 3) -> st.SearchStrategy[RandomSet]:
    """Sets with up to so many parameters and dimensions, one or two alternatives of up to three conditions."""

    def of_size(size: tuple[int, int]) -> st.SearchStrategy[RandomSet]:
        weights = st.tuples(*[st.integers(-largest, largest)] * sum(size))
        kinds = st.sampled_from(["at least", "at least", "equal", "mod", "floor"])
        condition = st.builds(
            RandomCondition, kinds, weights, st.integers(-3, 3), st.integers(2, 4), st.integers(-2, 3)
        )
        together = st.lists(condition, max_size=3).map(tuple)
        return st.builds(RandomSet, *map(st.just, size), st.lists(together, min_size=1, max_size=2).map(tuple))

    return st.tuples(st.integers(0, parameters), st.integers(1, dimensions)).flatmap(of_size)
