"""Spaces of relations between tuples that may have different parameters."""

import islpy as isl


def relation_space(domain: isl.Space, range_: isl.Space) -> isl.Space:
    """`[p] -> { D[i] }` and `[q] -> { R[j] }` to `[p, q] -> { D[i] -> R[j] }`.

    isl itself refuses two tuples that do not have the same parameters.

    >>> image = isl.Set("[H] -> { A[i] : 0 <= i < H }").get_space()
    >>> print(relation_space(image, isl.Set("{ W[k] : 0 <= k < 3 }").get_space()))
    [H] -> { A[i] -> W[k] }
    """
    return domain.align_params(range_).map_from_domain_and_range(range_.align_params(domain))
