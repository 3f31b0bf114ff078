"""Programs for the scratchpad machine, built with its simulator and callable on numpy arrays.

ScratchProgram ──build_program()──> ScratchKernel;  ScratchKernel(x=array) -> ({output: array}, Simulated)
"""

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polyfuse.codegen.build import Built, Options, compile_shared, load
from polyfuse.codegen.scratchpad.program import ScratchProgram
from polyfuse.errors import InvalidInput, SimulationError
from polyfuse.network.dtypes import TYPES, decoded, encoded
from polyfuse.network.tensor import Tensor

Values = NDArray[np.generic]


def _fields(*typed: tuple[Any, str]) -> list[tuple[str, Any]]:
    return [(name, kind) for kind, names in typed for name in names.split()]


class _Region(ctypes.Structure):
    _fields_ = _fields(
        (ctypes.c_char_p, "name"),
        (ctypes.c_void_p, "data written"),
        (ctypes.c_int, "images channels rows columns element_bytes"),
        (ctypes.c_longlong, "bytes loaded stored"),
        (ctypes.c_uint, "first"),
    )


class _Simulation(ctypes.Structure):
    _fields_ = _fields(
        (ctypes.c_int, "alignment engines regions operations"),
        (ctypes.c_double, "bytes_per_cycle latency"),
        (ctypes.POINTER(_Region), "region"),
        (ctypes.POINTER(ctypes.c_char_p), "names"),
        (ctypes.POINTER(ctypes.c_longlong), "macs elements"),
        (ctypes.c_double, "cycles transferring computing"),
        (ctypes.c_longlong, "peak commands"),
    )


@dataclass(frozen=True)
class Simulated:
    """What a run on the simulated machine took.

    cycles              from the first command to the end
    transfer_cycles     that DMA engines were busy; compute_cycles: that the unit computed
    loaded, stored      bytes that crossed between off chip and on chip, by tensor
    weight_bytes        bytes of weights that were loaded
    peak_bytes          the end of the highest address that was touched
    work                what each operation did: multiply-accumulates, elements taken in by pools, else elements made
    elements            how many elements each operation made, again or for the first time
    commands            transfers, waits and computations
    """

    cycles: float
    transfer_cycles: float
    compute_cycles: float
    loaded: Mapping[str, int]
    stored: Mapping[str, int]
    weight_bytes: int
    peak_bytes: int
    work: Mapping[str, int]
    elements: Mapping[str, int]
    commands: int

    @property
    def offchip_bytes(self) -> int:
        """All bytes that crossed."""
        return self.weight_bytes + sum(self.loaded.values()) + sum(self.stored.values())


