// The functions that library.py calls before it uses a library.

// The best instruction set, of those that libraries are built for, that this processor and its operating system support. The
// features are those of x86-64-v3 and x86-64-v4, for which CMakeLists.txt compiles.
extern "C" const char* jlstm_processor() {
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
                    __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("lzcnt");
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl");
  if (avx2) return avx512 ? "avx512" : "avx2";
#endif
  return "baseline";
}

// A hash of the sources that a library was built from.
extern "C" const char* jlstm_sources() { return JLSTM_SOURCES; }
