// Runs a kernel on a processor, for tests: each thread of the GPU is a fiber, and all fibers run in one thread of the processor,
// one after the other, from one wait to the next. Barriers, exchanges between lanes, clusters, asynchronous copies and counters
// in global memory do what they do on a GPU.
//
// What the tests find by it: wrong numbers, also in odd sizes; reads and writes outside of arrays (AddressSanitizer); a missing
// barrier, which is a data race between fibers (ThreadSanitizer), and a wait without end. What they cannot find: speed, blocks
// that do not fit on a GPU at the same time, and errors of memory order that this processor does not show.
//
// For ThreadSanitizer only the kernel is compiled with it. This file, compiled without it and with SIMT_RACES, tells it which
// fiber runs and what orders the reads and writes of two fibers.

#include <sys/mman.h>
#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "simt.h"

#if defined(SIMT_RACES)
extern "C" {
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void* __tsan_get_current_fiber();
void __tsan_acquire(void* address);
void __tsan_release(void* address);
}
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace {

constexpr size_t kStack = 256 << 10;

struct Barrier {
  unsigned expected = 0, arrived = 0, turn = 0;
  char order[2];  // what a turn releases. Threads that are ahead release the other one, which those that wake up do not see
};

struct Fiber {
  SimtThread seen;
  unsigned lane;
  struct Warp* warp;
  struct Block* of;
  ucontext_t context;
  char* stack;
  bool done = false;
  std::deque<std::deque<SimtCopy>> groups{1};  // of copies that are still on their way; the last group is open
#if defined(SIMT_RACES)
  void* shadow;
#endif
#if defined(__SANITIZE_ADDRESS__)
  void* fake_stack = nullptr;
#endif
};

struct Warp {
  Barrier barrier;
  float values[32];
  bool flags[32];
};
struct Cluster {
  Barrier barrier;
  std::vector<Block*> blocks;
};
struct Block {
  Barrier barrier;
  Cluster* cluster;
  std::vector<float> shared;
};

struct Grid {
  std::vector<std::unique_ptr<Block>> blocks;
  std::vector<std::unique_ptr<Cluster>> clusters;
  std::vector<std::unique_ptr<Warp>> warps;
  std::vector<std::unique_ptr<Fiber>> fibers;
  ucontext_t scheduler;
  std::function<void()> kernel;
  size_t events = 0;  // steps forward: barriers passed, counters raised, threads ended
#if defined(SIMT_RACES)
  void* shadow;
#endif
#if defined(__SANITIZE_ADDRESS__)
  void* fake_stack = nullptr;
  const void* bottom = nullptr;
  size_t size = 0;
#endif
};

thread_local Grid* grid;
thread_local Fiber* current;

void released(void* address) {
#if defined(SIMT_RACES)
  __tsan_release(address);
#else
  (void)address;
#endif
}
void acquired(void* address) {
#if defined(SIMT_RACES)
  __tsan_acquire(address);
#else
  (void)address;
#endif
}

void to_scheduler(bool for_ever) {
  (void)for_ever;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(for_ever ? nullptr : &current->fake_stack, grid->bottom, grid->size);
#endif
#if defined(SIMT_RACES)
  __tsan_switch_to_fiber(grid->shadow, 1);
#endif
  Fiber* const self = current;
  swapcontext(&self->context, &grid->scheduler);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(self->fake_stack, nullptr, nullptr);
#endif
}

void to_fiber(Fiber* fiber) {
  current = fiber;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&grid->fake_stack, fiber->stack, kStack);
#endif
#if defined(SIMT_RACES)
  __tsan_switch_to_fiber(fiber->shadow, 1);
#endif
  swapcontext(&grid->scheduler, &fiber->context);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(grid->fake_stack, nullptr, nullptr);
#endif
}

void start() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &grid->bottom, &grid->size);
#endif
  acquired(current);
  grid->kernel();
  released(current);
  current->done = true;
  ++grid->events;
  to_scheduler(true);
}

void wait(Barrier& barrier) {
  const unsigned turn = barrier.turn;
  released(&barrier.order[turn % 2]);
  if (++barrier.arrived == barrier.expected) {
    barrier.arrived = 0;
    ++barrier.turn;
    ++grid->events;
  }
  while (barrier.turn == turn) to_scheduler(false);
  acquired(&barrier.order[turn % 2]);
}

}  // namespace

