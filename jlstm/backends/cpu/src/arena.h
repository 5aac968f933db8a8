// Scratch memory that a thread keeps from call to call. Fresh memory costs a page fault for every 4 KiB, at every call, and XLA's
// scratch allocator gives none on the CPU.

#pragma once

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include "pages.h"

namespace jlstm {

// A thread keeps at most so much. A call that needs more frees the rest when it ends.
constexpr size_t kKeptBytes = 64 << 20;

class Arena {
 public:
  // Returns memory that is aligned to 64 bytes, the largest register. If the block is too small, the memory is a block of its
  // own: the first one cannot grow, since pointers into it are in use.
  void* take(size_t bytes) {
    bytes = (bytes + 63) / 64 * 64;
    if (used_ + bytes <= size_) {
      used_ += bytes;
      return block_.get() + used_ - bytes;
    }
    overflow_.push_back(allocate(bytes));
    spilled_ += bytes;
    return overflow_.back().get();
  }

  // Takes all memory back. If the call needed more than the block, the block grows to that size, at most to kKeptBytes, so that
  // the next call of this size finds all of it in one block.
  void release() {
    const size_t needed = std::min(used_ + spilled_, kKeptBytes);
    overflow_.clear();
    used_ = spilled_ = 0;
    if (needed <= size_) return;
    size_ = 0;  // before the allocation, which may throw: then the arena is empty
    block_.reset();
    block_ = allocate(needed);
    size_ = needed;
  }

 private:
  using Block = std::unique_ptr<char, decltype(&std::free)>;

  static Block allocate(size_t bytes) {
    Block block(static_cast<char*>(std::aligned_alloc(64, bytes)), &std::free);
    if (!block) throw std::bad_alloc();
    prefer_large_pages(block.get(), bytes);
    return block;
  }

  Block block_{nullptr, &std::free};
  std::vector<Block> overflow_;
  size_t size_ = 0, used_ = 0, spilled_ = 0;
};

}  // namespace jlstm
