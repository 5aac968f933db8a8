// Matrix products over all steps at once: x W + b before the recurrence, and the gradients of inputs and weights after it.
//
// A row here is one step of one sequence: arrays (time, batch, …) are read as (rows, …).

#pragma once

#include "cells.h"
#include "recurrence.h"

namespace jlstm {

// Computes zs = xs W + b for some rows and blocks.
template <class Cell, class T>
void project(const Sizes& n, const T* xs, const T* kernel, const T* bias, T* zs, int64_t row_begin, int64_t row_end,
             int64_t block_begin, int64_t block_end) {
  const int64_t gate_width = columns<T>(n);
  for (int64_t block = block_begin; block < block_end; ++block) {
    for_tiles(row_begin, row_end, [&](int rows, int64_t row) {
      const T* x[kRows];
      for (int r = 0; r < rows; ++r) x[r] = xs + (row + r) * n.features;
      for (int part = 0; part < kParts<T>; ++part) {
        Vector<T> sums[kRows][4];
        for (int gate = 0; gate < 4; ++gate) {
          const Vector<T> b = load<T>(panel_of<T>(bias, 1, block, part) + gate * kLanes<T>);
          for (int r = 0; r < rows; ++r) sums[r][gate] = b;
        }
        multiply<T, Cell::input_gates>(rows, x, n.features, panel_of<T>(kernel, n.features, block, part), sums[0]);
        for (int r = 0; r < rows; ++r) {
          T* to = zs + (row + r) * gate_width + block * kColumns<T> + part * kLanes<T>;
          for (int gate = 0; gate < 4; ++gate) store<T>(to + gate * kUnits<T>, sums[r][gate]);
        }
      }
    });
  }
}

// Computes dxs = dzs Wᵀ for some rows and all features.
template <class Cell, class T>
void gradient_of_inputs(const Sizes& n, const T* dzs, const T* transposed, T* dxs, int64_t row_begin, int64_t row_end) {
  const int64_t gate_width = columns<T>(n);
  for_groups(0, (n.features + kLanes<T> - 1) / kLanes<T>, [&](int vectors, int64_t vector) {
    for_tiles(row_begin, row_end, [&](int rows, int64_t row) {
      const T* dz[kRows];
      for (int r = 0; r < rows; ++r) dz[r] = dzs + (row + r) * gate_width;
      Vector<T> sums[kRows * 4] = {};
      const T* panel = in_panel<T>(transposed, gate_width, vector);
      multiply_gates<T, Cell::input_gates>(vectors, rows, dz, blocks<T>(n), panel, sums);
      for (int r = 0; r < rows; ++r) {
        for (int v = 0; v < vectors; ++v) {
          const int64_t first = (vector + v) * kLanes<T>;
          store_some<T>(dxs + (row + r) * n.features + first, sums[r * vectors + v], n.features - first);
        }
      }
    });
  });
}

constexpr int64_t kDepth = 768;  // rows that are added up in registers before the result is written

// The gradient of kernel, recurrent kernel and bias as one matrix product, [x, h, 1]ᵀ dz, where h is the one before each step. It
// is summed over chunks of kDepth rows. For each chunk all threads first pack the left matrix in the order in which tiles read
// it, kRows of its columns at a time. Then each thread computes some blocks of the result.
template <class Cell, class T>
struct WeightsGradient {
  Forward<T> f;
  const T* dzs;
  T *dkernel, *drecurrent, *dbias;
  T* lhs;     // the packed left matrix of a chunk (tiles, kDepth, kRows), filled up with zeros

  // The number of rows of the result, that is, of columns of [x, h, 1].
  int64_t count() const { return f.n.features + f.n.h_size() + 1; }
  int64_t tiles() const { return (count() + kRows - 1) / kRows; }
  int64_t chunks() const { return (f.n.time * f.n.batch + kDepth - 1) / kDepth; }
  int64_t depth(int64_t chunk) const { return std::min(kDepth, f.n.time * f.n.batch - chunk * kDepth); }

  const T* h_row(int64_t row) const {
    const int64_t t = row / f.n.batch, k = f.n.reverse ? f.n.time - 1 - t : t;
    return f.h_before(k) + (row % f.n.batch) * f.n.h_size();
  }

