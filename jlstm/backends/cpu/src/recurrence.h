// The LSTM over time, forward and backward.
//
// Units are computed in blocks of kUnits. What is indexed by gate lies block by block, in a block gate by gate (i, f, g, o), in a
// gate unit by unit: so all four pre-activations of a unit come out of one tile of a matrix product, in registers, and become c
// and h there. Where `units` is no multiple of kUnits, the last block is filled up with zeros.

#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "product.h"
#include "vector.h"

namespace jlstm {

struct Sizes {
  int64_t time, batch, features, units;
  bool reverse;
};

template <class T>
inline int64_t blocks(const Sizes& n) {
  return (n.units + kUnits<T> - 1) / kUnits<T>;
}

template <class T>
inline int64_t columns(const Sizes& n) {
  return blocks<T>(n) * kColumns<T>;
}

template <class T>
inline int64_t padded(const Sizes& n) {
  return blocks<T>(n) * kUnits<T>;
}

// Part of a gate's units: `lanes` of them count, all but in the last block.
template <class T>
inline void store_some(T* to, const Vector<T>& v, int64_t lanes) {
  if (lanes >= kLanes<T>) return store<T>(to, v);
  if (lanes > 0) std::memcpy(to, &v, size_t(lanes) * sizeof(T));
}

template <class T>
inline Vector<T> load_some(const T* from, int64_t lanes) {
  if (lanes >= kLanes<T>) return load<T>(from);
  Vector<T> v{};
  if (lanes > 0) std::memcpy(&v, from, size_t(lanes) * sizeof(T));
  return v;
}

// Weights (rows, 4 units), columns i | f | g | o, as panels of a block: part, row, gate, unit.
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

// Where the panel of a part of a block begins in weights that are `rows` deep.
template <class T>
inline const T* panel_of(const T* packed, int64_t rows, int64_t block, int part) {
  return packed + (block * kParts<T> + part) * rows * kPanel<T>;
}

// The same weights transposed: rows are the columns of `pack`, in its order, columns are `rows` of them from `first` on.
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

// Where a vector of columns begins in panels that are `depth` rows deep.
template <class T>
inline const T* in_panel(const T* panels, int64_t depth, int64_t vector) {
  return panels + vector / 4 * depth * kPanel<T> + vector % 4 * kLanes<T>;
}

// What the forward run reads and writes. Arrays are (time, batch, …); those that are not wanted are null.
//
// "Before" a step means: after the step before and after a reset, so that all that a step starts from lies at one place.
template <class T>
struct Forward {
  Sizes n;
  const T *xs, *kernel, *recurrent, *bias;  // weights packed
  const T *h0, *c0;
  const uint8_t *mask, *resets;
  const T* zs;  // pre-activations without h U of steps from `zs_first` on, or null: then x W + b is computed here
  int64_t zs_first;
  T* ys;
  T *h, *c;  // the carry at the end (batch, units)
  T* gates;  // (time, batch, columns), or null where there is to be no backward run
  T* cs;     // c before each step (time, batch, padded), or, without gates, before the next one (batch, padded)
  T* hs;     // with a mask or resets: h before each step (time, batch, units), or, without gates, (2, batch, units)

  int64_t step_of(int64_t k) const { return n.reverse ? n.time - 1 - k : k; }
  bool counts(int64_t t, int64_t row) const { return !mask || mask[t * n.batch + row]; }
  bool starts(int64_t t, int64_t row) const { return resets && resets[t * n.batch + row] && counts(t, row); }
  bool carried() const { return mask || resets; }

