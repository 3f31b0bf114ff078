"""The arrays of a SCoP as tensors: accesses decide the sizes that the file leaves open.

Scop + array ──input_tensor()──> Place: what is read of it as it is before the scop
Scop + Family ──made_tensor()──> Place: the values that the scop makes
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import islpy as isl

from polyfuse.errors import InvalidInput
from polyfuse.network.scop.scop import Scop
from polyfuse.network.scop.versions import Family
from polyfuse.network.tensor import Size, Tensor
from polyfuse.sets.spaces import one_of, union

DTYPES = {"float": "float32", "double": "float64", "half": "float16", "i8": "int8", "i32": "int32"}
"""LLVM's names of types, and those of tensors."""
IMAGE_RANK = 3
"""Arrays of this rank are images without a batch."""


@dataclass(frozen=True, eq=False)
class Place:
    """A tensor, and which of its elements a point is: `{ [p] -> T[a] }`.

    The points are elements of an array, or times. `made` has the elements that are made, where those are not all.
    """

    tensor: Tensor
    elements: isl.Map
    made: isl.Set | None = None


def dtype_of(scop: Scop, arrays: Iterable[str]) -> str:
    """The type of the elements of some arrays. Scalars, of which files say none, have that of most arrays.

    Errors: InvalidInput for elements of an unknown type, and for values that are made from each other and of different
    types.
    """
    known = {array.name: array for array in scop.arrays}
    found = list(dict.fromkeys(known[name].element_type for name in arrays if name in known))
    if not found:
        found = [Counter(array.element_type for array in scop.arrays).most_common(1)[0][0]] if known else ["double"]
    if len(found) > 1:
        raise InvalidInput(
            f"arrays {', '.join(sorted(arrays))}: are made from each other and hold {' and '.join(found)}; expected "
            "elements of one type"
        )
    if found[0] not in DTYPES:
        names = ", ".join(str(known[name]) for name in arrays if name in known)
        raise InvalidInput(f"array {names}: expected elements of type {', '.join(DTYPES)}")
    return DTYPES[found[0]]


def has_images(scop: Scop) -> bool:
    """Whether an array that is written holds images: its tensor, and those of its rank, get an axis for a batch."""
    written = {access.array for s in scop.statements for access in s.of_kind("write")}
    return any(len(array.sizes) == IMAGE_RANK for array in scop.arrays if array.name in written)


def input_tensor(scop: Scop, array: str, read: isl.Set, name: str) -> Place:
    """The tensor of what is `read` of an array before the scop: it starts where the array does.

    It is as large as the file says, or as what is read of it. A scalar is a tensor of one element.
    Errors: InvalidInput for elements in front of the array or behind it, and for sizes that are no affine expressions
    of the parameters.
    """
    dtype = dtype_of(scop, [array])
    if array in scop.scalars:
        elements = isl.Map.from_domain(isl.Set.universe(read.get_space().params().set_from_params()))
        elements = elements.set_tuple_name(isl.dim_type.in_, array).add_dims(isl.dim_type.out, 1)
        elements = elements.fix_val(isl.dim_type.out, 0, isl.Val(0)).set_tuple_name(isl.dim_type.out, name)
        return Place(Tensor(name, (1,), dtype), elements)
    described = scop.array(array)
    sizes = tuple(
        size if size is not None else _size(scop, str(described), read, d, 0) for d, size in enumerate(described.sizes)
    )
    place = _place(name, sizes, [0] * len(sizes), dtype, array)
    outside = read.apply(place.elements).subtract(place.tensor.box.intersect_params(scop.context))
    if not outside.is_empty():
        at = one_of(outside.apply(place.elements.reverse()))
        raise InvalidInput(f"array {described}: {at} is read, which is outside of it; expected accesses inside")
    return batched(place) if len(sizes) == IMAGE_RANK and has_images(scop) else place


