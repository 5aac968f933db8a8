// The arrays of a run. They are an argument of the kernel by value, so that this file is compiled for the GPU and for the host.
//
// `padded` is the number of units, rounded up to kPadding. Arrays with gates have the four gates of all units one after the
// other, each filled up to `padded`.

#pragma once

#include "types.h"

namespace jlstm {

constexpr int kPadding = 16;  // floats in 64 bytes, as `residual_shapes` in operands.py has it

constexpr int rounded_up(int count, int multiple) { return (count + multiple - 1) / multiple * multiple; }

struct Arguments {
  int time, batch;
  int first_row, rows;  // the rows of the batch that this launch runs: rows from first_row on
  bool reverse;
  // Inputs of both runs. An array that the call does not have is null.
  const float* recurrent;              // (units, 4 units)
  const float* h0;                     // (batch, units)
  const unsigned char *mask, *resets;  // (time, batch)
  uint32_t* counters;                  // one for each group of blocks, zero at the launch
  float* exchange;                     // (2, rows of all groups, units of all blocks): h of the last two steps
  // The forward run.
  const float *zs, *c0;  // x W + b (time, batch, 4 padded); (batch, units)
  float *ys, *h, *c;     // (time, batch, units); the last carry (batch, units)
  float *gates, *cs;     // gates (time, batch, 4 padded) and c before each step (time, batch, padded), if there is a backward run
  float* hs;             // h before each step (time, batch, units), if there is a backward run, and a mask or resets
  // The backward run. It reads gates, cs, and hs: without a mask and resets hs is ys.
  const float *dys, *dh, *dc;  // gradients of the outputs and of the last carry
  float *dzs, *dpeepholes;     // (time, batch, 4 padded), in the memory of the gates; by sequence (batch, peepholes, units)
  float *dh0, *dc0;            // of the initial carry

  int step_of(int k) const { return reverse ? time - 1 - k : k; }
  int last_row() const { return first_row + rows; }
  // Whether a step counts, and whether it is a reset if it counts. As bytes, so that a thread reads them some time before it uses
  // them.
  unsigned char counts(int t, int row) const { return mask ? mask[int64_t(t) * batch + row] : 1; }
  unsigned char starts(int t, int row) const { return resets ? resets[int64_t(t) * batch + row] : 0; }
  bool stores_h() const { return mask || resets; }
};

}  // namespace jlstm
