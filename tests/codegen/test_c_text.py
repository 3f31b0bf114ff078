"""C as text: types are what the table says, and files start with the helpers that they call."""

import numpy as np
import pytest

import polyfuse as pf
from polyfuse.codegen.build import WARNINGS, Options, compile_shared
from polyfuse.codegen.c.elements import ELEMENTS, definitions
from polyfuse.codegen.c.prelude import FUNCTIONS, prelude
from polyfuse.codegen.scop.export import exported
from polyfuse.network.dtypes import TYPES, is_whole

FAST = Options(flags=("-std=c11", "-O0", *WARNINGS))


def test_types_of_tensors_are_held_and_computed_as_the_table_of_c_says() -> None:
    for dtype, each in TYPES.items():
        assert ELEMENTS[dtype].bytes == each.bytes == np.dtype(each.held).itemsize, dtype
        assert ELEMENTS[dtype].whole == is_whole(dtype), dtype


def test_every_type_is_as_large_in_c_as_in_the_table_and_may_begin_at_any_byte() -> None:
    claims = [
        f'_Static_assert(sizeof({name}) == {each.bytes} && _Alignof({each.loose}) == 1, "{name}");'
        for each in ELEMENTS.values()
        for name in (each.name, each.loose)
    ]
    compile_shared(prelude((), definitions(ELEMENTS.values())) + "\n".join(claims) + "\nvoid run(void) {}\n", FAST)


@pytest.mark.parametrize("index", ["int", "long"])
def test_every_helper_compiles_by_itself_and_no_other_comes_with_it(index: str) -> None:
    for name in FUNCTIONS:
        text = prelude({name}, index=index, pure=True)
        assert [other for other in FUNCTIONS if f" {other}(" in text] == [name]
    compile_shared(prelude(FUNCTIONS, index=index, pure=True) + "void run(void) {}\n", FAST)


def test_fast_math_is_refused() -> None:
    with pytest.raises(pf.BuildError, match="order of operations"):
        compile_shared(prelude(()), FAST.with_flags("-ffast-math"))


def test_c_for_polly_has_the_helpers_that_it_calls() -> None:
    for activation, called in ((None, False), ("relu", True)):
        build = pf.Builder("one")
        network = build.network(build.conv("c", build.input("x", (1, 1, 8, 8)), 1, kernel=3, activation=activation))
        (group,) = pf.fused(network, pf.Strategy((4,)))
        assert ("HELPER float maximum(" in exported(group).source) is called