  T* h_carried(int64_t k) const { return hs + (gates ? step_of(k) : k % 2) * n.batch * n.units; }
  const T* h_before(int64_t k) const {
    if (carried()) return h_carried(k);
    return k == 0 ? h0 : ys + step_of(k - 1) * n.batch * n.units;
  }
  T* c_before(int64_t k) const { return gates ? cs + step_of(k) * n.batch * padded<T>(n) : cs; }
};

// Make ready what the first step begins with, for rows from `begin` to `end`.
template <class T>
void begin_forward(const Forward<T>& f, int64_t begin, int64_t end) {
  const int64_t units = f.n.units, width = padded<T>(f.n), first = f.step_of(0);
  const auto copy = [&](const T* from, T* to, int64_t row) {
    if (f.starts(first, row)) from = nullptr;
    if (from) std::copy(from, from + units, to);
    if (!from) std::fill(to, to + units, T(0));
  };
  for (int64_t row = begin; row < end; ++row) {
    T* c = f.c_before(0) + row * width;
    copy(f.c0 + row * units, c, row);
    std::fill(c + units, c + width, T(0));
    if (f.carried()) copy(f.h0 + row * units, f.h_carried(0) + row * units, row);
  }
}

// The k-th step for some rows and blocks.
template <class T>
void forward_step(const Forward<T>& f, int64_t k, int64_t row_begin, int64_t row_end, int64_t block_begin, int64_t block_end) {
  using V = Vector<T>;
  const Sizes& n = f.n;
  const int64_t t = f.step_of(k), units = n.units, width = padded<T>(n), wide = columns<T>(n);
  const T* h_before = f.h_before(k);
  const bool last = k + 1 == n.time;
  const int64_t next = last ? t : f.step_of(k + 1);

  for (int64_t block = block_begin; block < block_end; ++block) {
    for_tiles(row_begin, row_end, [&](auto rows, int64_t row) {
      constexpr int R = decltype(rows)::value;
      const T *x[R], *h[R];
      for (int r = 0; r < R; ++r) {
        x[r] = f.xs + (t * n.batch + row + r) * n.features;
        h[r] = h_before + (row + r) * units;
      }
      for (int part = 0; part < kParts<T>; ++part) {
        const int64_t offset = part * kLanes<T>, unit = block * kUnits<T> + offset, lanes = units - unit;
        V sums[R][4];
        for (int r = 0; r < R; ++r) {
          const T* z = f.zs ? f.zs + ((t - f.zs_first) * n.batch + row + r) * wide + block * kColumns<T> + offset : nullptr;
          const T* bias = panel_of<T>(f.bias, 1, block, part);
          for (int gate = 0; gate < 4; ++gate) sums[r][gate] = load<T>(z ? z + gate * kUnits<T> : bias + gate * kLanes<T>);
        }
        if (!f.zs) multiply<T, R, 4>(x, n.features, panel_of<T>(f.kernel, n.features, block, part), sums);
        multiply<T, R, 4>(h, units, panel_of<T>(f.recurrent, units, block, part), sums);
        for (int r = 0; r < R; ++r) {
          const int64_t at = row + r;
          T* gates = f.gates ? f.gates + (t * n.batch + at) * wide + block * kColumns<T> + offset : nullptr;
          V c = load<T>(f.c_before(k) + at * width + unit), y{}, after;
          if (f.counts(t, at)) {
            const V i = sigmoid<T>(sums[r][0]), forget = sigmoid<T>(sums[r][1]);
            const V g = tanh<T>(sums[r][2]), o = sigmoid<T>(sums[r][3]);
            c = forget * c + i * g;
            after = y = o * tanh<T>(c);
            if (gates) {
              store<T>(gates, i);
              store<T>(gates + kUnits<T>, forget);
              store<T>(gates + 2 * kUnits<T>, g);
              store<T>(gates + 3 * kUnits<T>, o);
            }
          } else {
            after = load_some<T>(h_before + at * units + unit, lanes);
            for (int gate = 0; gates && gate < 4; ++gate) store<T>(gates + gate * kUnits<T>, V{});
          }
          store_some<T>(f.ys + (t * n.batch + at) * units + unit, y, lanes);
          if (last) {
            store_some<T>(f.c + at * units + unit, c, lanes);
            store_some<T>(f.h + at * units + unit, after, lanes);
            continue;
          }
          if (f.starts(next, at)) c = after = V{};
          store<T>(f.c_before(k + 1) + at * width + unit, c);
          if (f.carried()) store_some<T>(f.h_carried(k + 1) + at * units + unit, after, lanes);
        }
      }
    });
  }
}

// What the backward run reads and writes.
template <class T>
struct Backward {
  Forward<T> f;         // its gates, cs and what they were made from
  const T* transposed;  // the recurrent kernel as pack_transposed makes it
  const T* dys;
  T* dzs;               // (time, batch, columns); may be where the gates are
  T *dh, *dc;           // gradients of the carry (batch, padded): in, of the last; out, of the first
};

// Gradients of the k-th step's pre-activations and of the carry before it, but for dh, which the next call computes from the
// pre-activations': k goes from time - 1 down to -1. For some rows and blocks.
template <class T>
void backward_step(const Backward<T>& b, int64_t k, int64_t row_begin, int64_t row_end, int64_t block_begin, int64_t block_end) {
  using V = Vector<T>;
  const Forward<T>& f = b.f;
  const Sizes& n = f.n;
  const int64_t width = padded<T>(n), wide = columns<T>(n), after = k + 1 < n.time ? f.step_of(k + 1) : -1;
  const int64_t t = k >= 0 ? f.step_of(k) : -1;
  for_groups(block_begin * kParts<T>, block_end * kParts<T>, [&](auto group, int64_t first) {
    for_tiles(row_begin, row_end, [&](auto rows, int64_t row) {
      constexpr int R = decltype(rows)::value, N = decltype(group)::value;
      const T* dz[R];
      for (int r = 0; r < R; ++r) dz[r] = after < 0 ? nullptr : b.dzs + (after * n.batch + row + r) * wide;
      V sums[R][N] = {};
      if (after >= 0) multiply<T, R, N>(dz, wide, in_panel<T>(b.transposed, wide, first), sums);
      for (int v = 0; v < N; ++v) {
        const int64_t block = (first + v) / kParts<T>, part = (first + v) % kParts<T>;
        const int64_t unit = (first + v) * kLanes<T>, lanes = n.units - unit;
        for (int r = 0; r < R; ++r) {
          const int64_t at = row + r;
          T* dh_at = b.dh + at * width + unit;
          V dh = load<T>(dh_at);  // of the carry after step `after`, where that does not count
          if (after >= 0 && f.counts(after, at)) dh = f.starts(after, at) ? V{} : sums[r][v];
          store<T>(dh_at, dh);
          if (t < 0) continue;
          const int64_t in_kept = (t * n.batch + at) * wide + block * kColumns<T> + part * kLanes<T>;
          T* to = b.dzs + in_kept;
          if (!f.counts(t, at)) {
            for (int gate = 0; gate < 4; ++gate) store<T>(to + gate * kUnits<T>, V{});
            continue;
          }
          dh += load_some<T>(b.dys + (t * n.batch + at) * n.units + unit, lanes);
          const T* gates = f.gates + in_kept;
          const V i = load<T>(gates), forget = load<T>(gates + kUnits<T>), g = load<T>(gates + 2 * kUnits<T>),
                  o = load<T>(gates + 3 * kUnits<T>);
          const V c_before = load<T>(f.c_before(k) + at * width + unit);
          const V y = tanh<T>(forget * c_before + i * g);
          T* dc_at = b.dc + at * width + unit;
          const V dc = load<T>(dc_at) + dh * o * (1 - y * y);
          store<T>(to, dc * g * i * (1 - i));
          store<T>(to + kUnits<T>, dc * c_before * forget * (1 - forget));
          store<T>(to + 2 * kUnits<T>, dc * i * (1 - g * g));
          store<T>(to + 3 * kUnits<T>, dh * y * o * (1 - o));
          store<T>(dc_at, f.starts(t, at) ? V{} : dc * forget);
        }
      }
    });
  });
}

}  // namespace jlstm
