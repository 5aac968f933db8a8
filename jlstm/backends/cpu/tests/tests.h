// Declarations that the tests share.

#pragma once

#include <cstdio>
#include <cstdlib>
#include <vector>

namespace jlstm {

inline void expect(bool holds, const char* what) {
  if (holds) return;
  std::printf("failed: %s\n", what);
  std::exit(1);
}

void test_functions();
void test_runs();

}  // namespace jlstm
