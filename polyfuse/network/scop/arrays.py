"""The arrays of a SCoP as tensors: accesses decide the sizes that the file leaves open.

Scop ──array_tensors()──> { name: ArrayTensor }
"""

import re
from dataclasses import dataclass

import islpy as isl

from polyfuse.errors import InvalidInput
from polyfuse.network.scop.scop import Kind, Scop, ScopArray
from polyfuse.network.tensor import Size, Tensor, safe_name
from polyfuse.sets.coalescing import coalesced
from polyfuse.sets.spaces import union

DTYPES = {"float": "float32", "double": "float64", "half": "float16", "i8": "int8", "i32": "int32"}
"""LLVM's names of types, and those of tensors."""
IMAGE_RANK = 3
"""Arrays of this rank are images without a batch."""


@dataclass(frozen=True, eq=False)
class ArrayTensor:
    """An array, its tensor, and which element of the tensor an element of the array is: `{ A[a] -> T[a'] }`."""

    array: ScopArray
    tensor: Tensor
    elements: isl.Map

    @property
    def element_type(self) -> str:
        """The type of its elements, as Polly calls it."""
        return self.array.element_type


def written_by(scop: Scop) -> tuple[str, ...]:
    """The arrays that a scop writes, in the order of its text."""
    return tuple(dict.fromkeys(access.array for s in scop.statements for access in s.of_kind("write")))


def array_tensors(scop: Scop) -> dict[str, ArrayTensor]:
    """The tensors of all arrays that are accessed.

    A tensor that is made holds the elements that are written, its first element the first of those; one that is only
    read starts where the array does, and is as large as the file says, or as what is read of it.

    Errors: InvalidInput for elements of an unknown type, for what is written and is no box, and for sizes that are no
    affine expressions of the parameters.
    """
    written = set(written_by(scop))
    images = any(len(array.sizes) == IMAGE_RANK for array in scop.arrays if array.name in written)
    found: dict[str, ArrayTensor] = {}
    for array in scop.arrays:
        kind: Kind = "write" if array.name in written else "read"
        region = touched(scop, array.name, kind)
        if region is not None:
            name = safe_name(array.name.removeprefix("MemRef_"), {each.tensor.name for each in found.values()})
            found[array.name] = (
                _made(scop, array, region, name) if kind == "write" else _given(scop, array, region, name)
            )
    if images:
        found = {
            name: with_batch(each) if len(each.array.sizes) == IMAGE_RANK else each for name, each in found.items()
        }
    for each in found.values():
        _check_inside(scop, each, written)
    return found


def touched(scop: Scop, array: str, kind: Kind) -> isl.Set | None:
    """The elements that are read, or written; None where there are no such accesses. Errors: InvalidInput."""
    regions = [
        access.relation.intersect_domain(s.domain).range()
        for s in scop.statements
        for access in s.of_kind(kind)
        if access.array == array
    ]
    if not regions:
        return None
    found = union(regions)
    if not found.is_bounded():
        raise InvalidInput(f"array {array!r}: expected accesses to finitely many elements, got {found}; correct them")
    return coalesced(found)


def _made(scop: Scop, array: ScopArray, region: isl.Set, name: str) -> ArrayTensor:
    rank = len(array.sizes)
    lows = [_whole(region.dim_min(d), f"array {array}: the first index written along axis {d}") for d in range(rank)]
    sizes = tuple(_size(scop, array, region.dim_max(d).add_constant_val(isl.Val(1 - lows[d])), d) for d in range(rank))
    return _array_tensor(array, name, sizes, lows)


def _given(scop: Scop, array: ScopArray, region: isl.Set, name: str) -> ArrayTensor:
    sizes = tuple(
        size if size is not None else _size(scop, array, region.dim_max(d).add_constant_val(isl.Val(1)), d)
        for d, size in enumerate(array.sizes)
    )
    return _array_tensor(array, name, sizes, [0] * len(sizes))


def _array_tensor(array: ScopArray, name: str, sizes: tuple[Size, ...], lows: list[int]) -> ArrayTensor:
    if array.element_type not in DTYPES:
        raise InvalidInput(f"array {array}: expected elements of type {', '.join(DTYPES)}")
    tensor = Tensor(name, sizes, DTYPES[array.element_type])
    space = isl.Space.set_alloc(isl.DEFAULT_CONTEXT, 0, len(sizes)).set_tuple_name(isl.dim_type.set, array.name)
    shift = isl.MultiAff.identity_on_domain_space(space)
    for d, low in enumerate(lows):
        shift = shift.set_at(d, shift.get_at(d).add_constant_val(isl.Val(-low)))
    return ArrayTensor(array, tensor, isl.Map.from_multi_aff(shift).set_tuple_name(isl.dim_type.out, name))


def with_batch(each: ArrayTensor) -> ArrayTensor:
    """The tensor with an axis of size 1 in front."""
    tensor = Tensor(each.tensor.name, (1, *each.tensor.shape), each.tensor.dtype)
    elements = each.elements.insert_dims(isl.dim_type.out, 0, 1).fix_val(isl.dim_type.out, 0, isl.Val(0))
    return ArrayTensor(each.array, tensor, elements.set_tuple_name(isl.dim_type.out, tensor.name))


def _check_inside(scop: Scop, each: ArrayTensor, written: set[str]) -> None:
    """Refuse accesses outside of the tensor, and elements of a tensor that is made which are never written."""
    box = each.tensor.box.intersect_params(scop.context)
    kinds: tuple[Kind, ...] = ("read", "write")
    for kind in kinds:
        region = touched(scop, each.array.name, kind)
        elements = None if region is None else region.intersect_params(scop.context).apply(each.elements)
        if elements is not None and not elements.is_subset(box):
            beyond = "is never written" if each.array.name in written else "is outside of it"
            raise InvalidInput(
                f"array {each.array}: {elements.subtract(box).sample()} of the tensor {each.tensor} is accessed and "
                f"{beyond}; expected accesses to a whole box, written before it is read"
            )
        if kind == "write" and elements is not None and not box.is_subset(elements):
            raise InvalidInput(
                f"array {each.array}: {box.subtract(elements).sample()} of the tensor {each.tensor} is never written; "
                "expected writes to a whole box"
            )


def _whole(value: isl.PwAff, where: str) -> int:
    pieces = value.get_pieces()
    constant = pieces[0][1].get_constant_val() if len(pieces) == 1 and pieces[0][1].is_cst() else None
    if constant is None or not constant.is_int():
        raise InvalidInput(f"{where}: expected a number, got {value}; give the parameters values")
    return int(constant.to_python())


def _size(scop: Scop, array: ScopArray, value: isl.PwAff, axis: int) -> Size:
    """A number, or an affine expression of the parameters."""
    pieces = value.coalesce().gist_params(scop.context).get_pieces()
    if len(pieces) == 1:
        aff = pieces[0][1]
        if aff.is_cst():
            return int(aff.get_constant_val().to_python())
        text = re.search(r"\[\((.*)\)\]", str(aff)[str(aff).find("{") :])
        if text is not None and aff.dim(isl.dim_type.div) == 0:
            return text[1]
    raise InvalidInput(
        f"array {array}: the size of axis {axis} is {value}; expected a number or one affine expression of the "
        "parameters: give them values"
    )