def made_tensor(scop: Scop, family: Family, arrays: Iterable[str], name: str) -> Place:
    """The tensor of the values of a family: the smallest box around their points.

    Errors: InvalidInput for elements of an unknown type, and sizes that are no affine expressions of the parameters.
    """
    arrays = sorted(set(arrays))
    points = family.all_points
    where = str(scop.array(family.array)) if family.array is not None else f"times of {', '.join(arrays)}"
    if not points.is_bounded():
        raise InvalidInput(f"{where}: expected finitely many elements, got {points}; correct the accesses")
    lows = [_first(points, d, where) for d in range(points.n_dim())]
    if family.array is None:
        lows = [min(0, low) for low in lows]
    sizes = tuple(_size(scop, where, points, d, low) for d, low in enumerate(lows))
    place = _place(name, sizes, lows, dtype_of(scop, arrays), None)
    if family.array is not None and len(sizes) == IMAGE_RANK and has_images(scop):
        place = batched(place)
    made = points.intersect_params(scop.context).apply(place.elements)
    whole = place.tensor.box.intersect_params(scop.context).is_subset(made)
    return place if whole else Place(place.tensor, place.elements, made)


def _place(name: str, sizes: tuple[Size, ...], lows: list[int], dtype: str, array: str | None) -> Place:
    """A tensor that begins at the point `lows`; points have the name of the array, or none."""
    shift = isl.MultiAff.identity_on_domain_space(isl.Space.set_alloc(isl.DEFAULT_CONTEXT, 0, len(sizes)))
    for d, low in enumerate(lows):
        shift = shift.set_at(d, shift.get_at(d).add_constant_val(isl.Val(-low)))
    elements = isl.Map.from_multi_aff(shift).set_tuple_name(isl.dim_type.out, name)
    if array is not None:
        elements = elements.set_tuple_name(isl.dim_type.in_, array)
    return Place(Tensor(name, sizes, dtype), elements)


def batched(place: Place) -> Place:
    """The tensor with an axis of size 1 in front."""
    tensor = Tensor(place.tensor.name, (1, *place.tensor.shape), place.tensor.dtype)
    elements = place.elements.insert_dims(isl.dim_type.out, 0, 1).fix_val(isl.dim_type.out, 0, isl.Val(0))
    return Place(tensor, elements.set_tuple_name(isl.dim_type.out, tensor.name))


def region_read(scop: Scop, array: str, live_in: Iterable[isl.Map]) -> isl.Set:
    """The elements of an array that are read as they are before the scop. Errors: InvalidInput."""
    region = union(part.range() for part in live_in)
    if not region.is_bounded():
        raise InvalidInput(f"array {array!r}: expected accesses to finitely many elements, got {region}; correct them")
    return region


def _first(points: isl.Set, axis: int, where: str) -> int:
    """The first index along an axis: a number."""
    value = points.dim_min(axis)
    pieces = value.get_pieces()
    constant = pieces[0][1].get_constant_val() if len(pieces) == 1 and pieces[0][1].is_cst() else None
    if constant is None or not constant.is_int():
        raise InvalidInput(
            f"{where}: the first index along axis {axis}: expected a number, got {value}; give the parameters values: "
            "--set n=64"
        )
    return int(constant.to_python())


def _size(scop: Scop, where: str, points: isl.Set, axis: int, low: int) -> Size:
    """The extent of an axis from its first index: a number, or an affine expression of the parameters."""
    value = points.dim_max(axis).add_constant_val(isl.Val(1 - low)).coalesce().gist_params(scop.context)
    pieces = value.get_pieces()
    if len(pieces) == 1:
        aff = pieces[0][1]
        if aff.is_cst():
            return int(aff.get_constant_val().to_python())
        text = re.search(r"\[\((.*)\)\]", str(aff)[str(aff).find("{") :])
        if text is not None and aff.dim(isl.dim_type.div) == 0:
            return text[1]
    raise InvalidInput(
        f"array {where}: the size of axis {axis} is {value}; expected a number or one affine expression of the "
        "parameters; give them values: --set n=64"
    )
