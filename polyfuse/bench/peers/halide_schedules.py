"""How Halide computes it: schedules of three kinds, and the table of sizes that are tried.

    unfused      every layer over the whole image, one after another
    overlapped   tiles of the last layer; all layers before it are computed for each tile, overlaps several times
    sliding      the same tiles row by row; what the next row needs of a layer is kept in a ring

Inside, every layer is vectorised over channels, or over columns where it has few channels, with sums in registers.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from polyfuse.bench.peers.halide_stages import HalideStage, HalideStages, HalideSum

Kind = Literal["unfused", "overlapped", "sliding"]
FEW_CHANNELS = 8
"""Layers of fewer channels are vectorised over columns."""


@dataclass(frozen=True)
class HalideSchedule:
    """A schedule: its kind, the tile of the last layer, and the shape of the innermost loops.

    vectors, pixels    vectors of channels and columns whose sums are in registers at once
    stencil_rows       rows at once where vectors are of columns
    staged             inputs are copied into the tile with their padding, instead of tested where they are read
    inward             no column or row is computed that is not needed, and inputs are read without tests; for networks
                       without padding
    """

    kind: Kind
    rows: int = 0
    columns: int = 0
    vectors: int = 2
    pixels: int = 6
    stencil_rows: int = 4
    staged: bool = False
    inward: bool = False

    def __str__(self) -> str:
        tile = "" if self.kind == "unfused" else f" {self.rows}x{self.columns}"
        registers = f"{self.vectors}x{self.pixels} registers, {self.stencil_rows} rows"
        return f"{self.kind}{tile}, {registers}{', staged' * self.staged}{', inward' * self.inward}"


def tiles(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    """Sizes of tiles that are tried, the most promising first: strips, then tiles.

    >>> list(tiles(56, 56))[:4]
    [(8, 56), (4, 56), (16, 56), (28, 56)]
    """
    strips = [(height, columns) for height in (8, 4, 16, 28, 32, 64, 256)]
    blocks = [(height, width) for height, width in ((16, 64), (32, 32), (8, 112), (32, 128), (64, 256), (16, 28))]
    for height, width in (*strips, *blocks):
        if height <= rows and width <= columns:
            yield height, width


def first_plans(rows: int, columns: int, *, fusible: bool, padded: bool) -> list[HalideSchedule]:
    """What is tried first: all kinds and tiles with one shape of the innermost loops."""
    plans = [HalideSchedule("unfused")]
    if fusible:
        for tile in tiles(rows, columns):
            plans += [
                HalideSchedule("overlapped", *tile, inward=not padded),
                HalideSchedule("sliding", *tile, inward=not padded),
            ]
    return plans


def refinements(plan: HalideSchedule) -> list[HalideSchedule]:
    """Variations of a good plan, to be tried next."""
    shapes = [(1, 12), (1, 8), (2, 12), (4, 6), (2, 8), (2, 14), (1, 28), (3, 7), (4, 4), (2, 4), (1, 4), (3, 8)]
    varied = [replace(plan, vectors=vectors, pixels=pixels) for vectors, pixels in shapes]
    varied += [replace(plan, stencil_rows=rows) for rows in (1, 2, 3, 6, 8)]
    return [replace(plan, staged=not plan.staged), replace(plan, inward=False), *varied]


Loops = tuple[Any, Any]
"""The loops of a function that others are computed at: over rows, and over tiles outside of them."""


@dataclass
class Scheduler:
    """Applies a plan to the stages of a network."""

    stages: HalideStages
    plan: HalideSchedule
    threads: int
    lanes: int

    def apply(self) -> list[Any]:
        """Schedule everything; the functions that fill the outputs."""
        outputs = self.stages.output_functions()
        turned = self.stages.nchw
        *before, last = self.stages.stages
        if self.plan.kind == "unfused" or len(outputs) > 1:
            for stage in self.stages.stages:
                self._root(stage, any(function is stage.function for function in outputs))
            for function in outputs if turned else ():
                self._turn(function)
            return outputs
        if turned:
            loops = self._tile_of_turned(outputs[0], self._height(last) if last.channels < FEW_CHANNELS else 1)
            self._inside(last, outputs[0], loops)
        else:
            loops = self._tile(last)
        for stage in before:
            self._inside(stage, outputs[0], loops)
        return outputs

    def _root(self, stage: HalideStage, is_output: bool) -> None:
        function = stage.function
        if not is_output:
            function.compute_root()
        row = self._leaf(stage, is_output)
        if self.threads > 1:
            function.parallel(row)

    def _turn(self, function: Any) -> None:
        """The conversion to planes of channels, over the whole image."""
        hl = self.stages.hl
        inner = hl.Var("xi")
        function.split(self.stages.x, self.stages.x, inner, self.lanes, hl.TailStrategy.GuardWithIf).vectorize(inner)
        if self.threads > 1:
            function.parallel(self.stages.y)

    def _tile(self, last: HalideStage) -> Loops:
        """The loops over tiles of the last function, which is the output itself."""
        tile_y, tile_x = self._tile_loops(last.function)
        row = self._leaf(last, True, (tile_x, tile_y))
        if self.threads > 1:
            last.function.parallel(tile_y)
        return row, tile_x

    def _tile_of_turned(self, function: Any, height: int) -> Loops:
        """The loops over tiles of the conversion to planes; the last layer makes some rows at once for it."""
        stages, hl = self.stages, self.stages.hl
        tile_y, tile_x = self._tile_loops(function)
        inner, row = hl.Var("xi"), hl.Var("yi")
        function.split(stages.x, stages.x, inner, self.lanes, hl.TailStrategy.GuardWithIf)
        function.split(stages.y, stages.y, row, height, hl.TailStrategy.ShiftInwards)
        function.reorder(inner, stages.x, row, stages.c, stages.y, tile_x, tile_y).vectorize(inner)
        if self.threads > 1:
            function.parallel(tile_y)
        return stages.y, tile_x

    def _tile_loops(self, function: Any) -> tuple[Any, Any]:
        hl, plan = self.stages.hl, self.plan
        tile_y, tile_x = hl.Var("tile_y"), hl.Var("tile_x")
        function.split(self.stages.y, tile_y, self.stages.y, plan.rows, hl.TailStrategy.ShiftInwards)
        function.split(self.stages.x, tile_x, self.stages.x, plan.columns, hl.TailStrategy.ShiftInwards)
        return tile_y, tile_x

    def _inside(self, stage: HalideStage, output: Any, loops: Loops) -> None:
        """Compute a stage for each tile, or each row of a tile."""
        row, tile = loops
        if self.plan.kind == "overlapped":
            stage.function.compute_at(output, tile)
        else:
            stage.function.store_at(output, tile).compute_at(output, row)
        self._leaf(stage, False)

    def _leaf(self, stage: HalideStage, is_output: bool, outer: tuple[Any, ...] = ()) -> Any:
        """The innermost loops of a stage; the loop over rows, which is outside of them."""
        if stage.channels < FEW_CHANNELS:
            return self._leaf_of_columns(stage, is_output, outer)
        return self._leaf_of_channels(stage, is_output, outer)

    def _tail(self, is_output: bool) -> Any:
        """Where the last columns and rows fill no vector: overlap those before, or reach beyond."""
        strategies = self.stages.hl.TailStrategy
        return strategies.ShiftInwards if is_output or self.plan.inward else strategies.RoundUp

    def _leaf_of_channels(self, stage: HalideStage, is_output: bool, outer: tuple[Any, ...]) -> Any:
        stages, hl, function = self.stages, self.stages.hl, stage.function
        c, x, y = stages.c, stages.x, stages.y
        lanes = min(self.lanes, 1 << (stage.channels.bit_length() - 1)) if is_output else self.lanes
        vectors = max(1, min(self.plan.vectors if stage.sums else 1, stage.channels // lanes))
        pixels = min(self.plan.pixels if stage.sums else 4, stage.columns)
        if is_output and outer:
            pixels = min(pixels, self.plan.columns)
        block_tail = hl.TailStrategy.ShiftInwards if is_output else hl.TailStrategy.RoundUp
        block, vector, lane, column, strip = (hl.Var(name) for name in ("cb", "cv", "ci", "xi", "xo"))
        function.split(c, block, vector, vectors * lanes, block_tail).split(vector, vector, lane, lanes)
        function.split(x, strip, column, pixels, self._tail(is_output))
        function.reorder(lane, vector, column, strip, block, y, *outer)
        function.vectorize(lane).unroll(vector).unroll(column)
        for each in stage.sums:
            self._sum_of_channels(each, function, strip, lanes)
        return y

    def _sum_of_channels(self, total: HalideSum, function: Any, at: Any, lanes: int) -> None:
        c, x, lane = self.stages.c, self.stages.x, self.stages.hl.Var("ci")
        total.function.compute_at(function, at)
        total.function.split(c, c, lane, lanes).reorder(lane, c, x).vectorize(lane).unroll(c).unroll(x)
        update = total.function.update()
        update.split(c, c, lane, lanes).reorder(lane, c, x, *total.loops).vectorize(lane).unroll(c).unroll(x)

    def _height(self, stage: HalideStage) -> int:
        """How many rows a stage of few channels computes at once."""
        return min(self.plan.stencil_rows, self.plan.rows or stage.rows)

    def _leaf_of_columns(self, stage: HalideStage, is_output: bool, outer: tuple[Any, ...]) -> Any:
        stages, hl, function = self.stages, self.stages.hl, stage.function
        c, x, y = stages.c, stages.x, stages.y
        most = self.plan.columns if is_output and outer else stage.columns
        lanes = min(self.lanes, 1 << (most.bit_length() - 1)) if is_output else self.lanes
        height = self._height(stage)
        tail = self._tail(is_output)
        rows, row, strip, lane = (hl.Var(name) for name in ("yo", "yi", "xo", "xi"))
        function.split(x, strip, lane, lanes, tail).split(y, rows, row, height, tail)
        function.reorder(lane, row, c, strip, rows, *outer)
        function.vectorize(lane).unroll(row)
        for each in stage.sums:
            each.function.compute_at(function, strip)
            inner = hl.Var("xv")
            each.function.split(x, x, inner, lanes).vectorize(inner).unroll(c).unroll(y)
            update = each.function.update()
            update.split(x, x, inner, lanes).reorder(inner, x, c, y, *each.loops).vectorize(inner).unroll(c).unroll(y)
        return rows
