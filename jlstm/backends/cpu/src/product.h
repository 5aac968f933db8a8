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

// Some of the four gates, one bit for each.
using Gates = unsigned;
constexpr Gates kAllGates = 0b1111;

constexpr bool has(Gates gates, int gate) { return gates >> gate & 1; }

// sums[r][v] += a(r, k) w[k][v] over k, for V neighboring vectors of a panel. Of four vectors, only those in `used` are computed: the
// weights of the others are zero.
template <class T, int R, int V, Gates used = kAllGates, class A>
inline __attribute__((always_inline)) void multiply(const A& a, int64_t depth, const T* w, Vector<T> (&sums)[R][V]) {
  for (int64_t k = 0; k < depth; ++k, w += kPanel<T>) {
    Vector<T> weights[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      if (has(used, v)) weights[v] = load<T>(w + v * kLanes<T>);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Vector<T> x = fill<T>(a(r, k));
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) {
        if (has(used, v)) sums[r][v] += x * weights[v];
      }
    }
  }
}

// The same, where a is an array of pointers to rows.
template <class T, int R, int V, Gates used = kAllGates>
inline __attribute__((always_inline)) void multiply(const T* const (&a)[R], int64_t depth, const T* w, Vector<T> (&sums)[R][V]) {
  multiply<T, R, V, used>([&](int r, int64_t k) __attribute__((always_inline)) { return a[r][k]; }, depth, w, sums);
}

// sums[r][v] += dz[r][k] w[k][v], where dz are rows of arrays with gates and w is transposed weights. Only the gates in `used` are
// summed over: the weights of the others are zero.
template <class T, int R, int V, Gates used>
inline __attribute__((always_inline)) void multiply_gates(const T* const (&dz)[R], int64_t blocks, const T* w,
                                                          Vector<T> (&sums)[R][V]) {
  if constexpr (used == kAllGates) {
    multiply<T, R, V>(dz, blocks * kColumns<T>, w, sums);
  } else {
    for (int64_t block = 0; block < blocks; ++block) {
#pragma GCC unroll 4
      for (int gate = 0; gate < 4; ++gate) {
        if (!has(used, gate)) continue;
        const int64_t first = block * kColumns<T> + gate * kUnits<T>;
        multiply<T, R, V>([&](int r, int64_t k) __attribute__((always_inline)) { return dz[r][first + k]; }, kUnits<T>,
                          w + first * kPanel<T>, sums);
      }
    }
  }
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
