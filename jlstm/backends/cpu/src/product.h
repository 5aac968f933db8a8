// Matrix products whose result stays in registers until it has been used.
//
// A tile is a few rows of a result, and as many of its columns as fill the registers. Weights are packed in the order in which a
// tile reads them: panels of kColumns columns, and in a panel row after row. An element of a result is the sum over k in the
// order of k, whatever the tile it is in, so that it does not depend on how rows are shared out.

#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "vector.h"

namespace jlstm {

template <class T>
constexpr int kUnits = 64 / int(sizeof(T));  // of a block of a layer: one register of the widest kind for each gate

template <class T>
constexpr int kParts = kUnits<T> / kLanes<T>;  // registers in which the processor at hand has so many

template <class T>
constexpr int kColumns = 4 * kUnits<T>;  // of a panel of packed weights

// Registers: 32 with AVX-512, else 16. A tile of R rows needs 4 R sums, 4 weights and one element of the other matrix.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kRows = 6;
#else
constexpr int kRows = 2;
#endif

// sums[r][v] += a(r, k) w[k][v] over k, for V vectors of a panel that are kUnits apart.
template <class T, int R, int V, class A>
inline __attribute__((always_inline)) void multiply(const A& a, int64_t depth, const T* w, Vector<T> (&sums)[R][V]) {
  for (int64_t k = 0; k < depth; ++k, w += kColumns<T>) {
    Vector<T> weights[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) weights[v] = load<T>(w + v * kUnits<T>);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Vector<T> x = fill<T>(a(r, k));
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sums[r][v] += x * weights[v];
    }
  }
}

// The same for rows that lie apart from each other.
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

// Calls f(number of blocks as a type, first block) for groups of 4, 2 or 1 that cover the blocks from `begin` to `end`, none of
// them across the border of a panel of 4.
template <class F>
inline void for_groups(int64_t begin, int64_t end, F&& f) {
  for (int64_t block = begin; block < end;) {
    if (block % 4 == 0 && end - block >= 4) {
      f(std::integral_constant<int, 4>{}, block);
      block += 4;
    } else if (block % 2 == 0 && end - block >= 2) {
      f(std::integral_constant<int, 2>{}, block);
      block += 2;
    } else {
      f(std::integral_constant<int, 1>{}, block);
      block += 1;
    }
  }
}

}  // namespace jlstm
