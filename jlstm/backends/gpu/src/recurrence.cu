// The kernel, compiled at run time for the sizes, the cell, the direction and the GPU of a call. plan.py sets the macros.

#include "arguments.h"
#include "cells.h"
#if JLSTM_WARP_A_ROW
#include "warp.cuh"
#elif JLSTM_BACKWARD
#include "backward.cuh"
#else
#include "forward.cuh"
#endif

#ifdef JLSTM_EMULATED
#define JLSTM_KERNEL extern "C" void
#else
#define JLSTM_KERNEL extern "C" __global__ void __launch_bounds__(32 * JLSTM_WARPS, 1)
#endif

JLSTM_KERNEL jlstm_kernel(const jlstm::Arguments a, const jlstm::JLSTM_CELL<float> cell) {
#if JLSTM_WARP_A_ROW && JLSTM_BACKWARD
  jlstm::run_backward(a, cell);
#elif JLSTM_WARP_A_ROW
  jlstm::run_forward(a, cell);
#else
  jlstm::run(a, cell);
#endif
}
