"""Programs for the scratchpad machine, built with its simulator and callable on numpy arrays.

ScratchProgram ──build_program()──> ScratchKernel;  ScratchKernel(x=array) -> ({output: array}, Simulated)
"""

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polyfuse.codegen.build import Built, Options, compile_shared, load
from polyfuse.codegen.scratchpad.program import ScratchProgram
from polyfuse.errors import InvalidInput, SimulationError
from polyfuse.network.dtypes import TYPES, decoded, encoded
from polyfuse.network.tensor import Tensor

Values = NDArray[np.generic]


class _Region(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("data", ctypes.c_void_p),
        ("written", ctypes.c_void_p),
        ("images", ctypes.c_int),
        ("channels", ctypes.c_int),
        ("rows", ctypes.c_int),
        ("columns", ctypes.c_int),
        ("element_bytes", ctypes.c_int),
        ("bytes", ctypes.c_longlong),
        ("loaded", ctypes.c_longlong),
        ("stored", ctypes.c_longlong),
        ("first", ctypes.c_uint),
    )


class _Simulation(ctypes.Structure):
    _fields_ = (
        ("alignment", ctypes.c_int),
        ("engines", ctypes.c_int),
        ("regions", ctypes.c_int),
        ("operations", ctypes.c_int),
        ("bytes_per_cycle", ctypes.c_double),
        ("latency", ctypes.c_double),
        ("region", ctypes.POINTER(_Region)),
        ("names", ctypes.POINTER(ctypes.c_char_p)),
        ("macs", ctypes.POINTER(ctypes.c_longlong)),
        ("elements", ctypes.POINTER(ctypes.c_longlong)),
        ("cycles", ctypes.c_double),
        ("transferring", ctypes.c_double),
        ("computing", ctypes.c_double),
        ("peak", ctypes.c_longlong),
        ("commands", ctypes.c_longlong),
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
                arrays[layer.output.name] = self._empty(layer.output)
        return arrays

    def _empty(self, tensor: Tensor) -> Values:
        return np.zeros(tensor.concrete_shape, TYPES[tensor.dtype].held)

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
        regions[0] = _Region(b"the weights", data, None, 1, 1, 1, max(1, machine_bytes), 1, machine_bytes, 0, 0, 0)
        for name, number in program.tensors.items():
            info = graph.tensors[name]
            images, channels, rows, columns = info.shape
            written = None
            if name not in graph.inputs:
                done[name] = np.zeros(info.bytes, np.uint8)
                written = done[name].ctypes.data
            size = info.bytes // images
            regions[number] = _Region(
                name.encode(),
                arrays[name].ctypes.data,
                written,
                images,
                channels,
                rows,
                columns,
                info.element_bytes,
                size,
                0,
                0,
                0,
            )
        count = len(program.operations)
        names = (ctypes.c_char_p * count)(*(name.encode() for name in program.operations))
        macs, elements = (ctypes.c_longlong * count)(), (ctypes.c_longlong * count)()
        keep += [regions, names, macs, elements]
        simulation = _Simulation(
            alignment=machine.alignment_bytes,
            engines=machine.dma_engines,
            regions=len(regions),
            operations=count,
            bytes_per_cycle=machine.offchip.bytes_per_cycle,
            latency=machine.offchip.latency_cycles,
            region=regions,
            names=names,
            macs=macs,
            elements=elements,
        )
        return simulation, keep

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
