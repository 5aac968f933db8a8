// A kernel for the emulator: compiled into a library that a stand-in for the driver loads, or into a program for the sanitizers,
// which runs a batch of random sequences with a mask and resets.

#include "recurrence.cu"

extern "C" bool simt_launch(unsigned blocks, unsigned threads, unsigned cluster, size_t shared_bytes, void (*kernel)(void*),
                            void* argument);

// Runs the kernel with the arguments of a launch. Returns false if its threads wait for each other without end.
extern "C" bool jlstm_emulate(unsigned blocks, unsigned threads, unsigned cluster, size_t shared_bytes, void** arguments) {
  const auto kernel = [](void* of_launch) {
    void** pointers = static_cast<void**>(of_launch);
    jlstm_kernel(*static_cast<const jlstm::Arguments*>(pointers[0]), *static_cast<const jlstm::JLSTM_CELL<float>*>(pointers[1]));
  };
  return simt_launch(blocks, threads, cluster, shared_bytes, kernel, arguments);
}

#ifdef JLSTM_PROGRAM

#include <cstdio>
#include <random>
#include <vector>

// program BLOCKS THREADS CLUSTER SHARED_BYTES COUNTERS WORKSPACE_BYTES BATCH
int main(int, char** argv) {
  const auto number = [&](int i) { return size_t(std::atoll(argv[i])); };
  const size_t time = 5, batch = number(7), units = JLSTM_UNITS, padded = size_t(jlstm::rounded_up(JLSTM_UNITS, jlstm::kPadding));
  std::mt19937 generator(0);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<std::vector<float>> arrays;
  const auto array = [&](size_t size) {
    arrays.emplace_back(size);
    for (float& x : arrays.back()) x = uniform(generator);
    return arrays.back().data();
  };
  std::vector<unsigned char> flags(2 * time * batch);
  for (size_t i = 0; i < 2 * time * batch; ++i) flags[i] = uniform(generator) < (i < time * batch ? 0.5f : -0.5f);
  std::vector<uint32_t> workspace(number(6) / 4 + 4);
  jlstm::Arguments a{};
  a.time = int(time), a.batch = a.rows = int(batch), a.mask = flags.data(), a.resets = flags.data() + time * batch;
  a.counters = workspace.data(), a.exchange = reinterpret_cast<float*>(workspace.data() + number(5));
  a.recurrent = array(units * 4 * units), a.h0 = array(batch * units), a.c0 = array(batch * units);
  a.zs = array(time * batch * 4 * padded), a.ys = array(time * batch * units), a.h = array(batch * units),
  a.c = array(batch * units);
  a.gates = a.dzs = array(time * batch * 4 * padded), a.cs = array(time * batch * padded), a.hs = array(time * batch * units);
  a.dys = array(time * batch * units), a.dh = array(batch * units), a.dc = array(batch * units);
  a.dh0 = array(batch * units), a.dc0 = array(batch * units);
  jlstm::JLSTM_CELL<float> cell{};
  void* arguments[] = {&a, &cell};
  const bool ended = jlstm_emulate(unsigned(number(1)), unsigned(number(2)), unsigned(number(3)), number(4), arguments);
  bool finite = true;
  for (const auto& numbers : arrays) {
    for (const float x : numbers) finite = finite && std::isfinite(x);
  }
  std::puts(!ended ? "threads wait without end" : !finite ? "a result is not finite" : "all is well");
  return !ended || !finite;
}

#endif
