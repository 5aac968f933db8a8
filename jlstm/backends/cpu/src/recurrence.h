// One step of a cell, forward and backward.
//
// Units are computed in blocks of kUnits. Arrays with gates are ordered by block, in a block by gate (i, f, g, o for an LSTM),
// and in a gate by unit. One tile of a matrix product thus computes all four pre-activations of its units, from which the cell
// computes c and h (cells.h). If `units` is not a multiple of kUnits, the last block is filled up: its weights are zeros there.
//
// With a projection (projection.h) h has another size than c. Then forward_step computes c and the product's operand m, and
// project_step h. Backwards, project_back computes what enters the projection's gradient, and backward_step the rest.
//
// In the names of variables k counts the steps in the order in which they are run, and t is the position of a step in the arrays.

#pragma once

#include <cstdint>
#include <cstring>

#include "product.h"
#include "vector.h"

namespace jlstm {

struct Sizes {
  int64_t time, batch, features, units;
  bool reverse;
  int64_t projected = 0;  // the size of h with a projection; 0 without

  int64_t h_size() const { return projected ? projected : units; }
};

template <class T>
inline int64_t blocks(const Sizes& n) {
  return (n.units + kUnits<T> - 1) / kUnits<T>;
}

// The size of the last axis of arrays with gates, pre-activations for example.
template <class T>
inline int64_t columns(const Sizes& n) {
  return blocks<T>(n) * kColumns<T>;
}

// The size of the last axis of arrays with one number for each unit, where the last block is filled up.
template <class T>
inline int64_t padded(const Sizes& n) {
  return blocks<T>(n) * kUnits<T>;
}

// The same for h, whose size may be another one.
template <class T>
inline int64_t padded_h(const Sizes& n) {
  return (n.h_size() + kUnits<T> - 1) / kUnits<T> * kUnits<T>;
}

// Packs one block of weights (rows, 4 units), whose columns are i | f | g | o. The order of the result is part, row, gate, unit.
template <class T>
inline void pack(const T* weights, int64_t rows, const Sizes& n, int64_t block, T* panel) {
  for (int part = 0; part < kParts<T>; ++part) {
    const int64_t first = block * kUnits<T> + part * kLanes<T>, count = std::clamp<int64_t>(n.units - first, 0, kLanes<T>);
    for (int64_t k = 0; k < rows; ++k, panel += kPanel<T>) {
      for (int64_t gate = 0; gate < 4; ++gate) {
        T* to = panel + gate * kLanes<T>;
        std::memcpy(to, weights + (k * 4 + gate) * n.units + first, size_t(count) * sizeof(T));
        std::fill(to + count, to + kLanes<T>, T(0));
      }
    }
  }
}

// The panel of a part of a block, in packed weights with `rows` rows.
template <class T>
inline const T* panel_of(const T* packed, int64_t rows, int64_t block, int part) {
  return packed + (block * kParts<T> + part) * rows * kPanel<T>;
}

// Packs a panel of the transposed weights, for the backward run. Its rows are the columns of the weights, in the order of arrays
// with gates. Its columns are the kPanel rows of the weights from `first` on.
template <class T>
inline void pack_transposed(const T* weights, int64_t rows, const Sizes& n, int64_t first, T* panel) {
  const int64_t count = std::min<int64_t>(kPanel<T>, rows - first);
  for (int64_t block = 0; block < blocks<T>(n); ++block) {
    for (int64_t gate = 0; gate < 4; ++gate) {
      for (int64_t unit = block * kUnits<T>; unit < (block + 1) * kUnits<T>; ++unit, panel += kPanel<T>) {
        std::fill(panel, panel + kPanel<T>, T(0));
        if (unit >= n.units) continue;
        for (int64_t c = 0; c < count; ++c) panel[c] = weights[((first + c) * 4 + gate) * n.units + unit];
      }
    }
  }
}

// The vector with this number in a row of panels that have `depth` rows.
template <class T>
inline const T* in_panel(const T* panels, int64_t depth, int64_t vector) {
  return panels + vector / 4 * depth * kPanel<T> + vector % 4 * kLanes<T>;
}

// The arrays that the forward run reads and writes. Shapes are (time, batch, …). Arrays that are not needed are null.
//
// h and c "before" a step are the carry that the step starts from: a reset has been applied already. The previous step, or
// begin_forward for the first one, has written them.
template <class T>
struct Forward {
  Sizes n;
  const T *xs, *kernel, *recurrent, *bias;  // weights as `pack` packs them
  const T *h0, *c0;
  const uint8_t *mask, *resets;
  const T* zs;  // x W + b of the steps from t = `zs_first` on. If null, forward_step computes it
  int64_t zs_first;
  T* ys;
  T *h, *c;  // the last carry (batch, units)
  T* gates;  // gates after their functions (time, batch, columns). Null if there is no backward run
  T* cs;     // c before each step (time, batch, padded). Without gates only before the next step (batch, padded). Null without c
  T* hs;     // with a mask or resets: h before each step (time, batch, size of h). Without gates only of two steps
  const T* projection;  // P and its bias as `pack_projection` packs them. Null without a projection
  T projection_clip;    // bound of h, infinite if there is none
  T* ms;                // with a projection: m of the step that is run (batch, padded)

  int64_t step_of(int64_t k) const { return n.reverse ? n.time - 1 - k : k; }
  bool counts(int64_t t, int64_t row) const { return !mask || mask[t * n.batch + row]; }
  bool starts(int64_t t, int64_t row) const { return resets && resets[t * n.batch + row] && counts(t, row); }
  bool stores_h() const { return mask || resets; }

