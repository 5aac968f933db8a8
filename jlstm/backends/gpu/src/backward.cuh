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
  bool counted[kNumbers], started[kNumbers];  // whether the step after this one counts, and whether it is a reset
#pragma unroll
  for (int n = 0; n < kNumbers; ++n) {
    const Place p(a, team.group, team.block, n);
    dh[n] = p.is_real ? a.dh[int64_t(p.row) * kUnits + p.unit] : 0;
    dc[n] = p.is_real && Cell::has_c ? a.dc[int64_t(p.row) * kUnits + p.unit] : 0;
    counted[n] = started[n] = false;
  }

  // The turn with k = -1 only computes the dh of the initial carry.
  for (int k = a.time - 1; k >= -1; --k) {
    const int t = k < 0 ? 0 : a.step_of(k);
    float gates[kNumbers][4], c_before[kNumbers], h_before[kNumbers], dy[kNumbers];
    bool counts[kNumbers], starts[kNumbers];
#pragma unroll
    for (int n = 0; n < kNumbers; ++n) {  // read ahead of the wait for other blocks
      const Place p(a, team.group, team.block, n);
      counts[n] = k >= 0 && p.is_real && a.counts(t, p.row);
      starts[n] = counts[n] && a.starts(t, p.row);
      if (!counts[n]) continue;
      const int64_t at = int64_t(t) * a.batch + p.row;
#pragma unroll
      for (int gate = 0; gate < 4; ++gate) gates[n][gate] = a.gates[(at * 4 + gate) * kPadded + p.unit];
      c_before[n] = Cell::has_c ? a.cs[at * kPadded + p.unit] : 0;
      dy[n] = a.dys[at * kUnits + p.unit];
      if (Cell::keeps_h) {
        const float* before = a.stores_h() ? a.hs + at * kUnits
                              : k == 0     ? a.h0 + int64_t(p.row) * kUnits
                                           : a.hs + (int64_t(a.step_of(k - 1)) * a.batch + p.row) * kUnits;
        h_before[n] = before[p.unit];
      }
    }
    if (k + 1 < a.time) {
      if (kExchange == Exchange::kGlobal) {
        const int first = a.first_row + team.group * kRows;
        team.wait_for(a.time - 1 - k);
        team.read_rows(a.dzs + (int64_t(a.step_of(k + 1)) * a.batch + first) * depth, depth, min(kRows, a.last_row() - first));
      }
      team.multiply();
    }
#pragma unroll
    for (int n = 0; n < kNumbers; ++n) {
      const Place p(a, team.group, team.block, n);
      if (!p.in_block) break;
      // A masked step passes the carry on, and so its gradient. A reset does not depend on the carry before it.
      if (counted[n]) dh[n] = started[n] ? 0 : (Cell::keeps_h ? dh[n] : 0) + team.sum(p.row_in_group, p.unit_in_block);
      counted[n] = counts[n], started[n] = starts[n];
      if (k < 0) continue;
      float dz[4] = {};
      if (counts[n]) {
        float d = dh[n] + dy[n];
        cell.differentiate(gates[n], h_before[n], c_before[n], d, dc[n], dz, dpeepholes[n], p.unit, 1);
        if (Cell::keeps_h) dh[n] = d;
        if (starts[n]) dc[n] = 0;
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
    for (int row = 0; a.dpeepholes && row < Cell::peepholes; ++row) {
      a.dpeepholes[(int64_t(p.row) * Cell::peepholes + row) * kUnits + p.unit] = dpeepholes[n][row];
    }
  }
}

}  // namespace jlstm
