// The forward run of a few rows, with the weights in place.
//
// Packing reads and writes all weights, which takes longer than a few steps of a few sequences. So this run reads the parameters
// as a layer stores them: their columns are the units of the first gate, of the second gate, and so on. It adds a few rows of
// them at a time to the pre-activations, from the first column to the last. Each sum has the order that it has with packed
// weights, so that the bits of the results are the same.

#pragma once

#include "run.h"

namespace jlstm {

// The gates that have columns in the parameters: of two coupled gates, one has none.
template <class Cell>
Gates stored_gates(const Cell&) {
  return kAllGates;
}

template <class T>
Gates stored_gates(const LstmVariant<T>& cell) {
  using Variant = LstmVariant<T>;
  return cell.coupled == Variant::kInput ? 0b1110u : cell.coupled == Variant::kForget ? 0b1101u : kAllGates;
}

// Neighboring columns of the parameters, and where the sums of these columns are among the pre-activations.
struct Segment {
  int64_t from, to, count;
};

struct Segments {
  Segment list[4];
  int size = 0;
  int64_t width = 0;  // columns of the parameters

  // The columns of the units from `begin` to `end`. Columns of gates that are not in `stored` are absent.
  Segments(Gates stored, int64_t units, int64_t begin, int64_t end) {
    for (int gate = 0; gate < 4; ++gate) {
      if (!has(stored, gate)) continue;
      const Segment next{width + begin, gate * units + begin, end - begin};
      width += units;
      Segment* last = size ? &list[size - 1] : nullptr;
      if (last && last->from + last->count == next.from && last->to + last->count == next.to) {
        last->count += next.count;
      } else {
        list[size++] = next;
      }
    }
  }
};

// to[r][c] += a[r][k] w[k][c] for R rows, K rows of weights that are `width` apart, and `count` columns. The elements of a stay
// in registers. Each turn reads a whole cache line of each row of weights: the rows may lie a power of two apart, and the others
// could then evict a line that is half read.
template <class T, int R, int K>
__attribute__((noinline)) void add_rows(const T* a, int64_t a_stride, const T* w, int64_t width, int64_t count, T* to,
                                        int64_t to_stride) {
  Vector<T> x[R][K];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) x[r][k] = fill<T>(a[r * a_stride + k]);
  }
  int64_t column = 0;
  for (; column + kUnits<T> <= count; column += kUnits<T>) {
#pragma GCC unroll 4
    for (int part = 0; part < kParts<T>; ++part) {
      const int64_t c = column + part * kLanes<T>;
      Vector<T> sums[R];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) sums[r] = load<T>(to + r * to_stride + c);
#pragma GCC unroll 8
      for (int k = 0; k < K; ++k) {
        const Vector<T> weights = load<T>(w + k * width + c);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) sums[r] += x[r][k] * weights;
      }
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) store<T>(to + r * to_stride + c, sums[r]);
    }
  }
  for (; column < count; column += kLanes<T>) {
    const int64_t lanes = count - column;
    Vector<T> sums[R];
    for (int r = 0; r < R; ++r) sums[r] = load_some<T>(to + r * to_stride + column, lanes);
    for (int k = 0; k < K; ++k) {
      const Vector<T> weights = load_some<T>(w + k * width + column, lanes);
      for (int r = 0; r < R; ++r) sums[r] += x[r][k] * weights;
    }
    for (int r = 0; r < R; ++r) store_some<T>(to + r * to_stride + column, sums[r], lanes);
  }
}