  // Two places are enough without gates, since a step reads the h of one and writes that of the next. They must be two: with
  // units shared out among threads, some threads still read all of h while others write.
  T* h_stored(int64_t k) const { return hs + (gates ? step_of(k) : k % 2) * n.batch * n.h_size(); }
  const T* h_before(int64_t k) const {
    if (stores_h()) return h_stored(k);
    return k == 0 ? h0 : ys + step_of(k - 1) * n.batch * n.h_size();
  }
  T* c_before(int64_t k) const { return gates ? cs + step_of(k) * n.batch * padded<T>(n) : cs; }
};

// Writes the carry before the first step, for the rows of the batch from `begin` to `end`.
template <class Cell, class T>
void begin_forward(const Forward<T>& f, int64_t begin, int64_t end) {
  const int64_t units = f.n.units, h_size = f.n.h_size(), unit_width = padded<T>(f.n), first = f.step_of(0);
  const auto copy = [&](const T* from, int64_t size, T* to, int64_t row) {
    if (f.starts(first, row)) from = nullptr;
    if (from) std::copy(from, from + size, to);
    if (!from) std::fill(to, to + size, T(0));
  };
  for (int64_t row = begin; row < end; ++row) {
    if constexpr (Cell::has_c) {
      T* c = f.c_before(0) + row * unit_width;
      copy(f.c0 + row * units, units, c, row);
      std::fill(c + units, c + unit_width, T(0));
    }
    if (f.stores_h()) copy(f.h0 + row * h_size, h_size, f.h_stored(0) + row * h_size, row);
  }
}

// Runs the k-th step for some rows of the batch and some blocks of units. It reads all of h before the step, and writes only the
// units of its blocks.
template <class Cell, class T>
void forward_step(const Cell& cell, const Forward<T>& f, int64_t k, int64_t row_begin, int64_t row_end, int64_t block_begin,
                  int64_t block_end) {
  using V = Vector<T>;
  const Sizes& n = f.n;
  const int64_t t = f.step_of(k), units = n.units, unit_width = padded<T>(n), gate_width = columns<T>(n), h_size = n.h_size();
  const T* h_before = f.h_before(k);
  const bool last = k + 1 == n.time;
  const int64_t next = last ? t : f.step_of(k + 1);

  for (int64_t block = block_begin; block < block_end; ++block) {
    for_tiles(row_begin, row_end, [&](int rows, int64_t row) {
      const T *x[kRows], *h[kRows];
      for (int r = 0; r < rows; ++r) {
        x[r] = f.xs + (t * n.batch + row + r) * n.features;
        h[r] = h_before + (row + r) * h_size;
      }
      for (int part = 0; part < kParts<T>; ++part) {
        const int64_t offset = part * kLanes<T>, unit = block * kUnits<T> + offset, lanes = units - unit;
        V sums[kRows][4];
        for (int r = 0; r < rows; ++r) {
          const T* z = f.zs ? f.zs + ((t - f.zs_first) * n.batch + row + r) * gate_width + block * kColumns<T> + offset : nullptr;
          const T* bias = panel_of<T>(f.bias, 1, block, part);
          for (int gate = 0; gate < 4; ++gate) sums[r][gate] = load<T>(z ? z + gate * kUnits<T> : bias + gate * kLanes<T>);
        }
        const T* kernel = panel_of<T>(f.kernel, n.features, block, part);
        const T* recurrent = panel_of<T>(f.recurrent, h_size, block, part);
        multiply_two<T, Cell::input_gates, Cell::recurrent_gates>(rows, x, f.zs ? 0 : n.features, kernel, h, h_size, recurrent,
                                                                  sums[0]);
        for (int r = 0; r < rows; ++r) {
          const int64_t sequence = row + r;
          T* gates = f.gates ? f.gates + (t * n.batch + sequence) * gate_width + block * kColumns<T> + offset : nullptr;
          V c{}, y{}, new_h{};
          if constexpr (Cell::has_c) c = load<T>(f.c_before(k) + sequence * unit_width + unit);
          if (f.counts(t, sequence)) {
            V own_h{};
            if constexpr (Cell::keeps_h) own_h = load_some<T>(h_before + sequence * units + unit, lanes);
            new_h = y = cell.step(sums[r], own_h, c, unit, lanes);
            for (int gate = 0; gates && gate < 4; ++gate) store<T>(gates + gate * kUnits<T>, sums[r][gate]);
          } else {  // a masked step: the carry stays, the output is zero, and the gates, which the backward run skips, are finite
            if (!f.projection) new_h = load_some<T>(h_before + sequence * units + unit, lanes);
            for (int gate = 0; gates && gate < 4; ++gate) store<T>(gates + gate * kUnits<T>, V{});
          }
          if (f.projection) {
            store<T>(f.ms + sequence * unit_width + unit, y);
          } else {
            store_some<T>(f.ys + (t * n.batch + sequence) * units + unit, y, lanes);
          }
          if (last) {
            if constexpr (Cell::has_c) store_some<T>(f.c + sequence * units + unit, c, lanes);
            if (!f.projection) store_some<T>(f.h + sequence * units + unit, new_h, lanes);
            continue;
          }
          if (f.starts(next, sequence)) c = new_h = V{};  // the next step is a reset: it starts from zeros
          if constexpr (Cell::has_c) store<T>(f.c_before(k + 1) + sequence * unit_width + unit, c);
          if (f.stores_h() && !f.projection) store_some<T>(f.h_stored(k + 1) + sequence * units + unit, new_h, lanes);
        }
      }
    });
  }
}

}  // namespace jlstm