  // Packs the tiles from `begin` to `end` of the left matrix. Transposing it instead would be slower: its rows could then lie a
  // power of two apart, and stores to them would compete for few places of the cache.
  void pack_lhs(int64_t chunk, int64_t begin, int64_t end) const {
    const int64_t features = f.n.features, bias_column = features + f.n.h_size();
    for (int64_t k = 0; k < depth(chunk); ++k) {
      const int64_t row = chunk * kDepth + k;
      // The dz of a masked step is 0. Its x and h may be infinite, and 0 times infinity is NaN, so the row is zeroed.
      const bool counts = f.counts(row / f.n.batch, row % f.n.batch);
      const T *x = f.xs + row * features, *h = h_row(row);
      for (int64_t tile = begin; tile < end; ++tile) {
        T* to = lhs + (tile * kDepth + k) * kRows;
        const int64_t first = tile * kRows, past = first + kRows;
        if (!counts) {
          std::fill(to, to + kRows, T(0));
        } else if (past <= features) {
          std::copy(x + first, x + past, to);
        } else if (first >= features && past <= bias_column) {
          std::copy(h + first - features, h + past - features, to);
        } else {
          for (int64_t m = first; m < past; ++m) {
            to[m - first] = m < features ? x[m] : m < bias_column ? h[m - features] : T(m == bias_column);
          }
        }
      }
    }
  }

  // The m-th row of the result, in the array that it belongs to.
  T* result_row(int64_t m) const {
    const int64_t features = f.n.features, width = 4 * f.n.units;
    return m < features ? dkernel + m * width : m + 1 < count() ? drecurrent + (m - features) * width : dbias;
  }

  // Adds a chunk to one block of the result. `panels` (parts, kDepth, columns of a panel) is scratch memory of this thread.
  void add(int64_t chunk, int64_t block, T* panels) const {
    const int64_t first = chunk * kDepth, gate_width = columns<T>(f.n);
    for (int64_t k = 0; k < depth(chunk); ++k) {
      const T* dz = dzs + (first + k) * gate_width + block * kColumns<T>;
      for (int part = 0; part < kParts<T>; ++part) {
        T* panel = panels + (part * kDepth + k) * kPanel<T>;
        for (int gate = 0; gate < 4; ++gate) {
          store<T>(panel + gate * kLanes<T>, load<T>(dz + gate * kUnits<T> + part * kLanes<T>));
        }
      }
    }
    for (int64_t tile = 0; tile < tiles(); ++tile) {
      const T* a[kRows];
      for (int r = 0; r < kRows; ++r) a[r] = lhs + tile * kDepth * kRows + r;
      for (int part = 0; part < kParts<T>; ++part) {
        const int64_t unit = block * kUnits<T> + part * kLanes<T>, lanes = f.n.units - unit;
        Vector<T> sums[kRows][4] = {};
        // A tile may have rows of both kernels, and then needs the gates of both.
        const T* panel = panels + part * kDepth * kPanel<T>;
        const int64_t begin = tile * kRows, end = begin + kRows;
        if (Cell::input_gates != kAllGates && end <= f.n.features) {
          multiply<T, Cell::input_gates, kRows>(kRows, a, depth(chunk), panel, sums[0]);
        } else if (Cell::recurrent_gates != kAllGates && begin >= f.n.features && end < count()) {
          multiply<T, Cell::recurrent_gates, kRows>(kRows, a, depth(chunk), panel, sums[0]);
        } else {
          multiply<T, kAllGates, kRows>(kRows, a, depth(chunk), panel, sums[0]);
        }
        for (int r = 0; r < kRows; ++r) {
          if (tile * kRows + r >= count()) break;
          for (int gate = 0; gate < 4; ++gate) {
            T* to = result_row(tile * kRows + r) + gate * f.n.units + unit;
            store_some<T>(to, chunk ? load_some<T>(to, lanes) + sums[r][gate] : sums[r][gate], lanes);
          }
        }
      }
    }
  }
};

}  // namespace jlstm
