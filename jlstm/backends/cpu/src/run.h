// Forward and backward run of one layer, shared out among threads.
//
// If a thread's share of the batch fills its tiles and all weights fit into its cache, each thread takes some rows of the batch
// for all steps, and never waits for others. Otherwise each takes some units, and all wait for each other after every step, since
// the next step needs all of h. With a projection (projection.h) they also wait in the middle of a step, for all of m.

#pragma once

#include "backward.h"
#include "cells.h"
#include "gradient.h"
#include "projection.h"
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

// The multiplications of a step of one sequence, which are also the number of weights.
template <class T>
int64_t products(const Sizes& n) {
  return columns<T>(n) * (n.features + n.h_size()) + n.units * n.projected;
}

// Whether threads take rows of the batch rather than units. With one thread only the size of the weights matters.
template <class T>
bool by_rows(const Sizes& n, int64_t threads) {
  const int64_t bytes = products<T>(n) * int64_t(sizeof(T));
  return threads == 1 ? bytes <= kCacheBytes : n.batch >= 4 * threads && bytes <= kCacheBytes;
}

// The number of threads for a run: one, if the whole run takes no longer than it takes to wake the others.
template <class T>
int64_t useful_threads(const Sizes& n, int64_t threads) {
  return n.time * n.batch * products<T>(n) < kSharedRun ? 1 : threads;
}

// The number of threads that share the blocks of units: one, if a step is shorter than the threads would wait for each other.
template <class T>
int64_t shares_of_units(const Sizes& n, int64_t threads) {
  return n.batch * products<T>(n) < kSharedStep ? 1 : std::min(threads, blocks<T>(n));
}

// The weights in the layout of jlstm, (rows, 4 units), and the projection (units + 1, projected), which is null if there is none.
template <class T>
struct Weights {
  const T *kernel, *recurrent, *bias;
  const T* projection = nullptr;
};

template <class T>
void pack_all(const Sizes& n, const Weights<T>& w, T* kernel, T* recurrent, T* bias, const Team& team) {
  team.run(1, blocks<T>(n), [=](int64_t, int64_t block) {
    pack<T>(w.kernel, n.features, n, block, kernel + block * n.features * kColumns<T>);
    pack<T>(w.recurrent, n.h_size(), n, block, recurrent + block * n.h_size() * kColumns<T>);
    pack<T>(w.bias, 1, n, block, bias + block * kColumns<T>);
  });
}

