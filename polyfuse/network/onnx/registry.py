"""The converters of ONNX operators, gathered from the modules in converters/; each of them is found by itself.

A module has READS, the function that converts a node of each operator, and WRITES, what writes a layer as nodes.
"""

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules

from polyfuse.network.onnx import converters
from polyfuse.network.onnx.graph import Node
from polyfuse.network.onnx.importing import Import
from polyfuse.network.onnx.writing import Writers

MODULES = tuple(import_module(f"{converters.__name__}.{each.name}") for each in iter_modules(converters.__path__))
CONVERTERS: dict[str, Callable[[Import, Node], None]] = {
    name: convert for module in MODULES for name, convert in module.READS.items()
}
"""The function that converts a node of each operator."""
WRITERS: Writers = {of: write for module in MODULES for of, write in module.WRITES.items()}
"""The function that writes a layer of each operator as nodes."""
