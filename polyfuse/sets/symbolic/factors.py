"""Numbers of integer points as sums of products of one-dimensional sums: short where the expanded form is not.

Enters: any isl set or map, with parameters. Leaves: a `FactoredSum`.

Dimensions that no piece of a union ties together are counted on their own, in unions too: a union of products becomes
a disjoint one by splitting one axis at a time.

    (A1 x B1) + (A2 x B2)   to   (A1 - A2) x B1  +  (A1 & A2) x (B1 + B2)  +  (A2 - A1) x B2
"""

from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from math import gcd, prod
from typing import Any

import islpy as isl
import numpy as np
import sympy
from numpy.typing import ArrayLike, NDArray

from polyfuse.errors import InvalidInput, TooComplex
from polyfuse.sets.components import PARAM, connected_dimensions, restricted_to
from polyfuse.sets.limits import operation_limit
from polyfuse.sets.spaces import dimension_names
from polyfuse.sets.symbolic.closed_forms import MAX_OPERATIONS, cardinality, fibres
from polyfuse.sets.symbolic.quasi import Piece, PiecewiseQuasiPolynomial
from polyfuse.sets.symbolic.vectorise import INT64_MAX

MOST_PRODUCTS = 1_000
Row = tuple[isl.Set, ...]
"""A product of sets, one over the dimensions of each component."""
FunctionProduct = tuple[int, tuple[PiecewiseQuasiPolynomial, ...]]
"""A coefficient, and functions of the symbols that each needs."""


@dataclass(frozen=True)
class Factor:
    """A form of the sum, by its position, with symbols of the sum in the places of its own."""

    form: int
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class Term:
    """`coefficient x factor x factor x …`."""

    coefficient: int
    factors: tuple[Factor, ...]


