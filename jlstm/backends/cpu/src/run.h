// One layer over a whole sequence: what is shared out among threads, and how.
//
// Where a thread's share of the batch fills its tiles and all weights fit into its cache, threads take rows of the batch and
// never wait for each other. Otherwise they take units, and wait for each other after every step, since the next needs all of h.

#pragma once

#include "gradient.h"
#include "recurrence.h"
#include "team.h"

namespace jlstm {

constexpr int64_t kCacheBytes = 768 << 10;  // of the weights that a thread may want to keep at hand
constexpr int64_t kSharedRun = 1 << 20, kSharedStep = 32 << 10;  // multiplications that are worth to be shared
constexpr int64_t kProjectedBytes = 2 << 20, kProjectedRows = 96;  // of pre-activations that are computed ahead, at least

using Allocate = std::function<void*(size_t bytes)>;

template <class T>
T* make(const Allocate& allocate, int64_t count) {
  return static_cast<T*>(allocate(size_t(std::max<int64_t>(count, 1)) * sizeof(T)));
}

// The i-th of `parts` nearly equal shares of `count`.
inline int64_t share(int64_t count, int64_t i, int64_t parts) { return count * i / parts; }

template <class T>
bool by_rows(const Sizes& n, int64_t threads) {
  const int64_t bytes = (n.features + n.units) * columns<T>(n) * int64_t(sizeof(T));
  return threads == 1 ? bytes <= kCacheBytes : n.batch >= 4 * threads && bytes <= kCacheBytes;
}

// How many of `threads` a run should have: one, if all that it computes takes no longer than to call for help.
template <class T>
int64_t useful_threads(const Sizes& n, int64_t threads) {
  return n.time * n.batch * columns<T>(n) * (n.features + n.units) < kSharedRun ? 1 : threads;
}

// Among how many threads blocks of units are shared out: one, if a step takes no longer than waiting for each other.
template <class T>
int64_t shares_of_units(const Sizes& n, int64_t threads) {
  return n.batch * columns<T>(n) * (n.features + n.units) < kSharedStep ? 1 : std::min(threads, blocks<T>(n));
}

// Layout of what the caller hands in: weights as in jlstm, (rows, 4 units).
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

// Fills what `f` asks for. On entry f has sizes, inputs and outputs; weights, bias and pre-activations are made here.
template <class T>
void forward(Forward<T> f, const Weights<T>& w, const Team& team, const Allocate& allocate) {
  const Sizes& n = f.n;
  const int64_t wide = columns<T>(n), threads = team.threads();
  if (n.batch == 0) return;
  if (n.time == 0) {
    std::copy(f.h0, f.h0 + n.batch * n.units, f.h);
    std::copy(f.c0, f.c0 + n.batch * n.units, f.c);
    return;
  }
  T* kernel = make<T>(allocate, n.features * wide);
  T* recurrent = make<T>(allocate, n.units * wide);
  T* bias = make<T>(allocate, wide);
  pack_all<T>(n, w, kernel, recurrent, bias, team);
  f.kernel = kernel, f.recurrent = recurrent, f.bias = bias;
  if (!f.gates) f.cs = make<T>(allocate, n.batch * padded<T>(n));
  if (!f.gates && f.carried()) f.hs = make<T>(allocate, 2 * n.batch * n.units);

  if (by_rows<T>(n, threads)) {
    const int64_t items = std::min(threads, (n.batch + kRows - 1) / kRows);
    team.run(1, items, [&](int64_t, int64_t item) {
      const int64_t begin = share(n.batch, item, items), end = share(n.batch, item + 1, items);
      begin_forward<T>(f, begin, end);
      for (int64_t k = 0; k < n.time; ++k) forward_step<T>(f, k, begin, end, 0, blocks<T>(n));
    });
    return;
  }
  const int64_t step_bytes = n.batch * wide * int64_t(sizeof(T)), fitting = std::max(kProjectedRows / n.batch, kProjectedBytes / step_bytes);
  const int64_t span = std::min(n.time, std::max<int64_t>(fitting, 1)), chunks = (n.time + span - 1) / span, items = shares_of_units<T>(n, threads);
  T* zs = f.gates ? f.gates : make<T>(allocate, span * n.batch * wide);
  team.run(1, 1, [&](int64_t, int64_t) { begin_forward<T>(f, 0, n.batch); });
  team.run(chunks + n.time, items, [&](int64_t phase, int64_t item) {
    const int64_t begin = share(blocks<T>(n), item, items), end = share(blocks<T>(n), item + 1, items);
    const int64_t chunk = phase / (span + 1), done = chunk * span, steps = std::min(span, n.time - done);
    const int64_t first = n.reverse ? n.time - done - steps : done;
    Forward<T> of_chunk = f;
    of_chunk.zs = zs, of_chunk.zs_first = f.gates ? 0 : first;
    if (phase % (span + 1) == 0) {
      const T* xs = f.xs + first * n.batch * n.features;
      project<T>(n, xs, kernel, bias, zs + (first - of_chunk.zs_first) * n.batch * wide, 0, steps * n.batch, begin, end);
    } else {
      forward_step<T>(of_chunk, phase - chunk - 1, 0, n.batch, begin, end);
    }
  });
}

template <class T>
struct Gradients {
  T *dzs;                              // (time, batch, columns); may be where the gates are
  T *dxs;                              // null: not wanted
  T *dkernel, *drecurrent, *dbias;     // null: not wanted
  T *dh0, *dc0;
};

// f is what `forward` filled, dys, dh and dc the gradients of its results.
template <class T>
void backward(const Forward<T>& f, const Weights<T>& w, const T* dys, const T* dh, const T* dc, const Gradients<T>& to,
              const Team& team, const Allocate& allocate) {
  const Sizes& n = f.n;
  const int64_t wide = columns<T>(n), width = padded<T>(n), threads = team.threads(), rows = n.time * n.batch;
  const int64_t panels = (blocks<T>(n) * kParts<T> + 3) / 4, input_panels = (n.features + kPanel<T> - 1) / kPanel<T>;
  T* transposed = make<T>(allocate, panels * wide * kPanel<T>);
  T* transposed_kernel = to.dxs ? make<T>(allocate, input_panels * wide * kPanel<T>) : nullptr;
  Backward<T> b{f, transposed, dys, to.dzs, make<T>(allocate, n.batch * width), make<T>(allocate, n.batch * width)};
  team.run(1, panels + (to.dxs ? input_panels : 0), [&](int64_t, int64_t panel) {
    if (panel < panels) {
      pack_transposed<T>(w.recurrent, n.units, n, panel * kPanel<T>, transposed + panel * wide * kPanel<T>);
    } else {
      const int64_t p = panel - panels;
      pack_transposed<T>(w.kernel, n.features, n, p * kPanel<T>, transposed_kernel + p * wide * kPanel<T>);
    }
  });
  for (int64_t row = 0; row < n.batch; ++row) {
    std::fill(b.dh + row * width, b.dh + (row + 1) * width, T(0));
    std::fill(b.dc + row * width, b.dc + (row + 1) * width, T(0));
    std::copy(dh + row * n.units, dh + (row + 1) * n.units, b.dh + row * width);
    std::copy(dc + row * n.units, dc + (row + 1) * n.units, b.dc + row * width);
  }
  if (by_rows<T>(n, threads)) {
    const int64_t items = std::min(threads, (n.batch + kRows - 1) / kRows);
    team.run(1, items, [&](int64_t, int64_t item) {
      const int64_t begin = share(n.batch, item, items), end = share(n.batch, item + 1, items);
      for (int64_t k = n.time - 1; k >= -1; --k) backward_step<T>(b, k, begin, end, 0, blocks<T>(n));
    });
  } else {
    const int64_t items = shares_of_units<T>(n, threads);
    team.run(n.time + 1, items, [&](int64_t phase, int64_t item) {
      const int64_t begin = share(blocks<T>(n), item, items), end = share(blocks<T>(n), item + 1, items);
      backward_step<T>(b, n.time - 1 - phase, 0, n.batch, begin, end);
    });
  }
  for (int64_t row = 0; row < n.batch; ++row) {
    std::copy(b.dh + row * width, b.dh + row * width + n.units, to.dh0 + row * n.units);
    std::copy(b.dc + row * width, b.dc + row * width + n.units, to.dc0 + row * n.units);
  }
  if (to.dxs) {
    team.run(1, threads, [&](int64_t, int64_t item) {
      const int64_t begin = share(rows, item, threads), end = share(rows, item + 1, threads);
      gradient_of_inputs<T>(n, b.dzs, transposed_kernel, to.dxs, begin, end);
    });
  }
  if (!to.drecurrent) return;
  WeightsGradient<T> g{f, b.dzs, to.dkernel, to.drecurrent, to.dbias, nullptr};
  if (rows == 0) {
    for (int64_t m = 0; m < g.count(); ++m) std::fill(g.to(m), g.to(m) + 4 * n.units, T(0));
    return;
  }
  g.left = make<T>(allocate, g.tiles() * kDepth * kRows);
  T* panels_of_weights = make<T>(allocate, threads * kDepth * kColumns<T>);
  team.run(2 * g.chunks(), threads, [&](int64_t phase, int64_t item) {
    if (phase % 2 == 0) {
      g.pack_left(phase / 2, share(g.tiles(), item, threads), share(g.tiles(), item + 1, threads));
    } else {
      for (int64_t block = share(blocks<T>(n), item, threads); block < share(blocks<T>(n), item + 1, threads); ++block) {
        g.add(phase / 2, block, panels_of_weights + item * kDepth * kColumns<T>);
      }
    }
  });
}

}  // namespace jlstm
