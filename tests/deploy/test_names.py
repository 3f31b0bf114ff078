"""A model may call its nodes, tensors and itself anything: Python takes names as they are, C gets names of its own."""

import keyword
import random
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from polyfuse.codegen.build import Options
from polyfuse.codegen.compiler import find_compiler
from polyfuse.deploy.ccall import call_library
from polyfuse.deploy.csignature import c_names, in_comment, parameters
from polyfuse.deploy.files import library_files
from polyfuse.deploy.library import library
from polyfuse.deploy.model import load, plan_of, program_of
from polyfuse.deploy.scratchpad import compiled, scratch_files
from polyfuse.deploy.settings import Settings
from polyfuse.deploy.source import read_source
from polyfuse.loading import load_onnx
from polyfuse.machines.accelerator import accelerator
from polyfuse.network.network import Network
from polyfuse.network.onnx.graph import ENDING, LayerNames
from polyfuse.network.reference import max_relative_error
from polyfuse.network.signature import Input, Output, Signature
from polyfuse.network.tensor import AVOIDED, IDENTIFIER, RESERVED, checked_name, is_taken, safe_name
from polyfuse.plan.graph.operations import graph_of
from polyfuse.plan.planning import plan_for
from tests.deploy.ends import expected, made, node, random_arrays, random_model, same, saved
from tests.deploy.networks import block, branches, chain

SETTINGS = Settings(groups="single")
UNOPTIMISED = ("-std=c11", "-O0", "-march=native")
HOSTILE = (
    *("*/", "/* x", "a*/ int main", "%s%n", "{}", "{0}", "a\nb", "a\r#error x", "\\", "a\\", "'", '"', "`rm`", "$(x)"),
    *("é", "名前", "\u202e", "🙂", " ", "  a", "../../etc", "a/b", "A", "a", "a_", "_a", "__a", "1", "1e5", "-"),
    *("[red]x[/red]", "[/x]", "self", "file", "args", "kwds", "x.npy", "row", "h/loop", "conv_loop", "int", "main"),
    *("memory", "arena", "weights", "constants", "restrict", "I", "m_run", "M_H", "M_ALIGNMENT", "m_load", "??/"),
    *("chip", "kept", "load", "chip_x", "group0", "y_out", "Y", "class", "new", "NULL", "acc", "t", "n", "h", "w", "c"),
)  # fmt: skip


def long_names(seed: int) -> list[str]:
    """Names of 1 to 300 characters with a beginning in common, which is what is left where names are cut."""
    draw = random.Random(seed)
    beginning = "".join(draw.choice("ab/_.") for _ in range(300))
    return list(dict.fromkeys(beginning[: draw.randint(1, 300)] + str(k) * draw.randint(0, 2) for k in range(40)))


def checked(model: onnx.ModelProto, folder: Path, file: str = "m", settings: Settings = SETTINGS) -> None:
    """Names and values in Python and C are the model's."""
    ours = load(saved(model, folder, file), settings=settings)
    arrays = random_arrays(model)
    wanted = expected(model, arrays)
    assert ours.inputs == tuple(value.name for value in model.graph.input)
    found = ours.run(**dict(zip(ours.inputs, arrays, strict=True)))
    assert all(same(found[value.name], w) for value, w in zip(model.graph.output, wanted, strict=True))
    in_c = call_library(ours.program, arrays, options=settings.options)
    assert all(same(value.ravel(), w.ravel()) for value, w in zip(in_c, wanted, strict=True))


@pytest.mark.parametrize("seed", range(8))
def test_names_may_be_hostile(seed: int, tmp_path: Path) -> None:
    checked(random_model(seed, HOSTILE), tmp_path)


@pytest.mark.parametrize("seed", range(4))
def test_names_may_be_long_and_begin_alike(seed: int, tmp_path: Path) -> None:
    checked(random_model(seed, long_names(seed)), tmp_path)


@pytest.mark.parametrize("file", ["row", "int", "polyfuse", "1 a", "名前", "chip", "class", "x" * 200])
def test_files_may_be_called_anything(file: str, tmp_path: Path) -> None:
    checked(made([node("Relu", ["x"], "y")], {"x": (1, 2, 3, 3)}, ["y"]), tmp_path, file)


