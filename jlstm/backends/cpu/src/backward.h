// The derivative of one step of a cell. Names and layouts are those of recurrence.h.

#pragma once

#include "recurrence.h"

namespace jlstm {

// The arrays that the backward run reads and writes.
template <class T>
struct Backward {
  Forward<T> f;         // the forward run, with its gates and cs
  const T* transposed;  // the recurrent kernel as pack_transposed packs it
  const T* dys;
  T* dzs;               // (time, batch, columns). May be the memory of the gates
  T *dh, *dc;           // gradients of the carry (batch, padded): first of the last carry, finally of the initial one. dc is null
                        // for a cell without c
  T* dpeepholes;        // gradients of the peepholes by each sequence (batch, peepholes, padded), first zeros
  const T* projection;  // P transposed, as pack_projection_transposed packs it. Null without a projection
  T* dqs;               // with a projection: gradients of m P (time, batch, projected). May be the memory of dys
  T* ms;                // with a projection: m of each step (time, batch, padded). May be the memory of cs
};

// Adds dz Uᵀ of the step at t = `next` to the sums of a tile of rows by vectors of h. Without a step, next is -1.
template <class Cell, class T>
inline __attribute__((always_inline)) void add_gradient_of_h(const Backward<T>& b, int64_t next, int rows, int64_t row,
                                                             int vectors, int64_t first, Vector<T>* sums) {
  if (next < 0) return;
  const int64_t gate_width = columns<T>(b.f.n);
  const T* dz[kRows];
  for (int r = 0; r < rows; ++r) dz[r] = b.dzs + (next * b.f.n.batch + row + r) * gate_width;
  const T* panel = in_panel<T>(b.transposed, gate_width, first);
  multiply_gates<T, Cell::recurrent_gates>(vectors, rows, dz, blocks<T>(b.f.n), panel, sums);
}

// Replaces the gradient of h after the step at `next` by that before it, of which `by_product` is dz Uᵀ, and returns it.
//
// A step that does not count passes the carry on, and so its dh. A reset step does not depend on the carry before it. In a cell
// that keeps some of h, the previous call has left the gradient by that way.
template <class Cell, class T>
inline __attribute__((always_inline)) Vector<T> replace_dh(const Backward<T>& b, int64_t next, int64_t sequence,
                                                           const Vector<T>& by_product, T* dh_at) {
  Vector<T> dh = load<T>(dh_at);
  if (next >= 0 && b.f.counts(next, sequence)) {
    dh = b.f.starts(next, sequence) ? Vector<T>{} : Cell::keeps_h ? dh + by_product : by_product;
  }
  store<T>(dh_at, dh);
  return dh;
}

// Computes dz and the dc before the k-th step for the units of one vector, from the gradient of what `step` returned.
template <class Cell, class T>
inline __attribute__((always_inline)) void differentiate_units(const Cell& cell, const Backward<T>& b, int64_t k,
                                                               int64_t sequence, int64_t unit, Vector<T> dh) {
  using V = Vector<T>;
  const Forward<T>& f = b.f;
  const Sizes& n = f.n;
  const int64_t t = f.step_of(k), unit_width = padded<T>(n), lanes = n.units - unit, own = sequence * unit_width + unit;
  const int64_t offset = (t * n.batch + sequence) * columns<T>(n) + unit / kUnits<T> * kColumns<T> + unit % kUnits<T>;
  T* to = b.dzs + offset;
  if (!f.counts(t, sequence)) {
    for (int gate = 0; gate < 4; ++gate) store<T>(to + gate * kUnits<T>, V{});
    return;
  }
  const T* gates_at = f.gates + offset;  // read before dz is written, which may be in the same place
  V gates[4], dzs[4], h_before{}, c_before{}, dc{};
  for (int gate = 0; gate < 4; ++gate) gates[gate] = load<T>(gates_at + gate * kUnits<T>);
  if constexpr (Cell::keeps_h) h_before = load_some<T>(f.h_before(k) + sequence * n.units + unit, lanes);
  if constexpr (Cell::has_c) {
    c_before = load<T>(f.c_before(k) + own);
    dc = load<T>(b.dc + own);
    if (b.ms) store<T>(b.ms + t * n.batch * unit_width + own, cell.unprojected(gates, c_before));
  }
  V dpeepholes[std::max(Cell::peepholes, 1)];
  T* dpeepholes_at = b.dpeepholes + sequence * Cell::peepholes * unit_width + unit;
  for (int p = 0; p < Cell::peepholes; ++p) dpeepholes[p] = load<T>(dpeepholes_at + p * unit_width);
  cell.differentiate(gates, h_before, c_before, dh, dc, dzs, dpeepholes, unit, lanes);
  for (int p = 0; p < Cell::peepholes; ++p) store<T>(dpeepholes_at + p * unit_width, dpeepholes[p]);
  for (int gate = 0; gate < 4; ++gate) store<T>(to + gate * kUnits<T>, dzs[gate]);
  if constexpr (Cell::keeps_h) store<T>(b.dh + own, dh);
  if constexpr (Cell::has_c) store<T>(b.dc + own, f.starts(t, sequence) ? V{} : dc);
}

// The derivative of the k-th step for some rows and blocks. k goes from time - 1 down to -1.
//
// dh = dz Uᵀ needs the dz of all units, which several threads compute. So a call first computes dh from the dz of step k + 1,
// which the previous call computed, and then the dz of step k. The call with k = -1 computes only the dh of the initial carry.
//
// With a projection, project_back has computed the first part, and dq. Then dm = dq Pᵀ takes the place of dh, and k is not -1.
template <class Cell, class T>
void backward_step(const Cell& cell, const Backward<T>& b, int64_t k, int64_t row_begin, int64_t row_end, int64_t block_begin,
                   int64_t block_end) {
  using V = Vector<T>;
  const Forward<T>& f = b.f;
  const Sizes& n = f.n;
  const int64_t next = k + 1 < n.time ? f.step_of(k + 1) : -1, t = k >= 0 ? f.step_of(k) : -1;
  for_groups(block_begin * kParts<T>, block_end * kParts<T>, [&](int vectors, int64_t first) {
    for_tiles(row_begin, row_end, [&](int rows, int64_t row) {
      V sums[kRows * 4] = {};
      if (b.projection) {
        const T* dq[kRows];
        for (int r = 0; r < rows; ++r) dq[r] = b.dqs + (t * n.batch + row + r) * n.projected;
        multiply_group<T>(vectors, rows, dq, n.projected, in_panel<T>(b.projection, n.projected, first), sums);
      } else {
        add_gradient_of_h<Cell, T>(b, next, rows, row, vectors, first, sums);
      }
      for (int v = 0; v < vectors; ++v) {
        const int64_t unit = (first + v) * kLanes<T>, lanes = n.units - unit;
        for (int r = 0; r < rows; ++r) {
          const int64_t sequence = row + r;
          V dh = sums[r * vectors + v];
          if (!b.projection) {
            dh = replace_dh<Cell, T>(b, next, sequence, dh, b.dh + sequence * padded<T>(n) + unit);
            if (t < 0) continue;
            if (f.counts(t, sequence)) dh += load_some<T>(b.dys + (t * n.batch + sequence) * n.units + unit, lanes);
          }
          differentiate_units<Cell, T>(cell, b, k, sequence, unit, dh);
        }
      }
    });
  });
}

}  // namespace jlstm
