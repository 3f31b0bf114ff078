"""ncnn: the model, converted by pnnx, in single precision, Winograd and packed layouts as by default.

Inputs and outputs are [c, h, w] of each image; packing and unpacking inside are part of what is timed.
"""

import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import version_converter

from polyfuse.bench.peers.contender import PeerSettings, Prepared, Values, version_of
from polyfuse.bench.peers.models import model_bytes
from polyfuse.errors import UnsupportedOperator
from polyfuse.network.network import Network

HALF_PRECISION = ("fp16_storage", "fp16_packed", "fp16_arithmetic", "bf16_storage", "bf16_packed")
OLDEST_OPSET, OLDEST_FORMAT = 13, 8
"""What pnnx and onnx's converter of versions read; initializers need not be inputs since format 4."""

OPTIONS = ("fp16=0", "optlevel=2")
STEM = "model"
BATCH = re.compile(r"\b((?:in|out)\d+)\.numpy\((?:\), )?batch_index=(\d+)\)")
"""What pnnx's script of a net says of each input and output: which axis counts images."""


@dataclass(frozen=True)
class Files:
    """What pnnx made of a model: the text and the weights of a net.

    inputs, outputs  the blob of each by its name in the model; an input that nothing reads may have none
    batch            the axis of each blob that counts images
    """

    param: Path
    weights: Path
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    batch: Mapping[str, int]


def prepare(network: Network, inputs: Values, settings: PeerSettings) -> Prepared:
    """A loaded net and its inputs; `run` makes an extractor, feeds it and takes the outputs.

    Errors: UnsupportedOperator for a layer that ncnn does not have; RuntimeError where pnnx or ncnn fail.
    """
    ncnn: Any = import_module("ncnn")
    model = readable(onnx.load_from_string(model_bytes(network, settings)))
    with tempfile.TemporaryDirectory() as folder:
        files = converted(model, Path(folder))
        net = loaded(ncnn, files, settings.threads)
    given = [
        (blob, ncnn.Mat(np.ascontiguousarray(inputs[name]), batch_index=files.batch[blob]).clone())
        for name, blob in files.inputs.items()
        if name in inputs
    ]
    wanted = [(tensor.name, files.outputs[tensor.name]) for tensor in network.outputs]
    made: dict[str, Any] = {}

    def run() -> None:
        extractor = net.create_extractor()
        for blob, value in given:
            extractor.input(blob, value)
        for name, blob in wanted:
            failed, made[name] = extractor.extract(blob)
            if failed:
                raise RuntimeError(f"could not compute {name} (status {failed})")

    def outputs() -> Values:
        return {name: made[name].numpy(batch_index=files.batch[blob]) for name, blob in wanted}

    return Prepared(run, outputs, "nchw", f"converted by pnnx {version_of('pnnx')}")


