// Large pages of memory, where the operating system has them for the asking.
//
// XLA takes the memory of results from the C library at every call, which takes many megabytes from the operating system and gives
// them back each time. In pages of 4 KiB, the faults of a large training step take a good part of its time.

#pragma once

#include <cstddef>
#include <cstdint>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace jlstm {

constexpr size_t kLargePage = 2 << 20;

// Ask for large pages in that part of a block that they can cover. It is a wish: nothing depends on whether it is granted.
inline void prefer_large_pages([[maybe_unused]] void* block, [[maybe_unused]] size_t bytes) {
#if defined(MADV_HUGEPAGE)
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(block) + kLargePage - 1) / kLargePage * kLargePage;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(block) + bytes) / kLargePage * kLargePage;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

}  // namespace jlstm