@dataclass(frozen=True, eq=False)
class FactoredSum:
    """An integer function of named integers: a sum of products of forms in few symbols each, named `f1`, `f2`, ….

    >>> plane = factored(isl.Set("[H, W] -> { A[y, x] : 0 <= y < H and 0 <= x < W and y mod 2 = 0 }"))
    >>> print(plane)
    [H, W] -> { W*floor(H/2 + 1/2) : W > 0 and H > 0 }
    >>> plane.at(H=5, W=10), plane.to_numpy()(H=[0, 5], W=10).tolist()
    (30, [0, 30])
    """

    symbols: tuple[str, ...]
    forms: tuple[PiecewiseQuasiPolynomial, ...]
    terms: tuple[Term, ...]

    def at(self, **values: int) -> int:
        """The exact value at one point, every symbol given by name. Errors: InvalidInput otherwise."""
        return int(self._evaluated(values, lambda form: form.at))

    def to_numpy(self) -> Callable[..., NDArray[np.int64]]:
        """A function of integer arrays by name; they are broadcast, the result is int64 and exact.

        Its errors: InvalidInput for missing or unknown symbols, TooComplex where a result passes 64 bits.
        """

        def evaluate(**arrays: ArrayLike) -> NDArray[np.int64]:
            shape = np.broadcast_shapes(*(np.shape(values) for values in arrays.values()))
            total = np.asarray(self._evaluated(arrays, lambda form: _exact(form.to_numpy())))
            if total.size and max(abs(total.max()), abs(total.min())) > INT64_MAX:
                raise TooComplex("a value does not fit 64 bits; evaluate single points with `at`, which has no limit")
            return np.array(np.broadcast_to(total, shape), dtype=np.int64)

        return evaluate

    def expanded(self) -> PiecewiseQuasiPolynomial:
        """The same function as disjoint pieces, which may be many."""
        total = PiecewiseQuasiPolynomial(self.symbols, ())
        for term in self.terms:
            value = sympy.Integer(term.coefficient)
            everywhere = isl.Set.universe(_parameter_space(self.symbols))
            product = PiecewiseQuasiPolynomial(self.symbols, (Piece(everywhere, value),))
            for factor in term.factors:
                product = product * self.forms[factor.form].with_symbols(factor.arguments)
            total = total + product
        return total.simplified()

    def __str__(self) -> str:
        first, *forms = self.lines()
        value, _, where = first.partition("  where  ")
        head = f"[{', '.join(self.symbols)}] -> "
        return "\n".join([f"{head}{{ {value} : {where} }}" if where else head + first, *forms])

    def lines(self) -> list[str]:
        """The sum, then each form; one line, `value  where  condition`, if it is a product of forms of one piece.

        A factor of every term that is 1 where it is not 0 is part of the condition.
        """
        if not self.terms:
            return ["0"]
        first = self.terms[0].factors
        shared = [each for each in dict.fromkeys(first) if all(each in term.factors for term in self.terms)]
        if len(self.terms) == 1 and all(len(form.pieces) == 1 for form in self.forms):
            value = sympy.Mul(self.terms[0].coefficient, *(self._pieces(each)[0].value for each in first))
            return [f"{value}{self._where(shared)}"]
        conditions = [each for each in shared if [piece.value for piece in self._pieces(each)] == [1]]
        shown = [
            index
            for index in range(len(self.forms))
            if any(factor.form == index and factor not in conditions for term in self.terms for factor in term.factors)
        ]
        names = {index: f"f{number}" for number, index in enumerate(shown, start=1)}
        terms = [_term_text(term, names, conditions) for term in self.terms]
        lines = [" + ".join(terms).replace("+ -", "- ") + self._where(conditions)]
        for index, name in names.items():
            form = self.forms[index]
            lines.append(f"  {name}({', '.join(form.symbols)}) = {'; '.join(map(str, form.pieces))}")
        return lines

    def _pieces(self, factor: Factor) -> tuple[Piece, ...]:
        return self.forms[factor.form].with_symbols(factor.arguments).pieces

    def _where(self, factors: Iterable[Factor]) -> str:
        """The condition on which none of some factors of one piece is outside of it."""
        domain = isl.Set.universe(_parameter_space(self.symbols))
        for factor in factors:
            domain = domain.intersect(self._pieces(factor)[0].domain)
        condition = str(domain.coalesce()).partition(":")[2].rpartition("}")[0].strip()
        return f"  where  {condition}" if condition else ""

    __repr__ = __str__

    def _evaluated(self, values: Any, of_form: Callable[[PiecewiseQuasiPolynomial], Callable[..., Any]]) -> Any:
        if set(values) != set(self.symbols):
            expected, got = ", ".join(self.symbols) or "none", ", ".join(values) or "none"
            raise InvalidInput(f"values of a sum of products: expected the symbols {expected}, got {got}; name each")
        callables = [of_form(form) for form in self.forms]

        def value_of(factor: Factor) -> Any:
            own = self.forms[factor.form].symbols
            return callables[factor.form](
                **{name: values[given] for name, given in zip(own, factor.arguments, strict=True)}
            )

        known = {factor: value_of(factor) for term in self.terms for factor in term.factors}
        return sum(prod((known[each] for each in term.factors), start=term.coefficient) for term in self.terms)


def factored(s: isl.Set | isl.Map) -> FactoredSum:
    """The number of points of a set as a function of its parameters: a sum of products, exact and short.

    As `cardinality`, for a map at each point of its domain. The same value at every point as `cardinality`'s, whose
    pieces multiply where those of this form add: points of a plane that are in two or more of its tiles of 8x8 with a
    halo of 2 are so many, where `cardinality` prints more than 10,000 characters.

    >>> tile_rows = "0 <= ty and 8ty <= y < 8ty + 10 and 8ty < H - 2 and y < H"
    >>> tile_columns = "0 <= tx and 8tx <= x < 8tx + 10 and 8tx < W - 2 and x < W"
    >>> needed = isl.Map(f"[H, W] -> {{ A[y, x] -> tile[ty, tx] : {tile_rows} and {tile_columns} }}")
    >>> print(factored(needed.subtract(needed.lexmin()).domain()))
    [H, W] -> f1(H)*f2(W) + f3(H)*f1(W)
      f1(n) = 2*floor(n/8 + 5/8) - 2 : n >= 11
      f2(n) = n : n >= 3
      f3(n) = n - 2*floor(n/8 + 5/8) + 2 : n >= 3

    Errors: Unbounded where some parameters give infinitely many points, TooComplex where no closed form is found.
    """
    if not isinstance(s, (isl.Set, isl.Map)):
        raise InvalidInput(f"factored: expected an isl.Set or isl.Map, got {type(s).__name__}; convert it first")
    with operation_limit(MAX_OPERATIONS, what="a sum of products"):
        points = fibres(s)
        return sum_of_products(dimension_names(points.get_space(), PARAM), disjoint_products(product_rows(points)[1]))