def readable(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model in a form that pnnx reads.

    Of an opset that is new enough, weights not among the inputs, no dilation of 1 for averages, which only new opsets
    have.
    """
    if model.ir_version < OLDEST_FORMAT:
        model.ir_version = OLDEST_FORMAT
    if any(opset.version < OLDEST_OPSET for opset in model.opset_import if opset.domain in ("", "ai.onnx")):
        model = version_converter.convert_version(model, OLDEST_OPSET)
    weights = {value.name for value in model.graph.initializer}
    given = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(given)
    for node in model.graph.node:
        if node.op_type == "AveragePool":
            needed = [a for a in node.attribute if a.name != "dilations" or set(a.ints) != {1}]
            del node.attribute[:]
            node.attribute.extend(needed)
    return model


def converted(model: onnx.ModelProto, folder: Path) -> Files:
    """The files of a net, written into a folder by pnnx.

    Errors: RuntimeError with the last words of pnnx where it writes none.
    """
    onnx.save(model, folder / f"{STEM}.onnx")
    package = find_spec("pnnx")
    assert package is not None and package.origin is not None
    command = [str(Path(package.origin).with_name("pnnx")), f"{STEM}.onnx", *OPTIONS]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    param, weights, script = (folder / f"{STEM}{end}" for end in (".ncnn.param", ".ncnn.bin", "_ncnn.py"))
    if done.returncode or not (param.exists() and weights.exists() and script.exists()):
        words = done.stderr.decode("utf-8", "replace").split()
        raise RuntimeError(f"pnnx wrote no net (status {done.returncode}): {' '.join(words[-20:])}")
    param.write_text(with_pools(param.read_text(), (folder / f"{STEM}.pnnx.param").read_text()))
    batch = {blob: int(axis) for blob, axis in BATCH.findall(script.read_text())}
    inputs = {value.name: f"in{k}" for k, value in enumerate(model.graph.input) if f"in{k}" in batch}
    outputs = {value.name: f"out{k}" for k, value in enumerate(model.graph.output)}
    if lost := [name for name, blob in outputs.items() if blob not in batch]:
        raise RuntimeError(f"pnnx wrote a net without the output {', '.join(lost)}")
    return Files(param, weights, inputs, outputs, batch)


def with_pools(net: str, graph: str) -> str:
    """A net whose averages over unevenly padded windows are ncnn's, too: pnnx leaves them as ONNX has them.

    >>> graph = "AveragePool p 1 1 0 1 kernel_shape=(7,5) pads=(0,0,1,2) #0=(1,8,6,6)f32 #1=(1,8,1,4)f32"
    >>> with_pools("AveragePool p 1 1 in0 out0", graph)
    'Pooling p 1 1 in0 out0 0=1 1=5 11=7 2=1 12=1 3=0 13=0 14=2 15=1 5=1 6=0'
    """
    averages = {words[1]: words for words in map(str.split, graph.splitlines()) if words[0] == "AveragePool"}
    return "\n".join(
        f"Pooling{line.removeprefix('AveragePool')} {pool_parameters(averages[line.split()[1]])}"
        if line.startswith("AveragePool ") and line.split()[1] in averages
        else line
        for line in net.split("\n")
    )


def pool_parameters(words: list[str]) -> str:
    """The parameters of ncnn's Pooling for an AveragePool of pnnx's graph.

    Errors: UnsupportedOperator for windows with holes.
    """
    found = dict(word.split("=", 1) for word in words[4:] if "=" in word and not word.startswith("#"))
    if "dilations" in found:
        raise UnsupportedOperator(f"layer {words[1]!r}: ncnn averages no windows with holes")
    (kh, kw), (sh, sw), (top, left, bottom, right) = (
        found.get(name, default).strip("()").split(",")
        for name, default in (("kernel_shape", ""), ("strides", "(1,1)"), ("pads", "(0,0,0,0)"))
    )
    floor, counted = int(found.get("ceil_mode", "0") == "0"), found.get("count_include_pad", "0")
    window = f"0=1 1={kw} 11={kh} 2={sw} 12={sh} 3={left} 13={top} 14={right} 15={bottom}"
    return f"{window} 5={floor} 6={counted}"


def loaded(ncnn: Any, files: Files, threads: int) -> Any:
    """A net of ncnn, ready to make extractors.

    Errors: UnsupportedOperator for a layer that ncnn does not have; RuntimeError where it does not read the files.
    """
    kinds = dict.fromkeys(line.split()[0] for line in files.param.read_text().splitlines()[2:])
    if unknown := [kind for kind in kinds if ncnn.layer_to_index(kind) < 0]:
        raise UnsupportedOperator(f"ncnn has no layer {', '.join(unknown)}, which pnnx left in the net")
    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_vulkan_compute = False
    for name in HALF_PRECISION:
        if hasattr(net.opt, f"use_{name}"):
            setattr(net.opt, f"use_{name}", False)
    if net.load_param(str(files.param)) or net.load_model(str(files.weights)):
        raise RuntimeError("ncnn does not read the net that pnnx wrote")
    return net
