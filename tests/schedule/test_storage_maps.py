"""Storage maps as one likes: right ones are accepted and compute the reference, wrong ones refused with a witness."""

from collections.abc import Mapping
from dataclasses import replace

import islpy as isl
import numpy as np
import pytest

import polyfuse as pf
from polyfuse.schedule.interpreter import interpret
from tests.schedule.drawn_storage import run
from tests.schedule.networks import pair

LOCAL = pf.Strategy((4,), others=("local",), placement="shifted")
TILES = pf.Strategy((8, 8), others=("recompute", "recompute"))


def mapped(group: pf.Storage, maps: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]) -> pf.Storage:
    """The group with other buffers for some tensors."""
    return pf.storage(group.schedule, maps=maps, shapes=shapes)


def assert_right(group: pf.Storage) -> None:
    pf.check(group)
    network = group.schedule.network
    inputs = {name: value.astype(np.float32) for name, value in pf.random_inputs(network, seed=3).items()}
    expected = pf.reference(network, inputs)
    found = interpret(group, inputs, forced=True).outputs
    for tensor in network.outputs:
        assert pf.max_relative_error(found[tensor.name], expected[tensor.name]) < 1e-12
    for staged, instrumented in ((False, False), (True, False), (True, True)):
        program = pf.generate(network, [group], kernels="scalar", staged=staged, instrumented=instrumented)
        kernel = pf.build(program)
        assert not staged or kernel.onchip_bytes == group.onchip_bytes
        for tensor in network.outputs:
            assert pf.max_relative_error(kernel(**inputs)[tensor.name], expected[tensor.name]) < 1e-5


@pytest.fixture(scope="module")
def channels() -> pf.Network:
    build = pf.Builder("channels")
    x = build.input("x", (1, 2, 12, 10))
    y = build.conv("a", x, 3, kernel=3, padding=1, activation="relu")
    return build.network(build.conv("b", y, 2, kernel=3))


RIGHT: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "NHWC, ring of rows": ("{ a_out[n, c, i, j] -> nhwc[i mod 6, j, c] }", (6, 10, 3)),
    "padded": ("{ a_out[n, c, i, j] -> wide[c, i mod 7, j + 3] }", (3, 7, 16)),
    "blocks of channels": ("{ a_out[n, c, i, j] -> blocks[floor(c / 2), i mod 6, j, c mod 2] }", (2, 6, 10, 2)),
    "skewed": ("{ a_out[n, c, i, j] -> skewed[c, i mod 6, j + (i mod 6)] }", (3, 6, 15)),
    "skewed ring": ("{ a_out[n, c, i, j] -> ring[c, i mod 6, (j + i) mod 10] }", (3, 6, 10)),
    "one line": ("{ a_out[n, c, i, j] -> line[30 * (i mod 6) + 3j + c] }", (180,)),
    "one ring": ("{ a_out[n, c, i, j] -> line[(30i + 3j + c) mod 180] }", (180,)),
    "reversed": ("{ a_out[n, c, i, j] -> back[2 - c, 9 - j, (-i) mod 6] }", (3, 10, 6)),
    "in pieces": (
        "{ a_out[n, c, i, j] -> parts[0, c, i mod 6, j] : j < 5; "
        "a_out[n, c, i, j] -> parts[1, c, i mod 6, j - 5] : j >= 5 }",
        (2, 3, 6, 5),
    ),
}
WRONG: Mapping[str, tuple[str, tuple[int, ...], str]] = {
    "short ring": ("{ a_out[n, c, i, j] -> nhwc[i mod 5, j, c] }", (5, 10, 3), r"in its place, cell nhwc\["),
    "all channels in one cell": ("{ a_out[n, c, i, j] -> one[i mod 6, j] }", (6, 10), "to the same cell"),
    "short columns": ("{ a_out[n, c, i, j] -> short[c, i mod 6, j] }", (3, 6, 9), "index 2 of 9 is used from 0 to 9"),
    "short line": ("{ a_out[n, c, i, j] -> line[30 * (i mod 6) + 3j + c] }", (179,), "used from 0 to 179"),
    "overlapping": ("{ a_out[n, c, i, j] -> line[29 * (i mod 6) + 3j + c] }", (180,), "to the same cell"),
    "negative": ("{ a_out[n, c, i, j] -> below[c, i mod 6, j - 1] }", (3, 6, 12), "used from -1 to 8"),
    "short ring of all": ("{ a_out[n, c, i, j] -> line[(30i + 3j + c) mod 179] }", (179,), "in its place"),
    "no cell": ("{ a_out[n, c, i, j] -> most[c, i mod 6, j] : j < 9 }", (3, 6, 10), "has no cell"),
    "half": ("{ a_out[n, c, i, j] -> half[c, i mod 6, floor(j / 2)] }", (3, 6, 10), "to the same cell"),
}