// Runs the layer over all steps. On entry f has sizes, inputs and results; this function sets its weights, bias and zs.
template <class Cell, class T>
void forward(const Cell& cell, Forward<T> f, const Weights<T>& w, const Team& team, const Allocate& allocate) {
  const Sizes& n = f.n;
  const int64_t gate_width = columns<T>(n), threads = team.threads();
  if (n.batch == 0) return;
  if (n.time == 0) {
    std::copy(f.h0, f.h0 + n.batch * n.h_size(), f.h);
    if constexpr (Cell::has_c) std::copy(f.c0, f.c0 + n.batch * n.units, f.c);
    return;
  }
  T* kernel = make<T>(allocate, n.features * gate_width);
  T* recurrent = make<T>(allocate, n.h_size() * gate_width);
  T* bias = make<T>(allocate, gate_width);
  pack_all<T>(n, w, kernel, recurrent, bias, team);
  f.kernel = kernel, f.recurrent = recurrent, f.bias = bias;
  if (Cell::has_c && !f.gates) f.cs = make<T>(allocate, n.batch * padded<T>(n));
  if (!f.gates && f.stores_h()) f.hs = make<T>(allocate, 2 * n.batch * n.h_size());
  if (w.projection) {
    const int64_t panels = panels_of<T>(n.projected), panel_size = (n.units + 1) * kPanel<T>;
    T* projection = make<T>(allocate, panels * panel_size);
    team.run(1, panels, [&](int64_t, int64_t panel) {
      pack_projection<T>(w.projection, n, panel * kPanel<T>, projection + panel * panel_size);
    });
    f.projection = projection, f.ms = make<T>(allocate, n.batch * padded<T>(n));
  }
  // With a projection a step has two phases, since h needs all of m.
  const int64_t phases = w.projection ? 2 : 1, vectors = vectors_of_h<T>(n);

  if (by_rows<T>(n, threads)) {
    const int64_t items = std::min(threads, (n.batch + kRows - 1) / kRows);
    team.run(1, items, [&](int64_t, int64_t item) {
      const int64_t begin = share(n.batch, item, items), end = share(n.batch, item + 1, items);
      begin_forward<Cell, T>(f, begin, end);
      for (int64_t k = 0; k < n.time; ++k) {
        forward_step<Cell, T>(cell, f, k, begin, end, 0, blocks<T>(n));
        if (f.projection) project_step<T>(f, k, begin, end, 0, vectors);
      }
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
  // A chunk has one phase for x W + b of its steps, and then the phases of each step.
  const int64_t chunk_phases = 1 + span * phases;
  team.run(chunks + n.time * phases, items, [&](int64_t phase, int64_t item) {
    const int64_t begin = share(blocks<T>(n), item, items), end = share(blocks<T>(n), item + 1, items);
    const int64_t chunk = phase / chunk_phases, start = chunk * span, steps = std::min(span, n.time - start);
    const int64_t phase_of_steps = phase % chunk_phases - 1, k = start + phase_of_steps / phases;
    const int64_t first = n.reverse ? n.time - start - steps : start;
    Forward<T> part = f;
    part.zs = zs, part.zs_first = f.gates ? 0 : first;
    if (phase_of_steps < 0) {
      const T* xs = f.xs + first * n.batch * n.features;
      project<Cell, T>(n, xs, kernel, bias, zs + (first - part.zs_first) * n.batch * gate_width, 0, steps * n.batch, begin, end);
    } else if (phase_of_steps % phases == 0) {
      forward_step<Cell, T>(cell, part, k, 0, n.batch, begin, end);
    } else {
      project_step<T>(part, k, 0, n.batch, share(vectors, item, items), share(vectors, item + 1, items));
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
  T* dprojection = nullptr;            // null if not needed
  T *ms = nullptr, *dqs = nullptr;     // as in Backward
};

// Computes the gradients of a run. f has the arrays that `forward` filled. dys, dh and dc are the gradients of its results.
template <class Cell, class T>
void backward(const Cell& cell, const Forward<T>& f, const Weights<T>& w, const T* dys, const T* dh, const T* dc,
              const Gradients<T>& to, const Team& team, const Allocate& allocate) {
  const Sizes& n = f.n;
  const int64_t gate_width = columns<T>(n), unit_width = padded<T>(n), threads = team.threads(), rows = n.time * n.batch;
  const int64_t panels = panels_of<T>(padded_h<T>(n)), input_panels = panels_of<T>(n.features), vectors = vectors_of_h<T>(n);
  const int64_t h_width = padded_h<T>(n), projection_panels = w.projection ? panels_of<T>(n.units) : 0;
  T* transposed = make<T>(allocate, panels * gate_width * kPanel<T>);
  T* transposed_kernel = to.dxs ? make<T>(allocate, input_panels * gate_width * kPanel<T>) : nullptr;
  T* projection = w.projection ? make<T>(allocate, projection_panels * n.projected * kPanel<T>) : nullptr;
  Backward<T> b{f, transposed, dys, to.dzs, make<T>(allocate, n.batch * h_width), nullptr, nullptr, projection, to.dqs, to.ms};
  if constexpr (Cell::has_c) b.dc = make<T>(allocate, n.batch * unit_width);
  team.run(1, projection_panels, [&](int64_t, int64_t panel) {
    pack_projection_transposed<T>(w.projection, n, panel * kPanel<T>, projection + panel * n.projected * kPanel<T>);
  });
  team.run(1, panels + (to.dxs ? input_panels : 0), [&](int64_t, int64_t panel) {
    if (panel < panels) {
      pack_transposed<T>(w.recurrent, n.h_size(), n, panel * kPanel<T>, transposed + panel * gate_width * kPanel<T>);
    } else {
      const int64_t p = panel - panels;
      pack_transposed<T>(w.kernel, n.features, n, p * kPanel<T>, transposed_kernel + p * gate_width * kPanel<T>);
    }
  });
  const auto pad = [&](const T* from, int64_t size, int64_t width, T* padded_to) {
    for (int64_t row = 0; row < n.batch; ++row) {
      std::copy(from + row * size, from + (row + 1) * size, padded_to + row * width);
      std::fill(padded_to + row * width + size, padded_to + (row + 1) * width, T(0));
    }
  };
  pad(dh, n.h_size(), h_width, b.dh);
  if constexpr (Cell::has_c) pad(dc, n.units, unit_width, b.dc);
  const int64_t peepholes_width = Cell::peepholes * unit_width;
  b.dpeepholes = make<T>(allocate, n.batch * peepholes_width);
  std::fill(b.dpeepholes, b.dpeepholes + n.batch * peepholes_width, T(0));
  if (by_rows<T>(n, threads)) {
    const int64_t items = std::min(threads, (n.batch + kRows - 1) / kRows);
    team.run(1, items, [&](int64_t, int64_t item) {
      const int64_t begin = share(n.batch, item, items), end = share(n.batch, item + 1, items);
      for (int64_t k = n.time - 1; k >= -1; --k) {
        if (b.projection) project_back<Cell, T>(b, k, begin, end, 0, vectors);
        if (!b.projection || k >= 0) backward_step<Cell, T>(cell, b, k, begin, end, 0, blocks<T>(n));
      }
    });
  } else {
    const int64_t items = shares_of_units<T>(n, threads), phases = b.projection ? 2 : 1;
    team.run(n.time * phases + 1, items, [&](int64_t phase, int64_t item) {
      const int64_t k = n.time - 1 - phase / phases;
      if (b.projection && phase % phases == 0) {
        project_back<Cell, T>(b, k, 0, n.batch, share(vectors, item, items), share(vectors, item + 1, items));
      } else {
        const int64_t begin = share(blocks<T>(n), item, items), end = share(blocks<T>(n), item + 1, items);
        backward_step<Cell, T>(cell, b, k, 0, n.batch, begin, end);
      }
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
  const auto unpad = [&](const T* padded_from, int64_t size, int64_t width, T* to_units) {
    for (int64_t row = 0; row < n.batch; ++row) {
      std::copy(padded_from + row * width, padded_from + row * width + size, to_units + row * size);
    }
  };
  unpad(b.dh, n.h_size(), h_width, to.dh0);
  if constexpr (Cell::has_c) unpad(b.dc, n.units, unit_width, to.dc0);
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
    if (to.dprojection) std::fill(to.dprojection, to.dprojection + (n.units + 1) * n.projected, T(0));
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
  if (!to.dprojection) return;
  ProjectionGradient<T> p{f, b.ms, b.dqs, to.dprojection, nullptr};
  p.lhs = make<T>(allocate, p.tiles() * kDepth * kRows);
  team.run(2 * g.chunks(), threads, [&](int64_t phase, int64_t item) {
    if (phase % 2 == 0) {
      p.pack_lhs(phase / 2, share(p.tiles(), item, threads), share(p.tiles(), item + 1, threads));
    } else {
      const int64_t count = panels_of<T>(n.projected);
      for (int64_t panel = share(count, item, threads); panel < share(count, item + 1, threads); ++panel) {
        p.add(phase / 2, panel, panels_of_weights + item * kDepth * kColumns<T>);
      }
    }
  });
}

}  // namespace jlstm