@pytest.mark.parametrize("length", [1, 40, 45, 46, 47, 48, 49, 62, 63, 64, 120, 300])
def test_long_nodes_keep_their_weights(length: int, tmp_path: Path) -> None:
    """Mul by (2, 3) and Add of (10, 20); Conv and BatchNormalization; ten Splits and a Gemm, all under one prefix."""
    name = ("/backbone/stage2/block0/layer_scale/gamma/" + "Mul_1" * 60)[:length]
    value = np.random.default_rng(length).standard_normal
    column = lambda *numbers: np.float32(numbers).reshape(1, 2, 1, 1)  # noqa: E731
    constants = {"by": column(2, 3), "more": column(10, 20), "k": value((2, 2, 1, 1)).astype(np.float32)}
    constants |= {each: np.abs(value(2)).astype(np.float32) + 0.5 for each in ("g", "b", "m", "v")}
    constants |= {"gw": value((8, 3)).astype(np.float32), "gb": value(3).astype(np.float32)}
    nodes = [
        node("Mul", ["x", "by"], "a", name=name),
        node("Add", ["a", "more"], "scaled", name=f"{name}b"),
        node("Conv", ["x", "k"], "c", name=f"{name}c"),
        node("BatchNormalization", ["c", "g", "b", "m", "v"], "normal", name=f"{name}d"),
        node("Flatten", ["scaled"], "flat", name=f"{name}e"),
        node("Gemm", ["flat", "gw", "gb"], "fc", name=f"{name}f"),
    ]
    parts = ["normal"]
    for k in range(10):
        nodes.append(node("Split", [parts[-1]], f"left{k}", f"right{k}", axis=1, name=f"{name}s{'s' * k}"))
        nodes.append(node("Concat", [f"right{k}", f"left{k}"], f"whole{k}", axis=1, name=f"{name}t{'t' * k}"))
        parts.append(f"whole{k}")
    model = made(nodes, {"x": (1, 2, 2, 2)}, ["scaled", "fc", parts[-1]], constants)
    checked(model, tmp_path)


def test_nodes_may_share_a_name_or_have_none(tmp_path: Path) -> None:
    """onnxruntime refuses two nodes of one name; the same model with other names says what is right."""
    by = {f"w{k}": np.float32([k + 2, k + 3]).reshape(1, 2, 1, 1) for k in range(6)}
    for names in (["same"] * 6, [""] * 6, ["n1", "", "n0", "", "n1", "n1_2"], ["a", "a_scale", "a_scale_out", "a", "a_constant", "a_2"]):  # fmt: skip  # noqa: E501
        models = []
        for called in (names, [f"node{k}" for k in range(6)]):
            nodes = [node(["Mul", "Add"][k % 2], [f"t{k}", f"w{k}"], f"t{k + 1}", name=called[k]) for k in range(6)]
            models.append(made(nodes, {"t0": (1, 2, 2, 2)}, ["t6", "t3"], by))
        ours = load(saved(models[0], tmp_path), settings=SETTINGS)
        arrays = random_arrays(models[1])
        found = ours.run(*arrays)
        wanted = expected(models[1], arrays)
        assert all(same(found[name], value) for name, value in zip(("t6", "t3"), wanted, strict=True))


