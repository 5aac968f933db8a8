// Matrix products over all steps at once: before the recurrence, x W + b; after it, the gradients of inputs and weights.
//
// "Rows" are pairs of time and batch here.

#pragma once

#include "recurrence.h"

namespace jlstm {

// zs = xs W + b for some rows and blocks.
template <class T>
void project(const Sizes& n, const T* xs, const T* kernel, const T* bias, T* zs, int64_t row_begin, int64_t row_end,
             int64_t block_begin, int64_t block_end) {
  const int64_t wide = columns<T>(n);
  for (int64_t block = block_begin; block < block_end; ++block) {
    for_tiles(row_begin, row_end, [&](auto rows, int64_t row) {
      constexpr int R = decltype(rows)::value;
      const T* x[R];
      for (int r = 0; r < R; ++r) x[r] = xs + (row + r) * n.features;
      for (int offset = 0; offset < kUnits<T>; offset += kLanes<T>) {
        Vector<T> sums[R][4];
        for (int gate = 0; gate < 4; ++gate) {
          const Vector<T> b = load<T>(bias + block * kColumns<T> + gate * kUnits<T> + offset);
          for (int r = 0; r < R; ++r) sums[r][gate] = b;
        }
        multiply<T, R, 4>(x, n.features, kernel + block * n.features * kColumns<T> + offset, sums);
        for (int r = 0; r < R; ++r) {
          T* to = zs + (row + r) * wide + block * kColumns<T> + offset;
          for (int gate = 0; gate < 4; ++gate) store<T>(to + gate * kUnits<T>, sums[r][gate]);
        }
      }
    });
  }
}

// dxs = dzs Wᵀ for some rows and panels of features.
template <class T>
void gradient_of_inputs(const Sizes& n, const T* dzs, const T* transposed, T* dxs, int64_t row_begin, int64_t row_end,
                        int64_t panel_begin, int64_t panel_end) {
  const int64_t wide = columns<T>(n);
  for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
    const int64_t vectors_left = (n.features - panel * kColumns<T> + kUnits<T> - 1) / kUnits<T>;
    for_tiles(row_begin, row_end, vectors_left, [&](auto rows, auto vectors, int64_t row) {
      constexpr int R = decltype(rows)::value, N = decltype(vectors)::value;
      const T* dz[R];
      for (int r = 0; r < R; ++r) dz[r] = dzs + (row + r) * wide;
      for (int offset = 0; offset < kUnits<T>; offset += kLanes<T>) {
        Vector<T> sums[R][N] = {};
        multiply<T, R, N>(dz, wide, transposed + panel * wide * kColumns<T> + offset, sums);
        for (int r = 0; r < R; ++r) {
          for (int v = 0; v < N; ++v) {
            const int64_t first = panel * kColumns<T> + v * kUnits<T> + offset;
            store_some<T>(dxs + (row + r) * n.features + first, sums[r][v], n.features - first);
          }
        }
      }
    });
  }
}

constexpr int64_t kDepth = 384;  // rows that are added up in registers before the result is written

// The weights' gradient: [x, h before, 1]ᵀ dz, added up over chunks of kDepth rows. For each chunk first some columns of the
// left matrix are transposed, so that a tile reads them in order, then some blocks of the result are computed.
template <class T>
struct WeightsGradient {
  Forward<T> f;
  const T* dzs;
  T *dkernel, *drecurrent, *dbias;
  T* left;    // (features + units + 1, kDepth)
  T* panels;  // (blocks, kDepth, columns of a panel)

  int64_t count() const { return f.n.features + f.n.units + 1; }
  int64_t chunks() const { return (f.n.time * f.n.batch + kDepth - 1) / kDepth; }

  const T* h_row(int64_t row) const {
    const int64_t t = row / f.n.batch, k = f.n.reverse ? f.n.time - 1 - t : t;
    return f.h_before(k) + (row % f.n.batch) * f.n.units;
  }

  void transpose(int64_t chunk, int64_t begin, int64_t end) const {
    const int64_t first = chunk * kDepth, depth = std::min(kDepth, f.n.time * f.n.batch - first), features = f.n.features;
    for (int64_t k = 0; k < depth; ++k) {
      const int64_t row = first + k;
      const bool counts = f.counts(row / f.n.batch, row % f.n.batch);  // else dz is 0, and 0 times what is infinite would be NaN
      const T *x = f.xs + row * features, *h = h_row(row) - features;
      for (int64_t m = begin; m < end; ++m) {
        left[m * kDepth + k] = !counts ? T(0) : m < features ? x[m] : m + 1 < count() ? h[m] : T(1);
      }
    }
  }

  T* to(int64_t m) const {
    const int64_t features = f.n.features, width = 4 * f.n.units;
    return m < features ? dkernel + m * width : m + 1 < count() ? drecurrent + (m - features) * width : dbias;
  }

  void add(int64_t chunk, int64_t block) const {
    const int64_t first = chunk * kDepth, depth = std::min(kDepth, f.n.time * f.n.batch - first), wide = columns<T>(f.n);
    T* panel = panels + block * kDepth * kColumns<T>;
    for (int64_t k = 0; k < depth; ++k) {
      std::memcpy(panel + k * kColumns<T>, dzs + (first + k) * wide + block * kColumns<T>, kColumns<T> * sizeof(T));
    }
    for_tiles(0, count(), [&](auto rows, int64_t m) {
      constexpr int R = decltype(rows)::value;
      const T* a[R];
      for (int r = 0; r < R; ++r) a[r] = left + (m + r) * kDepth;
      for (int offset = 0; offset < kUnits<T>; offset += kLanes<T>) {
        const int64_t unit = block * kUnits<T> + offset, lanes = f.n.units - unit;
        Vector<T> sums[R][4] = {};
        multiply<T, R, 4>(a, depth, panel + offset, sums);
        for (int r = 0; r < R; ++r) {
          for (int gate = 0; gate < 4; ++gate) {
            T* at = to(m + r) + gate * f.n.units + unit;
            store_some<T>(at, chunk ? load_some<T>(at, lanes) + sums[r][gate] : sums[r][gate], lanes);
          }
        }
      }
    });
  }
};

}  // namespace jlstm
