// Few units: one warp runs a sequence, forward or backward, and holds all weights.
//
// A lane computes a unit. With 16 units two lanes share the sums of one. Nothing is waited for but the other lanes, so that the
// time of a step is that of the longest chain of instructions: what a step reads from global memory is read some steps ahead, and
// the code is small enough for the instruction cache.

#pragma once

#include "arguments.h"
#include "cells.h"
#include "device.cuh"

namespace jlstm {

constexpr int kUnits = JLSTM_UNITS, kWarps = JLSTM_WARPS, kPadded = rounded_up(kUnits, kPadding);
constexpr int kHalves = 32 / kPadded, kColumns = 4 * kPadded;

static_assert(kPadded <= 32, "a lane computes one unit");

// Whether a step counts, and whether it is a reset. Each lane has those of another step.
struct Flags {
  unsigned char counts, starts;
};

// The same for all steps, as bits that all lanes have.
struct Bits {
  unsigned counts, starts;

  __device__ explicit Bits(const Flags& flags)
      : counts(__ballot_sync(kWholeWarp, flags.counts != 0)), starts(__ballot_sync(kWholeWarp, flags.starts != 0)) {}
  __device__ bool is_counted(int step) const { return counts >> step & 1; }
  __device__ bool is_start(int step) const { return (counts & starts) >> step & 1; }
};

// The sequence of a warp, and the part of it that a lane computes.
struct Lane {
  const Arguments& a;
  const int lane = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32;
  const int unit = lane % kPadded, half = lane / kPadded;
  const int row = a.first_row + int(blockIdx.x) * kWarps + warp;
  const bool writes = half == 0, is_real = unit < kUnits;

  __device__ explicit Lane(const Arguments& arguments) : a(arguments) {}

  __device__ int64_t at(int k) const { return int64_t(a.step_of(k)) * a.batch + row; }

  // Reads whether a step counts, and whether it is a reset: each lane for one of `count` steps, which are k, k + direction, and
  // so on.
  __device__ Flags flags(int k, int direction, int count) const {
    const int own = k + lane * direction;
    if (lane >= count || own < 0 || own >= a.time) return {0, 0};
    return {a.counts(a.step_of(own), row), a.starts(a.step_of(own), row)};
  }

