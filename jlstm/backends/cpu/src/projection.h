// The projection of an LSTM, a second matrix product in each step, where m = o ψ(c') is what forward_step computes:
//
//   h' = clip(m P + b)      dq = dh', or 0 where h' is clipped      dm = dq Pᵀ      dP = mᵀ dq      db = dq
//
// P and its bias are one array (units + 1, projected), whose last row is the bias.

#pragma once

#include <cmath>

#include "backward.h"
#include "gradient.h"

namespace jlstm {

// The number of vectors that hold h.
template <class T>
inline int64_t vectors_of_h(const Sizes& n) {
  return (n.h_size() + kLanes<T> - 1) / kLanes<T>;
}

// The number of panels of `size` columns.
template <class T>
inline int64_t panels_of(int64_t size) {
  return (size + kPanel<T> - 1) / kPanel<T>;
}

// Packs the panel of the columns of the projection from `first` on.
template <class T>
inline void pack_projection(const T* weights, const Sizes& n, int64_t first, T* panel) {
  const int64_t count = std::min<int64_t>(kPanel<T>, n.projected - first);
  for (int64_t row = 0; row < n.units + 1; ++row, panel += kPanel<T>) {
    const T* from = weights + row * n.projected + first;
    std::fill(std::copy(from, from + count, panel), panel + kPanel<T>, T(0));
  }
}

// Packs a panel of the transposed P, whose columns are the units from `first` on.
template <class T>
inline void pack_projection_transposed(const T* weights, const Sizes& n, int64_t first, T* panel) {
  const int64_t count = std::min<int64_t>(kPanel<T>, n.units - first);
  for (int64_t row = 0; row < n.projected; ++row, panel += kPanel<T>) {
    std::fill(panel, panel + kPanel<T>, T(0));
    for (int64_t c = 0; c < count; ++c) panel[c] = weights[(first + c) * n.projected + row];
  }
}

// Computes h' of the k-th step for some rows of the batch and some vectors of h, from the m of all units.
template <class T>
void project_step(const Forward<T>& f, int64_t k, int64_t row_begin, int64_t row_end, int64_t vector_begin, int64_t vector_end) {
  using V = Vector<T>;
  const Sizes& n = f.n;
  const int64_t t = f.step_of(k), size = n.projected;
  const T* h_before = f.h_before(k);
  const bool last = k + 1 == n.time;
  for_groups(vector_begin, vector_end, [&](int vectors, int64_t first) {
    const T *panel = in_panel<T>(f.projection, n.units + 1, first), *bias = panel + n.units * kPanel<T>;
    for_tiles(row_begin, row_end, [&](int rows, int64_t row) {
      const T* m[kRows];
      V sums[kRows * 4];
      for (int r = 0; r < rows; ++r) {
        m[r] = f.ms + (row + r) * padded<T>(n);
        for (int v = 0; v < vectors; ++v) sums[r * vectors + v] = load<T>(bias + v * kLanes<T>);
      }
      multiply_group<T>(vectors, rows, m, n.units, panel, sums);
      for (int r = 0; r < rows; ++r) {
        const int64_t sequence = row + r;
        for (int v = 0; v < vectors; ++v) {
          const int64_t column = (first + v) * kLanes<T>, lanes = size - column, own = sequence * size + column;
          const V h = clamp<T>(sums[r * vectors + v], -f.projection_clip, f.projection_clip);
          const bool counts = f.counts(t, sequence);
          store_some<T>(f.ys + t * n.batch * size + own, counts ? h : V{}, lanes);
          if (!last && !f.stores_h()) continue;
          V new_h = counts ? h : load_some<T>(h_before + own, lanes);
          if (!last && f.starts(f.step_of(k + 1), sequence)) new_h = V{};
          store_some<T>((last ? f.h : f.h_stored(k + 1)) + own, new_h, lanes);
        }
      }
    });
  });
}

// Computes dh after the k-th step from the dz of step k + 1, and the dq of step k, for some rows and some vectors of h. Without
// gradients of a step, for k = -1, it computes only the dh of the initial carry.
template <class Cell, class T>
void project_back(const Backward<T>& b, int64_t k, int64_t row_begin, int64_t row_end, int64_t vector_begin, int64_t vector_end) {
  using V = Vector<T>;
  const Forward<T>& f = b.f;
  const Sizes& n = f.n;
  const T clip = f.projection_clip;
  const int64_t next = k + 1 < n.time ? f.step_of(k + 1) : -1, t = k >= 0 ? f.step_of(k) : -1;
  for_groups(vector_begin, vector_end, [&](int vectors, int64_t first) {
    for_tiles(row_begin, row_end, [&](int rows, int64_t row) {
      V sums[kRows * 4] = {};
      add_gradient_of_h<Cell, T>(b, next, rows, row, vectors, first, sums);
      for (int r = 0; r < rows; ++r) {
        const int64_t sequence = row + r;
        for (int v = 0; v < vectors; ++v) {
          const int64_t column = (first + v) * kLanes<T>, lanes = n.projected - column;
          const V dh = replace_dh<Cell, T>(b, next, sequence, sums[r * vectors + v], b.dh + sequence * padded_h<T>(n) + column);
          if (t < 0) continue;
          const int64_t at = (t * n.batch + sequence) * n.projected + column;
          V dq{};
          if (f.counts(t, sequence)) dq = dh + load_some<T>(b.dys + at, lanes);  // dys may be in the place of dq
          if (std::isfinite(clip)) {
            const V h = load_some<T>(f.ys + at, lanes);
            dq = (-clip < h) & (h < clip) ? dq : V{};
          }
          store_some<T>(b.dqs + at, dq, lanes);
        }
      }
    });
  });
}

// The gradient of the projection and its bias as one matrix product, [m, 1]ᵀ dq, in chunks as in WeightsGradient.
template <class T>
struct ProjectionGradient {
  const Forward<T>& f;
  const T *ms, *dqs;
  T* result;  // (units + 1, projected)
  T* lhs;     // the packed left matrix of a chunk (tiles, kDepth, kRows)

