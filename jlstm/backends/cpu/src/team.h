// Several threads that do the phases of one piece of work together.
//
// A phase is a number of items; it begins when all items of the phase before are done. Whoever is there takes the next item: the
// caller begins at once and alone, if need be, and helpers from the thread pool join when they get to run. Nobody waits for a
// helper that has not come, so that several callers at once cannot lock each other out of the pool. Each helper tries first the
// item that it had in the phase before, whose weights are in its cache. All compute in the caller's floating-point mode: results
// do not depend on who does what.

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
  struct alignas(64) Counter {
    std::atomic<int64_t> value{0};
  };

  struct Shared {
    Shared(int64_t phases, int64_t items, Work work) : phases(phases), items(items), work(std::move(work)), taken(items) {
      std::fegetenv(&mode);
    }

    void help(int64_t member) {
      std::fenv_t own;
      std::fegetenv(&own);
      std::fesetenv(&mode);
      join(member);
      std::fesetenv(&own);
    }

    void join(int64_t member) {
      for (int64_t phase = done.value.load(std::memory_order_acquire) / items; phase < phases; ++phase) {
        for (int64_t k = 0; k < items; ++k) {
          const int64_t item = (member + k) % items;
          int64_t before = phase;
          if (!taken[item].value.compare_exchange_strong(before, phase + 1, std::memory_order_acq_rel)) continue;
          work(phase, item);
          done.value.fetch_add(1, std::memory_order_acq_rel);
        }
        wait((phase + 1) * items);
      }
    }

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