@pytest.mark.parametrize("case", RIGHT)
def test_right_storage_is_accepted(channels: pf.Network, case: str) -> None:
    text, shape = RIGHT[case]
    group = pf.storage(pf.scheduled(channels, LOCAL))
    array = isl.Map(text).get_tuple_name(isl.dim_type.out)
    assert_right(mapped(group, {"a_out": text}, {array: shape}))


@pytest.mark.parametrize("case", WRONG)
def test_wrong_storage_is_refused(channels: pf.Network, case: str) -> None:
    text, shape, message = WRONG[case]
    group = pf.storage(pf.scheduled(channels, LOCAL))
    array = isl.Map(text).get_tuple_name(isl.dim_type.out)
    with pytest.raises(pf.IllegalSchedule, match=message):
        pf.check(mapped(group, {"a_out": text}, {array: shape}))


def chain() -> pf.Network:
    """Three convolutions: what the first makes is dead when the third one writes."""
    build = pf.Builder("chain")
    tensor = build.input("x", (1, 1, 14, 14))
    for k in range(4):
        tensor = build.conv(f"c{k}", tensor, 1, kernel=3)
    return build.network(tensor)


def test_tensors_that_are_never_live_together_share_an_array() -> None:
    group = pf.storage(pf.scheduled(chain(), pf.Strategy((3,))))
    maps = {f"c{k}_out": f"{{ [tile[n, t] -> c{k}_out[n, c, i, j]] -> buf[i - 3t, j] }}" for k in (0, 2)}
    assert_right(mapped(group, maps, {"buf": (9, 12)}))
    smaller = mapped(group, maps, {"buf": (9, 12)})
    alone = mapped(group, {"c2_out": maps["c2_out"]}, {"buf": (9, 12)})
    assert smaller.onchip_bytes < alone.onchip_bytes


def test_tensors_that_are_live_together_do_not_share_cells() -> None:
    group = pf.storage(pf.scheduled(chain(), pf.Strategy((3,))))
    maps = {f"c{k}_out": f"{{ [tile[n, t] -> c{k}_out[n, c, i, j]] -> buf[i - 3t, j] }}" for k in (0, 1)}
    with pytest.raises(
        pf.IllegalSchedule, match=r"reads c0_out\[.*\], but tile .* has put c1_out\[.*give c1_out other cells"
    ):
        pf.check(mapped(group, maps, {"buf": (9, 12)}))
    maps["c1_out"] = "{ [tile[n, t] -> c1_out[n, c, i, j]] -> buf[i - 3t, j + 12] }"
    assert_right(mapped(group, maps, {"buf": (9, 24)}))