  int64_t count() const { return f.n.units + 1; }
  int64_t tiles() const { return (count() + kRows - 1) / kRows; }
  int64_t depth(int64_t chunk) const { return std::min(kDepth, f.n.time * f.n.batch - chunk * kDepth); }

  // Packs the tiles from `begin` to `end` of the left matrix. The m of a masked step was not computed, and its dq is 0.
  void pack_lhs(int64_t chunk, int64_t begin, int64_t end) const {
    for (int64_t k = 0; k < depth(chunk); ++k) {
      const int64_t row = chunk * kDepth + k;
      const bool counts = f.counts(row / f.n.batch, row % f.n.batch);
      const T* m = ms + row * padded<T>(f.n);
      for (int64_t tile = begin; tile < end; ++tile) {
        T* to = lhs + (tile * kDepth + k) * kRows;
        for (int64_t unit = tile * kRows; unit < (tile + 1) * kRows; ++unit) {
          *to++ = !counts ? T(0) : unit < f.n.units ? m[unit] : T(unit == f.n.units);
        }
      }
    }
  }

  // Adds a chunk to the columns of a panel. `packed` (kDepth, kPanel) is scratch memory of this thread.
  void add(int64_t chunk, int64_t panel, T* packed) const {
    const int64_t size = f.n.projected, first = panel * kPanel<T>, width = std::min<int64_t>(kPanel<T>, size - first);
    for (int64_t k = 0; k < depth(chunk); ++k) {
      const T* dq = dqs + (chunk * kDepth + k) * size + first;
      T* to = packed + k * kPanel<T>;
      std::fill(std::copy(dq, dq + width, to), to + kPanel<T>, T(0));
    }
    for (int64_t tile = 0; tile < tiles(); ++tile) {
      const T* a[kRows];
      for (int r = 0; r < kRows; ++r) a[r] = lhs + tile * kDepth * kRows + r;
      Vector<T> sums[kRows][4] = {};
      multiply<T, kAllGates, kRows>(kRows, a, depth(chunk), packed, sums[0]);
      for (int r = 0; r < kRows && tile * kRows + r < count(); ++r) {
        for (int v = 0; v < 4; ++v) {
          T* to = result + (tile * kRows + r) * size + first + v * kLanes<T>;
          const int64_t lanes = width - v * kLanes<T>;
          store_some<T>(to, chunk ? load_some<T>(to, lanes) + sums[r][v] : sums[r][v], lanes);
        }
      }
    }
  }
};

}  // namespace jlstm
