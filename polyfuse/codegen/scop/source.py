"""The C of a SCoP that Polly accepts: one nest of loops for each statement, one after the other.

Loops start at 0 and have constant bounds, what is not executed is left out by a condition, and each statement is a
block with a label, so that Polly calls it `Stmt_label` and finds the domain that is written here.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import islpy as isl

from polyfuse.codegen.c.elements import ELEMENTS
from polyfuse.codegen.c.expression import to_c
from polyfuse.codegen.c.prelude import prelude
from polyfuse.codegen.c.text import element, fold, words
from polyfuse.codegen.scop.homes import Homes, ScopHome
from polyfuse.codegen.scop.placed import PREFIX, PlacedStep
from polyfuse.errors import UnsupportedOperator
from polyfuse.network.expression import names_in
from polyfuse.network.tensor import distinct_names
from polyfuse.schedule.steps import Touch


@dataclass(frozen=True, eq=False)
class ScopStep:
    """A statement with its accesses in the order of its instructions: loads, each element once, and then the store.

    `values` says for each operand of its expression which of the loads it is.
    """

    placed: PlacedStep
    touches: tuple[Touch, ...]
    values: Mapping[str, int]


def scop_step(homes: Homes, placed: PlacedStep) -> ScopStep:
    """A statement; operands that are the same element are loaded once, since LLVM would do the same."""
    loads: list[Touch] = []
    values: dict[str, int] = {}
    for touch in placed.step.touches:
        if touch.writes:
            continue
        home = homes.in_program(touch)
        same = [k for k, other in enumerate(loads) if _equal(homes.in_program(other), other, home, touch)]
        values[touch.operand] = same[0] if same else len(loads)
        if not same:
            loads.append(touch)
    (store,) = (touch for touch in placed.step.touches if touch.writes)
    return ScopStep(placed, (*loads, store), values)


def _equal(one: ScopHome, touch: Touch, other: ScopHome, another: Touch) -> bool:
    return one.name == other.name and bool(one.of(touch).is_equal(other.of(another)))


@dataclass(frozen=True, eq=False)
class IndexPrinter:
    """Prints expressions of the indices of a statement as C, by their names."""

    names: tuple[str, ...]
    domain: isl.Set

    @property
    def box(self) -> isl.Set:
        """The indices that the loops run through."""
        found = isl.Set.universe(self.domain.get_space())
        for d in range(len(self.names)):
            found = found.lower_bound_val(isl.dim_type.set, d, isl.Val(0))
            found = found.upper_bound_val(isl.dim_type.set, d, self.domain.dim_max_val(d))
        return found

    def index(self, value: isl.PwAff, what: str) -> str:
        """One index. Errors: UnsupportedOperator where it is not one quasi-affine expression on all of the domain."""
        pieces = value.coalesce().gist(self.domain).get_pieces()
        if len(pieces) != 1:
            raise UnsupportedOperator(
                f"{what}: its index {value} has several pieces, which Polly does not take; leave that layer out "
                "(--from, --to)"
            )
        here = isl.PwAff.from_aff(pieces[0][1]).pullback_pw_multi_aff(self._named())
        return str(self._build(self.domain).expr_from_pw_aff(here.project_domain_on_params()).to_C_str())

    def condition(self) -> str | None:
        """What tells the domain from the box of the loops; None where they are the same.

        In operators on whole numbers: Polly takes them, and && only where LLVM has made branches of it.
        """
        box = self.box
        if self.domain.is_equal(box):
            return None
        (around,) = box.get_basic_sets()
        parts = []
        for part in self.domain.get_basic_sets():
            rest = isl.Set.from_basic_set(part.gist(around)).preimage_pw_multi_aff(self._named()).params()
            comparisons = self._build(box).expr_from_set(rest).to_C_str().split(" && ")
            parts.append(" & ".join(f"({without_masks(comparison)})" for comparison in comparisons))
        return parts[0] if len(parts) == 1 else " | ".join(f"({part})" for part in parts)

    def _build(self, known: isl.Set) -> isl.AstBuild:
        return isl.AstBuild.from_context(known.preimage_pw_multi_aff(self._named()).params())

    def _named(self) -> isl.PwMultiAff:
        """`[j] -> { [] -> Stmt[j] }`."""
        nothing = isl.Space.set_alloc(isl.DEFAULT_CONTEXT, 0, 0)
        space = nothing.map_from_domain_and_range(self.domain.get_space())
        space = space.add_dims(isl.dim_type.param, len(self.names))
        for d, name in enumerate(self.names):
            space = space.set_dim_name(isl.dim_type.param, d, name)
        relation = isl.Map.universe(space)
        for d in range(len(self.names)):
            relation = relation.equate(isl.dim_type.param, d, isl.dim_type.out, d)
        return isl.PwMultiAff.from_map(relation)


def without_masks(comparison: str) -> str:
    """A comparison of a remainder in a form that LLVM keeps: `x % m == r` as `(3 x + 1 + 3 m k) % (3 m) == 3 r + 1`.

    It would make masks of powers of two, and one comparison of two with 0, which are not affine. `3 m k` makes the
    number positive.

    >>> without_masks("(h + kh) % 2 == 0"), without_masks("h <= 17")
    ('(3 * (h + kh) + 6291457) % 6 == 1', 'h <= 17')
    """
    found = re.fullmatch(r"(.+) % (\d+) == (\d+)", comparison)
    if found is None:
        return comparison
    number = found[1] if re.fullmatch(r"\w+|\([^()]*\)", found[1]) else f"({found[1]})"
    modulus, remainder = 3 * int(found[2]), 3 * int(found[3])
    return f"(3 * {number} + {(modulus << 20) + 1}) % {modulus} == {remainder + 1}"


def element_text(relation: isl.Map, array: str, printer: IndexPrinter, what: str) -> str:
    """`{ Stmt[j] -> array[c] }` as C."""
    found = isl.PwMultiAff.from_map(relation.intersect_domain(printer.domain))
    indices = [printer.index(found.get_at(d), what) for d in range(relation.dim(isl.dim_type.out))]
    return element(array, indices)


def statement_lines(homes: Homes, step: ScopStep, taken: set[str]) -> list[str]:
    """The loops of a statement, its condition, and the block that is the statement."""
    placed = step.placed
    printer = IndexPrinter(placed.loops, placed.domain)
    label = placed.name.removeprefix(PREFIX)
    texts = []
    for touch in step.touches:
        home = homes.in_program(touch)
        where = f"statement {label} reads or writes {home.name}"
        texts.append(element_text(placed.instance.apply_range(home.of(touch)), home.name, printer, where))
    values = distinct_names((f"{touch.operand}_value" for touch in step.touches[:-1]), taken)
    real = real_type(step)
    lines = [f"const {real} {value} = {text};" for value, text in zip(values, texts[:-1], strict=True)]
    lines.append(f"{texts[-1]} = {value_text(step, values, printer)};")
    indent = "  "
    head = []
    for d, loop in enumerate(placed.loops):
        last = placed.domain.dim_max_val(d)
        head.append(f"{indent}for (long {loop} = 0; {loop} <= {last}; {loop}++)")
        indent += "  "
    condition = printer.condition()
    if condition is not None:
        head += folded(f"if ({condition})", indent, after="&|")
        indent += "  "
    return [*head, f"{indent}{label}: {{", *(f"{indent}  {line}" for line in lines), f"{indent}}}"]


def folded(text: str, indent: str, after: str) -> list[str]:
    """A text on as many lines as it needs, broken only behind some characters.

    >>> folded("if ((a + 1 <= b) & (c >= 0))", "  ", after="&|")
    ['  if ((a + 1 <= b) & (c >= 0))']
    """
    whole = re.sub(rf"(?<![{after}]) ", "\0", text)
    return [line.replace("\0", " ") for line in fold(whole, indent, f"{indent}    ", width=116)]


def real_type(step: ScopStep) -> str:
    """The C type of values: that of all elements."""
    return ELEMENTS[step.touches[-1].tensor.dtype].name


def value_text(step: ScopStep, values: Sequence[str], printer: IndexPrinter) -> str:
    """What a statement computes, of the values that it has loaded."""
    statement = step.placed.step.statement
    if statement is None:
        return values[0]
    operands = {operand: values[k] for operand, k in step.values.items()}
    used = names_in(statement.expression) & set(statement.dims)
    found = isl.PwMultiAff.from_map(step.placed.instance.intersect_domain(printer.domain))
    first = found.dim(isl.dim_type.out) - len(statement.dims)
    indices = {
        dim: printer.index(found.get_at(first + d), f"statement {statement.name}")
        for d, dim in enumerate(statement.dims)
        if dim in used
    }
    return to_c(statement.expression, operands, indices, real=real_type(step))


def c_source(homes: Homes, scop_steps: Sequence[ScopStep], function: str) -> str:
    """The C file: arrays that are given are parameters, the others are its own."""
    network = homes.storage.schedule.network
    found: dict[str, ScopHome] = {}
    for step in scop_steps:
        for touch in step.touches:
            home = homes.in_program(touch)
            found.setdefault(home.name, home)
    outputs = {tensor.name for tensor in network.outputs}
    given = [*(tensor.name for tensor in network.inputs), *network.weights]
    parameters = [f"const {_declared(found[name], restrict=True)}" for name in given if name in found]
    parameters += [_declared(found[name], restrict=True) for name in found if name in outputs]
    own = [home for name, home in found.items() if name not in outputs and name not in given]
    taken = {*found, *(step.placed.name.removeprefix(PREFIX) for step in scop_steps)}
    taken |= {loop for step in scop_steps for loop in step.placed.loops}
    schedule = homes.storage.schedule
    body = [line for step in scop_steps for line in statement_lines(homes, step, taken)]
    lines = [
        f"/* {network.name}: generated by polyfuse for Polly; tile {schedule.tiling}, placement "
        f"{schedule.strategy.placement}, {'copies expanded' if homes.expanded else 'plain loops'} */",
        prelude(words(body), index="long", real=real_type(scop_steps[0]), pure=True),
        *(f"static {_declared(home)};" for home in own),
        "",
        *folded(f"void {function}({', '.join(parameters)})", "", after=","),
        "{",
        *body,
        "}",
        "",
    ]
    return "\n".join(lines)


def _declared(home: ScopHome, restrict: bool = False) -> str:
    first, *others = home.sizes
    sizes = (f"{'restrict ' if restrict else ''}{first}", *others)
    return f"{home.element.name} {element(home.name, sizes)}"
