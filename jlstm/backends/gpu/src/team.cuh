// How the blocks of a group share out a run.
//
// A group runs kRows sequences. Each of its kGroup blocks computes kShare units of them, and holds the weights of these units.
// The product of a step needs what all blocks of the group computed in the step before: h forward, dz backward. They exchange it
// in one of three ways:
//
//   none      the group is one block, which has all in its shared memory
//   cluster   each block writes into the shared memory of all blocks of its cluster (compute capability 9.0 and newer)
//   global    through global memory, with a counter for each group that tells how many blocks have finished how many steps. The
//             blocks of a group must run at the same time: the launch is cooperative

#pragma once

#include "arguments.h"
#include "product.cuh"

namespace jlstm {

enum class Exchange { kNone, kCluster, kGlobal };

// Of the plan: see plan.py.
constexpr int kUnits = JLSTM_UNITS, kShare = JLSTM_SHARE, kGroup = JLSTM_GROUP, kRows = JLSTM_ROWS, kWarps = JLSTM_WARPS;
constexpr Exchange kExchange = Exchange::JLSTM_EXCHANGE;
constexpr int kThreads = 32 * kWarps, kPadded = rounded_up(kUnits, kPadding);
constexpr int kNumbers =
    (kRows * kShare + kThreads - 1) / kThreads;  // of the group's rows times the block's units, for each thread

static_assert(kRows % kRowsAtOnce == 0, "rows are multiplied four at a time");
static_assert(kGroup * kShare >= kPadded, "blocks write all padding");

// One row and unit, of those that a thread computes.
struct Place {
  bool exists;   // in the arrays with padding
  bool is_real;  // in those without
  int row, unit;
  int row_in_group, unit_in_block;
  bool in_block;  // false for the last places, if they are more than rows times units

  __device__ __forceinline__ Place(const Arguments& a, int group, int block, int number) {
    const int place = int(threadIdx.x) + number * kThreads;
    in_block = place < kRows * kShare;
    row_in_group = place / kShare, unit_in_block = place % kShare;
    row = a.first_row + group * kRows + row_in_group, unit = block * kShare + unit_in_block;
    exists = in_block && row < a.last_row() && unit < kPadded;
    is_real = exists && unit < kUnits;
  }
};

// The shared memory of a block: the rows that the next product reads, and the sums of the slices. With a cluster there are two
// sets of rows, since other blocks write those of the next step while this one still reads.
//
// A product sums over `depth` numbers of a row, and has kResults results in this block, of which each thread computes `columns`.
template <int depth, int kResults, int columns>
struct Team {
  static constexpr int kWarpsOfResults = kResults / (kLanesOfResults * columns), kSlices = kWarps / kWarpsOfResults;
  using Held = Weights<depth, kSlices, columns>;
  static_assert(kWarpsOfResults * kLanesOfResults * columns == kResults, "warps share out all results");
  static_assert(kWarpsOfResults * kSlices == kWarps, "slices have equally many warps");

  const Arguments& a;
  const int group = int(blockIdx.x) / kGroup, block = int(blockIdx.x) % kGroup;
  const int lane = int(threadIdx.x) % kLanesOfSum, result_lane = int(threadIdx.x) % 32 / kLanesOfSum;
  const int warp = int(threadIdx.x) / 32, slice = warp / kWarpsOfResults;
  const int first_result = (warp % kWarpsOfResults * kLanesOfResults + result_lane) * columns;  // of this thread
  float *rows, *next_rows, *sums;
  Held weights;

  __device__ __forceinline__ explicit Team(const Arguments& arguments) : a(arguments) {
    rows = shared_memory();
    next_rows = kExchange == Exchange::kCluster ? rows + kRows * Held::row : rows;
    sums = next_rows + kRows * Held::row;
    for (float* to = rows + threadIdx.x; to < sums; to += kThreads) *to = 0;
    if (kExchange == Exchange::kCluster) wait_for_cluster();  // other blocks write only after this
    __syncthreads();
  }

  // Waits until all blocks of the group have finished this many steps.
  __device__ __forceinline__ void wait_for(int steps) const {
    if (threadIdx.x == 0) {
      while (load_acquire(a.counters + group) < unsigned(kGroup * steps)) {
      }
    }
    __syncthreads();
  }

  // Copies `count` rows from global memory, which other blocks have written, into `rows`.
  __device__ __forceinline__ void read_rows(const float* from, int count) const {
    constexpr int quads = depth / 4;
#pragma unroll 8
    for (int i = threadIdx.x; i < kRows * quads; i += kThreads) {
      const int row = i / quads, k = i % quads * 4;
      if (row >= count) break;
      *reinterpret_cast<float4*>(rows + row * Held::row + k) = __ldcg(reinterpret_cast<const float4*>(from + row * depth + k));
    }
    __syncthreads();
  }

  // Multiplies all rows of the group, and leaves the sums of all slices in `sums`.
  __device__ __forceinline__ void multiply() const {
#pragma unroll 1
    for (int row = 0; row < kRows; row += kRowsAtOnce) {
      float out[Held::results];
      weights.multiply(rows + row * Held::row, slice * kLanesOfSum + lane, out);
      float* to = sums + (slice * kRows + row + Held::row_of(lane)) * kResults + first_result + Held::column_of(lane);
      if constexpr (Held::results == 2) {
        *reinterpret_cast<float2*>(to) = make_float2(out[0], out[1]);
      } else {
        to[0] = out[0];
      }
    }
    __syncthreads();
  }

  // The sum of all slices for a row and a result.
  __device__ __forceinline__ float sum(int row, int result) const {
    float total = 0;
#pragma unroll
    for (int s = 0; s < kSlices; ++s) total += sums[(s * kRows + row) * kResults + result];
    return total;
  }

  // Adds the sums of all slices to four results, from `result` on.
  __device__ __forceinline__ void add_sums(int row, int result, float (&to)[4]) const {
#pragma unroll
    for (int s = 0; s < kSlices; ++s) {
      const float4 four = *reinterpret_cast<const float4*>(sums + (s * kRows + row) * kResults + result);
      to[0] += four.x, to[1] += four.y, to[2] += four.z, to[3] += four.w;
    }
  }

  // Writes a number of the rows of the next product.
  __device__ __forceinline__ void pass_on(int row, int k, float value) const {
    if (kExchange == Exchange::kNone) rows[row * Held::row + k] = value;
    if (kExchange == Exchange::kCluster) {
#pragma unroll
      for (int other = 0; other < kGroup; ++other) store_in_block(next_rows + row * Held::row + k, other, value);
    }
  }

  // Ends a step: what this block passed on, or wrote into global memory, may be read.
  __device__ __forceinline__ void end_step() {
    if (kExchange == Exchange::kCluster) {
      wait_for_cluster();
      float* const read = rows;
      rows = next_rows;
      next_rows = read;
      return;
    }
    __syncthreads();
    if (kExchange == Exchange::kGlobal && threadIdx.x == 0) add_release(a.counters + group);
  }
};

}  // namespace jlstm
