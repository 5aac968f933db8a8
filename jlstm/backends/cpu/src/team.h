// A team of threads that shares out the work of a call.
//
// Work is a sequence of phases, and a phase is a set of items. A phase begins when all items of the previous one are done. Every
// thread of the team takes an item that nobody has taken. The caller begins at once, and helpers from the thread pool join when
// the pool runs them. Nobody waits for a helper that has not started, so that several callers at once cannot block each other:
// the caller alone can finish all work. Each thread first tries the item that it had in the previous phase, whose weights are in
// its cache. All threads compute in the caller's floating-point mode, so that results do not depend on who computes what.

#pragma once

#include <atomic>
#include <cfenv>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

namespace jlstm {

using Work = std::function<void(int64_t phase, int64_t item)>;
using Schedule = std::function<void(std::function<void()>)>;  // hands a task to a thread pool

class Team {
 public:
  Team(int64_t threads, Schedule schedule) : threads_(threads), schedule_(std::move(schedule)) {}

  int64_t threads() const { return threads_; }

  // Calls work(phase, item) once for each item of each phase, and returns when all calls have returned. `shared` outlives this
  // call, since the pool may run a helper later, which then finds no item left.
  void run(int64_t phases, int64_t items, Work work) const {
    if (phases <= 0 || items <= 0) return;
    auto shared = std::make_shared<Shared>(phases, items, std::move(work));
    for (int64_t helper = 1; helper < threads_ && helper < items; ++helper) {
      schedule_([shared, helper] { shared->help(helper); });
    }
    shared->join(0);
    shared->wait(phases * items);
  }

 private:
  // A cache line of its own, so that threads that change different counters do not slow each other down.
  struct alignas(64) Counter {
    std::atomic<int64_t> value{0};
  };

  struct Shared {
    Shared(int64_t phases, int64_t items, Work work) : phases(phases), items(items), work(std::move(work)), taken(items) {
      std::fegetenv(&mode);
    }

    void help(int64_t member) {
      std::fenv_t previous_mode;
      std::fegetenv(&previous_mode);
      std::fesetenv(&mode);
      join(member);
      std::fesetenv(&previous_mode);
    }

    // Takes items until all phases are done. `done` counts items over all phases and so tells which phase has begun.
    void join(int64_t member) {
      for (int64_t phase = done.value.load(std::memory_order_acquire) / items; phase < phases; ++phase) {
        for (int64_t k = 0; k < items; ++k) {
          const int64_t item = (member + k) % items;
          int64_t expected = phase;  // taken in all earlier phases, and not yet in this one
          if (!taken[item].value.compare_exchange_strong(expected, phase + 1, std::memory_order_acq_rel)) continue;
          work(phase, item);
          done.value.fetch_add(1, std::memory_order_acq_rel);
        }
        wait((phase + 1) * items);
      }
    }

    // Waits until `count` items are done. It spins first, to go on at once after a short phase, and yields if the wait is long.
    void wait(int64_t count) const {
      for (int turns = 0; done.value.load(std::memory_order_acquire) < count; ++turns) {
        if (turns < 2000) {
#if defined(__x86_64__)
          __builtin_ia32_pause();
#endif
        } else {
          std::this_thread::yield();
        }
      }
    }

    const int64_t phases, items;
    std::fenv_t mode;
    const Work work;
    std::vector<Counter> taken;  // phases in which each item was taken
    Counter done;                // items, over all phases
  };

  int64_t threads_;
  Schedule schedule_;
};

}  // namespace jlstm
