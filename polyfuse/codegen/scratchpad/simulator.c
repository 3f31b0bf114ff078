/* The scratchpad machine, simulated: it does what scratchpad.h says, keeps time, counts, and checks every access.
 *
 * Every byte of the arena has a tag: which byte of which tensor it holds, 0 for none, LOADING while a transfer is under
 * way. What is read must be what is wanted. Data of a load arrive when it is waited for, so that code which forgets
 * to wait finds a wrong tag and not, by luck, the right value. An error ends the run, with one line that says where.
 *
 * ARENA_BYTES is the capacity; behind it, at UNIT_AT, are the unit's own UNIT_BYTES of accumulators. Elements may be wider
 * here than on the machine: every byte of the machine is WIDE bytes of the host, which lets float code run in a plan for
 * bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { LOADING = -1, QUEUE = 256, REMEMBERED = 4096, MESSAGE = 400, MOST_SUMS = 1 << 20 };
typedef unsigned tag;

/* A tensor: its bytes off chip, or NULL where it is on chip alone, and for each of them whether it has been stored, or
 * NULL where all are there from the start. `bytes` is one image. */
typedef struct {
  const char *name;
  unsigned char *data, *written;
  int images, channels, rows, columns, element_bytes;
  long long bytes, loaded, stored;
  tag first;
} region;

typedef struct {
  unsigned ticket;
  int load, address, tensor;
  long long offset;
  dma_box box;
  double end;
} transfer;

typedef struct {
  long long call;
  int address, last;
  tag wanted;
} verified;

static struct {
  int alignment, engines, regions;
  double bytes_per_cycle, latency;
  region *region;
  const char *const *operations;
  long long *macs, *elements;
  double now, busy[2], transferring, computing;
  unsigned tickets;
  int queued, image, group, step, operation, peak, most;
  long long call, commands;
  transfer queue[QUEUE];
  verified known[REMEMBERED];
  char message[MESSAGE];
  jmp_buf failed;
} sim;

static unsigned char arena[((long long)UNIT_AT + UNIT_BYTES) * WIDE] __attribute__((aligned(64)));
static tag tags[UNIT_AT + UNIT_BYTES];
static unsigned char held[UNIT_AT + UNIT_BYTES];

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...) {
  int length = snprintf(sim.message, MESSAGE, "image %d, group %d, step %d, command %lld", sim.image, sim.group, sim.step,
                        sim.commands);
  if (sim.operation >= 0)
    length += snprintf(sim.message + length, MESSAGE - length, " (%s)", sim.operations[sim.operation]);
  length += snprintf(sim.message + length, MESSAGE - length, ": ");
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(sim.message + length, MESSAGE - length, format, arguments);
  va_end(arguments);
  longjmp(sim.failed, 1);
}

static region *region_of(int tensor) {
  if (tensor < 0 || tensor >= sim.regions) fail("expected tensors 0 to %d, got %d", sim.regions - 1, tensor);
  return &sim.region[tensor];
}

/* A tag in words. */
static const char *told(tag found, char *text) {
  if (found == 0) return "nothing";
  if (found == (tag)LOADING) return "what is still being loaded";
  for (int k = 0; k < sim.regions; k++) {
    const region *at = &sim.region[k];
    long long byte = (long long)found - at->first;
    if (byte < 0 || byte >= at->bytes * at->images) continue;
    long long element = byte / at->element_bytes;
    long long row = element / at->columns;
    long long plane = row / at->rows;
    snprintf(text, 160, "%s[%lld, %lld, %lld, %lld]", at->name, plane / at->channels, plane % at->channels,
             row % at->rows, element % at->columns);
    return text;
  }
  int operation = (int)(((tag)LOADING - 1 - found) / MOST_SUMS);
  if (operation >= sim.most) return "nothing known";
  snprintf(text, 160, "accumulators of %s", sim.operations[operation]);
  return text;
}

static void check_inside(const char *what, const char *name, int address, long long bytes) {
  if (address < 0 || bytes < 0 || address + bytes > ARENA_BYTES)
    fail("%s of %s: expected addresses 0 to %d, got %d to %lld", what, name, ARENA_BYTES, address, address + bytes);
  if (address + bytes > sim.peak) sim.peak = (int)(address + bytes);
}

static void check_aligned(const char *name, int base) {
  if (base % sim.alignment)
    fail("%s at address %d: expected a multiple of %d bytes; correct its address", name, base, sim.alignment);
}

/* The bytes at an address hold what is wanted. */
static void check_holds(const char *what, int address, int bytes, tag wanted) {
  tag wrong = 0;
  for (int k = 0; k < bytes; k++) wrong |= tags[address + k] ^ (wanted + (tag)k);
  if (!wrong) return;
  int k = 0;
  while (tags[address + k] == wanted + (tag)k) k++;
  char want[160], got[160];
  fail("%s at address %d: expected %s, found %s", what, address + k, told(wanted + (tag)k, want),
       told(tags[address + k], got));
}