class ScratchKernel:
    """A program for the scratchpad machine, built for its simulator; calls of one kernel are not concurrent."""

    def __init__(self, program: ScratchProgram, built: Built) -> None:
        self.program = program
        self.built = built
        self._library = load(built)
        self._library.simulate.restype = ctypes.c_char_p

    def __call__(self, /, **inputs: ArrayLike) -> tuple[dict[str, Values], Simulated]:
        """Run the plan: the outputs by name, and what the run took.

        Errors: InvalidInput for missing or unknown inputs and wrong shapes; SimulationError for the first command that
        the machine cannot do or that reads what is not there.
        """
        arrays = self._arrays(inputs)
        done: dict[str, Values] = {}
        simulation, keep = self._simulation(arrays, done)
        message = self._library.simulate(ctypes.byref(simulation))
        network = self.program.graph.network.name
        if message is not None:
            raise SimulationError(f"plan of {network!r} on {self.program.machine.name!r}: {message.decode()}")
        del keep
        for tensor in self.program.graph.network.outputs:
            if not done[tensor.name].all():
                missing = int(len(done[tensor.name]) - np.count_nonzero(done[tensor.name]))
                raise SimulationError(
                    f"plan of {network!r}: expected all of {tensor.name} off chip in the end, {missing} bytes are not"
                )
        outputs = {
            tensor.name: given_back(tensor, arrays[tensor.name]) for tensor in self.program.graph.network.outputs
        }
        return outputs, self._simulated(simulation)

    def _arrays(self, inputs: Mapping[str, ArrayLike]) -> dict[str, Values]:
        """An array of each tensor off chip: the inputs that are given, and what others become."""
        network = self.program.graph.network
        if set(inputs) != {tensor.name for tensor in network.inputs}:
            raise InvalidInput(
                f"inputs of {network.name!r}: expected {sorted(t.name for t in network.inputs)}, got {sorted(inputs)}"
            )
        arrays: dict[str, Values] = {}
        for tensor in network.inputs:
            value = stored_input(tensor, inputs[tensor.name])
            if value.shape != tensor.concrete_shape:
                raise InvalidInput(f"input {tensor}: expected shape {tensor.concrete_shape}, got {value.shape}")
            arrays[tensor.name] = value
        for layer in network.layers:
            if layer.output.name in self.program.tensors:
                arrays[layer.output.name] = np.zeros(layer.output.concrete_shape, TYPES[layer.output.dtype].held)
        return arrays

    def _simulation(self, arrays: Mapping[str, Values], done: dict[str, Values]) -> tuple[_Simulation, list[object]]:
        """What the simulator is given, and what must live as long as it runs; `done` notes which bytes are stored."""
        program, machine = self.program, self.program.machine
        graph = program.graph
        weights = program.weights
        machine_bytes = len(weights) // program.storing.wide
        tagged = machine_bytes + sum(info.bytes for info in graph.tensors.values()) + (len(graph.operations) << 20)
        if tagged >= 1 << 32:
            raise InvalidInput(
                f"network {graph.network.name!r}: expected tensors and weights that the simulator can tell apart in 32 "
                f"bits, got {tagged:,} bytes; plan a smaller batch"
            )
        keep: list[object] = [weights, arrays]
        regions = (_Region * (1 + len(graph.tensors)))()
        data = weights.ctypes.data if len(weights) else None
        regions[0] = _Region(b"the weights", data, None, 1, 1, 1, max(1, machine_bytes), 1, machine_bytes)
        for name, number in program.tensors.items():
            info = graph.tensors[name]
            written = None
            if name not in graph.inputs:
                done[name] = np.zeros(info.bytes, np.uint8)
                written = done[name].ctypes.data
            data = arrays[name].ctypes.data
            size = info.bytes // info.shape[0]
            regions[number] = _Region(name.encode(), data, written, *info.shape, info.element_bytes, size)
        count = len(program.operations)
        names = (ctypes.c_char_p * count)(*(name.encode() for name in program.operations))
        macs, elements = (ctypes.c_longlong * count)(), (ctypes.c_longlong * count)()
        keep += [regions, names, macs, elements]
        given = (machine.alignment_bytes, machine.dma_engines, len(regions), count)
        offchip = (machine.offchip.bytes_per_cycle, machine.offchip.latency_cycles)
        return _Simulation(*given, *offchip, regions, names, macs, elements), keep

    def _simulated(self, done: _Simulation) -> Simulated:
        program = self.program
        moved = {name: done.region[number] for name, number in program.tensors.items()}
        return Simulated(
            cycles=done.cycles,
            transfer_cycles=done.transferring,
            compute_cycles=done.computing,
            loaded={name: int(region.loaded) for name, region in moved.items() if region.loaded},
            stored={name: int(region.stored) for name, region in moved.items() if region.stored},
            weight_bytes=int(done.region[0].loaded),
            peak_bytes=int(done.peak),
            work={name: int(done.macs[k]) for k, name in enumerate(program.operations)},
            elements={name: int(done.elements[k]) for k, name in enumerate(program.operations)},
            commands=int(done.commands),
        )


def stored_input(tensor: Tensor, value: ArrayLike) -> Values:
    """The values of an input as the machine has them.

    Errors: InvalidInput for what is no array of numbers, and for numbers that the type does not have.
    """
    try:
        array = np.asarray(value)
        return np.ascontiguousarray(encoded(array, tensor.dtype, f"input {tensor}"))
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"input {tensor}: expected an array of real numbers, got {error}") from None


def given_back(tensor: Tensor, held: Values) -> Values:
    """The values of an output in their own type, or in float32 where numpy has no such type."""
    return decoded(held, tensor.dtype).astype(np.float32) if tensor.dtype == "bfloat16" else held


def build_program(program: ScratchProgram, options: Options | None = None) -> ScratchKernel:
    """Compile a program with the simulator, or find it in the cache, and load it.

    Products and sums of integer layers are rounded one by one, as their arithmetic is defined.

    Errors: BuildError from the compiler.
    """
    chosen = options or Options()
    exact = any(layer.is_exact for layer in program.graph.network.layers)
    built = compile_shared(program.source, chosen.with_flags("-ffp-contract=off") if exact else chosen)
    return ScratchKernel(program, built)