def sum_of_products(symbols: tuple[str, ...], rows: Iterable[Row]) -> FactoredSum:
    """The number of points of disjoint products, their sets over the parameters `symbols`. Errors: as `factored`."""
    return _sum(symbols, _gathered([_product(row) for row in rows]))


def disjoint_products(rows: Sequence[Row]) -> list[Row]:
    """A union of products as disjoint products, by splitting one component at a time.

    Errors: TooComplex past `MOST_PRODUCTS`.
    """
    if not rows:
        return []
    if len(rows[0]) == 1:
        return [(_union(row[0] for row in rows),)]
    products: list[Row] = []
    for first, tails in _alike(_atoms(rows)):
        products += [(first, *product) for product in disjoint_products(tails)]
        if len(products) > MOST_PRODUCTS:
            raise TooComplex(
                f"a sum of products: expected at most {MOST_PRODUCTS:,} products, it needs more; fix some parameters "
                "or restrict their range"
            )
    return products


def _atoms(rows: Sequence[Row]) -> list[tuple[isl.Set, list[Row]]]:
    """Disjoint sets of the first component, each with the rest of all rows whose own set holds it."""
    atoms: list[tuple[isl.Set, list[Row]]] = []
    for first, *rest in rows:
        split: list[tuple[isl.Set, list[Row]]] = []
        for known, tails in atoms:
            split += [(known.intersect(first), [*tails, tuple(rest)]), (known.subtract(first), tails)]
            first = first.subtract(known)
        atoms = [(part.coalesce(), tails) for part, tails in (*split, (first, [tuple(rest)])) if not part.is_empty()]
    return atoms


def _alike(atoms: Iterable[tuple[isl.Set, list[Row]]]) -> list[tuple[isl.Set, list[Row]]]:
    """Atoms whose rests are the same set as one."""
    merged: list[tuple[isl.Set, list[Row], isl.Set]] = []
    for part, tails in atoms:
        rest = _union(reduce(isl.Set.flat_product, tail) for tail in tails)
        for index, (known, same, other) in enumerate(merged):
            if other.is_equal(rest):
                merged[index] = (known.union(part).coalesce(), min(same, tails, key=len), other)
                break
        else:
            merged.append((part, tails, rest))
    return [(part, tails) for part, tails, _ in merged]


def product_rows(points: isl.Set) -> tuple[list[set[int]], list[Row]]:
    """The finest components that all pieces of a set have, by positions of dimensions, and the pieces as products.

    Conditions on parameters go where the parameters are; what ties parameters of several components is one more set.
    """
    flat = points.flatten().compute_divs()
    forms = [[piece for piece in each.get_basic_sets() if not piece.is_empty()] for each in (flat.coalesce(), flat)]
    groups, pieces = max(((_components(pieces), pieces) for pieces in forms), key=lambda form: len(form[0]))
    contexts = [piece.to_set().params() for piece in pieces]
    parts = [
        [restricted_to(piece, group).to_set().reset_tuple_id().gist_params(context) for group in groups]
        for piece, context in zip(pieces, contexts, strict=True)
    ]
    involved = [set().union(*(_involved(row[index]) for row in parts)) for index in range(len(groups))]
    return groups, [_row(row, context, involved) for row, context in zip(parts, contexts, strict=True)]


def _components(pieces: Iterable[isl.BasicSet]) -> list[set[int]]:
    """Dimensions that some piece ties together."""
    groups: list[set[int]] = []
    for group in (group for piece in pieces for group in connected_dimensions(piece)):
        tied = [other for other in groups if other & group]
        groups = [other for other in groups if not other & group] + [group.union(*tied)]
    return sorted(groups, key=min)


def _row(parts: Sequence[isl.Set], context: isl.Set, involved: Sequence[set[int]]) -> Row:
    """A product, given its sets without their conditions on parameters, and those."""
    shadows = [_only(context, kept) for kept in involved]
    together = reduce(isl.Set.intersect, shadows, isl.Set.universe(context.get_space()))
    rest = isl.Set.from_params(context.gist(together))
    return (*(part.intersect_params(shadow) for part, shadow in zip(parts, shadows, strict=True)), rest)


def _involved(part: isl.Set) -> set[int]:
    return {position for position in range(part.dim(PARAM)) if part.involves_dims(PARAM, position, 1)}