/* No transfer that is under way reads or writes the bytes at an address. */
static void check_free(const char *what, const char *name, int address, int bytes) {
  unsigned char busy = 0;
  for (int k = 0; k < bytes; k++) busy |= held[address + k];
  if (!busy) return;
  int k = 0;
  while (!held[address + k]) k++;
  char got[160];
  const char *how = tags[address + k] == (tag)LOADING ? "" : ", which is still being stored";
  fail("%s of %s at address %d: expected no transfer under way there, found %s%s; wait for it first", what, name,
       address + k, told(tags[address + k], got), how);
}

static void set_tags(int address, int bytes, tag first) {
  for (int k = 0; k < bytes; k++) tags[address + k] = first + (tag)k;
}

static void hold(int address, int bytes, int change) {
  for (int k = 0; k < bytes; k++) held[address + k] = (unsigned char)(held[address + k] + change);
}

/* The rows of a transfer, one after the other. */
#define EACH_ROW(t, chip, byte)                                                                  \
  for (int plane_ = 0; plane_ < (t)->box.planes; plane_++)                                       \
    for (int row_ = 0, chip = (t)->address + plane_ * (t)->box.chip_plane; row_ < (t)->box.rows; \
         row_++, chip += (t)->box.chip_row)                                                      \
      for (long long byte = (t)->offset + plane_ * (t)->box.plane + row_ * (t)->box.row, once_ = 1; once_; once_ = 0)

static unsigned started(transfer t) {
  region *at = region_of(t.tensor);
  const char *what = t.load ? "load" : "store";
  sim.commands++;
  sim.operation = -1;
  if (!at->data) fail("%s of %s: expected a tensor that is off chip, too", what, at->name);
  if (sim.queued == QUEUE) fail("%s of %s: expected at most %d transfers at once", what, at->name, QUEUE);
  EACH_ROW(&t, chip, byte) {
    check_inside(what, at->name, chip, t.box.bytes);
    if (byte < 0 || byte + t.box.bytes > at->bytes * at->images)
      fail("%s of %s: expected bytes 0 to %lld of it, got %lld to %lld", what, at->name, at->bytes * at->images, byte,
           byte + t.box.bytes);
    for (int k = 0; k < t.box.bytes && at->written; k++)
      if (at->written[byte + k] == t.load) continue;
      else fail("%s of %s: its byte %lld is %s", what, at->name, byte + k, t.load ? "not stored yet" : "stored twice");
    if (t.load) {
      check_free(what, at->name, chip, t.box.bytes);
      for (int k = 0; k < t.box.bytes; k++) tags[chip + k] = (tag)LOADING;
    } else {
      check_holds(what, chip, t.box.bytes, at->first + (tag)byte);
    }
    hold(chip, t.box.bytes, 1);
  }
  long long bytes = (long long)t.box.planes * t.box.rows * t.box.bytes;
  *(t.load ? &at->loaded : &at->stored) += bytes;
  int engine = t.load ? 0 : sim.engines - 1;
  double start = sim.now > sim.busy[engine] ? sim.now : sim.busy[engine];
  double cycles = sim.latency + (double)bytes / sim.bytes_per_cycle;
  t.end = sim.busy[engine] = start + cycles;
  t.ticket = ++sim.tickets;
  sim.transferring += cycles;
  sim.queue[sim.queued++] = t;
  return t.ticket;
}

unsigned dma_load(int address, int tensor, long long offset, dma_box box) {
  return started((transfer){.load = 1, .address = address, .tensor = tensor, .offset = offset, .box = box});
}

unsigned dma_store(int tensor, long long offset, int address, dma_box box) {
  return started((transfer){.load = 0, .address = address, .tensor = tensor, .offset = offset, .box = box});
}

static void finish(const transfer *t) {
  region *at = &sim.region[t->tensor];
  EACH_ROW(t, chip, byte) {
    unsigned char *here = arena + (long long)chip * WIDE, *there = at->data + byte * WIDE;
    memcpy(t->load ? here : there, t->load ? there : here, (size_t)t->box.bytes * WIDE);
    if (t->load) set_tags(chip, t->box.bytes, at->first + (tag)byte);
    if (!t->load && at->written) memset(at->written + byte, 1, (size_t)t->box.bytes);
    hold(chip, t->box.bytes, -1);
  }
  if (t->end > sim.now) sim.now = t->end;
}

