"""OpenCL C: a dialect and a target as values, its text for a network, and kernels that pyopencl builds.

    Network + Storage of each group ──opencl_source()──> text;  ──build_opencl()──> OpenClKernel

pyopencl is imported where a kernel is built: `pip install 'polyfuse[opencl]'`, and a driver such as PoCL.
"""

from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from polyfuse.codegen.c.dialect import Dialect, Share, WorkGroups
from polyfuse.codegen.device import DeviceProgram, device_program
from polyfuse.codegen.kernel import checked_inputs
from polyfuse.codegen.lower.program import LoweredProgram
from polyfuse.codegen.target import Target
from polyfuse.errors import BuildError
from polyfuse.network.dtypes import Values
from polyfuse.network.expression import FLOAT_FUNCTIONS
from polyfuse.network.network import Network
from polyfuse.schedule.storage import Storage
from polyfuse.whole import shown, whole

_START = """\
#if defined(__FAST_RELAXED_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error "NaN, infinities and the order of operations matter: compile without -cl-fast-relaxed-math and the like"
#endif
"""
OPENCL_C = Dialect(
    "OpenCL C",
    _START,
    "__kernel void",
    offchip="__global ",
    chip="__local ",
    prefix="t_",
    known=frozenset({"min", "max"}),
    renamed=tuple((name, name[:-1]) for name in FLOAT_FUNCTIONS if name.endswith("f")),
    device=WorkGroups(
        Share("(int)get_group_id(0)", "(int)get_num_groups(0)"),
        Share("(int)get_local_id(0)", "(int)get_local_size(0)"),
        "barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE);",
    ),
)
OPENCL = Target(1, 1, (), OPENCL_C)
"""Scalar code in OpenCL C."""


def opencl_source(network: Network, groups: Sequence[Storage]) -> str:
    """The OpenCL C of a network whose groups are scheduled and stored, and proved legal: `group0` and so on, in order.

    Each is a kernel for one dimension of work groups, as many as there are tiles along its parallel coordinate or any
    other number, and of any size. Its parameters are off-chip arrays.
    Errors: InvalidInput where the groups do not make the network's outputs, and for elements that are not float32;
    IllegalSchedule where tiles of a group depend on one another.
    """
    return device_program(network, groups, OPENCL).source


def build_opencl(
    network: Network, groups: Sequence[Storage], *, work_items: int = 16, device: str = ""
) -> "OpenClKernel":
    """Compile a network for an OpenCL device: the first one, or the first with `device` in its or its platform's name.

    `work_items` are those of a work group.
    Errors: those of `opencl_source`; BuildError where there is no pyopencl or no such device, where the device has too
    little memory or takes fewer work items, and from its compiler.
    """
    items = whole(work_items, "work_items", 1)
    return OpenClKernel(device_program(network, groups, OPENCL), items, device)


class OpenClKernel:
    """A network on an OpenCL device, with its own memory there; calls of one kernel are not concurrent.

    `device` is the name of the device, `source` the text that it compiled.
    """

    def __init__(self, program: DeviceProgram, work_items: int, device: str) -> None:
        self._cl, found = opencl_device(device)
        self.network, self.source, self.device = program.lowered.network, program.source, str(found.name).strip()
        self._where = f"OpenCL kernel of {self.network.name!r} on {self.device!r}"
        if work_items > found.max_work_group_size:
            raise BuildError(f"{self._where}: takes at most {found.max_work_group_size} work items, got {work_items}")
        self._work_items, self._work_groups = work_items, program.work_groups
        if program.lowered.buffer_bytes > found.local_mem_size:
            raise BuildError(
                f"{self._where}: buffers of {program.lowered.buffer_bytes:,} B, the device has "
                f"{found.local_mem_size:,} B of local memory; use smaller tiles"
            )
        try:
            context = self._cl.Context([found])
            self._queue = self._cl.CommandQueue(context)
            built = self._cl.Program(context, self.source).build()
            self._buffers = self._allocated(context, program.lowered)
            self._kernels = [self._cl.Kernel(built, f"group{part.index}") for part in program.groups]
            for kernel, part in zip(self._kernels, program.groups, strict=True):
                kernel.set_args(*(self._buffers[array.name] for array in part.offchip))
        except self._cl.Error as error:
            raise BuildError(f"{self._where}: {shown(str(error), 1000)}") from None

    def _allocated(self, context: Any, program: LoweredProgram) -> dict[str, Any]:
        """A buffer on the device for each off-chip array, by name, weights filled in."""
        ends = (*program.network.inputs, *program.network.outputs, *program.scratch)
        flags = self._cl.mem_flags
        held = {t.name: self._cl.Buffer(context, flags.READ_WRITE, 4 * t.elements) for t in ends}
        for name, values in program.constants.items():
            copied = np.ascontiguousarray(values, np.float32)
            held[name] = self._cl.Buffer(context, flags.READ_ONLY | flags.COPY_HOST_PTR, hostbuf=copied)
        return held

    def __call__(self, /, **inputs: ArrayLike) -> dict[str, Values]:
        """Run on arrays by the names of inputs, and return the outputs by theirs.

        Errors: InvalidInput for a missing or unknown name, a wrong shape, or what is not an array of real numbers;
        BuildError from the device.
        """
        arrays = checked_inputs(self.network, inputs)
        made = {tensor.name: np.full(tensor.concrete_shape, np.nan, np.float32) for tensor in self.network.outputs}
        try:
            for name, values in arrays.items():
                self._cl.enqueue_copy(self._queue, self._buffers[name], np.ascontiguousarray(values))
            for kernel, groups in zip(self._kernels, self._work_groups, strict=True):
                size = (groups * self._work_items,)
                self._cl.enqueue_nd_range_kernel(self._queue, kernel, size, (self._work_items,))
            for name, values in made.items():
                self._cl.enqueue_copy(self._queue, values, self._buffers[name])
        except self._cl.Error as error:
            raise BuildError(f"{self._where}: {shown(str(error), 1000)}") from None
        return made

    def __repr__(self) -> str:
        ends = (", ".join(map(str, tensors)) for tensors in (self.network.inputs, self.network.outputs))
        return f"OpenClKernel({' -> '.join(ends)}) on {self.device}"


def opencl_device(wanted: str = "") -> tuple[Any, Any]:
    """pyopencl, and its first device that has some text in its name or in that of its platform.

    Errors: BuildError where there is no pyopencl or no such device.
    """
    try:
        cl: Any = import_module("pyopencl")
    except ImportError as error:
        raise BuildError(f"OpenCL: {error}; pip install 'polyfuse[opencl]'") from None
    devices = []
    with suppress(cl.Error):  # the loader's where no driver is installed
        for platform in cl.get_platforms():
            with suppress(cl.Error):  # a driver's where it has no device
                devices += [(f"{platform.name}\n{device.name}", device) for device in platform.get_devices()]
    for name, device in devices:
        if wanted in name:
            return cl, device
    names = ", ".join(shown(device.name.strip()) for _, device in devices) or "none"
    raise BuildError(
        f"OpenCL: expected a device{f' named {shown(wanted)}' if wanted else ''}, found {names}; install a driver, "
        "such as PoCL for processors (Debian: pocl-opencl-icd)"
    )
