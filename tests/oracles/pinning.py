"""The cheapest way to pin and fuse, by trying everything: every order, grouping, place of every tensor, every option.

Nothing of polyfuse is used. A graph is a list of (name, tensors read, tensor made). Options of a group are what a
function gives for its members, for where it reads each tensor ("on", "off") and where it leaves each ("on", "off",
"both"): workspaces and prices. A state is what has run and where each tensor is; a tensor that is on chip may go at any
time, one that is off chip may be loaded whole before any group that reads it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain, combinations, product

Node = tuple[str, tuple[str, ...], str]
Ways = Callable[[frozenset[str], Mapping[str, str], Mapping[str, str]], Sequence[tuple[int, int]]]
"""Pairs of workspace and price."""

ON = {"on": True, "off": False, "both": True}
OFF = {"on": False, "off": True, "both": True}


def cheapest(
    nodes: Sequence[Node],
    outputs: frozenset[str],
    sizes: Mapping[str, int],
    loads: Mapping[str, int],
    ways: Ways,
    capacity: int,
    pins: bool = True,
    spills: bool = True,
    pinned: frozenset[str] = frozenset(),
) -> int | None:
    """The least price of a plan; none if nothing fits.

    Without `spills` only outputs are stored, and nothing that was stored is read again. What is `pinned` is on chip
    whole from what makes or first reads it.
    """
    made = {output: name for name, _, output in nodes}
    reads = {name: frozenset(tensors) for name, tensors, _ in nodes}
    output = {name: tensor for name, _, tensor in nodes}
    given = frozenset(tensor for _, tensors, _ in nodes for tensor in tensors if tensor not in made)

    def ready(done: frozenset[str], group: frozenset[str]) -> bool:
        return all(made[t] in done | group for name in group for t in reads[name] if t in made)

    def joined(group: frozenset[str]) -> bool:
        """Members are linked by tensors that one makes and one reads, or that two read."""
        touched = {name: reads[name] | {output[name]} for name in group}
        seen = {min(group)}
        while more := {a for a in group - seen for b in seen if touched[a] & touched[b]}:
            seen |= more
        return seen == group

    @cache
    def best(done: frozenset[str], on: frozenset[str], off: frozenset[str]) -> int | None:
        if len(done) == len(nodes):
            return 0
        found = [price for price in steps(done, on, off) if price is not None]
        return min(found, default=None)

    def steps(done: frozenset[str], on: frozenset[str], off: frozenset[str]) -> Iterator[int | None]:
        rest = frozenset(reads) - done
        for group in map(frozenset, subsets(rest)):
            if group and ready(done, group) and joined(group):
                for kept in map(frozenset, subsets(on)) if pins else [frozenset[str]()]:
                    if on & pinned - kept:
                        continue
                    yield from runs(done, group, kept, off)

    def runs(
        done: frozenset[str], group: frozenset[str], on: frozenset[str], off: frozenset[str]
    ) -> Iterator[int | None]:
        inside = {output[name] for name in group}
        needed = frozenset(t for name in group for t in reads[name]) - inside
        if needed - on - off:
            return
        later = frozenset(t for name in frozenset(reads) - done - group for t in reads[name])
        left = sorted(t for t in inside if t in later or t in outputs)
        if (pinned & inside) - frozenset(left):
            return
        for fetched in map(frozenset, subsets((needed & off) - on if pins else frozenset())):
            here = on | fetched
            if (needed & pinned) - here:
                continue
            places = [["on", "off"][t not in here : 1 + (t in off)] for t in sorted(needed)]
            for where in product(*places):
                sources = dict(zip(sorted(needed), where, strict=True))
                for to in product(["on", "off", "both"] if pins else ["off"], repeat=len(left)):
                    sinks = dict(zip(left, to, strict=True))
                    if any(not OFF[sinks[t]] for t in left if t in outputs):
                        continue
                    if any(OFF[sinks[t]] and not spills for t in left if t not in outputs):
                        continue
                    if any(not ON[sinks[t]] for t in left if t in pinned and t in later):
                        continue
                    held = here | {t for t in left if ON[sinks[t]]}
                    room = capacity - sum(sizes[t] for t in held)
                    price = min((price for space, price in ways(group, sources, sinks) if space <= room), default=None)
                    if price is None:
                        continue
                    away = off | {t for t in left if OFF[sinks[t]] and spills}
                    rest = best(done | group, held & later, away & later)
                    yield None if rest is None else price + rest + sum(loads[t] for t in fetched)

    return best(frozenset(), frozenset(), given)


def subsets(items: frozenset[str]) -> Iterator[tuple[str, ...]]:
    """All subsets."""
    ordered = sorted(items)
    return chain.from_iterable(combinations(ordered, size) for size in range(len(ordered) + 1))
