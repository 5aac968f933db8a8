// The forward run of a group of blocks, see team.cuh.

#pragma once

#include "cells.h"
#include "team.cuh"

namespace jlstm {

template <class Cell>
__device__ void run(const Arguments& a, const Cell& cell) {
  constexpr int depth = kGroup * kShare;  // h of all blocks
  Team<depth, 4 * kShare, 4> team(a);
  const int first_unit = team.block * kShare;

  // A thread holds the weights of the four gates of one unit.
  const int weights_unit = first_unit + team.first_result / 4;
  team.weights.set(team.slice * kLanesOfSum + team.lane, [&](int k, int gate) {
    const bool is_used = has(Cell::recurrent_gates, gate) && k < kUnits && weights_unit < kUnits;
    return is_used ? a.recurrent[(int64_t(k) * 4 + gate) * kUnits + weights_unit] : 0.f;
  });

  float h[kNumbers], c[kNumbers];
#pragma unroll
  for (int n = 0; n < kNumbers; ++n) {
    const Place p(a, team.group, team.block, n);
    h[n] = p.is_real ? a.h0[int64_t(p.row) * kUnits + p.unit] : 0;
    c[n] = p.is_real && Cell::has_c ? a.c0[int64_t(p.row) * kUnits + p.unit] : 0;
  }

  // The h that the first step reads.
  if (kExchange == Exchange::kGlobal || kExchange == Exchange::kCluster) {
    for (int i = threadIdx.x; i < kRows * kUnits; i += kThreads) {
      const int row = a.first_row + team.group * kRows + i / kUnits, k = i % kUnits;
      if (row < a.last_row()) team.rows[i / kUnits * team.weights.row + k] = a.h0[int64_t(row) * kUnits + k];
    }
  } else {
#pragma unroll
    for (int n = 0; n < kNumbers; ++n) {
      const Place p(a, team.group, team.block, n);
      if (p.exists) team.pass_on(p.row_in_group, p.unit, h[n]);
    }
  }
  __syncthreads();

  const int groups = int(gridDim.x) / kGroup;
  unsigned char counts[kNumbers], starts[kNumbers];  // of the next step
  const auto read_flags = [&](int k) {
#pragma unroll
    for (int n = 0; n < kNumbers; ++n) {
      const Place p(a, team.group, team.block, n);
      counts[n] = starts[n] = 0;
      if (k < a.time && p.is_real) counts[n] = a.counts(a.step_of(k), p.row), starts[n] = a.starts(a.step_of(k), p.row);
    }
  };
  read_flags(0);
  for (int k = 0; k < a.time; ++k) {
    const int t = a.step_of(k);
    float z[kNumbers][4];
    bool is_counted[kNumbers], is_start[kNumbers];
#pragma unroll
    for (int n = 0; n < kNumbers; ++n) {  // all reads and writes that need not wait for other blocks
      const Place p(a, team.group, team.block, n);
      const int64_t at = int64_t(t) * a.batch + p.row;
#pragma unroll
      for (int gate = 0; gate < 4; ++gate) z[n][gate] = p.is_real ? a.zs[(at * 4 + gate) * kPadded + p.unit] : 0;
      is_counted[n] = counts[n], is_start[n] = is_counted[n] && starts[n];
      if (is_start[n]) h[n] = c[n] = 0;
      if (p.is_real && a.hs) a.hs[at * kUnits + p.unit] = h[n];
      if (p.exists && a.cs) a.cs[at * kPadded + p.unit] = c[n];
    }
    read_flags(k + 1);
    if (kExchange == Exchange::kGlobal && k > 0) {
      team.wait_for(k);
      team.read_rows(a.exchange + (int64_t(k % 2) * groups + team.group) * kRows * depth, kRows);
    }
    team.multiply();
#pragma unroll
    for (int n = 0; n < kNumbers; ++n) {
      const Place p(a, team.group, team.block, n);
      if (!p.in_block) break;
      if (is_counted[n]) {
        // A step that starts anew reads h = 0, whatever the carry was.
        if (!is_start[n]) team.add_sums(p.row_in_group, p.unit_in_block * 4, z[n]);
        h[n] = cell.step(z[n], h[n], c[n], p.unit, 1);
      }
      if (kExchange == Exchange::kGlobal) {
        a.exchange[((int64_t((k + 1) % 2) * groups + team.group) * kRows + p.row_in_group) * depth + p.unit] = h[n];
      } else {
        team.pass_on(p.row_in_group, p.unit, h[n]);
      }
    }
    team.end_step();
#pragma unroll
    for (int n = 0; n < kNumbers; ++n) {  // other blocks do not wait for these writes
      const Place p(a, team.group, team.block, n);
      const int64_t at = int64_t(t) * a.batch + p.row;
      if (p.is_real) a.ys[at * kUnits + p.unit] = is_counted[n] ? h[n] : 0;
#pragma unroll
      for (int gate = 0; gate < 4; ++gate) {  // the gates of a masked step, which nobody reads, are finite
        if (p.exists && a.gates) a.gates[(at * 4 + gate) * kPadded + p.unit] = is_counted[n] ? z[n][gate] : 0;
      }
    }
  }

#pragma unroll
  for (int n = 0; n < kNumbers; ++n) {
    const Place p(a, team.group, team.block, n);
    if (!p.is_real) continue;
    a.h[int64_t(p.row) * kUnits + p.unit] = h[n];
    if (Cell::has_c) a.c[int64_t(p.row) * kUnits + p.unit] = c[n];
  }
}

}  // namespace jlstm
