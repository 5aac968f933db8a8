// Forward and backward run of one layer, shared out among threads.
//
// If a thread's share of the batch fills its tiles and all weights fit into its cache, each thread takes some rows of the batch
// for all steps, and never waits for others. Otherwise each takes some units, and all wait for each other after every step, since
// the next step needs all of h.

#pragma once

#include "cells.h"
#include "gradient.h"
#include "recurrence.h"
#include "team.h"

namespace jlstm {

constexpr int64_t kCacheBytes = 768 << 10;  // weights up to this size stay in the cache of a core
// The fewest multiplications of a run, or of a step, that several threads share.
constexpr int64_t kSharedRun = 1 << 20, kSharedStep = 32 << 10;
// x W + b is computed ahead for as many steps as fit into this size, so that the result is still in a cache when it is used, but
// for at least so many rows, so that W is read seldom.
constexpr int64_t kProjectedBytes = 2 << 20, kProjectedRows = 96;

using Allocate = std::function<void*(size_t bytes)>;

template <class T>
T* make(const Allocate& allocate, int64_t count) {
  return static_cast<T*>(allocate(size_t(std::max<int64_t>(count, 1)) * sizeof(T)));
}

// The i-th of `parts` nearly equal shares of `count`.
inline int64_t share(int64_t count, int64_t i, int64_t parts) { return count * i / parts; }

// Whether threads take rows of the batch rather than units. With one thread only the size of the weights matters.
template <class T>
bool by_rows(const Sizes& n, int64_t threads) {
  const int64_t bytes = (n.features + n.units) * columns<T>(n) * int64_t(sizeof(T));
  return threads == 1 ? bytes <= kCacheBytes : n.batch >= 4 * threads && bytes <= kCacheBytes;
}

// The number of threads for a run: one, if the whole run takes no longer than it takes to wake the others.
template <class T>
int64_t useful_threads(const Sizes& n, int64_t threads) {
  return n.time * n.batch * columns<T>(n) * (n.features + n.units) < kSharedRun ? 1 : threads;
}

// The number of threads that share the blocks of units: one, if a step is shorter than the threads would wait for each other.
template <class T>
int64_t shares_of_units(const Sizes& n, int64_t threads) {
  return n.batch * columns<T>(n) * (n.features + n.units) < kSharedStep ? 1 : std::min(threads, blocks<T>(n));
}

// The weights in the layout of jlstm, (rows, 4 units).
template <class T>
struct Weights {
  const T *kernel, *recurrent, *bias;
};

template <class T>
void pack_all(const Sizes& n, const Weights<T>& w, T* kernel, T* recurrent, T* bias, const Team& team) {
  team.run(1, blocks<T>(n), [=](int64_t, int64_t block) {
    pack<T>(w.kernel, n.features, n, block, kernel + block * n.features * kColumns<T>);
    pack<T>(w.recurrent, n.units, n, block, recurrent + block * n.units * kColumns<T>);
    pack<T>(w.bias, 1, n, block, bias + block * kColumns<T>);
  });
}

// Computes the results of a run without sequences or steps. Returns whether the run is one.
template <class Cell, class T>
bool finish_empty(const Forward<T>& f) {
  const int64_t count = f.n.batch * f.n.units;
  if (count && f.n.time) return false;
  if (count) std::copy(f.h0, f.h0 + count, f.h);
  if (count && Cell::has_c) std::copy(f.c0, f.c0 + count, f.c);
  return true;
}

// Runs the layer over all steps. On entry f has sizes, inputs and results; this function sets its weights, bias and zs.
template <class Cell, class T>
void forward(const Cell& cell, Forward<T> f, const Weights<T>& w, const Team& team, const Allocate& allocate) {
  const Sizes& n = f.n;
  const int64_t gate_width = columns<T>(n), threads = team.threads();
  if (finish_empty<Cell>(f)) return;
  T* kernel = make<T>(allocate, n.features * gate_width);
  T* recurrent = make<T>(allocate, n.units * gate_width);
  T* bias = make<T>(allocate, gate_width);
  pack_all<T>(n, w, kernel, recurrent, bias, team);
  f.kernel = kernel, f.recurrent = recurrent, f.bias = bias;
  if (Cell::has_c && !f.gates) f.cs = make<T>(allocate, n.batch * padded<T>(n));
  if (!f.gates && f.stores_h()) f.hs = make<T>(allocate, 2 * n.batch * n.units);

  if (by_rows<T>(n, threads)) {
    const int64_t items = std::min(threads, (n.batch + kRows - 1) / kRows);
    team.run(1, items, [&](int64_t, int64_t item) {
      const int64_t begin = share(n.batch, item, items), end = share(n.batch, item + 1, items);
      begin_forward<Cell, T>(f, begin, end);
      for (int64_t k = 0; k < n.time; ++k) forward_step<Cell, T>(cell, f, k, begin, end, 0, blocks<T>(n));
    });
    return;
  }
  const int64_t step_bytes = n.batch * gate_width * int64_t(sizeof(T));
  const int64_t fitting = std::max(kProjectedRows / n.batch, kProjectedBytes / step_bytes);
  const int64_t span = std::min(n.time, std::max<int64_t>(fitting, 1)), chunks = (n.time + span - 1) / span;
  const int64_t items = shares_of_units<T>(n, threads);
  // With gates for the backward run the pre-activations are computed in their memory, and then overwritten by them.
  T* zs = f.gates ? f.gates : make<T>(allocate, span * n.batch * gate_width);
  team.run(1, 1, [&](int64_t, int64_t) { begin_forward<Cell, T>(f, 0, n.batch); });
  // A chunk has span + 1 phases: the projection of its steps, and then each step.
  team.run(chunks + n.time, items, [&](int64_t phase, int64_t item) {
    const int64_t begin = share(blocks<T>(n), item, items), end = share(blocks<T>(n), item + 1, items);
    const int64_t chunk = phase / (span + 1), start = chunk * span, steps = std::min(span, n.time - start);
    const int64_t first = n.reverse ? n.time - start - steps : start;
    Forward<T> part = f;
    part.zs = zs, part.zs_first = f.gates ? 0 : first;
    if (phase % (span + 1) == 0) {
      const T* xs = f.xs + first * n.batch * n.features;
      project<Cell, T>(n, xs, kernel, bias, zs + (first - part.zs_first) * n.batch * gate_width, 0, steps * n.batch, begin, end);
    } else {
      forward_step<Cell, T>(cell, part, phase - chunk - 1, 0, n.batch, begin, end);
    }
  });
}

template <class T>
struct Gradients {
  T *dzs;                              // (time, batch, columns). May be the memory of the gates
  T *dxs;                              // null if not needed
  T *dkernel, *drecurrent, *dbias;     // null if not needed
  T* dpeepholes;
  T *dh0, *dc0;
};

// Computes the gradients of a run. f has the arrays that `forward` filled. dys, dh and dc are the gradients of its results.
template <class Cell, class T>
void backward(const Cell& cell, const Forward<T>& f, const Weights<T>& w, const T* dys, const T* dh, const T* dc,
              const Gradients<T>& to, const Team& team, const Allocate& allocate) {
  const Sizes& n = f.n;
  const int64_t gate_width = columns<T>(n), unit_width = padded<T>(n), threads = team.threads(), rows = n.time * n.batch;
  const int64_t panels = (blocks<T>(n) * kParts<T> + 3) / 4, input_panels = (n.features + kPanel<T> - 1) / kPanel<T>;
  T* transposed = make<T>(allocate, panels * gate_width * kPanel<T>);
  T* transposed_kernel = to.dxs ? make<T>(allocate, input_panels * gate_width * kPanel<T>) : nullptr;
  Backward<T> b{f, transposed, dys, to.dzs, make<T>(allocate, n.batch * unit_width), nullptr, nullptr};
  if constexpr (Cell::has_c) b.dc = make<T>(allocate, n.batch * unit_width);
  team.run(1, panels + (to.dxs ? input_panels : 0), [&](int64_t, int64_t panel) {
    if (panel < panels) {
      pack_transposed<T>(w.recurrent, n.units, n, panel * kPanel<T>, transposed + panel * gate_width * kPanel<T>);
    } else {
      const int64_t p = panel - panels;
      pack_transposed<T>(w.kernel, n.features, n, p * kPanel<T>, transposed_kernel + p * gate_width * kPanel<T>);
    }
  });
  const auto pad = [&](const T* from, T* padded_to) {
    for (int64_t row = 0; row < n.batch; ++row) {
      std::copy(from + row * n.units, from + (row + 1) * n.units, padded_to + row * unit_width);
      std::fill(padded_to + row * unit_width + n.units, padded_to + (row + 1) * unit_width, T(0));
    }
  };
  pad(dh, b.dh);
  if constexpr (Cell::has_c) pad(dc, b.dc);
  const int64_t peepholes_width = Cell::peepholes * unit_width;
  b.dpeepholes = make<T>(allocate, n.batch * peepholes_width);
  std::fill(b.dpeepholes, b.dpeepholes + n.batch * peepholes_width, T(0));
  if (by_rows<T>(n, threads)) {
    const int64_t items = std::min(threads, (n.batch + kRows - 1) / kRows);
    team.run(1, items, [&](int64_t, int64_t item) {
      const int64_t begin = share(n.batch, item, items), end = share(n.batch, item + 1, items);
      for (int64_t k = n.time - 1; k >= -1; --k) backward_step<Cell, T>(cell, b, k, begin, end, 0, blocks<T>(n));
    });
  } else {
    const int64_t items = shares_of_units<T>(n, threads);
    team.run(n.time + 1, items, [&](int64_t phase, int64_t item) {
      const int64_t begin = share(blocks<T>(n), item, items), end = share(blocks<T>(n), item + 1, items);
      backward_step<Cell, T>(cell, b, n.time - 1 - phase, 0, n.batch, begin, end);
    });
  }
  for (int64_t row = 0; to.dpeepholes && row < Cell::peepholes; ++row) {
    T* sum = to.dpeepholes + row * n.units;
    std::fill(sum, sum + n.units, T(0));
    for (int64_t sequence = 0; sequence < n.batch; ++sequence) {
      const T* part = b.dpeepholes + sequence * peepholes_width + row * unit_width;
      for (int64_t unit = 0; unit < n.units; ++unit) sum[unit] += part[unit];
    }
  }
  const auto unpad = [&](const T* padded_from, T* to_units) {
    for (int64_t row = 0; row < n.batch; ++row) {
      std::copy(padded_from + row * unit_width, padded_from + row * unit_width + n.units, to_units + row * n.units);
    }
  };
  unpad(b.dh, to.dh0);
  if constexpr (Cell::has_c) unpad(b.dc, to.dc0);
  if (to.dxs) {
    team.run(1, threads, [&](int64_t, int64_t item) {
      const int64_t begin = share(rows, item, threads), end = share(rows, item + 1, threads);
      gradient_of_inputs<Cell, T>(n, b.dzs, transposed_kernel, to.dxs, begin, end);
    });
  }
  if (!to.drecurrent) return;
  WeightsGradient<Cell, T> g{f, b.dzs, to.dkernel, to.drecurrent, to.dbias, nullptr};
  if (rows == 0) {
    for (int64_t m = 0; m < g.count(); ++m) std::fill(g.result_row(m), g.result_row(m) + 4 * n.units, T(0));
    return;
  }
  g.lhs = make<T>(allocate, g.tiles() * kDepth * kRows);
  T* panels_of_weights = make<T>(allocate, threads * kDepth * kColumns<T>);
  // A chunk has two phases: all threads pack its left matrix, and then each adds it to some blocks of the result.
  team.run(2 * g.chunks(), threads, [&](int64_t phase, int64_t item) {
    if (phase % 2 == 0) {
      g.pack_lhs(phase / 2, share(g.tiles(), item, threads), share(g.tiles(), item + 1, threads));
    } else {
      for (int64_t block = share(blocks<T>(n), item, threads); block < share(blocks<T>(n), item + 1, threads); ++block) {
        g.add(phase / 2, block, panels_of_weights + item * kDepth * kColumns<T>);
      }
    }
  });
}

}  // namespace jlstm
