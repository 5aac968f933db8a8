// The product of rows in shared memory with weights that the threads of a block hold in registers for the whole run.
//
// A warp has 8 lanes along the sum and 4 along the results. Each thread holds, for kColumns neighboring results, the weights of
// groups of 4 numbers of a row: those with the numbers first, first + slices · 8, and so on. Several warps, the slices, share the
// sum, and several more the results.

#pragma once

#include "device.cuh"

namespace jlstm {

constexpr int kLanesOfSum = 8, kLanesOfResults = 4;
constexpr int kRowsAtOnce = 4;

template <int depth, int slices, int columns>
struct Weights {
  static constexpr int stride = kLanesOfSum * slices;                     // threads along the sum
  static constexpr int groups = (depth + 4 * stride - 1) / (4 * stride);  // groups of 4 numbers for each thread
  static constexpr int row = 4 * stride * groups;                      // `depth`, filled up: the size of a row in shared memory
  static constexpr int results = kRowsAtOnce * columns / kLanesOfSum;  // of four rows, that each thread gets
  static_assert(columns == 4 || columns == 2, "results are shared out among 8 lanes");

  float w[groups][4][columns];

  // Sets the weights to value(k, column), for the thread with the number `lane` along the sum.
  template <class F>
  __device__ __forceinline__ void set(int lane, F&& value) {
#pragma unroll
    for (int j = 0; j < groups; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
#pragma unroll
        for (int q = 0; q < columns; ++q) w[j][e][q] = value((j * stride + lane) * 4 + e, q);
      }
    }
  }

  // Multiplies four rows. Of the sums over all lanes of the warp this thread gets `results`: those of the row `row_of` and of the
  // columns from `column_of` on.
  __device__ __forceinline__ void multiply(const float* rows, int lane, float (&out)[results]) const {
    float sums[kRowsAtOnce][columns] = {};
#pragma unroll
    for (int j = 0; j < groups; ++j) {
#pragma unroll
      for (int r = 0; r < kRowsAtOnce; ++r) {
        const float4 x = *reinterpret_cast<const float4*>(rows + r * row + (j * stride + lane) * 4);
#pragma unroll
        for (int q = 0; q < columns; ++q) {
          sums[r][q] = fmaf(x.w, w[j][3][q], fmaf(x.z, w[j][2][q], fmaf(x.y, w[j][1][q], fmaf(x.x, w[j][0][q], sums[r][q]))));
        }
      }
    }
    // Three exchanges between lanes, each of which halves the results that a lane adds up: rows first, then columns.
    const bool second_half = lane & 4, second_row = lane & 2, second_columns = lane & 1;
    float two[2][columns], one[columns];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
#pragma unroll
      for (int q = 0; q < columns; ++q) {
        const float sent = second_half ? sums[r][q] : sums[r + 2][q], kept = second_half ? sums[r + 2][q] : sums[r][q];
        two[r][q] = kept + __shfl_xor_sync(kWholeWarp, sent, 4);
      }
    }
#pragma unroll
    for (int q = 0; q < columns; ++q) {
      const float sent = second_row ? two[0][q] : two[1][q], kept = second_row ? two[1][q] : two[0][q];
      one[q] = kept + __shfl_xor_sync(kWholeWarp, sent, 2);
    }
#pragma unroll
    for (int q = 0; q < results; ++q) {
      const float sent = second_columns ? one[q] : one[q + results], kept = second_columns ? one[q + results] : one[q];
      out[q] = kept + __shfl_xor_sync(kWholeWarp, sent, 1);
    }
  }

  static __device__ __forceinline__ int row_of(int lane) { return (lane & 4 ? 2 : 0) + (lane & 2 ? 1 : 0); }
  static __device__ __forceinline__ int column_of(int lane) { return lane & 1 ? results : 0; }
};

}  // namespace jlstm