def test_a_ring_may_not_share_its_array_with_what_each_tile_makes() -> None:
    """The ring keeps rows for the next tile, which the other tensor overwrites after they were read in this one."""
    strategy = pf.Strategy((3,), ("recompute",), {"c0_out": ("local",)})
    group = pf.storage(pf.scheduled(chain(), strategy))
    maps = {
        "c0_out": "{ c0_out[n, c, i, j] -> buf[i mod 12, j] }",
        "c2_out": "{ [tile[n, t] -> c2_out[n, c, i, j]] -> buf[i - 3t, j] }",
    }
    with pytest.raises(pf.IllegalSchedule, match=r"reads c0_out\[.*has put c2_out"):
        pf.check(mapped(group, maps, {"buf": (12, 12)}))


def test_the_buffers_of_the_issue_are_refused() -> None:
    group = pf.storage(pf.scheduled(pair(20), TILES))
    buffer = group.buffers["conv1_out"]
    assert buffer.shape == (1, 1, 10, 10)
    short = replace(buffer, indices=(*buffer.indices[:3], replace(buffer.indices[3], window=6)))
    with pytest.raises(pf.IllegalSchedule, match="index 3 of 6 is used from 0 to 9"):
        pf.check(replace(group, buffers={**group.buffers, "conv1_out": short}))


def test_a_shape_pads_rows_at_their_end(channels: pf.Network) -> None:
    found = pf.storage(pf.scheduled(channels, LOCAL), {"a_out": RIGHT["padded"][0]}, shapes={"wide": (3, 7, 16)})
    assert found.buffers["a_out"].shape == (3, 7, 16)
    tight = pf.storage(pf.scheduled(channels, LOCAL), {"a_out": RIGHT["padded"][0]})
    assert tight.buffers["a_out"].shape == (3, 7, 13)


def test_the_interface_takes_relations_and_maps_of_the_own_array(channels: pf.Network) -> None:
    schedule = pf.scheduled(channels, LOCAL)
    text = "{ a_out[n, c, i, j] -> [n, c, i mod 6, j] }"
    for given in (text, isl.Map(text), isl.UnionMap(text), isl.BasicMap(text)):
        found = pf.storage(schedule, maps={"a_out": given})
        assert found.buffers["a_out"].array is None
        assert found.buffers["a_out"].shape == pf.storage(schedule).buffers["a_out"].shape
        pf.check(found)


def test_storage_that_was_chosen_has_row_kernels_where_rows_are_whole(channels: pf.Network) -> None:
    """A ring of rows as `pf.storage` finds it; another order of axes is scalar code, and row kernels say why."""
    schedule = pf.scheduled(channels, LOCAL)
    rows = pf.storage(schedule, maps={"a_out": "{ a_out[n, c, i, j] -> mine[n, c, i mod 7, j] }"})
    other = pf.storage(schedule, maps={"a_out": RIGHT["NHWC, ring of rows"][0]})
    inputs = {name: value.astype(np.float32) for name, value in pf.random_inputs(channels, seed=3).items()}
    expected = pf.reference(channels, inputs)["b_out"]
    for group in (rows, other):
        pf.check(group)
        found = pf.build(pf.generate(channels, [group]))(**inputs)["b_out"]
        assert pf.max_relative_error(found, expected) < 1e-5
    pf.generate(channels, [rows], kernels="rows")
    with pytest.raises(pf.InvalidInput, match=r"row kernels work on whole rows; nhwc\[.*use scalar kernels"):
        pf.generate(channels, [other], kernels="rows")


def test_weights_and_inputs_are_laid_out_as_one_likes(channels: pf.Network) -> None:
    maps = {
        "a_weight": "{ a_weight[o, c, i, j] -> ohwi[o, i, j, c] }",
        "a_bias": "{ a_bias[o] -> biases[o] }",
        "b_bias": "{ b_bias[o] -> biases[o + 3] }",
        "x": "{ x[n, c, i, j] -> image[i mod 7, j, c] }",
    }
    assert_right(pf.storage(pf.scheduled(channels, LOCAL), maps, {"biases": (5,)}))
    wrong = maps | {"b_bias": "{ b_bias[o] -> biases[o + 2] }"}
    with pytest.raises(pf.IllegalSchedule, match="array biases: two elements of weights have the same cell"):
        pf.check(pf.storage(pf.scheduled(channels, LOCAL), wrong, {"biases": (5,)}))
    mixed = maps | {"b_bias": "{ b_bias[o] -> image[0, 0, o] }"}
    with pytest.raises(pf.IllegalSchedule, match="is loaded once for all tiles"):
        pf.check(pf.storage(pf.scheduled(channels, LOCAL), mixed))


