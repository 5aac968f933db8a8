// Matrix products whose results stay in registers until they are used.
//
// A tile is a few rows of a result by four registers of its columns. Weights are packed in the order in which a tile reads them:
// in panels of kPanel columns, and in a panel row by row, without gaps. An element of a result is always summed over k in
// ascending order, in every tile, so that results do not depend on how rows are shared out.

#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "gates.h"
#include "vector.h"

namespace jlstm {

// Units in a block: as many as 64 bytes hold. The residuals of the backward run lie in such blocks for all instruction sets, as
// `padded_units` in operands.py says.
template <class T>
constexpr int kUnits = 64 / int(sizeof(T));

template <class T>
constexpr int kColumns = 4 * kUnits<T>;  // columns of a block: four gates

// A block is computed in parts. A part has as many units as one register holds, and their four gates.
template <class T>
constexpr int kParts = kUnits<T> / kLanes<T>;

template <class T>
constexpr int kPanel = 4 * kLanes<T>;  // columns of a panel of packed weights: one part, or four registers of other columns

// Rows of a tile. R rows need 4 R registers for sums, and besides at least one for weights and one for an element of the other
// matrix: 26 of 32 registers with 6 rows, 14 of 16 with 3. With fewer rows there are fewer products for each weight that is read,
// and the processor waits for its cache.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kRows = 6;
#else
constexpr int kRows = 3;
#endif

// sums[r][v] += a[r][k stride] w[k][v] for k from `begin` to `end`, for R rows and V neighboring vectors of a panel. Of four
// vectors, only those in `used` are computed: the weights of the others are zero.
template <class T, int R, int V, Gates used, int stride>
inline __attribute__((always_inline)) void accumulate(const T* const (&a)[R], int64_t begin, int64_t end, const T* w,
                                                      Vector<T> (&sums)[R][V]) {
  for (int64_t k = begin; k < end; ++k) {
    Vector<T> weights[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      if (has(used, v)) weights[v] = load<T>(w + k * kPanel<T> + v * kLanes<T>);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Vector<T> x = fill<T>(a[r][k * stride]);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) {
        if (has(used, v)) sums[r][v] += x * weights[v];
      }
    }
  }
}

// Calls f(sums) with the sums in registers, and stores them afterwards. The functions that use it are not inlined. Otherwise the
// compiler would keep the sums in memory all the time, because the code that follows reads them by an index.
template <class T, int R, int V, class F>
inline __attribute__((always_inline)) void in_registers(Vector<T>* results, F&& f) {
  Vector<T> sums[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) sums[r][v] = results[r * V + v];
  }
  f(sums);
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) results[r * V + v] = sums[r][v];
  }
}

template <class T, int R>
struct RowsOf {  // copies of pointers, which stay in registers
  const T* rows[R];
  explicit RowsOf(const T* const* a) { std::copy(a, a + R, rows); }
};

template <class T, int R, int V, Gates used, int stride>
__attribute__((noinline)) void multiply_tile(const T* const* a, int64_t depth, const T* w, Vector<T>* sums) {
  const RowsOf<T, R> copies(a);
  in_registers<T, R, V>(sums, [&](auto& s) __attribute__((always_inline)) {
    accumulate<T, R, V, used, stride>(copies.rows, 0, depth, w, s);
  });
}

// The sum of two products.
template <class T, int R, Gates used_x, Gates used_h>
__attribute__((noinline)) void multiply_two_tiles(const T* const* x, int64_t features, const T* kernel, const T* const* h,
                                                  int64_t units, const T* recurrent, Vector<T>* sums) {
  const RowsOf<T, R> xs(x), hs(h);
  in_registers<T, R, 4>(sums, [&](auto& s) __attribute__((always_inline)) {
    accumulate<T, R, 4, used_x, 1>(xs.rows, 0, features, kernel, s);
    accumulate<T, R, 4, used_h, 1>(hs.rows, 0, units, recurrent, s);
  });
}