extern "C" {

SimtThread* simt_thread() { return &current->seen; }
void simt_wait_for_block() { wait(current->of->barrier); }
void simt_wait_for_warp() { wait(current->warp->barrier); }
void simt_wait_for_cluster() { wait(current->of->cluster->barrier); }

float simt_exchange(float value, int mask) {
  Warp& warp = *current->warp;
  const unsigned lane = current->lane;
  warp.values[lane] = value;
  wait(warp.barrier);
  const float result = warp.values[lane ^ unsigned(mask)];
  wait(warp.barrier);
  return result;
}

unsigned simt_ballot(bool value) {
  Warp& warp = *current->warp;
  warp.flags[current->lane] = value;
  wait(warp.barrier);
  unsigned bits = 0;
  for (unsigned lane = 0; lane < 32; ++lane) bits |= unsigned(warp.flags[lane]) << lane;
  wait(warp.barrier);
  return bits;
}

float* simt_in_block(float* own, int block) {
  const auto offset = own - current->of->shared.data();
  return current->of->cluster->blocks[size_t(block)]->shared.data() + offset;
}

// A copy happens when it is waited for, so that a missing wait shows.
void simt_start_copy(float* to, const float* from) { current->groups.back().push_back({to, from}); }
void simt_end_copies() { current->groups.emplace_back(); }
bool simt_next_copy(int pending, SimtCopy* copy) {
  auto& groups = current->groups;
  while (groups.size() > size_t(pending) + 1 && groups.front().empty()) groups.pop_front();
  if (groups.size() <= size_t(pending) + 1) return false;
  *copy = groups.front().front();
  groups.front().pop_front();
  return true;
}

unsigned simt_load_acquire(const unsigned* from) {
  const unsigned value = *from;
  acquired(const_cast<unsigned*>(from));
  to_scheduler(false);  // the thread may wait for another number
  return value;
}
void simt_add_release(unsigned* to) {
  released(to);
  ++*to;
  ++grid->events;
}

// Runs `kernel` in every thread of all blocks. Returns false if all wait for each other.
bool simt_launch(unsigned blocks, unsigned threads, unsigned cluster, size_t shared_bytes, void (*kernel)(void*),
                 void* argument) {
  Grid own;
  grid = &own;
  own.kernel = [=] { kernel(argument); };
#if defined(SIMT_RACES)
  own.shadow = __tsan_get_current_fiber();
#endif
  for (unsigned b = 0; b < blocks; ++b) {
    own.blocks.push_back(std::make_unique<Block>());
    Block& block = *own.blocks.back();
    if (b % cluster == 0) {
      own.clusters.push_back(std::make_unique<Cluster>());
      own.clusters.back()->barrier.expected = threads * cluster;
    }
    block.cluster = own.clusters.back().get();
    block.cluster->blocks.push_back(&block);
    block.barrier.expected = threads;
    block.shared.assign(shared_bytes / sizeof(float), NAN);  // fresh memory has any content
    for (unsigned t = 0; t < threads; ++t) {
      if (t % 32 == 0) {
        own.warps.push_back(std::make_unique<Warp>());
        own.warps.back()->barrier.expected = 32;
      }
      own.fibers.push_back(std::make_unique<Fiber>());
      Fiber& fiber = *own.fibers.back();
      fiber.seen = {{t}, {b}, {blocks}, block.shared.data()};
      fiber.lane = t % 32, fiber.warp = own.warps.back().get(), fiber.of = &block;
      fiber.stack =
          static_cast<char*>(mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
      getcontext(&fiber.context);
      fiber.context.uc_stack = {fiber.stack, 0, kStack};
      fiber.context.uc_link = nullptr;
      makecontext(&fiber.context, start, 0);
#if defined(SIMT_RACES)
      fiber.shadow = __tsan_create_fiber(0);
#endif
      released(&fiber);
    }
  }
  // From turn to turn the fibers run in another order, so that no test passes by the order alone.
  const size_t count = own.fibers.size();
  bool alive = true, stuck = false;
  for (size_t turn = 0, quiet = 0; alive && !stuck; ++turn) {
    const size_t events = own.events;
    alive = false;
    for (size_t i = 0; i < count; ++i) {
      Fiber& fiber = *own.fibers[turn % 2 ? count - 1 - i : (i + turn * 7) % count];
      if (fiber.done) continue;
      alive = true;
      to_fiber(&fiber);
    }
    quiet = own.events == events ? quiet + 1 : 0;
    stuck = quiet > 4;
  }
  for (auto& fiber : own.fibers) {
    acquired(fiber.get());
#if defined(SIMT_RACES)
    __tsan_destroy_fiber(fiber->shadow);
#endif
    munmap(fiber->stack, kStack);
  }
  grid = nullptr;
  return !stuck;
}
}