BAD: Mapping[str, tuple[object, object, str]] = {
    "no text": ({"a_out": "{ a_out[n, c, i, j] -> }"}, None, "isl cannot read"),
    "a number": ({"a_out": 3}, None, "isl cannot read 3|expected"),
    "no map": ("{ a_out[n] -> b[n] }", None, "'maps' of pf.storage: expected"),
    "unknown tensor": ({"y": "{ y[i] -> b[i] }"}, None, "no such tensor; the group has"),
    "another tensor": ({"a_out": "{ b_out[n, c, i, j] -> b[i] }"}, None, "expected { a_out"),
    "another rank": ({"a_out": "{ a_out[c, i, j] -> b[i] }"}, None, "expected { a_out"),
    "several cells": ({"a_out": "{ a_out[n, c, i, j] -> b[i] ; a_out[n, c, i, j] -> b[j] }"}, None, "several cells"),
    "a relation": ({"a_out": "{ a_out[n, c, i, j] -> b[k] : k >= i }"}, None, "several cells"),
    "a parameter": ({"a_out": "[N] -> { a_out[n, c, i, j] -> b[i + N] }"}, None, "has parameters"),
    "too far": ({"a_out": "{ a_out[n, c, i, j] -> b[1073741824 * i] }"}, None, "expected less than"),
    "unknown array": ({"a_out": "{ a_out[n, c, i, j] -> b[i] }"}, {"c": (3,)}, "no such array"),
    "shape of another rank": ({"a_out": "{ a_out[n, c, i, j] -> b[i] }"}, {"b": (3, 4)}, "expected 1 sizes"),
    "shape of nothing": ({"a_out": "{ a_out[n, c, i, j] -> b[i] }"}, {"b": (0,)}, "whole number"),
    "two ranks": ({"a_out": "{ a_out[n, c, i, j] -> b[i] }", "x": "{ x[n, c, i, j] -> b[i, j] }"}, None, "1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_maps_are_refused_in_one_line(channels: pf.Network, case: str) -> None:
    maps, shapes, message = BAD[case]
    with pytest.raises(pf.InvalidInput, match=message) as error:
        pf.storage(pf.scheduled(channels, LOCAL), maps, shapes)  # type: ignore[arg-type]
    assert "\n" not in str(error.value) and "isl_" not in str(error.value)


@pytest.mark.parametrize(
    ("array", "message"), [("b_out", "a tensor of the group"), ("x_buffer", "a tensor of the group")]
)
def test_arrays_are_called_by_names_of_their_own(channels: pf.Network, array: str, message: str) -> None:
    found = pf.storage(pf.scheduled(channels, LOCAL), {"a_out": f"{{ a_out[n, c, i, j] -> {array}[c, i, j] }}"})
    with pytest.raises(pf.IllegalSchedule, match="a tensor of the group has that name"):
        pf.check(found)


def test_random_storage_is_accepted_exactly_if_it_is_right() -> None:
    """`python -m tests.schedule.drawn_storage 10000` draws more."""
    verdicts = run(150, seed=7, every=25)
    assert sum(n for verdict, n in verdicts.items() if verdict.startswith("accepted")) > 40
    assert verdicts["refused, and wrong"] > 30
    wrong = ("unsound", "raw", "refused though right")
    assert not [verdict for verdict in verdicts if verdict.startswith(wrong)]
