// Matrix products whose results stay in registers until they are used.
//
// A tile is a few rows of a result by four registers of its columns. Weights are packed in the order in which a tile reads them: in
// panels of kPanel columns, and in a panel row by row, without gaps. An element of a result is always summed over k in ascending
// order, in every tile, so that results do not depend on how rows are shared out.

#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "vector.h"

namespace jlstm {

// Units in a block: as many as 64 bytes hold. The residuals of the backward run lie in such blocks for all instruction sets, as
// `lanes` in operands.py says.
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

// sums[r][v] += a(r, k) w[k][v] over k, for V neighbouring vectors of a panel.
template <class T, int R, int V, class A>
inline __attribute__((always_inline)) void multiply(const A& a, int64_t depth, const T* w, Vector<T> (&sums)[R][V]) {
  for (int64_t k = 0; k < depth; ++k, w += kPanel<T>) {
    Vector<T> weights[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) weights[v] = load<T>(w + v * kLanes<T>);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Vector<T> x = fill<T>(a(r, k));
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sums[r][v] += x * weights[v];
    }
  }
}

// The same, where a is an array of pointers to rows.
template <class T, int R, int V>
inline __attribute__((always_inline)) void multiply(const T* const (&a)[R], int64_t depth, const T* w, Vector<T> (&sums)[R][V]) {
  multiply<T, R, V>([&](int r, int64_t k) __attribute__((always_inline)) { return a[r][k]; }, depth, w, sums);
}

// Calls f(number of rows as a type, first row) for tiles of nearly equal height that cover the rows from `begin` to `end`.
template <int R>
using Rows = std::integral_constant<int, R>;

template <class F>
inline void for_tiles(int64_t begin, int64_t end, F&& f) {
  const int64_t tiles = (end - begin + kRows - 1) / kRows;
  for (int64_t tile = 0, row = begin; tile < tiles; ++tile) {
    const int64_t next = begin + (end - begin) * (tile + 1) / tiles;
    switch (next - row) {
      case 6: if constexpr (kRows >= 6) f(Rows<6>{}, row); break;
      case 5: if constexpr (kRows >= 5) f(Rows<5>{}, row); break;
      case 4: if constexpr (kRows >= 4) f(Rows<4>{}, row); break;
      case 3: if constexpr (kRows >= 3) f(Rows<3>{}, row); break;
      case 2: f(Rows<2>{}, row); break;
      case 1: f(Rows<1>{}, row); break;
    }
    row = next;
  }
}

// Calls f(number of vectors as a type, first vector) for groups of 4, 2 or 1 vectors that cover the range from `begin` to `end`. A
// group lies in one panel, which has 4 vectors.
template <class F>
inline void for_groups(int64_t begin, int64_t end, F&& f) {
  for (int64_t vector = begin; vector < end;) {
    if (vector % 4 == 0 && end - vector >= 4) {
      f(std::integral_constant<int, 4>{}, vector);
      vector += 4;
    } else if (vector % 2 == 0 && end - vector >= 2) {
      f(std::integral_constant<int, 2>{}, vector);
      vector += 2;
    } else {
      f(std::integral_constant<int, 1>{}, vector);
      vector += 1;
    }
  }
}

}  // namespace jlstm
