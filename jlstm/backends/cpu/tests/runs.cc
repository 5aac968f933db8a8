// Runs of many sizes in arrays of exactly the size they need, so that a sanitizer finds every access outside of them. The tests
// in Python check that results are right. Here they must be equal with one thread and three, and with and without residuals.

#include <cmath>
#include <memory>
#include <random>
#include <thread>

#include "functions.h"
#include "run.h"
#include "tests.h"

namespace jlstm {
namespace {

template <class T>
using Array = std::vector<T>;

std::mt19937 engine(1);

template <class T>
Array<T> random(int64_t count) {
  std::normal_distribution<T> normal;
  Array<T> array(static_cast<size_t>(count));
  for (T& x : array) x = normal(engine);
  return array;
}

Array<uint8_t> flags(int64_t count) {
  Array<uint8_t> array(static_cast<size_t>(count));
  for (uint8_t& flag : array) flag = engine() % 2;
  return array;
}

template <class T>
bool same(const Array<T>& a, const Array<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

// A thread for every task, and memory of exactly the size asked for.
class Resources {
 public:
  explicit Resources(int64_t threads)
      : team_(threads, [this](std::function<void()> task) { threads_.emplace_back(std::move(task)); }) {}
  ~Resources() {
    for (std::thread& thread : threads_) thread.join();
  }
  const Team& team() const { return team_; }
  Allocate allocate() {
    return [this](size_t bytes) -> void* { return blocks_.emplace_back(new char[bytes]).get(); };
  }

 private:
  std::vector<std::thread> threads_;
  std::vector<std::unique_ptr<char[]>> blocks_;
  Team team_;
};

template <class T>
struct Problem {
  Sizes n;
  Array<T> xs, kernel, recurrent, bias, peepholes, projection, h, c, dys, dh, dc;
  Array<uint8_t> mask, resets;

  explicit Problem(const Sizes& n, bool masked, bool reset)
      : n(n), xs(random<T>(n.time * n.batch * n.features)), kernel(random<T>(n.features * 4 * n.units)),
        recurrent(random<T>(n.h_size() * 4 * n.units)), bias(random<T>(4 * n.units)), peepholes(random<T>(3 * n.units)),
        projection(random<T>((n.units + 1) * n.projected)), h(random<T>(n.batch * n.h_size())),
        c(random<T>(n.batch * n.units)), dys(random<T>(n.time * n.batch * n.h_size())),
        dh(random<T>(n.batch * n.h_size())), dc(random<T>(n.batch * n.units)), mask(flags(masked ? n.time * n.batch : 0)),
        resets(flags(reset ? n.time * n.batch : 0)) {
    for (T& weight : projection) weight /= T(n.units);  // else gradients grow with every step, until they overflow
  }
};

// Any of the cells, with the options of a variant that has most of the branches.
template <class Cell, class T>
Cell cell_of(const Problem<T>& p) {
  if constexpr (Cell::peepholes == 0) {
    return Cell{};
  } else {
    const auto sigma = function_of<T>("hard_sigmoid", 0.8), phi = function_of<T>("relu", 0.9);
    const auto psi = function_of<T>("tanh", INFINITY);
    return Cell{sigma, phi, psi, T(0.5), Cell::kForget, p.peepholes.data(), p.n.units};
  }
}

// The results of a run and, with `differentiate`, its gradients.
template <class Cell, class T>
std::vector<Array<T>> results(const Problem<T>& p, int64_t threads, bool differentiate) {
  const Sizes& n = p.n;
  const Cell cell = cell_of<Cell>(p);
  const auto make = [](int64_t count) { return Array<T>(static_cast<size_t>(count)); };
  const Weights<T> weights{p.kernel.data(), p.recurrent.data(), p.bias.data(), n.projected ? p.projection.data() : nullptr};
  Array<T> ys = make(n.time * n.batch * n.h_size()), h = make(n.batch * n.h_size()), c = make(n.batch * n.units);
  Forward<T> f{};
  f.projection_clip = T(0.8);
  f.n = n, f.xs = p.xs.data(), f.h0 = p.h.data(), f.c0 = p.c.data();
  f.mask = p.mask.empty() ? nullptr : p.mask.data(), f.resets = p.resets.empty() ? nullptr : p.resets.data();
  f.ys = ys.data(), f.h = h.data(), f.c = c.data();
  if (!differentiate) {
    Resources resources(threads);
    forward<Cell, T>(cell, f, weights, resources.team(), resources.allocate());
    return {ys, h, c};
  }
  Array<T> gates = make(n.time * n.batch * columns<T>(n)), cs = make(Cell::has_c ? n.time * n.batch * padded<T>(n) : 0), hs = ys;
  f.gates = gates.data(), f.cs = cs.data(), f.hs = f.stores_h() ? hs.data() : nullptr;
  {
    Resources resources(threads);
    forward<Cell, T>(cell, f, weights, resources.team(), resources.allocate());
  }
  Array<T> dxs = p.xs, dkernel = p.kernel, drecurrent = p.recurrent, dbias = p.bias, dpeepholes = p.peepholes, dh = p.h, dc = p.c;
  Array<T> dprojection = p.projection, dqs = p.dys;  // as in a call by XLA, m and dq take the places of cs and dys
  const Gradients<T> to{gates.data(), dxs.data(),        dkernel.data(), drecurrent.data(),  dbias.data(),
                        dpeepholes.data(), dh.data(), dc.data(), n.projected ? dprojection.data() : nullptr,
                        n.projected ? cs.data() : nullptr, n.projected ? dqs.data() : nullptr};
  Resources resources(threads);
  backward<Cell, T>(cell, f, weights, dqs.data(), p.dh.data(), p.dc.data(), to, resources.team(), resources.allocate());
  return {ys, h, c, dxs, dkernel, drecurrent, dbias, dpeepholes, dprojection, dh, dc};
}

template <class Cell, class T>
void check(const Sizes& n, bool masked, bool reset) {
  const Problem<T> p(n, masked, reset);
  const auto alone = results<Cell>(p, 1, true), together = results<Cell>(p, 3, true);
  const auto without_residuals = results<Cell>(p, 2, false);
  for (size_t k = 0; k < alone.size(); ++k) {
    expect(same(alone[k], together[k]), "three threads compute what one does, to the bit");
    if (k < without_residuals.size()) expect(same(alone[k], without_residuals[k]), "the same without residuals, to the bit");
    for (T x : alone[k]) expect(std::isfinite(x), "all results are finite");
  }
}

// A helper that starts after all work is done finds nothing to do, and does not touch the caller's memory.
void check_late_helpers() {
  std::vector<std::function<void()>> late;
  {
    std::vector<int> done(5);
    const Team team(4, [&](std::function<void()> task) { late.push_back(std::move(task)); });
    team.run(3, 5, [&](int64_t phase, int64_t item) { done[size_t(item)] += int(phase) + 1; });
    for (int count : done) expect(count == 6, "the caller alone does all");
  }
  expect(late.size() == 3, "helpers were asked for");
  for (const auto& task : late) task();
}

}  // namespace

void test_runs() {
  check_late_helpers();
  const int64_t sizes[][4] = {{5, 3, 7, 4},   {4, 5, 3, 17}, {6, 20, 30, 70}, {9, 1, 5, 33}, {7, 64, 16, 40},
                              {2, 13, 3, 70}, {1, 1, 1, 1},  {0, 2, 3, 4},    {3, 0, 2, 4},  {300, 11, 2, 40}};
  for (const auto& [time, batch, features, units] : sizes) {
    const int step = time * batch > 100 ? 7 : 1;  // large sizes only with none of mask, resets and reverse, and with all three
    for (int kind = 0; kind < 8; kind += step) {
      const Sizes n{time, batch, features, units, kind % 2 == 1};
      check<Lstm<float>, float>(n, kind & 2, kind & 4);
      check<Lstm<double>, double>(n, kind & 2, kind & 4);
      check<Gru<float>, float>(n, kind & 2, kind & 4);
      check<LstmVariant<float>, float>(n, kind & 2, kind & 4);
      Sizes projecting = n;
      projecting.projected = 1 + units * 2 / 3;
      check<Lstm<float>, float>(projecting, kind & 2, kind & 4);
      check<LstmVariant<double>, double>(projecting, kind & 2, kind & 4);
    }
  }
}

}  // namespace jlstm
