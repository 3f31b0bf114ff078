"""What may run at once, for devices on which work groups take tiles and work items the points of a stage.

LoweredGroup ──independent_tiles()──> how many tiles, or IllegalSchedule
"""

import islpy as isl

from polyfuse.codegen.lower.group import LoweredGroup
from polyfuse.errors import IllegalSchedule


def independent_tiles(group: LoweredGroup) -> int:
    """The tiles along the parallel coordinate, which may run in any order and at once; 1 where all is one tile.

    Errors: IllegalSchedule where there are several tiles and none of their coordinates is parallel.
    """
    executed = isl.Set.empty(group.storage.schedule.tiling.space)
    for step in group.steps:
        tiles = step.executions.project_out(
            isl.dim_type.set, executed.n_dim(), step.executions.n_dim() - executed.n_dim()
        )
        executed = executed.union(tiles.set_tuple_name(executed.get_tuple_name()))
    if group.parallel_coordinate is not None:
        last, first = executed.dim_max_val(group.parallel_coordinate), executed.dim_min_val(group.parallel_coordinate)
        return int(last.sub(first).to_python()) + 1
    if not executed.is_singleton():
        raise IllegalSchedule(
            f"group {group.index} of {group.storage.schedule.network.name!r}: no tile dimension has independent tiles, "
            "for values are retained along the outermost one or pass from tile to tile off chip; recompute along it "
            "(2-D tiles: retain rows, recompute columns)"
        )
    return 1


def check_distinct_cells(group: LoweredGroup) -> None:
    """Refuse rings in which elements that one stage of a tile makes share a cell, and stages that read what they make.

    In order that is right where one of them is read by nobody; at once it is not.
    Errors: IllegalSchedule.
    """
    for step in group.steps:
        if step.layer is not None and step.layer.recurs:
            raise IllegalSchedule(
                f"layer {step.layer.name!r}: reads its own output in order, and work items run in none; "
                "run it on the host"
            )
    writes = (touch for step in group.steps for touch in step.touches if touch.writes)
    for touch in (touch for touch in writes if not group.places.is_offchip(touch)):
        buffer = group.places.buffer(touch.tensor)
        written = touch.element.range()
        cells = buffer.cell.as_map().intersect_domain(written)
        if not written.unwrap().domain_map().range_product(cells).is_injective():
            raise IllegalSchedule(
                f"{buffer}: two elements that a stage of a tile makes have the same cell, and work items may make them "
                "at the same time; make the ring larger"
            )
