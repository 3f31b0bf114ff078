"""The C around generated code: the interface, helpers, and the simulator, which is package data."""

from functools import lru_cache
from importlib import resources

from polyfuse.codegen.scratchpad.storing import BFLOAT, HALF

HELPERS = """\
#include <math.h>
#define HELPER static inline __attribute__((unused))

HELPER int min(int a, int b) { return a < b ? a : b; }
HELPER int max(int a, int b) { return a > b ? a : b; }
HELPER int floord(int a, int b) { return (a < 0 ? a - b + 1 : a) / b; }
HELPER float minimum(float a, float b) { return a < b || a != a ? a : b; }
HELPER float maximum(float a, float b) { return a > b || a != a ? a : b; }
"""
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


@lru_cache
def part(name: str) -> str:
    """The text of a C file of the package."""
    return resources.files("polyfuse.codegen.scratchpad").joinpath(name).read_text(encoding="utf-8")


def prelude(arena_bytes: int, wide: int, elements: frozenset[str]) -> str:
    """What comes before generated code; `elements` are the types that it mentions."""
    sizes = f"#define ARENA_BYTES {arena_bytes}\n#define WIDE {wide} /* bytes of the host for one of the machine */\n"
    types = [text for name, text in (("half", HALF), ("bfloat", BFLOAT)) if name in elements]
    return "\n".join([sizes, part("scratchpad.h"), HELPERS, *types, MOVES])