  // Adds up what the lanes of a unit have.
  __device__ float sum(float part) const { return kHalves == 1 ? part : part + __shfl_xor_sync(kWholeWarp, part, kPadded); }
};

template <class Cell>
__device__ void run_forward(const Arguments& a, const Cell& cell) {
  constexpr int ahead = 8;  // steps whose pre-activations are read at a time
  constexpr int depth = kPadded / kHalves;
  const Lane l(a);
  if (l.row >= a.last_row()) return;
  // (2, padded) numbers of h and (2, ahead, columns) of pre-activations for each warp.
  float* const h_rows = shared_memory() + l.warp * (2 * kPadded + 2 * ahead * kColumns);
  float* const z_rows = h_rows + 2 * kPadded;

  float weights[depth][4];
#pragma unroll
  for (int k = 0; k < depth; ++k) {
#pragma unroll
    for (int gate = 0; gate < 4; ++gate) {
      const int from = l.half * depth + k;
      const bool is_used = has(Cell::recurrent_gates, gate) && from < kUnits && l.is_real;
      weights[k][gate] = is_used ? a.recurrent[(from * 4 + gate) * kUnits + l.unit] : 0.f;
    }
  }
  const int64_t own = int64_t(l.row) * kUnits + l.unit;
  float h = l.is_real ? a.h0[own] : 0, c = l.is_real && Cell::has_c ? a.c0[own] : 0;
  if (l.writes) h_rows[l.unit] = h;

  const auto read_ahead = [&](int k, float* to) {
#pragma unroll 1
    for (int i = l.lane; i < ahead * kPadded; i += 32) {
      const int step = i / kPadded, quad = i % kPadded;
      if (k + step < a.time) start_copy(to + step * kColumns + quad * 4, a.zs + l.at(k + step) * kColumns + quad * 4);
    }
    end_copies();
  };
  read_ahead(0, z_rows);
  Flags next_flags = l.flags(0, 1, ahead);
  const int64_t stride = a.reverse ? -a.batch : a.batch;
  int64_t at = l.at(0);
  for (int first = 0; first < a.time; first += ahead) {
    float* const z_now = z_rows + first / ahead % 2 * ahead * kColumns;
    read_ahead(first + ahead, z_rows + (first / ahead + 1) % 2 * ahead * kColumns);
    const Bits bits(next_flags);
    next_flags = l.flags(first + ahead, 1, ahead);
    wait_for_copies<1>();
    __syncwarp();
    const int steps = min(ahead, a.time - first);
#pragma unroll 2
    for (int step = 0; step < steps; ++step, at += stride) {
      const bool is_counted = bits.is_counted(step), is_start = bits.is_start(step);
      const float* const h_now = h_rows + step % 2 * kPadded;
      if (is_start) h = c = 0;
      if (l.writes && a.cs) a.cs[at * kPadded + l.unit] = c;
      if (l.writes && l.is_real && a.hs) a.hs[at * kUnits + l.unit] = h;
      float y = 0, z[4] = {};
      if (is_counted) {  // the same for the whole warp
        if (!is_start) {
#pragma unroll
          for (int k = 0; k < depth; k += 4) {
            const float4 x = *reinterpret_cast<const float4*>(h_now + l.half * depth + k);
#pragma unroll
            for (int gate = 0; gate < 4; ++gate) {
              const float sum = fmaf(x.y, weights[k + 1][gate], fmaf(x.x, weights[k][gate], z[gate]));
              z[gate] = fmaf(x.w, weights[k + 3][gate], fmaf(x.z, weights[k + 2][gate], sum));
            }
          }
        }
#pragma unroll
        for (int gate = 0; gate < 4; ++gate) z[gate] = l.sum(z[gate]) + z_now[step * kColumns + gate * kPadded + l.unit];
        const float new_h = cell.step(z, h, c, l.unit, l.is_real);
        h = y = l.is_real ? new_h : 0;
      }
      if (l.writes) {
        h_rows[(step + 1) % 2 * kPadded + l.unit] = h;
        if (l.is_real) a.ys[at * kUnits + l.unit] = y;
#pragma unroll
        for (int gate = 0; gate < 4; ++gate) {
          if (a.gates) a.gates[(at * 4 + gate) * kPadded + l.unit] = z[gate];
        }
      }
      __syncwarp();
    }
  }
  if (!l.writes || !l.is_real) return;
  a.h[own] = h;
  if (Cell::has_c) a.c[own] = c;
}

template <class Cell>
__device__ void run_backward(const Arguments& a, const Cell& cell) {
  constexpr int ahead = 4;  // steps whose gates are read at a time
  constexpr int depth = kColumns / kHalves;
  const Lane l(a);
  if (l.row >= a.last_row()) return;
  float* const dz_row = shared_memory() + l.warp * kColumns;

  float weights[depth];
#pragma unroll
  for (int k = 0; k < depth; ++k) {
    const int column = l.half * depth + k, gate = column / kPadded, other = column % kPadded;
    const bool is_used = has(Cell::recurrent_gates, gate) && other < kUnits && l.is_real;
    weights[k] = is_used ? a.recurrent[(l.unit * 4 + gate) * kUnits + other] : 0.f;
  }
  const int64_t own = int64_t(l.row) * kUnits + l.unit;
  float dh = l.is_real ? a.dh[own] : 0, dc = l.is_real && Cell::has_c ? a.dc[own] : 0;
  constexpr int peepholes = Cell::peepholes > 0 ? Cell::peepholes : 1;
  float dpeepholes[peepholes] = {};

  struct Kept {
    float gates[4], c, h, dy;
  };
  // Step number s from the end is k = time - 1 - s.
  const auto read = [&](int s, Kept& to) {
    const int k = a.time - 1 - s;
    if (k < 0 || !l.is_real) return;
    const int64_t at = l.at(k);
#pragma unroll
    for (int gate = 0; gate < 4; ++gate) to.gates[gate] = a.gates[(at * 4 + gate) * kPadded + l.unit];
    to.c = Cell::has_c ? a.cs[at * kPadded + l.unit] : 0;
    to.dy = a.dys[at * kUnits + l.unit];
    if (!Cell::keeps_h) return;
    if (a.stores_h()) to.h = a.hs[at * kUnits + l.unit];
    else to.h = k == 0 ? a.h0[own] : a.hs[l.at(k - 1) * kUnits + l.unit];
  };
  Kept now[ahead] = {}, next[ahead] = {};
  bool is_counted = false, is_start = false;  // of the step that was computed last
  const auto pass_back = [&] {                // dh = dz Uᵀ of the step that was computed last
    float sums[4] = {};
#pragma unroll
    for (int k = 0; k < depth; k += 4) {
      const float4 v = *reinterpret_cast<const float4*>(dz_row + l.half * depth + k);
      sums[0] = fmaf(v.x, weights[k], sums[0]);
      sums[1] = fmaf(v.y, weights[k + 1], sums[1]);
      sums[2] = fmaf(v.z, weights[k + 2], sums[2]);
      sums[3] = fmaf(v.w, weights[k + 3], sums[3]);
    }
    const float by_product = l.sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
    dh = is_start ? 0 : (Cell::keeps_h ? dh : 0) + by_product;
  };

#pragma unroll
  for (int s = 0; s < ahead; ++s) read(s, next[s]);
  Flags next_flags = l.flags(a.time - 1, -1, ahead);
  for (int first = 0; first < a.time; first += ahead) {
#pragma unroll
    for (int s = 0; s < ahead; ++s) now[s] = next[s];
    const Bits bits(next_flags);
#pragma unroll
    for (int s = 0; s < ahead; ++s) read(first + ahead + s, next[s]);
    next_flags = l.flags(a.time - 1 - first - ahead, -1, ahead);
#pragma unroll
    for (int s = 0; s < ahead; ++s) {
      const int k = a.time - 1 - first - s;
      if (k < 0) break;
      if (is_counted) pass_back();
      is_counted = bits.is_counted(s), is_start = bits.is_start(s);
      float dz[4] = {};
      if (is_counted && l.is_real) {
        float d = dh + now[s].dy;
        cell.differentiate(now[s].gates, now[s].h, now[s].c, d, dc, dz, dpeepholes, l.unit, 1);
        if (Cell::keeps_h) dh = d;
        if (is_start) dc = 0;
      }
      __syncwarp();  // all lanes have read the last row
      if (l.writes) {
        const int64_t at = l.at(k) * kColumns;
#pragma unroll
        for (int gate = 0; gate < 4; ++gate) a.dzs[at + gate * kPadded + l.unit] = dz_row[gate * kPadded + l.unit] = dz[gate];
      }
      __syncwarp();
    }
  }
  if (is_counted) pass_back();
  if (!l.writes || !l.is_real) return;
  a.dh0[own] = dh;
  if (Cell::has_c) a.dc0[own] = dc;
#pragma unroll
  for (int row = 0; row < Cell::peepholes; ++row) {
    if (a.dpeepholes) a.dpeepholes[(int64_t(l.row) * Cell::peepholes + row) * kUnits + l.unit] = dpeepholes[row];
  }
}

}  // namespace jlstm
