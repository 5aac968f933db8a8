// Large pages of memory, if the operating system has them.
//
// XLA takes the memory of results from the C library at every call. The C library takes blocks of many megabytes from the
// operating system and gives them back each time. With pages of 4 KiB, the page faults of a large training step take a good part
// of its time.

#pragma once

#include <cstddef>
#include <cstdint>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace jlstm {

constexpr size_t kLargePage = 2 << 20;

// Asks for large pages in the part of a block that they can cover. This is a hint: results do not depend on it, and errors are
// ignored.
inline void prefer_large_pages([[maybe_unused]] void* block, [[maybe_unused]] size_t bytes) {
#if defined(MADV_HUGEPAGE)
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(block) + kLargePage - 1) / kLargePage * kLargePage;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(block) + bytes) / kLargePage * kLargePage;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

}  // namespace jlstm
