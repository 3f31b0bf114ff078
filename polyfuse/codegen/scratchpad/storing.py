"""How elements lie in memory, on the machine and in the simulator.

A plan for a network of float32 may be priced as if elements were narrower. Such a plan runs with the float32 values:
each byte of the machine is `wide` bytes of the host, so that addresses, transfers and counts are those of the plan.
"""

from dataclasses import dataclass

from polyfuse.choices import DTYPE_BYTES
from polyfuse.codegen.c.elements import ELEMENTS, Element
from polyfuse.errors import InvalidInput
from polyfuse.network.network import Network
from polyfuse.network.tensor import Tensor
from polyfuse.plan.graph.operations import weight_element_bytes


@dataclass(frozen=True)
class Storing:
    """How tensors and weights of a network are stored: in their own types, or priced as if of the type `dtype`."""

    dtype: str | None = None

    @staticmethod
    def of(network: Network, dtype: str | None) -> "Storing":
        """Checked: only what is float32 can be priced as something else.

        Errors: InvalidInput.
        """
        if dtype is None or dtype == "float32":
            return Storing()
        for tensor in (*network.inputs, *(layer.output for layer in network.layers)):
            if tensor.dtype != "float32":
                raise InvalidInput(
                    f"network {network.name!r}: expected float32 tensors to price as {dtype}, got {tensor} of "
                    f"{tensor.dtype}; plan it in its own types"
                )
        return Storing(dtype)

    @property
    def wide(self) -> int:
        """Bytes of the host for each byte of the machine."""
        return 1 if self.dtype is None else 4 // DTYPE_BYTES[self.dtype]

    def element(self, tensor: Tensor) -> Element:
        """The elements of a tensor or a weight on the host."""
        return ELEMENTS[tensor.dtype]

    def weight_bytes(self, weight: Tensor) -> int:
        """The bytes of an element of a weight on the machine."""
        return weight_element_bytes(weight, self.dtype)

    def spread(self, weight: Tensor) -> int:
        """How many elements of the host apart the elements of a weight are."""
        return self.weight_bytes(weight) * self.wide // self.element(weight).bytes
