"""How elements lie in memory, on the machine and in the simulator.

A plan for a network of float32 may be priced as if elements were narrower. Such a plan runs with the float32 values:
each byte of the machine is `wide` bytes of the host, so that addresses, transfers and counts are those of the plan.
"""

from dataclasses import dataclass

from polyfuse.choices import DTYPE_BYTES
from polyfuse.errors import InvalidInput
from polyfuse.network.network import Network
from polyfuse.network.tensor import Tensor
from polyfuse.plan.graph.operations import weight_element_bytes


@dataclass(frozen=True)
class Element:
    """A type of elements in C: its name, how a value is read from it, and how one is put into it.

    `whole` says that values are int and not float; `loose` is the type without alignment.
    """

    name: str
    bytes: int
    value: str = "{}"
    put: str = "{}"
    whole: bool = False
    loose: str = ""


ELEMENTS = {
    "float32": Element("float", 4, loose="loose_float"),
    "float16": Element("half", 2, "(float){}", "(half)({})", loose="loose_half"),
    "bfloat16": Element("bfloat", 2, "from_bfloat({})", "to_bfloat({})", loose="loose_bfloat"),
    "int8": Element("signed char", 1, "(int){}", "(signed char)({})", True, "signed char"),
    "uint8": Element("unsigned char", 1, "(int){}", "(unsigned char)({})", True, "unsigned char"),
    "int32": Element("int", 4, "{}", "{}", True, "loose_int"),
}
HALF = "typedef _Float16 half;\ntypedef half loose_half __attribute__((aligned(1)));\n"
BFLOAT = """\
typedef unsigned short bfloat;
typedef bfloat loose_bfloat __attribute__((aligned(1)));
HELPER float from_bfloat(bfloat x) {
  union { unsigned bits; float value; } u = {(unsigned)x << 16};
  return u.value;
}
HELPER bfloat to_bfloat(float x) {
  union { float value; unsigned bits; } u = {x};
  return (bfloat)(x != x ? u.bits >> 16 | 0x40 : (u.bits + 0x7FFF + (u.bits >> 16 & 1)) >> 16);
}
"""
"""What C needs for the narrower floats; values are rounded to the nearest, ties to even."""


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
