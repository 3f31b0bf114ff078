"""The profile database: what is measured once is asked for afterwards; what cannot be measured goes to the model."""

from dataclasses import dataclass, field

from polyfuse.bench.profiles import Profiled, ProfileKey, by_profile
from polyfuse.rewrite.fusion import FusionOperator, always, fusion_plan, never
from polyfuse.rewrite.mapping import MappingType


@dataclass
class Memory:
    """A database that is gone with the test."""

    known: dict[ProfileKey, Profiled] = field(default_factory=dict)

    def find(self, key: ProfileKey) -> Profiled | None:
        return self.known.get(key)

    def add(self, measured: Profiled) -> None:
        self.known[measured.key] = measured


def shuffle_into_conv(count: int) -> tuple[FusionOperator, ...]:
    """Several times relu, transpose, conv on the same shapes."""
    graph = []
    for k in range(count):
        kinds = [
            ("relu", MappingType.ONE_TO_ONE),
            ("transpose", MappingType.SHUFFLE),
            ("conv", MappingType.MANY_TO_MANY),
        ]
        for j, (kind, mapping) in enumerate(kinds):
            graph.append(
                FusionOperator(f"{kind}{k}", kind, mapping, (f"t{k}{j}",), (f"t{k}{j + 1}",), 9, 9, f"{kind} 9")
            )
    return tuple(graph)


def test_measurements_decide_and_are_made_once() -> None:
    asked = []

    def measure(block: object, neighbour: FusionOperator) -> tuple[float, float]:
        asked.append(neighbour.name)
        return 1.0, 2.0

    database, graph = Memory(), shuffle_into_conv(3)
    blocks = fusion_plan(graph, by_profile(database, "cpu", "gcc 14", measure, never))
    assert blocks == fusion_plan(graph, always)
    assert asked == ["conv0"] and len(database.known) == 1
    assert next(iter(database.known)) == ProfileKey("cpu", "gcc 14", ("relu 9", "transpose 9"), "conv 9")
    fusion_plan(graph, by_profile(database, "cpu", "gcc 15", measure, never))
    assert len(asked) == 2 and len(database.known) == 2


def test_what_takes_longer_fused_stays_apart() -> None:
    graph = shuffle_into_conv(1)
    assert fusion_plan(graph, by_profile(Memory(), "cpu", "gcc", lambda a, b: (2.0, 1.0), always)) == fusion_plan(graph)


def test_what_cannot_run_goes_to_the_model() -> None:
    graph, database = shuffle_into_conv(1), Memory()
    for model in (always, never):
        assert fusion_plan(graph, by_profile(database, "cpu", "gcc", lambda a, b: None, model)) == fusion_plan(
            graph, model
        )
    assert not database.known
