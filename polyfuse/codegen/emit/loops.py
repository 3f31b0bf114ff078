"""Loop nests: steps with their times become a tree of loops through isl's AST generator, and the tree lines of C.

    Steps  { step[t, i] -> [time] }  ──loop_nest()──>  LoopNest  ──text()──>  C
    a schedule with parameters       ──tree_of()──>    Tree      ──TreePrinter──>  C

The nest is generated from the coalesced schedule, never from its lowered copies, which are fragmented.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import islpy as isl

from polyfuse.codegen.c.dialect import Share
from polyfuse.codegen.c.text import braces, indented, scope, unused
from polyfuse.errors import IllegalSchedule, Unbounded
from polyfuse.sets.coalescing import boxed
from polyfuse.sets.interrupts import interrupts_held
from polyfuse.sets.spaces import without_domain


class Scheduled(Protocol):
    """What has executions, `{ name[t, i] }`, and their times, `{ name[t, i] -> [time] }`."""

    @property
    def name(self) -> str: ...

    @property
    def executions(self) -> isl.Set: ...

    @property
    def time(self) -> isl.Map: ...


S = TypeVar("S", bound=Scheduled)
L = TypeVar("L")
Leaf = Callable[[S, isl.AstBuild], list[str]]
"""Prints one execution of a step, given the build that knows the loops around it: the lines of C."""


@dataclass(frozen=True, eq=False)
class Here:
    """An execution where it is printed, `{ [time] -> step[t, i] }`, and the build that knows the loops around it."""

    build: isl.AstBuild
    instance: isl.PwMultiAff

    @staticmethod
    def of(build: isl.AstBuild) -> "Here":
        """The execution that a build is at."""
        return Here(
            build, without_domain(isl.PwMultiAff.from_map(isl.Map.from_union_map(build.get_schedule()).reverse()))
        )

    def text(self, value: isl.PwAff) -> str:
        """`{ [time] -> [value] }` as C."""
        return str(self.build.expr_from_pw_aff(value).to_C_str())

    def operand(self, value: isl.PwAff) -> str:
        """The same, in parentheses where it is one of two."""
        text = self.text(value)
        return f"({text})" if "?" in text else text


@dataclass(frozen=True, eq=False)
class Tree(Generic[L]):
    """Generated loops, and what each leaf is."""

    root: isl.AstNode
    leaves: dict[str, L]

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


LoopNest = Tree[list[str]]
"""Loops, and the text of each leaf."""


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

    def at(build: isl.AstBuild) -> list[str]:
        return leaf(by_name[isl.Map.from_union_map(build.get_schedule()).get_tuple_name(isl.dim_type.in_)], build)

    times = [step.time for step in steps]
    return tree_of(enclosed(times, whole) if whole and times else union_map(times), names, at)


def tree_of(
    schedule: isl.UnionMap | isl.Schedule,
    names: Sequence[str],
    leaf: Callable[[isl.AstBuild], L],
    known: isl.Set | None = None,
) -> Tree[L]:
    """isl's loops over a schedule, called by `names` from the outermost in; `known` holds of its parameters."""
    leaves: dict[str, L] = {}
    failed: list[Exception] = []

    def at_each_domain(node: isl.AstNode, build: isl.AstBuild) -> isl.AstNode:
        key = f"leaf{len(leaves)}"
        try:
            named = node.set_annotation(isl.Id(key))
            leaves[key] = leaf(build)
        except Exception as error:  # isl must not see it: it would carry on with memory that it has freed
            failed.append(error)
            return node
        return named

    ids = isl.IdList.alloc(isl.DEFAULT_CONTEXT, len(names))
    for name in names:
        ids = ids.add(isl.Id(name))
    build = isl.AstBuild.from_context(known if known is not None else isl.Set("{ : }")).set_iterators(ids)
    build, keep = build.set_at_each_domain(at_each_domain)
    with interrupts_held():
        if isinstance(schedule, isl.Schedule):
            root = build.node_from_schedule(schedule)
        else:
            root = build.node_from_schedule_map(schedule)
    del keep
    if failed:
        raise failed[0]
    return Tree(root, leaves)


def enclosed(times: Sequence[isl.Map], whole: int) -> isl.Schedule:
    """The schedule of some steps in which one loop for each of the `whole` outermost dimensions of time holds them all.

        { step[t, i] -> [time] }   to   a band over { tile[outer time] }, each expanded to a band of the steps inside

    Steps that run at different values of the outermost dimensions, such as those at the borders of an image, would get
    loops of their own from a flat schedule, one after the other.
    """
    outer = [outermost(time, whole).set_tuple_name(isl.dim_type.out, "tile") for time in times]
    inner = [time.project_out(isl.dim_type.out, 0, whole) for time in times]
    tiles = boxed(isl.Set.from_union_set(union_map(outer).range()))
    identity = tiles.identity().reset_tuple_id(isl.dim_type.out)
    band = band_of(isl.UnionSet.from_set(tiles), isl.UnionMap.from_map(identity)).get_root().child(0)
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


