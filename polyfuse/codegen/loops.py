"""Loop nests: steps with their times become a tree of loops through isl's AST generator.

    Steps  { step[t, i] -> [time] }  ──loop_nest()──>  LoopNest  ──text()──>  C

The nest is generated from the coalesced schedule, never from its lowered copies, which are fragmented.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import islpy as isl

from polyfuse.errors import IllegalSchedule, Unbounded
from polyfuse.schedule.steps import Step

NODE: Any = isl.ast_node_type
Leaf = Callable[[Step, isl.AstBuild], list[str]]
"""Prints one execution of a step, given the build that knows the loops around it: the lines of C."""


@dataclass(frozen=True, eq=False)
class LoopNest:
    """The generated loops and the text of each leaf."""

    root: isl.AstNode
    leaves: dict[str, list[str]]

    @property
    def loops(self) -> int:
        """The number of `for` statements."""
        return self._count(isl.ast_node_type.for_)

    @property
    def branches(self) -> int:
        """The number of `if` statements."""
        return self._count(isl.ast_node_type.if_)

    def encloses_all(self, iterator: str) -> bool:
        """Whether one loop of that name holds every leaf."""
        inside = 0

        def visit(node: isl.AstNode) -> bool:
            nonlocal inside
            is_loop = node.get_type() == NODE.for_ and node.for_get_iterator().to_C_str() == iterator
            if is_loop:
                inside = max(inside, leaves_below(node))
            return not is_loop

        self.root.foreach_descendant_top_down(visit)
        return inside == leaves_below(self.root)

    def _count(self, kind: isl.ast_node_type) -> int:
        found = 0

        def visit(node: isl.AstNode) -> bool:
            nonlocal found
            degenerate = kind == isl.ast_node_type.for_ == node.get_type() and node.for_is_degenerate()
            found += node.get_type() == kind and not degenerate
            return True

        self.root.foreach_descendant_top_down(visit)
        return found


def leaves_below(root: isl.AstNode) -> int:
    """The number of leaves of a tree."""
    found = 0

    def visit(node: isl.AstNode) -> bool:
        nonlocal found
        found += node.get_type() == NODE.user
        return True

    root.foreach_descendant_top_down(visit)
    return found


def loop_nest(steps: Sequence[Step], names: Sequence[str], leaf: Leaf, whole: int = 0) -> LoopNest:
    """Generate the loops over all executions of some steps, ordered by their times.

    The outermost `whole` dimensions of time are not split into ranges.

    Errors: Unbounded where there are infinitely many executions; IllegalSchedule where two executions of a step share
    a time (isl would order them arbitrarily).
    """
    schedule = isl.UnionMap.empty(isl.Space.params_alloc(isl.DEFAULT_CONTEXT, 0))
    for step in steps:
        if not step.executions.is_bounded():
            raise Unbounded(f"step {step.name}: it has infinitely many executions; bound the tiles")
        if not step.time.is_injective():
            raise IllegalSchedule(f"step {step.name}: two executions have the same time; add the missing dimensions")
        schedule = schedule.union(isl.UnionMap.from_map(step.time))
    by_name = {step.name: step for step in steps}
    leaves: dict[str, list[str]] = {}

    def at_each_domain(node: isl.AstNode, build: isl.AstBuild) -> isl.AstNode:
        name = isl.Map.from_union_map(build.get_schedule()).get_tuple_name(isl.dim_type.in_)
        key = f"leaf{len(leaves)}"
        leaves[key] = leaf(by_name[name], build)
        return node.set_annotation(isl.Id(key))

    build = isl.AstBuild.from_context(isl.Set("{ : }"))
    ids = isl.IdList.alloc(isl.DEFAULT_CONTEXT, len(names))
    for name in names:
        ids = ids.add(isl.Id(name))
    build = build.set_iterators(ids)
    if whole:
        build = build.set_options(atomic(len(names), whole))
    build, keep = build.set_at_each_domain(at_each_domain)
    root = build.node_from_schedule_map(schedule)
    del keep
    return LoopNest(root, leaves)


def atomic(dims: int, whole: int) -> isl.UnionMap:
    """isl's option that the outermost dimensions of time are not split: `{ [time] -> atomic[d] : 0 <= d < whole }`."""
    time = isl.Space.set_alloc(isl.DEFAULT_CONTEXT, 0, dims)
    option = isl.Space.set_alloc(isl.DEFAULT_CONTEXT, 0, 1).set_tuple_name(isl.dim_type.set, "atomic")
    relation = isl.Map.universe(time.map_from_domain_and_range(option))
    relation = relation.lower_bound_val(isl.dim_type.out, 0, isl.Val(0))
    return isl.UnionMap.from_map(relation.upper_bound_val(isl.dim_type.out, 0, isl.Val(whole - 1)))


@dataclass(frozen=True)
class Parallel:
    """Which loop runs in parallel, the pragma before it and the lines that open its body."""

    iterator: str
    pragma: str
    opening: tuple[str, ...]


def text(nest: LoopNest, indent: int, parallel: Parallel | None = None) -> list[str]:
    """The nest as lines of C."""
    return _node(nest, nest.root, indent, parallel)


def _node(nest: LoopNest, node: isl.AstNode, indent: int, parallel: Parallel | None) -> list[str]:
    kind = node.get_type()
    pad = "  " * indent
    if kind == isl.ast_node_type.block:
        return [line for child in _children(node) for line in _node(nest, child, indent, parallel)]
    if kind == isl.ast_node_type.user:
        return [pad + line for line in nest.leaves[node.get_annotation().get_name()]]
    if kind == isl.ast_node_type.if_:
        lines = [f"{pad}if ({node.if_get_cond().to_C_str()}) {{"]
        lines += _node(nest, node.if_get_then_node(), indent + 1, parallel)
        if node.if_has_else_node():
            lines += [f"{pad}}} else {{", *_node(nest, node.if_get_else_node(), indent + 1, parallel)]
        return [*lines, f"{pad}}}"]
    if kind != isl.ast_node_type.for_:
        raise AssertionError(f"isl generated a node of type {kind}")
    return _for(nest, node, indent, parallel)


def _for(nest: LoopNest, node: isl.AstNode, indent: int, parallel: Parallel | None) -> list[str]:
    pad = "  " * indent
    name = node.for_get_iterator().to_C_str()
    body = node.for_get_body()
    start = node.for_get_init().to_C_str()
    is_parallel = parallel is not None and name == parallel.iterator
    inside = None if is_parallel else parallel
    if node.for_is_degenerate():
        opening = [f"{pad}{{", f"{pad}  const int {name} = {start};"]
        extra = [f"{pad}  {line}" for line in parallel.opening] if parallel is not None and is_parallel else []
        return [*opening, *extra, *_node(nest, body, indent + 1, inside), f"{pad}}}"]
    condition, step = node.for_get_cond().to_C_str(), node.for_get_inc().to_C_str()
    lines = [f"{pad}for (int {name} = {start}; {condition}; {name} += {step}) {{"]
    if parallel is not None and is_parallel:
        lines = [f"{pad}{parallel.pragma}", *lines, *(f"{pad}  {line}" for line in parallel.opening)]
    return [*lines, *_node(nest, body, indent + 1, inside), f"{pad}}}"]


def _children(node: isl.AstNode) -> list[isl.AstNode]:
    children = node.block_get_children()
    return [children.get_at(k) for k in range(children.n_ast_node())]
