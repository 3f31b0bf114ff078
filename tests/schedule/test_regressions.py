"""Cases that once went wrong, found and shrunk by the fuzzer (python -m tests.fuzz)."""

from tests.fuzz.case import Case, GroupOf, LayerOf
from tests.fuzz.run import run_cases


def check(case: Case) -> None:
    """The case passes every check of the fuzzer."""
    assert [f"{failure.kind}: {failure.message}" for failure in run_cases([case]).failures] == []


def test_a_bias_loaded_by_tiles_is_loaded_before_it_is_read() -> None:
    """Times of tensors of lower rank were shorter, and isl put their steps behind all others."""
    conv = LayerOf("conv", (0,), {"kernel": 1, "channels": 1})
    check(Case(((1, 1, 1, 1),), (conv,), (GroupOf(1, weights="tile"),)))


def test_buffers_of_a_group_without_weights_have_no_byte_too_many() -> None:
    """The member that keeps an empty struct from being empty was counted."""
    check(Case(((1, 1, 1, 1),), (LayerOf("add", (0, 0)),), (GroupOf(1, (1,)),), form="staged"))


def test_a_step_of_the_first_tile_only_stays_inside_the_parallel_loop() -> None:
    """Only the first tile reads the input: isl put its load in front of the loop, out of the threads' buffers."""
    conv = LayerOf("conv", (0,), {"kernel": 1, "padding": (0, 0, 1, 0), "channels": 1})
    for form in ("instrumented", "in place"):
        check(Case(((1, 1, 1, 1),), (conv,), (GroupOf(1, (1,)),), form=form, threads=2))


def test_a_broadcast_operand_may_be_retained() -> None:
    """Infinitely many points out of the image read the one element, so that no tile needed it first."""
    layers = (LayerOf("global_average_pool", (0,)), LayerOf("mul", (1, 0)))
    for place in ("local", "global"):
        for placement in ("first", "shifted"):
            check(Case(((1, 1, 3, 2),), layers, (GroupOf(2, (1,), (place,), placement=placement),)))


def test_an_input_that_only_padding_hides_has_a_buffer() -> None:
    """Every window misses the image, so that nothing is ever loaded."""
    conv = LayerOf("conv", (0,), {"kernel": 1, "stride": (1, 2), "padding": (0, 1, 0, 0), "channels": 1})
    check(Case(((1, 1, 1, 1),), (conv,), (GroupOf(1, (1,)),)))


def test_a_ring_holds_elements_that_arrive_before_their_left_neighbours() -> None:
    """Only the distance from an element to later ones of a higher index counted, not to those of a lower one."""
    layers = (
        LayerOf("conv", (0,), {"kernel": 1, "stride": (3, 1), "padding": (2, 0, 2, 0), "channels": 4}),
        LayerOf("global_average_pool", (1,)),
        LayerOf("average_pool", (0,), {"kernel": 1, "stride": 1}),
    )
    group = GroupOf(3, (1,), ("local",), placement="shifted")
    check(Case(((1, 1, 3, 4),), layers, (group,), outputs=(2,)))


def test_columns_that_arrive_out_of_order_have_cells() -> None:
    """The same in two dimensions, where a kept row is read again by tiles of another column."""
    window = {"kernel": (2, 3), "channels": 2}
    layers = (
        LayerOf("add", (0, 0)),
        LayerOf("conv", (1,), {**window, "stride": (3, 3), "padding": (1, 0, 1, 0)}),
        LayerOf("conv", (2,), {**window, "stride": (2, 2), "padding": (0, 1, 1, 2), "dilation": (2, 2)}),
        LayerOf("conv", (0,), {"kernel": (4, 2), "stride": (2, 1), "padding": (0, 0, 1, 0), "channels": 1}),
    )
    check(Case(((1, 3, 5, 11),), layers, (GroupOf(4, (2, 3), ("local", "local")),), outputs=(1,)))


def test_legality_does_not_rest_on_the_lexicographic_maximum_of_isl() -> None:
    """isl 0.27's dataflow analysis named a writer of the tile before the last: a legal schedule was refused."""
    layers = (
        LayerOf("conv", (0,), {"kernel": 2, "padding": 1, "stride": 2, "channels": 1}),
        LayerOf("conv", (2,), {"kernel": 1, "padding": (2, 0, 0, 0), "channels": 1}),
        LayerOf("add", (2, 1)),
    )
    group = GroupOf(3, (3,), ("local",), {"l0_out": ("recompute",)})
    check(Case(((2, 1, 8, 1), (1, 1, 5, 1)), layers, (group,)))


def test_legality_is_proved_where_the_dataflow_analysis_of_isl_gave_up() -> None:
    """isl 0.27 said that an affine expression involves some of the domain dimensions."""
    layers = (
        LayerOf("max_pool", (0,), {"kernel": (4, 3), "stride": 1, "padding": (0, 1, 0, 0)}),
        LayerOf("activation", (1,), {"spec": "tanh"}),
        LayerOf(
            "average_pool",
            (2,),
            {"kernel": (4, 3), "stride": (2, 3), "padding": (0, 0, 2, 0), "dilation": (3, 3), "ceil": True},
        ),
        LayerOf("concat", (2, 1)),
    )
    retention = {"l0_out": ("recompute", "local"), "l1_out": ("global", "local")}
    group = GroupOf(4, (1, 2), ("local", "recompute"), retention, "shifted")  # type: ignore[arg-type]
    check(Case(((1, 3, 14, 8),), layers, (group,), form="in place"))


def test_shifted_placement_follows_the_extended_need_of_outputs_cut_differently() -> None:
    """Tiles of outputs that drift apart are finitely many for each element, which was taken for infinitely many."""
    window = {"kernel": (4, 3), "stride": 1, "padding": (1, 0, 1, 2)}
    layers = (
        LayerOf("add", (0, 0)),
        LayerOf("mul", (0, 1)),
        LayerOf("average_pool", (2,), {"kernel": (2, 1), "stride": 1, "padding": (1, 0, 0, 0)}),
        LayerOf("average_pool", (2,), window),
    )
    group = GroupOf(4, (1,), ("recompute",), {"l0_out": ("local",)}, placement="shifted")
    check(Case(((1, 1, 2, 1),), layers, (group,), form="instrumented"))


def test_pieces_that_isl_cannot_coalesce_stay_apart() -> None:
    """isl 0.27 said that a tableau does not correspond to its basic map."""
    layers = (
        LayerOf("conv", (0,), {"kernel": (4, 2), "stride": (1, 3), "padding": (1, 1, 0, 0), "channels": 1}),
        LayerOf("conv", (0,), {"kernel": 1, "stride": 2, "channels": 4}),
        LayerOf("concat", (2,)),
    )
    group = GroupOf(3, (5, 2), ("local", "local"), placement="shifted")
    check(Case(((1, 3, 11, 13),), layers, (group,), outputs=(2, 3)))
