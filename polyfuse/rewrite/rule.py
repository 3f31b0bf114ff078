"""Rewriting rules: a pattern of layers, side conditions and a replacement.

Enters: a `RewriteGraph`. Leaves: `Match`es of a `Rule`; of each, whether its conditions hold, and if not, why.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations

from polyfuse.network.layer import Layer
from polyfuse.network.operator import Operator
from polyfuse.network.tensor import Tensor, is_taken
from polyfuse.rewrite.graph import Replacement, RewriteGraph

Wanted = Operator | type[Operator]
"""An operator that a pattern wants: one with its fields, or any of a class."""


@dataclass(frozen=True)
class Pattern:
    """A layer of one of some operators, or of any where none is named, with inputs made by layers of other patterns.

    The patterns of `reads` belong to different inputs, in any order; further inputs are free. Conditions
    and replacements call the layer by its role. `form` says what the operators
    do not, such as which operands are weights.
    """

    role: str
    of: tuple[Wanted, ...]
    reads: tuple["Pattern", ...] = ()
    form: Callable[[RewriteGraph, Layer], bool] | None = None

    @cached_property
    def roles(self) -> tuple[str, ...]:
        """The roles of the pattern, its own first."""
        return (self.role, *(role for pattern in self.reads for role in pattern.roles))


@dataclass(frozen=True, eq=False)
class Match:
    """Layers of a graph that fit a pattern, by role; the root comes first."""

    graph: RewriteGraph
    layers: Mapping[str, Layer]

    def __getitem__(self, role: str) -> Layer:
        return self.layers[role]

    @property
    def root(self) -> Layer:
        """The layer that makes the result."""
        return next(iter(self.layers.values()))

    @property
    def matched(self) -> tuple[Layer, ...]:
        """The layers in the order of the graph, each once."""
        inside = set(self.layers.values())
        return tuple(layer for layer in self.graph.layers if layer in inside)

    def fresh(self, wish: str) -> str:
        """A name that is free once the matched layers are gone, and so is all that is made of it by an ending.

        It is the wish itself, or that and a number; nothing is cut, so that different parts of a layer stay different.
        """
        taken = self.graph.names_without(self.matched)
        stem = f"t_{wish}" if is_taken(wish) else wish
        name, k = stem, 1
        while name in taken or any(each.startswith(f"{name}_") for each in taken):
            k += 1
            name = f"{stem}_{k}"
        return name

    def weight(self, layer: str, part: str, shape: Sequence[int]) -> Tensor:
        """A new weight tensor of a layer."""
        return Tensor(self.fresh(f"{layer}_{part}"), tuple(shape))


@dataclass(frozen=True)
class Refusal:
    """Why a condition does not hold; the counterexample gives numbers, where there are any."""

    reason: str
    counterexample: str = ""


@dataclass(frozen=True)
class Condition:
    """A side condition of a match, in words and as a function; `refusal` says why it does not hold."""

    says: str
    holds: Callable[[Match], bool]
    refusal: Callable[[Match], Refusal]


@dataclass(frozen=True)
class Rule:
    """`law` is what it does, on one line; `non_finite` what it does with infinities and NaN, where that differs."""

    name: str
    law: str
    pattern: Pattern
    conditions: tuple[Condition, ...]
    replacement: Callable[[Match], Replacement]
    non_finite: str = "the same"

    def matches(self, graph: RewriteGraph, root: Layer) -> Iterator[Match]:
        """Every way in which the pattern fits with this root."""
        for layers in _fits(graph, self.pattern, root):
            yield Match(graph, layers)

    def broken(self, match: Match) -> Condition | None:
        """The first condition that does not hold."""
        return next((condition for condition in self.conditions if not condition.holds(match)), None)


def _fits(graph: RewriteGraph, pattern: Pattern, layer: Layer) -> Iterator[dict[str, Layer]]:
    if not is_one_of(layer, pattern.of) or (pattern.form is not None and not pattern.form(graph, layer)):
        return
    makers = [maker for tensor in layer.inputs if (maker := graph.makers.get(tensor)) is not None]
    for chosen in permutations(makers, len(pattern.reads)):
        yield from _together(graph, {pattern.role: layer}, list(zip(pattern.reads, chosen, strict=True)))


def _together(
    graph: RewriteGraph, found: dict[str, Layer], waiting: Sequence[tuple[Pattern, Layer]]
) -> Iterator[dict[str, Layer]]:
    if not waiting:
        yield found
        return
    (pattern, layer), *others = waiting
    for more in _fits(graph, pattern, layer):
        yield from _together(graph, found | more, others)


def is_one_of(layer: Layer, wanted: Sequence[Wanted]) -> bool:
    """Whether a layer's operator is one of some, or of a class of some; of any where none is named.

    >>> from polyfuse.network.network import Builder
    >>> from polyfuse.network.operator import Activate, Arithmetic
    >>> build = Builder("one")
    >>> (layer,) = build.network(build.activation("act", build.input("x", (1, 1, 2, 2)), "relu")).layers
    >>> is_one_of(layer, (Activate,)), is_one_of(layer, (Arithmetic("add"), Arithmetic("sub")))
    (True, False)
    """
    operator = layer.operator
    return not wanted or any(isinstance(operator, w) if isinstance(w, type) else operator == w for w in wanted)


def pattern(
    role: str,
    of: Wanted | Sequence[Wanted],
    *reads: Pattern,
    form: Callable[[RewriteGraph, Layer], bool] | None = None,
) -> Pattern:
    """A pattern of one operator or of several.

    >>> from polyfuse.network.operator import Arithmetic, Conv
    >>> pattern("after", [Arithmetic("add"), Arithmetic("mul")], pattern("before", Conv)).roles
    ('after', 'before')
    """
    return Pattern(role, tuple(of) if isinstance(of, Sequence) else (of,), reads, form)


def only_read_by_root(role: str) -> Condition:
    """The condition that the root alone reads the output of a layer, which need not be made any more."""

    def others(match: Match) -> list[str]:
        tensor = match[role].output
        names = [layer.name for layer in match.graph.readers(tensor) if layer not in match.layers.values()]
        return names + (["the caller, as an output"] if tensor in match.graph.outputs else [])

    return Condition(
        f"only matched layers read what the {role} makes",
        lambda match: not others(match),
        lambda match: Refusal(f"{match[role].output.name} is also read by {', '.join(others(match)[:3])}"),
    )
