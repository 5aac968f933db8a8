// Integers of fixed size. NVRTC, which compiles the kernel at run time, has no standard library.

#pragma once

#ifdef __CUDACC_RTC__
using int64_t = long long;
using uint32_t = unsigned;
#else
#include <cstdint>
#endif
