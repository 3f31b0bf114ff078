"""The C around generated code: the interface, transfers, and the simulator, which is package data."""

from collections.abc import Iterable
from functools import lru_cache
from importlib import resources

from polyfuse.codegen.c.elements import Element, definitions
from polyfuse.codegen.c.prelude import prelude
from polyfuse.codegen.c.text import words
from polyfuse.codegen.scratchpad.longsums import ADD_BLOCK
from polyfuse.machines.accelerator import Accelerator
from polyfuse.plan.memory.addresses import aligned_up
from polyfuse.plan.tiles.measures import SUM_BYTES

MOVES = """\
typedef struct { int rows, columns, bytes; } extent;
typedef short box[4];    /* rows from, to, columns from, to */
typedef int origin[3];   /* turn, shift and skip of a view */
enum { FIRST = 1, LAST = 2 };

HELPER int is_empty(const box b) { return b[0] >= b[1] || b[2] >= b[3]; }
/* Views of a tensor in the step that an origin belongs to. */
HELPER void turn(view *v, const origin o) { v->turn = o[0], v->shift = o[1], v->skip = o[2]; }
/* Move a box of some channels between a tensor off chip and its ring: one transfer, more where it wraps. */
HELPER unsigned move_box(int load, const view *v, const origin o, extent e, long long image, int channel_0,
                         int channel_1, const box b) {
  unsigned ticket = 0;
  for (int row = b[0], row_1; row < b[1]; row = row_1) {
    int turned = (row + o[0]) % v->rows;
    row_1 = min(b[1], row + v->rows - turned);
    for (int column = b[2], column_1; column < b[3]; column = column_1) {
      int shifted = (column + o[1]) % v->columns;
      column_1 = min(b[3], column + v->columns - shifted);
      int address = v->base + (channel_0 - o[2]) * v->plane + turned * v->pitch + shifted * e.bytes;
      long long pitch = (long long)e.columns * e.bytes, plane = e.rows * pitch;
      long long offset = image + channel_0 * plane + row * pitch + (long long)column * e.bytes;
      int bytes = (column_1 - column) * e.bytes;
      dma_box moved = {channel_1 - channel_0, row_1 - row, bytes, v->plane, v->pitch, plane, pitch};
      ticket = load ? dma_load(address, v->tensor, offset, moved) : dma_store(v->tensor, offset, address, moved);
    }
  }
  return ticket;
}
"""
STREAMS = """\
/* Weights that are loaded again in every step, in blocks of output channels: `slots` of them have room at once. */
typedef struct { int address, channels, block, channel_bytes, slots, used; long long image; } weights_of;
/* The blocks of all such operations as they are needed: `order` names an operation for each run. Up to two wait, of
 * which the first one, at `at[0]` in its buffer, is needed next; run and channel are those of the block after them. */
typedef struct {
  weights_of *of;
  const short *order;
  int runs, run, channel, waiting, at[2];
  unsigned ticket[2];
} stream;

/* Start to load the next block, if there is one. */
HELPER void start_block(stream *s) {
  if (s->run == s->runs) return;
  weights_of *w = &s->of[s->order[s->run]];
  int k = s->waiting++, channels = min(w->block, w->channels - s->channel);
  long long from = w->image + (long long)s->channel * w->channel_bytes;
  s->at[k] = w->used++ % w->slots * w->block * w->channel_bytes;
  s->ticket[k] = dma_load(w->address + s->at[k], 0, from, (dma_box){1, 1, channels * w->channel_bytes, 0, 0, 0, 0});
  s->channel += channels;
  if (s->channel == w->channels) s->channel = 0, s->run++;
}
/* How far into its buffer the block is that is needed next. With `ahead` it is there, and the one after is started. */
HELPER int next_block(stream *s, int ahead) {
  if (!s->waiting) start_block(s), dma_wait(s->ticket[0]);
  int at = s->at[0];
  s->waiting--, s->at[0] = s->at[1], s->ticket[0] = s->ticket[1];
  if (ahead && !s->waiting) start_block(s);
  return at;
}
"""


@lru_cache
def part(name: str) -> str:
    """The text of a C file of the package."""
    return resources.files("polyfuse.codegen.scratchpad").joinpath(name).read_text(encoding="utf-8")


def unit_at(machine: Accelerator) -> int:
    """The address of the unit's own accumulators: behind the arena."""
    return aligned_up(machine.capacity_bytes, SUM_BYTES)


def opening(machine: Accelerator, wide: int, elements: Iterable[Element], body: str) -> str:
    """What comes before the generated lines `body`; `elements` are the types that they mention."""
    unit_bytes = machine.accumulator_bytes
    sizes = [
        f"#define ARENA_BYTES {machine.capacity_bytes}",
        f"#define WIDE {wide} /* bytes of the host for one of the machine */",
        f"#define UNIT_BYTES {unit_bytes} /* accumulators of the unit, at addresses from UNIT_AT on */",
        f"#define UNIT_AT {unit_at(machine)}",
        "",
    ]
    helpers = prelude(words([MOVES, STREAMS, body]), definitions(elements))
    sums = [ADD_BLOCK] if "add_block" in body else []
    return "\n".join([*sizes, part("scratchpad.h"), helpers, *sums, MOVES, STREAMS])