class TreePrinter(ABC, Generic[L]):
    """Prints a tree as lines of C; subclasses say how leaves are printed, and which loops are by themselves."""

    def __init__(self, leaves: Mapping[str, L]) -> None:
        self.leaves = leaves

    @abstractmethod
    def leaf(self, leaf: L) -> list[str]:
        """The lines of a leaf."""

    def loop(self, node: isl.AstNode, around: tuple[str, ...]) -> list[str]:
        """The lines of a loop; `around` are the iterators of those around it, and its own."""
        return for_lines(node, self.lines(node.for_get_body(), around))

    def lines(self, node: isl.AstNode, around: tuple[str, ...] = ()) -> list[str]:
        """The lines of a node."""
        kind = kind_of(node)
        if kind == "block":
            children = node.block_get_children()
            return [line for k in range(children.n_ast_node()) for line in self.lines(children.get_at(k), around)]
        if kind == "user":
            return self.leaf(self.at(node))
        if kind == "for_":
            return self.loop(node, (*around, node.for_get_iterator().to_C_str()))
        lines = braces(f"if ({node.if_get_cond().to_C_str()})", self.lines(node.if_get_then_node(), around))
        if node.if_has_else_node():
            lines[-1:] = braces("} else", self.lines(node.if_get_else_node(), around))
        return lines

    def at(self, node: isl.AstNode) -> L:
        """The leaf at a node."""
        return self.leaves[node.get_annotation().get_name()]


def for_lines(node: isl.AstNode, body: Sequence[str], share: Share | None = None) -> list[str]:
    """A loop around lines, all of it or a share; what runs once is a block with a constant."""
    name, start = node.for_get_iterator().to_C_str(), node.for_get_init().to_C_str()
    if node.for_is_degenerate():
        return scope([f"const int {name} = {start};", *unused(body, (name,)), *body])
    condition, step = node.for_get_cond().to_C_str(), node.for_get_inc().to_C_str()
    if share is not None:
        times = "" if step == "1" else f"{step} * "
        first = "" if start == "0" else f"{start} + "
        start, step = f"{first}{times}{share.number}", f"{times}{share.count}"
    return braces(f"for (int {name} = {start}; {condition}; {name} += {step})", body)


@dataclass(frozen=True)
class Outline:
    """How the inside of a nest becomes functions of their own: a call for the body under some loops.

    `call` is given the iterators of the loops around the body and the lines of the body, and returns the lines that
    call it. Functions are what gives gcc its `restrict`, which it ignores on local pointers.
    `iterator` names the loop whose body is taken, `pragma` goes before that loop; None takes the whole nest.
    """

    call: Callable[[tuple[str, ...], list[str]], list[str]]
    iterator: str | None = None
    pragma: str | None = None


class NestPrinter(TreePrinter[list[str]]):
    """Prints a nest whose leaves are lines, the inside of one of its loops outlined, some with a pragma before them."""

    def __init__(self, nest: LoopNest, outline: Outline | None, pragmas: Mapping[str, str]) -> None:
        super().__init__(nest.leaves)
        self.outline, self.pragmas = outline, pragmas

    def leaf(self, leaf: list[str]) -> list[str]:
        return leaf

    def loop(self, node: isl.AstNode, around: tuple[str, ...]) -> list[str]:
        body = self.lines(node.for_get_body(), around)
        if self.outline is None or self.outline.iterator != around[-1]:
            once = around[-1] not in self.pragmas or node.for_is_degenerate()
            return [*([] if once else [self.pragmas[around[-1]]]), *for_lines(node, body)]
        pragma = [self.outline.pragma] if self.outline.pragma and not node.for_is_degenerate() else []
        return [*pragma, *for_lines(node, self.outline.call(around, body))]


def text(
    nest: LoopNest, indent: int, outline: Outline | None = None, pragmas: Mapping[str, str] | None = None
) -> list[str]:
    """The nest as lines of C; `pragmas` go before the loops that they are of, by name."""
    lines = NestPrinter(nest, outline, pragmas or {}).lines(nest.root)
    if outline is not None and outline.iterator is None:
        lines = outline.call((), lines)
    return indented(lines, 2 * indent)
