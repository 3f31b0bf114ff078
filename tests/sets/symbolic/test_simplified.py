"""Simplified pieces have the values of the pieces, and equal functions of one symbol the same form."""

from random import Random

import islpy as isl
import numpy as np
import pytest

from polyfuse.sets.symbolic.expressions import symbol
from polyfuse.sets.symbolic.quasi import Piece, PiecewiseQuasiPolynomial

N, M = symbol("n"), symbol("m")


def floor_of(random: Random, name: str) -> object:
    from sympy import Integer, floor

    return floor((symbol(name) * random.choice((1, 2, -1)) + random.randrange(6)) / Integer(random.choice((2, 3, 4))))


def drawn(random: Random, degree: int) -> PiecewiseQuasiPolynomial:
    """Up to four pieces on disjoint ranges and residues, each a polynomial in the symbol and floors."""
    bounds = sorted(random.sample(range(-6, 25), 3))
    domains = [f"n < {bounds[0]} and n >= -9", f"{bounds[0]} <= n < {bounds[1]}", f"{bounds[1]} <= n < {bounds[2]}"]
    domains += [f"n >= {bounds[2]} and n mod 3 = {rest}" for rest in random.sample(range(3), 2)]
    pieces = []
    for domain in domains:
        value = random.randrange(-4, 5)
        for _ in range(random.randrange(3)):
            value = value + random.randrange(-2, 3) * floor_of(random, "n") ** random.randint(1, degree)  # type: ignore[operator]
        pieces.append(Piece(isl.Set(f"[n] -> {{ : {domain} }}"), value + 0 * N + random.choice((0, 1)) * N))
    return PiecewiseQuasiPolynomial(("n",), tuple(pieces))


@pytest.mark.parametrize("degree", [1, 2])
@pytest.mark.parametrize("seed", range(25))
def test_values_stay(seed: int, degree: int) -> None:
    function = drawn(Random(seed), degree)
    sizes = np.arange(-60, 200)
    assert (function.simplified().to_numpy()(n=sizes) == function.to_numpy()(n=sizes)).all()


@pytest.mark.parametrize("seed", range(25))
def test_equal_functions_have_one_form(seed: int) -> None:
    """A piece cut in two, its value written with other floors, changes nothing."""
    from sympy import Integer, floor

    random = Random(seed)
    cut, size = random.randrange(6, 20), random.choice((2, 3, 5))
    halves = sum((floor((N + r) / Integer(size)) for r in range(size)), Integer(0))
    weight, offset = random.randrange(1, 4), random.randrange(3)
    one = weight * floor((N + offset) / Integer(4))
    whole = PiecewiseQuasiPolynomial(("n",), (Piece(isl.Set("[n] -> { : n >= 4 }"), one + N),))
    parts = (
        Piece(isl.Set(f"[n] -> {{ : 4 <= n < {cut} }}"), one + halves),
        Piece(isl.Set(f"[n] -> {{ : n >= {cut} }}"), one + N),
    )
    assert str(PiecewiseQuasiPolynomial(("n",), parts).simplified()) == str(whole.simplified())


def test_floors_that_are_constant_and_pieces_that_join() -> None:
    from sympy import floor

    wide = Piece(isl.Set("[n, m] -> { : n >= 8 and m >= 0 }"), N + M * floor(N / 8))
    narrow = Piece(isl.Set("[n, m] -> { : 0 <= n < 8 and m >= 0 }"), N)
    joined = PiecewiseQuasiPolynomial(("n", "m"), (narrow, wide)).simplified()
    assert str(joined) == "[n, m] -> { m*floor(n/8) + n : n >= 0 and m >= 0 }"
    alone = PiecewiseQuasiPolynomial(("n", "m"), (Piece(narrow.domain, wide.value),)).simplified()
    assert str(alone) == "[n, m] -> { n : 0 <= n <= 7 and m >= 0 }"
