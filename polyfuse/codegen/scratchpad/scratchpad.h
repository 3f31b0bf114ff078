/* A scratchpad machine as generated code sees it.
 *
 * One arena on chip, tensors off chip, DMA engines between them, and a unit that computes on the arena. Addresses are
 * bytes in the arena. A tensor is [channels, rows, columns], row-major; off chip it is whole, on chip a `view` of it is.
 * simulator.c implements this on any host; a machine of your own provides the same functions: dma_* drive its engines,
 * read_row and write_row give pointers into its arena, and the others may do nothing. */
#ifndef SCRATCHPAD_H
#define SCRATCHPAD_H

/* The part of a tensor that a transfer moves: planes x rows x bytes, at these pitches in bytes on both ends. */
typedef struct {
  int planes, rows, bytes;
  int chip_plane, chip_row;
  long long plane, row;
} dma_box;

/* Where elements of a tensor are on chip: (channel, row, column) at
 * base + (channel - first - skip) * plane + (row + turn) % rows * pitch + (column + shift) % columns * element bytes.
 * An operand is an array of views that share its channels out: each has `channels` of them, from `first` on, and the last
 * one, which ends the array, has none. Where the operand has rows and columns of other sizes than the tensor, they are
 * `flat_rows` and `flat_columns`, else 0: the elements are the same in row-major order. */
typedef struct {
  int tensor, base;
  int first, channels;
  int rows, columns;
  int plane, pitch;
  int flat_rows, flat_columns;
  int turn, shift, skip;
} view;

/* Start a transfer between the arena and `offset` bytes into a tensor. Neither end may be touched before dma_wait. */
unsigned dma_load(int address, int tensor, long long offset, dma_box box);
unsigned dma_store(int tensor, long long offset, int address, dma_box box);
/* Wait until a transfer is done, and all that were started before it on its engine; ticket 0 is done. */
void dma_wait(unsigned ticket);

/* What runs from here on: a step of a group; an operation. */
void on_image(int image);
void on_step(int group, int step);
void on_operation(int operation);
/* The unit computed: so many operations, at so many a cycle; `elements` were made. */
void computed(long long operations, double rate, long long elements);

/* The elements first..last of a row, to read; in `line` where they are not in one piece. */
const void *read_row(const view *operand, int channel, int row, int first, int last, void *line);
/* A box of a result will be made from here on: nothing that is read may be in its place. */
void claim(const view *result, int channel_0, int channel_1, int row_0, int row_1, int column_0, int column_1);
/* Put the elements first..last into a row of a box that was claimed. */
void write_row(const view *result, int channel, int row, int first, int last, const void *line);
/* Bytes of weights to read, `skip` into the buffer at an address: those at `offset` of tensor 0, which holds all weights;
 * at address -1 they are read where they are off chip. They may begin at any byte. */
const void *read_weights(int address, int skip, long long offset, int bytes);
/* Room for the accumulators of an operation; with `keep` those that it left there. */
void *accumulators(int address, int bytes, int operation, int keep);

/* The generated code: one pass over all images. */
void plan(void);

#endif