def _only(context: isl.Set, kept: set[int]) -> isl.Set:
    """What a condition says of some parameters, whatever the others are."""
    for position in range(context.dim(PARAM)):
        if position not in kept:
            context = context.eliminate(PARAM, position, 1)
    return context


def _union(sets: Iterable[isl.Set]) -> isl.Set:
    return reduce(isl.Set.union, sets).coalesce()


def _product(row: Row) -> tuple[int, tuple[PiecewiseQuasiPolynomial, ...]]:
    """A coefficient and functions of the symbols that each needs."""
    counts = [cardinality(part, "own").in_used_symbols().simplified() for part in row]
    return prod(count.at() for count in counts if not count.symbols), tuple(count for count in counts if count.symbols)


def _gathered(products: Sequence[FunctionProduct]) -> list[FunctionProduct]:
    """The sum of products in fewer: two that differ in one factor, of the same symbols, become one."""
    gathered: list[FunctionProduct] = []
    pending = [product for product in products if product[0]]
    while pending:
        product = pending.pop(0)
        for index, other in enumerate(gathered):
            joined = _joined(other, product)
            if joined is not None:
                del gathered[index]
                pending += [joined] if joined[0] else []
                break
        else:
            gathered.append(product)
    return gathered


def _joined(one: FunctionProduct, other: FunctionProduct) -> FunctionProduct | None:
    """The sum of two products as one; None where they differ in more than a factor."""
    ours, theirs = {str(each): each for each in one[1]}, {str(each): each for each in other[1]}
    left = Counter(map(str, one[1])) - Counter(map(str, other[1]))
    right = Counter(map(str, other[1])) - Counter(map(str, one[1]))
    if not left and not right:
        return one[0] + other[0], one[1]
    if sorted(left.values()) != [1] or sorted(right.values()) != [1]:
        return None
    (mine,), (its,) = left, right
    if ours[mine].symbols != theirs[its].symbols:
        return None
    shared = gcd(one[0], other[0])
    total = (_scaled(ours[mine], one[0] // shared) + _scaled(theirs[its], other[0] // shared)).simplified()
    same = list(one[1])
    same.remove(ours[mine])
    return (shared, (*same, total)) if total.pieces else (0, ())


def _scaled(function: PiecewiseQuasiPolynomial, scale: int) -> PiecewiseQuasiPolynomial:
    pieces = tuple(Piece(piece.domain, scale * piece.value) for piece in function.pieces)
    return PiecewiseQuasiPolynomial(function.symbols, pieces)


def _sum(symbols: tuple[str, ...], products: Sequence[FunctionProduct]) -> FactoredSum:
    """Products with equal functions of different symbols as one form."""
    forms: dict[str, PiecewiseQuasiPolynomial] = {}
    terms = []
    for coefficient, functions in products:
        factors = []
        for function in sorted(functions, key=lambda each: [symbols.index(name) for name in each.symbols]):
            form = function.with_symbols(_own_names(len(function.symbols)))
            forms.setdefault(str(form), form)
            factors.append(Factor(list(forms).index(str(form)), function.symbols))
        terms.append(Term(coefficient, tuple(factors)))
    return FactoredSum(symbols, tuple(forms.values()), tuple(terms))


def _own_names(count: int) -> tuple[str, ...]:
    return ("n",) if count == 1 else tuple("nmklpq"[:count]) if count <= 6 else tuple(f"n{k}" for k in range(count))


def _term_text(term: Term, names: Mapping[int, str], left_out: Container[Factor]) -> str:
    shown = [factor for factor in term.factors if factor not in left_out]
    powers = Counter(f"{names[factor.form]}({', '.join(factor.arguments)})" for factor in shown)
    factors = [f"{text}**{power}" if power > 1 else text for text, power in powers.items()]
    sign = "-" if term.coefficient == -1 and factors else ""
    number = [] if abs(term.coefficient) == 1 and factors else [str(term.coefficient)]
    return sign + "*".join([*number, *factors])


def _exact(evaluate: Callable[..., NDArray[np.int64]]) -> Callable[..., NDArray[np.object_]]:
    """The evaluation in Python integers, whose products have no limit."""
    return lambda **arrays: evaluate(**arrays).astype(object)


def _parameter_space(symbols: Sequence[str]) -> isl.Space:
    space = isl.Space.params_alloc(isl.DEFAULT_CONTEXT, len(symbols))
    for position, name in enumerate(symbols):
        space = space.set_dim_name(PARAM, position, name)
    return space
