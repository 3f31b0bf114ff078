"""What follows from a relation when another one is applied to it again and again.

{ A[a] -> tile[t] } and { A[a] -> A[a'] }  ──closed()──>  { A[a] -> tile[t] }
"""

import islpy as isl

from polyfuse.sets.coalescing import coalesced

MOST_REFINED = 4
"""How often a closure that isl has approximated is narrowed before the step is taken again and again instead."""


def closed(relation: isl.Map, step: isl.Map) -> isl.Map:
    """The smallest relation that holds `relation`, and with `a' -> t` every `a -> t` for which `step` has `a -> a'`.

    No step leads back to where it began. Exact: isl's transitive closure is used where isl says that it is, or where it
    is the one that a step and then the closure give, of which there is only one; else the step is taken once, twice,
    four times, and so on. That ends where no pair is new, which it does for finite sets.

    >>> need = isl.Map("{ A[a] -> tile[t] : a = 4t and 0 <= t <= 1 }")
    >>> found = closed(need, isl.Map("{ A[a] -> A[a + 1] : 0 <= a < 7 }"))
    >>> found == isl.Map("{ A[a] -> tile[t] : 0 <= t <= 1 and 0 <= a <= 4t }")
    True
    """
    every, exact = step.transitive_closure()
    for _ in range(0 if exact else MOST_REFINED):
        narrower = coalesced(step.union(step.apply_range(every)))
        exact = every.is_subset(narrower)
        if exact:
            break
        every = narrower
    if exact:
        return coalesced(relation.union(every.apply_range(relation)))
    taken = coalesced(step)
    while True:
        more = coalesced(relation.union(taken.apply_range(relation)))
        if more.is_subset(relation):
            return relation
        relation, taken = more, coalesced(taken.union(taken.apply_range(taken)))
