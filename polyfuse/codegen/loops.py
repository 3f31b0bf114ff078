"""Loop nests: steps with their times become a tree of loops through isl's AST generator.

    Steps  { step[t, i] -> [time] }  ──loop_nest()──>  LoopNest  ──text()──>  C

The nest is generated from the coalesced schedule, never from its lowered copies, which are fragmented.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import islpy as isl

from polyfuse.errors import IllegalSchedule, Unbounded
from polyfuse.sets.interrupts import interrupts_held


class Scheduled(Protocol):
    """What has executions, `{ name[t, i] }`, and their times, `{ name[t, i] -> [time] }`."""

    @property
    def name(self) -> str: ...

    @property
    def executions(self) -> isl.Set: ...

    @property
    def time(self) -> isl.Map: ...


S = TypeVar("S", bound=Scheduled)
Leaf = Callable[[S, isl.AstBuild], list[str]]
"""Prints one execution of a step, given the build that knows the loops around it: the lines of C."""


@dataclass(frozen=True, eq=False)
class LoopNest:
    """The generated loops and the text of each leaf."""

    root: isl.AstNode
    leaves: dict[str, list[str]]

    @property
    def loops(self) -> int:
        """The number of `for` statements."""
        return self._count("for_")

    @property
    def branches(self) -> int:
        """The number of `if` statements."""
        return self._count("if_")

    def _count(self, kind: str) -> int:
        found = 0

        def visit(node: isl.AstNode) -> bool:
            nonlocal found
            found += kind_of(node) == kind and not (kind == "for_" and node.for_is_degenerate())
            return True

        visit_all(self.root, visit)
        return found


def visit_all(root: isl.AstNode, visit: Callable[[isl.AstNode], bool]) -> None:
    """Visit a tree from the top; where `visit` gives False, not what is below."""
    with interrupts_held():
        root.foreach_descendant_top_down(visit)


def kind_of(node: isl.AstNode) -> str:
    """`for_`, `if_`, `block` or `user`."""
    return isl.ast_node_type(node.get_type()).name


def loop_nest(steps: Sequence[S], names: Sequence[str], leaf: Leaf[S], whole: int = 0) -> LoopNest:
    """Generate the loops over all executions of some steps, ordered by their times.

    The outermost `whole` dimensions of time are one loop each, which holds all steps.

    Errors: Unbounded where there are infinitely many executions; IllegalSchedule where two executions of a step share
    a time (isl would order them arbitrarily).
    """
    for step in steps:
        if not step.executions.is_bounded():
            raise Unbounded(f"step {step.name}: it has infinitely many executions; bound the tiles")
        if not step.time.is_injective():
            raise IllegalSchedule(f"step {step.name}: two executions have the same time; add the missing dimensions")
    by_name = {step.name: step for step in steps}
    leaves: dict[str, list[str]] = {}
    failed: list[Exception] = []

    def at_each_domain(node: isl.AstNode, build: isl.AstBuild) -> isl.AstNode:
        name = isl.Map.from_union_map(build.get_schedule()).get_tuple_name(isl.dim_type.in_)
        key = f"leaf{len(leaves)}"
        try:
            leaves[key] = leaf(by_name[name], build)
        except Exception as error:  # isl must not see it: it would carry on with a broken tree
            leaves[key] = []
            failed.append(error)
        return node.set_annotation(isl.Id(key))

    build = isl.AstBuild.from_context(isl.Set("{ : }"))
    ids = isl.IdList.alloc(isl.DEFAULT_CONTEXT, len(names))
    for name in names:
        ids = ids.add(isl.Id(name))
    build = build.set_iterators(ids)
    build, keep = build.set_at_each_domain(at_each_domain)
    times = [step.time for step in steps]
    with interrupts_held():
        if whole and times:
            root = build.node_from_schedule(enclosed(times, whole))
        else:
            root = build.node_from_schedule_map(union_map(times))
    del keep
    if failed:
        raise failed[0]
    return LoopNest(root, leaves)


def enclosed(times: Sequence[isl.Map], whole: int) -> isl.Schedule:
    """The schedule of some steps in which one loop for each of the `whole` outermost dimensions of time holds them all.

        { step[t, i] -> [time] }   to   a band over { tile[outer time] }, each expanded to a band of the steps inside

    Steps that run at different values of the outermost dimensions, such as those at the borders of an image, would get
    loops of their own from a flat schedule, one after the other.
    """
    outer = [outermost(time, whole).set_tuple_name(isl.dim_type.out, "tile") for time in times]
    inner = [time.project_out(isl.dim_type.out, 0, whole) for time in times]
    tiles = union_map(outer).range()
    identity = isl.Set.from_union_set(tiles).identity().reset_tuple_id(isl.dim_type.out)
    band = band_of(tiles, isl.UnionMap.from_map(identity)).get_root().child(0)
    for d in range(whole):
        band = band.band_member_set_ast_loop_type(d, isl.ast_loop_type.atomic)
    steps = band_of(union_map(times).domain(), union_map(inner))
    return band.get_schedule().expand(isl.UnionPwMultiAff.from_union_map(union_map(outer)), steps)


def outermost(time: isl.Map, whole: int) -> isl.Map:
    """`{ step[t, i] -> [time] }` without what follows the first `whole` dimensions."""
    return time.project_out(isl.dim_type.out, whole, time.dim(isl.dim_type.out) - whole)


def band_of(domain: isl.UnionSet, times: isl.UnionMap) -> isl.Schedule:
    """The schedule of one band."""
    return isl.Schedule.from_domain(domain).insert_partial_schedule(isl.MultiUnionPwAff.from_union_map(times))


def union_map(maps: Sequence[isl.Map]) -> isl.UnionMap:
    """The union of some maps; empty where there are none."""
    found = isl.UnionMap.empty(isl.Space.params_alloc(isl.DEFAULT_CONTEXT, 0))
    for each in maps:
        found = found.union(isl.UnionMap.from_map(each))
    return found


@dataclass(frozen=True)
class Outline:
    """How the inside of a nest becomes functions of their own: a call for the body under some loops.

    `call` is given the iterators of the loops around the body and the lines of the body, indented once, and returns
    the lines that call it. Functions are what gives gcc its `restrict`, which it ignores on local pointers.
    `iterator` names the loop whose body is taken, `pragma` goes before that loop; None takes the whole nest.
    """

    call: Callable[[tuple[str, ...], list[str]], list[str]]
    iterator: str | None = None
    pragma: str | None = None


def text(nest: LoopNest, indent: int, outline: Outline | None = None) -> list[str]:
    """The nest as lines of C."""
    if outline is not None and outline.iterator is None:
        return ["  " * indent + line for line in outline.call((), _node(nest, nest.root, 1, None, ()))]
    return _node(nest, nest.root, indent, outline, ())


def _node(
    nest: LoopNest, node: isl.AstNode, indent: int, outline: Outline | None, around: tuple[str, ...]
) -> list[str]:
    kind = kind_of(node)
    pad = "  " * indent
    if kind == "block":
        children = node.block_get_children()
        nodes = [children.get_at(k) for k in range(children.n_ast_node())]
        return [line for child in nodes for line in _node(nest, child, indent, outline, around)]
    if kind == "user":
        return [pad + line for line in nest.leaves[node.get_annotation().get_name()]]
    if kind == "if_":
        lines = [f"{pad}if ({node.if_get_cond().to_C_str()}) {{"]
        lines += _node(nest, node.if_get_then_node(), indent + 1, outline, around)
        if node.if_has_else_node():
            lines += [f"{pad}}} else {{", *_node(nest, node.if_get_else_node(), indent + 1, outline, around)]
        return [*lines, f"{pad}}}"]
    return _for(nest, node, indent, outline, around)


def _for(nest: LoopNest, node: isl.AstNode, indent: int, outline: Outline | None, around: tuple[str, ...]) -> list[str]:
    pad = "  " * indent
    name = node.for_get_iterator().to_C_str()
    start = node.for_get_init().to_C_str()
    around = (*around, name)
    taken = outline is not None and name == outline.iterator
    if outline is not None and taken:
        call = outline.call(around, _node(nest, node.for_get_body(), 1, None, around))
        body = [f"{pad}  {line}" for line in call]
    else:
        body = _node(nest, node.for_get_body(), indent + 1, outline, around)
    if node.for_is_degenerate():
        return [f"{pad}{{", f"{pad}  const int {name} = {start};", *body, f"{pad}}}"]
    condition, step = node.for_get_cond().to_C_str(), node.for_get_inc().to_C_str()
    pragma = [f"{pad}{outline.pragma}"] if outline is not None and taken and outline.pragma else []
    return [*pragma, f"{pad}for (int {name} = {start}; {condition}; {name} += {step}) {{", *body, f"{pad}}}"]