// A product where a is rows of arrays with gates and w is transposed weights. It sums only over the gates in `used`.
template <class T, int R, int V, Gates used>
__attribute__((noinline)) void multiply_gates_tile(const T* const* a, int64_t blocks, const T* w, Vector<T>* sums) {
  const RowsOf<T, R> copies(a);
  in_registers<T, R, V>(sums, [&](auto& s) __attribute__((always_inline)) {
    for (int64_t part = 0; part < blocks * 4; ++part) {
      if (has(used, part % 4)) accumulate<T, R, V, kAllGates, 1>(copies.rows, part * kUnits<T>, (part + 1) * kUnits<T>, w, s);
    }
  });
}

// Calls f(rows as a constant) for a number of rows that a tile may have.
template <class F>
inline void with_rows(int rows, F&& f) {
  switch (rows) {
    case 6: if constexpr (kRows >= 6) f(std::integral_constant<int, 6>{}); break;
    case 5: if constexpr (kRows >= 5) f(std::integral_constant<int, 5>{}); break;
    case 4: if constexpr (kRows >= 4) f(std::integral_constant<int, 4>{}); break;
    case 3: if constexpr (kRows >= 3) f(std::integral_constant<int, 3>{}); break;
    case 2: f(std::integral_constant<int, 2>{}); break;
    case 1: f(std::integral_constant<int, 1>{}); break;
  }
}

// sums[r][v] += a[r][k stride] w[k][v] over all k, for four vectors, where `sums` has four vectors for each row.
template <class T, Gates used = kAllGates, int stride = 1>
inline void multiply(int rows, const T* const* a, int64_t depth, const T* w, Vector<T>* sums) {
  with_rows(rows, [&](auto count) { multiply_tile<T, count, 4, used, stride>(a, depth, w, sums); });
}

template <class T, Gates used_x, Gates used_h>
inline void multiply_two(int rows, const T* const* x, int64_t features, const T* kernel, const T* const* h, int64_t units,
                         const T* recurrent, Vector<T>* sums) {
  with_rows(rows, [&](auto count) {
    multiply_two_tiles<T, count, used_x, used_h>(x, features, kernel, h, units, recurrent, sums);
  });
}

// The product for 4, 2 or 1 vectors and all gates.
template <class T>
inline void multiply_group(int vectors, int rows, const T* const* a, int64_t depth, const T* w, Vector<T>* sums) {
  with_rows(rows, [&](auto count) {
    if (vectors == 4) return multiply_tile<T, count, 4, kAllGates, 1>(a, depth, w, sums);
    if (vectors == 2) return multiply_tile<T, count, 2, kAllGates, 1>(a, depth, w, sums);
    multiply_tile<T, count, 1, kAllGates, 1>(a, depth, w, sums);
  });
}

// The product where a is rows of arrays with gates and w is transposed weights. The weights of gates that are not in `used` are
// zero.
template <class T, Gates used>
inline void multiply_gates(int vectors, int rows, const T* const* a, int64_t blocks, const T* w, Vector<T>* sums) {
  if constexpr (used == kAllGates) return multiply_group<T>(vectors, rows, a, blocks * kColumns<T>, w, sums);
  with_rows(rows, [&](auto count) {
    if (vectors == 4) return multiply_gates_tile<T, count, 4, used>(a, blocks, w, sums);
    if (vectors == 2) return multiply_gates_tile<T, count, 2, used>(a, blocks, w, sums);
    multiply_gates_tile<T, count, 1, used>(a, blocks, w, sums);
  });
}

// Calls f(number of rows, first row) for tiles of nearly equal height that cover the rows from `begin` to `end`.
template <class F>
inline void for_tiles(int64_t begin, int64_t end, F&& f) {
  const int64_t tiles = (end - begin + kRows - 1) / kRows;
  for (int64_t tile = 0, row = begin; tile < tiles; ++tile) {
    const int64_t next = begin + (end - begin) * (tile + 1) / tiles;
    f(int(next - row), row);
    row = next;
  }
}

// Calls f(number of vectors, first vector) for groups of 4, 2 or 1 vectors that cover the range from `begin` to `end`. A group
// lies in one panel, which has 4 vectors.
template <class F>
inline void for_groups(int64_t begin, int64_t end, F&& f) {
  for (int64_t vector = begin; vector < end;) {
    const int vectors = vector % 4 == 0 && end - vector >= 4 ? 4 : vector % 2 == 0 && end - vector >= 2 ? 2 : 1;
    f(vectors, vector);
    vector += vectors;
  }
}

}  // namespace jlstm