void dma_wait(unsigned ticket) {
  if (ticket == 0) return;
  sim.commands++;
  sim.operation = -1;
  if (ticket > sim.tickets) fail("wait: expected tickets up to %u, got %u", sim.tickets, ticket);
  int load = -1;
  for (int k = 0; k < sim.queued; k++)
    if (sim.queue[k].ticket == ticket) load = sim.queue[k].load;
  if (load < 0) return;
  int left = 0;
  for (int k = 0; k < sim.queued; k++) {
    transfer t = sim.queue[k];
    if (t.ticket <= ticket && (t.load == load || sim.engines == 1))
      finish(&t);
    else
      sim.queue[left++] = t;
  }
  sim.queued = left;
}

void on_image(int image) { sim.image = image; }

void on_step(int group, int step) { sim.group = group, sim.step = step, sim.operation = -1; }

void on_operation(int operation) {
  sim.operation = operation;
  sim.commands++;
  sim.call++;
}

void computed(long long operations, double rate, long long elements) {
  sim.macs[sim.operation] += operations;
  sim.elements[sim.operation] += elements;
  sim.now += (double)operations / rate;
  sim.computing += (double)operations / rate;
}

static int modulo(int index, int size) { return index < size ? index : index % size; }

/* Elements first..last of a row of a view lie in pieces: calls the body with the address, the first one and the last. */
#define EACH_PIECE(v, c, r, low, high, size, address, from, to)                                                      \
  for (int from = (low), to, address, line_ = (v)->base + ((c) - (v)->first - (v)->skip) * (v)->plane +              \
                                              modulo((r) + (v)->turn, (v)->rows) * (v)->pitch;                       \
       from <= (high) &&                                                                                             \
       (to = from + (v)->columns - 1 - modulo(from + (v)->shift, (v)->columns), to = to < (high) ? to : (high),      \
       address = line_ + modulo(from + (v)->shift, (v)->columns) * (size), 1);                                       \
       from = to + 1)

/* Elements first..last of a channel and row exist: of the tensor, or of a view of it in another shape. */
static void check_element(const char *what, const region *at, const view *v, int channel, int row, int first, int last) {
  int rows = v->flat_rows ? v->flat_rows : at->rows, columns = v->flat_rows ? v->flat_columns : at->columns;
  if (channel < v->first || channel >= v->first + v->channels || row < 0 || row >= rows || first < 0 ||
      last >= columns || first > last)
    fail("%s of %s[%d, %d, %d to %d]: expected elements of %d x %d x %d", what, at->name, channel - v->first, row, first,
         last, v->channels, rows, columns);
}

static tag tag_of(const region *at, int channel, int row, int column) {
  long long plane = (at->images > 1 ? (long long)sim.image * at->channels : 0) + channel;
  return at->first + (tag)(((plane * at->rows + row) * at->columns + column) * at->element_bytes);
}

/* The bytes at an address hold what is wanted; what an operation has read once it may read again. */
static void check_read(const region *at, const view *v, int address, int bytes, tag wanted) {
  verified *known = &sim.known[(unsigned)address * 2654435761u >> 20];
  if (known->call == sim.call && known->address <= address && known->last >= address + bytes &&
      known->wanted - (tag)known->address == wanted - (tag)address)
    return;
  check_aligned(at->name, v->base);
  check_inside("read", at->name, address, bytes);
  check_holds("read", address, bytes, wanted);
  *known = (verified){sim.call, address, address + bytes, wanted};
}

static const void *read_flat(const region *at, const view *v, int channel, int row, int first, int last, void *line) {
  int size = at->element_bytes;
  for (int column = first; column <= last; column++) {
    int element = ((channel - v->first) * v->flat_rows + row) * v->flat_columns + column;
    int c = element / at->columns / at->rows, r = element / at->columns % at->rows, w = element % at->columns;
    int address = v->base + (c - v->skip) * v->plane + modulo(r + v->turn, v->rows) * v->pitch + modulo(w + v->shift, v->columns) * size;
    check_read(at, v, address, size, tag_of(at, c, r, w));
    if (first == last) return arena + (long long)address * WIDE;
    memcpy((char *)line + (long long)(column - first) * size * WIDE, arena + (long long)address * WIDE,
           (size_t)size * WIDE);
  }
  return line;
}

const void *read_row(const view *v, int channel, int row, int first, int last, void *line) {
  int last_first = v->first;
  while (v->channels && channel >= v->first + v->channels) last_first = v->first, v++;
  if (!v->channels) fail("read: expected a channel of the operand, whose last part begins at %d, got %d", last_first, channel);
  const region *at = region_of(v->tensor);
  int size = at->element_bytes;
  check_element("read", at, v, channel, row, first, last);
  if (v->flat_rows) return read_flat(at, v, channel, row, first, last, line);
  EACH_PIECE(v, channel, row, first, last, size, address, from, to) {
    int bytes = (to - from + 1) * size;
    check_read(at, v, address, bytes, tag_of(at, channel - v->first, row, from));
    if (from == first && to == last) return arena + (long long)address * WIDE;
    memcpy((char *)line + (long long)(from - first) * size * WIDE, arena + (long long)address * WIDE,
           (size_t)bytes * WIDE);
  }
  return line;
}