// Adds a (rows, depth) times some columns of w (depth, width) to the pre-activations (rows, 4 units).
template <class T>
void add_product(int64_t rows, const T* a, int64_t depth, const T* w, const Segments& segments, T* to, int64_t to_stride) {
  const auto add = [&](auto height, auto step, int64_t row, int64_t k) {
    for (int s = 0; s < segments.size; ++s) {
      const Segment& segment = segments.list[s];
      add_rows<T, height, step>(a + row * depth + k, depth, w + k * segments.width + segment.from, segments.width, segment.count,
                                to + row * to_stride + segment.to, to_stride);
    }
  };
  constexpr std::integral_constant<int, 1> one;
  constexpr std::integral_constant<int, 2> two;
  constexpr std::integral_constant<int, 4> four;
  constexpr std::integral_constant<int, 8> eight;
  int64_t k = 0;
  if (rows == 1) {
    for (; k + 8 <= depth; k += 8) add(one, eight, 0, k);
  }
  // All rows use some rows of weights before the next ones are read.
  const auto add_to_all = [&](auto step, int64_t k) {
    int64_t row = 0;
    for (; row + 2 <= rows; row += 2) add(two, step, row, k);
    if (row < rows) add(one, step, row, k);
  };
  for (; k + 4 <= depth; k += 4) add_to_all(four, k);
  for (; k < depth; ++k) add_to_all(one, k);
}

// Copies the pre-activations (rows, 4 units) of some blocks to the layout of arrays with gates.
template <class T>
void copy_to_blocks(const Sizes& n, const T* sums, T* zs, int64_t block_begin, int64_t block_end) {
  for (int64_t row = 0; row < n.batch; ++row) {
    for (int64_t block = block_begin; block < block_end; ++block) {
      const int64_t unit = block * kUnits<T>, units = std::min<int64_t>(kUnits<T>, n.units - unit);
      for (int64_t gate = 0; gate < 4; ++gate) {
        const T* from = sums + (row * 4 + gate) * n.units + unit;
        T* to = zs + row * columns<T>(n) + block * kColumns<T> + gate * kUnits<T>;
        std::copy(from, from + units, to);
        std::fill(to + units, to + kUnits<T>, T(0));
      }
    }
  }
}

// Computes what `forward` does without a backward run, to the bit, for weights in the layout of the parameters. The bias has 4
// gates.
template <class Cell, class T>
void forward_in_place(const Cell& cell, Forward<T> f, const Weights<T>& w, const Team& team, const Allocate& allocate) {
  const Sizes& n = f.n;
  const int64_t width = 4 * n.units;
  if (finish_empty<Cell>(f)) return;
  if constexpr (Cell::has_c) f.cs = make<T>(allocate, n.batch * padded<T>(n));
  if (f.stores_h()) f.hs = make<T>(allocate, 2 * n.batch * n.units);
  T *sums = make<T>(allocate, n.batch * width), *zs = make<T>(allocate, n.batch * columns<T>(n));
  f.zs = zs, f.summed = true;
  begin_forward<Cell, T>(f, 0, n.batch);
  const Gates stored = stored_gates(cell);
  // Most steps are so short that several threads would wait for each other longer than they save.
  const bool is_shared = n.batch * columns<T>(n) * (n.features + n.units) >= kSharedRun;
  const int64_t items = is_shared ? shares_of_units<T>(n, team.threads()) : 1;
  team.run(n.time, items, [&](int64_t k, int64_t item) {
    const int64_t first = share(blocks<T>(n), item, items), past = share(blocks<T>(n), item + 1, items), t = f.step_of(k);
    const int64_t begin = first * kUnits<T>, end = std::min(past * kUnits<T>, n.units);
    for (int64_t row = 0; row < n.batch; ++row) {
      for (int64_t gate = 0; gate < 4; ++gate) {
        const T* bias = w.bias + gate * n.units;
        std::copy(bias + begin, bias + end, sums + row * width + gate * n.units + begin);
      }
    }
    const Segments of_x(Cell::input_gates & stored, n.units, begin, end);
    const Segments of_h(Cell::recurrent_gates & stored, n.units, begin, end);
    add_product<T>(n.batch, f.xs + t * n.batch * n.features, n.features, w.kernel, of_x, sums, width);
    add_product<T>(n.batch, f.h_before(k), n.units, w.recurrent, of_h, sums, width);
    copy_to_blocks<T>(n, sums, zs, first, past);
    Forward<T> step = f;
    step.zs_first = t;
    forward_step<Cell, T>(cell, step, k, 0, n.batch, first, past);
  });
}

}  // namespace jlstm
