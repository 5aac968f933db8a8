// The backward run of a group of blocks, see team.cuh. It computes the gradients of the pre-activations, dz, and of the initial
// carry. Those of weights and inputs are products of dz over all steps, which XLA computes.

#pragma once

#include "cells.h"
#include "team.cuh"

namespace jlstm {

// A thread computes this many of the block's units. With more units in a block it reads each dz for more of them.
constexpr int kColumns = kShare % 16 == 0 ? 4 : 2;

template <class Cell>
__device__ void run(const Arguments& a, const Cell& cell) {
  constexpr int depth = 4 * kPadded;  // dz of all gates and units
  Team<depth, kShare, kColumns> team(a);

  // dh = dz Uᵀ.
  team.weights.set(team.slice * kLanesOfSum + team.lane, [&](int k, int column) {
    const int unit = team.block * kShare + team.first_result + column, gate = k / kPadded, other = k % kPadded;
    const bool is_used = gate < 4 && has(Cell::recurrent_gates, gate) && other < kUnits && unit < kUnits;
    return is_used ? a.recurrent[(int64_t(unit) * 4 + gate) * kUnits + other] : 0.f;
  });

  float dh[kNumbers], dc[kNumbers];
  constexpr int peepholes = Cell::peepholes > 0 ? Cell::peepholes : 1;
  float dpeepholes[kNumbers][peepholes] = {};
  bool was_counted[kNumbers], was_start[kNumbers];  // of the step after this one
#pragma unroll
  for (int n = 0; n < kNumbers; ++n) {
    const Place p(a, team.group, team.block, n);
    dh[n] = p.is_real ? a.dh[int64_t(p.row) * kUnits + p.unit] : 0;
    dc[n] = p.is_real && Cell::has_c ? a.dc[int64_t(p.row) * kUnits + p.unit] : 0;
    was_counted[n] = was_start[n] = false;
  }
  unsigned char counts[kNumbers], starts[kNumbers];  // of the next turn's step
  const auto read_flags = [&](int k) {
#pragma unroll
    for (int n = 0; n < kNumbers; ++n) {
      const Place p(a, team.group, team.block, n);
      counts[n] = starts[n] = 0;
      if (k >= 0 && p.is_real) counts[n] = a.counts(a.step_of(k), p.row), starts[n] = a.starts(a.step_of(k), p.row);
    }
  };
  read_flags(a.time - 1);

  // The turn with k = -1 only computes the dh of the initial carry.
  for (int k = a.time - 1; k >= -1; --k) {
    const int t = k < 0 ? 0 : a.step_of(k);
    float gates[kNumbers][4], c_before[kNumbers], h_before[kNumbers], dy[kNumbers];
    bool is_counted[kNumbers], is_start[kNumbers];
#pragma unroll
    for (int n = 0; n < kNumbers; ++n) {  // all reads that need not wait for other blocks
      const Place p(a, team.group, team.block, n);
      is_counted[n] = counts[n], is_start[n] = is_counted[n] && starts[n];
      c_before[n] = h_before[n] = dy[n] = 0;
      if (k < 0 || !p.is_real) continue;
      const int64_t at = int64_t(t) * a.batch + p.row;
#pragma unroll
      for (int gate = 0; gate < 4; ++gate) gates[n][gate] = a.gates[(at * 4 + gate) * kPadded + p.unit];
      if (Cell::has_c) c_before[n] = a.cs[at * kPadded + p.unit];
      dy[n] = a.dys[at * kUnits + p.unit];
      if (Cell::keeps_h) {
        const float* before = a.stores_h() ? a.hs + at * kUnits
                              : k == 0     ? a.h0 + int64_t(p.row) * kUnits
                                           : a.hs + (int64_t(a.step_of(k - 1)) * a.batch + p.row) * kUnits;
        h_before[n] = before[p.unit];
      }
    }
    read_flags(k - 1);
    if (k + 1 < a.time) {
      if (kExchange == Exchange::kGlobal) {
        const int first = a.first_row + team.group * kRows;
        team.wait_for(a.time - 1 - k);
        team.read_rows(a.dzs + (int64_t(a.step_of(k + 1)) * a.batch + first) * depth, a.last_row() - first);
      }
      team.multiply();
    }
#pragma unroll
    for (int n = 0; n < kNumbers; ++n) {
      const Place p(a, team.group, team.block, n);
      if (!p.in_block) break;
      // A masked step passes the carry on, and so its gradient. A reset does not depend on the carry before it.
      if (was_counted[n]) dh[n] = was_start[n] ? 0 : (Cell::keeps_h ? dh[n] : 0) + team.sum(p.row_in_group, p.unit_in_block);
      was_counted[n] = is_counted[n], was_start[n] = is_start[n];
      if (k < 0) continue;
      float dz[4] = {};
      if (is_counted[n]) {
        float d = dh[n] + dy[n];
        cell.differentiate(gates[n], h_before[n], c_before[n], d, dc[n], dz, dpeepholes[n], p.unit, 1);
        if (Cell::keeps_h) dh[n] = d;
        if (is_start[n]) dc[n] = 0;
      }
      if (!p.exists) continue;
#pragma unroll
      for (int gate = 0; gate < 4; ++gate) {
        a.dzs[((int64_t(t) * a.batch + p.row) * 4 + gate) * kPadded + p.unit] = dz[gate];
        team.pass_on(p.row_in_group, gate * kPadded + p.unit, dz[gate]);
      }
    }
    if (k >= 0) team.end_step();
  }

#pragma unroll
  for (int n = 0; n < kNumbers; ++n) {
    const Place p(a, team.group, team.block, n);
    if (!p.is_real) continue;
    a.dh0[int64_t(p.row) * kUnits + p.unit] = dh[n];
    if (Cell::has_c) a.dc0[int64_t(p.row) * kUnits + p.unit] = dc[n];
#pragma unroll
    for (int row = 0; row < Cell::peepholes; ++row) {
      if (a.dpeepholes) a.dpeepholes[(int64_t(p.row) * Cell::peepholes + row) * kUnits + p.unit] = dpeepholes[n][row];
    }
  }
}

}  // namespace jlstm
