"""Which write of a SCoP each of its reads finds, exactly.

    Scop ──Writes.of()──> Writes ──sources()──> { (statement, k): { T[j] -> S[i] } } for one read of a statement T

Nothing here takes a lexicographic maximum: a read finds a write if no other write comes between the two.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import islpy as isl

from polyfuse.network.scop.scop import Scop, ScopStatement

Key = tuple[str, int]
"""The name of a statement, and the position of one of its accesses."""


def moments(statement: ScopStatement, k: int) -> isl.Map:
    """`{ S[i] -> [time, phase] }` of an access.

    The accesses to arrays come in the order of a statement's instructions. Scalars are read before all of them and
    written after them: they are what enters and leaves the statement.
    """
    access = statement.accesses[k]
    phase = k + 1
    if access.is_scalar:
        phase = 0 if access.kind == "read" else len(statement.accesses) + 1
    time = statement.times
    rank = time.dim(isl.dim_type.out)
    return time.add_dims(isl.dim_type.out, 1).fix_val(isl.dim_type.out, rank, isl.Val(phase))


@dataclass(frozen=True, eq=False)
class Writes:
    """Writes: `{ S[i] -> A[a] }` and `{ S[i] -> [time, phase] }`, by statement and access."""

    cells: Mapping[Key, isl.Map]
    moments: Mapping[Key, isl.Map]

    @staticmethod
    def of(scop: Scop) -> "Writes":
        """All writes of a scop."""
        keys = [(s, k) for s in scop.statements for k, access in enumerate(s.accesses) if access.kind == "write"]
        return Writes(
            {(s.name, k): s.accesses[k].relation.intersect_domain(s.domain) for s, k in keys},
            {(s.name, k): moments(s, k) for s, k in keys},
        )

    def restricted(self, instances: Mapping[Key, isl.Set]) -> "Writes":
        """Some instances of some writes."""
        cells = {key: self.cells[key].intersect_domain(domain) for key, domain in instances.items()}
        return Writes(cells, {key: self.moments[key] for key in instances})

    def sources(self, read: isl.Map, when: isl.Map) -> dict[Key, isl.Map]:
        """`{ T[j] -> S[i] }` for each write of the array: what `{ T[j] -> A[a] }` finds at `{ T[j] -> [time, phase] }`.

        >>> from polyfuse.network.scop.scop import ScopAccess, ScopArray
        >>> scan = ScopStatement(
        ...     "S", isl.Set("{ S[i] : 0 <= i < 4 }"), isl.Map("{ S[i] -> [i] }"),
        ...     (ScopAccess("read", isl.Map("{ S[i] -> A[i - 1] }")), ScopAccess("write", isl.Map("{ S[i] -> A[i] }"))))
        >>> writes = Writes.of(Scop("scan", isl.Set("{ : }"), (ScopArray("A", (None,), "float"),), (scan,)))
        >>> found = writes.sources(scan.accesses[0].relation, moments(scan, 0))["S", 1]
        >>> found == isl.Map("{ S[i] -> S[i - 1] : 0 < i <= 3 }")
        True
        """
        array = read.get_tuple_name(isl.dim_type.out)
        earlier = {
            key: read.apply_range(cells.reverse()) & when.lex_gt_map(self.moments[key])
            for key, cells in self.cells.items()
            if cells.get_tuple_name(isl.dim_type.out) == array
        }
        found = {}
        for key, pairs in earlier.items():
            for other, later in earlier.items():
                same_cell = self.cells[other].apply_range(self.cells[key].reverse())
                after = self.moments[other].lex_gt_map(self.moments[key])
                pairs = pairs.subtract(later.apply_range(same_cell & after))
            found[key] = pairs.coalesce()
        return found


def read_of(statement: ScopStatement, k: int) -> tuple[isl.Map, isl.Map]:
    """What the k-th access of a statement reads, and when."""
    return statement.accesses[k].relation.intersect_domain(statement.domain), moments(statement, k)