def identifiers() -> list[str]:
    """Every identifier of generated C, of headers that it includes, of C, C++ and Python, and what compilers define."""
    texts = []
    for network in (block(), branches(), chain()):
        for settings in (Settings().ready, SETTINGS.ready):
            code = program_of(network, plan_of(network, settings), settings)
            made_library = library(code)
            texts += [code.source, made_library.source, made_library.header]
    graph = graph_of(chain(), "int8")
    texts += [data.decode() for name, data in scratch_files(compiled(plan_for(graph, accelerator("npu")), chain())).items() if name.endswith((".c", ".h"))]  # fmt: skip  # noqa: E501
    macros = subprocess.run(
        [str(find_compiler().path), "-dM", "-E", "-include", "math.h", "-include", "stdio.h", "-x", "c", "/dev/null"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    texts.append("\n".join(name for name in re.findall(r"#define (\w+)", macros) if not name.startswith("_")))
    found = {word for text in texts for word in re.findall(r"[A-Za-z_]\w*", text)}
    return sorted(found | AVOIDED | set(keyword.kwlist))


def test_every_identifier_of_generated_code_may_be_a_name(tmp_path: Path) -> None:
    """Hundreds of inputs, some of which a convolution reads; the header is compiled as C and as C++."""
    words = identifiers()
    assert {"restrict", "memory", "row_in", "class", "NOINLINE", "linux", "INFINITY", "from"} <= set(words)
    refused = [word for word in words if word in AVOIDED or is_taken(word)]
    words = [*sorted(set(words) - set(refused)), *refused[::5]]
    compiler, settings = str(find_compiler().path), replace(SETTINGS, options=Options(flags=UNOPTIMISED)).ready
    for start in range(0, len(words), 120):
        names = words[start : start + 120]
        weight = {"!!w": np.random.default_rng(0).standard_normal((2, 2, 3, 3)).astype(np.float32)}
        nodes = [node("Conv", [name, "!!w"], f"!{name}", name=name, pads=[1] * 4) for name in names[::20]]
        nodes.append(node("Sum", [*names, *(f"!{name}" for name in names[::20])], "!!sum", name="all"))
        nodes.append(node("Relu", ["!!sum"], names[0].upper() + "!", name=names[-1]))
        model = made(nodes, dict.fromkeys(names, (1, 2, 4, 4)), [names[0].upper() + "!", f"!{names[20]}"], weight)
        checked(model, tmp_path, settings=settings)
        source = read_source(saved(model, tmp_path))
        plan = plan_of(source.network, settings)
        files = library_files(program_of(source.network, plan, settings), plan, settings)
        for name, data in files.items():
            (tmp_path / name).write_bytes(data)
        for options in (["-x", "c", "m.c"], ["-x", "c", "m.h"], ["-x", "c++", "m.h"]):
            strict = ["-Wall", "-Wextra", "-Werror", "-Wno-pragma-once-outside-header"]
            command = [compiler, *strict, "-fsyntax-only", *options]
            subprocess.run(command, cwd=tmp_path, check=True)


@pytest.mark.parametrize("seed", range(20))
def test_names_of_parameters_are_distinct_whatever_the_case(seed: int) -> None:
    draw = random.Random(seed)
    pool = [*HOSTILE, *long_names(seed), *(word.upper() for word in HOSTILE), "m_x_floats", "M_X_FLOATS", "x", "X"]
    inputs = list(dict.fromkeys(draw.choices(pool, k=30)))
    outputs = draw.choices(pool, k=30)
    ends = Signature(
        tuple(Input(name, k) for k, name in enumerate(inputs)), tuple(Output(name, k) for k, name in enumerate(outputs))
    )
    names = c_names("m", ends)
    macros = [f"M_{name.upper()}_{plural}" for name in names for plural in ("FLOATS", "ELEMENTS")]
    every = [name.lower() for name in (*names, *macros, "m_run", "m_load", "m_weights", "M_ALIGNMENT", "M_H")]
    assert len(set(every)) == len(every)
    assert all(IDENTIFIER.fullmatch(name) and name not in AVOIDED and not is_taken(name) for name in names)


def test_comments_end_where_they_should() -> None:
    for name in HOSTILE:
        text = in_comment(name)
        assert text.isascii() and text.isprintable() and "*/" not in text and "/*" not in text and "??/" not in text


def test_no_word_is_a_name_with_an_ending() -> None:
    """A name that is free stays so with every ending: no word of generated code is another name and an ending."""
    cut = [(word[:k], word[k:]) for word in RESERVED for k, each in enumerate(word) if each == "_" and k]
    assert not [word + ending for word, ending in cut if ENDING.fullmatch(ending) and not is_taken(word)]
    for text in (*HOSTILE, *AVOIDED, *keyword.kwlist):
        name = safe_name(text)
        assert checked_name(f"{name}_out") and checked_name(f"{name}_2_weight")


def test_what_is_in_a_network_is_called_after_its_nodes(tmp_path: Path) -> None:
    """Layers, tensors and statements of an import are names of nodes or inputs with an ENDING, each once."""
    for seed in range(6):
        network = load_onnx(saved(random_model(seed, HOSTILE), tmp_path), rewritten=False)
        used = names_in(network)
        assert len(set(used)) == len(used)
        stems = {layer.name for layer in network.layers} | {tensor.name for tensor in network.inputs}
        assert all(any(name == s or (name.startswith(s) and ENDING.fullmatch(name[len(s) :])) for s in stems) for name in used)  # fmt: skip  # noqa: E501


def names_in(network: Network) -> list[str]:
    """All names of tensors, weights, layers and statements."""
    found = [tensor.name for tensor in network.inputs]
    for layer in network.layers:
        found += [layer.name, layer.output.name, *(statement.name for statement in layer.statements)]
        found += [weight.name for weight in layer.weights]
    return found


def test_many_names_alike_are_made_distinct_quickly() -> None:
    names = LayerNames()
    found = [names.fresh("a" * 100) for _ in range(3000)]
    assert len(set(found)) == 3000


def test_parameters_say_what_the_model_calls_them(tmp_path: Path) -> None:
    model = made([node("Relu", ["a*/b"], "y\nz")], {"a*/b": (1, 2, 3, 3)}, ["y\nz"])
    ours = load(saved(model, tmp_path), settings=SETTINGS)
    first, second = parameters(ours.program)
    assert (first.name, second.name) == ("a_b", "y_z")
    assert "(the model's 'a*\\/b')" in library(ours.program).header and "'y\\nz'" in library(ours.program).header
    assert max_relative_error(ours(np.ones((1, 2, 3, 3))), np.ones((1, 2, 3, 3))) == 0