void claim(const view *v, int channel_0, int channel_1, int row_0, int row_1, int column_0, int column_1) {
  const region *at = region_of(v->tensor);
  int size = at->element_bytes;
  check_aligned(at->name, v->base);
  for (int channel = channel_0; channel < channel_1; channel++)
    for (int row = row_0; row < row_1; row++) {
      check_element("write", at, v, channel, row, column_0, column_1 - 1);
      EACH_PIECE(v, channel, row, column_0, column_1 - 1, size, address, from, to) {
        int bytes = (to - from + 1) * size;
        check_inside("write", at->name, address, bytes);
        check_free("write", at->name, address, bytes);
        set_tags(address, bytes, tag_of(at, channel - v->first, row, from));
      }
    }
}

void write_row(const view *v, int channel, int row, int first, int last, const void *line) {
  const region *at = region_of(v->tensor);
  int size = at->element_bytes;
  check_element("write", at, v, channel, row, first, last);
  EACH_PIECE(v, channel, row, first, last, size, address, from, to) {
    int bytes = (to - from + 1) * size;
    check_inside("write", at->name, address, bytes);
    check_holds("write", address, bytes, tag_of(at, channel - v->first, row, from));
    memcpy(arena + (long long)address * WIDE, (const char *)line + (long long)(from - first) * size * WIDE,
           (size_t)bytes * WIDE);
  }
}

const void *read_weights(int buffer, int skip, long long offset, int bytes) {
  const region *at = region_of(0);
  if (buffer < 0) {
    if (offset < 0 || offset + bytes > at->bytes)
      fail("read of %s: expected bytes 0 to %lld, got %lld to %lld", at->name, at->bytes, offset, offset + bytes);
    return at->data + offset * WIDE;
  }
  int address = buffer + skip;
  check_aligned(at->name, buffer);
  check_inside("read", at->name, address, bytes);
  check_holds("read", address, bytes, at->first + (tag)offset);
  return arena + (long long)address * WIDE;
}

void *accumulators(int address, int bytes, int operation, int keep) {
  const char *name = sim.operations[operation];
  tag first = (tag)LOADING - (tag)(operation + 1) * MOST_SUMS;
  if (bytes > MOST_SUMS) fail("accumulators of %s: expected at most %d bytes, got %d", name, MOST_SUMS, bytes);
  if (address % 4) fail("accumulators at address %d: expected a multiple of 4 bytes; correct the address", address);
  if (address < UNIT_AT || address + (long long)bytes > UNIT_AT + UNIT_BYTES)
    check_inside("accumulators", name, address, bytes);
  check_free("accumulators", name, address, bytes);
  if (keep) check_holds("accumulators", address, bytes, first);
  set_tags(address, bytes, first);
  return arena + (long long)address * WIDE;
}

/* Everything a run needs to know and what it reports, as the caller lays it out. */
typedef struct {
  int alignment, engines, regions, operations;
  double bytes_per_cycle, latency;
  region *region;
  const char *const *names;
  long long *macs, *elements;
  double cycles, transferring, computing;
  long long peak, commands;
} simulation;

static void start(simulation *s) {
  memset(tags, 0, sizeof tags);
  memset(held, 0, sizeof held);
  memset(&sim, 0, sizeof sim);
  sim.alignment = s->alignment, sim.engines = s->engines, sim.regions = s->regions;
  sim.bytes_per_cycle = s->bytes_per_cycle, sim.latency = s->latency;
  sim.region = s->region, sim.operations = s->names, sim.macs = s->macs, sim.elements = s->elements;
  sim.operation = -1, sim.most = s->operations;
  tag first = 1;
  for (int k = 0; k < s->regions; k++) {
    s->region[k].first = first, s->region[k].loaded = s->region[k].stored = 0;
    first += (tag)(s->region[k].bytes * s->region[k].images);
    if (s->region[k].written) memset(s->region[k].written, 0, (size_t)(s->region[k].bytes * s->region[k].images));
  }
  for (int k = 0; k < s->operations; k++) s->macs[k] = s->elements[k] = 0;
}

/* Run the plan; NULL, or one line on what was wrong. */
const char *simulate(simulation *s) {
  start(s);
  if (setjmp(sim.failed)) return sim.message;
  plan();
  if (sim.queued) fail("end: expected every transfer to be waited for, %d are not", sim.queued);
  s->cycles = sim.now, s->transferring = sim.transferring, s->computing = sim.computing;
  s->peak = sim.peak, s->commands = sim.commands;
  return NULL;
}
