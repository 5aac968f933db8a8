// Launches of compiled kernels. Nothing here waits for the GPU, so that XLA may record a call in a CUDA graph.

#pragma once

#include <cstdint>
#include <string_view>

#include "driver.h"

namespace jlstm::cuda {

struct Launch {
  std::string_view kernel;  // the file of the compiled kernel
  int32_t blocks, threads;
  int32_t cluster;       // blocks in a cluster; 1 without clusters
  bool cooperative;      // whether all blocks run at the same time
  int32_t shared_bytes;  // dynamic shared memory of a block
};

// Makes the context of a stream current in this thread, for as long as this object lives.
class ContextOf {
 public:
  ContextOf(const Driver& driver, Stream stream);
  ~ContextOf();
  ContextOf(const ContextOf&) = delete;
  ContextOf& operator=(const ContextOf&) = delete;

  const Context context;

 private:
  const Driver& driver_;
};

// Launches a kernel with these parameters, in the order of its arguments. The first launch in a context loads the kernel.
void launch(const Driver& driver, const ContextOf& current, Stream stream, const Launch& launch, void** parameters);

}  // namespace jlstm::cuda
