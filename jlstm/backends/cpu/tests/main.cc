// Tests that need no Python, for the sanitizers: they see every read and write outside of an array, and every data race on request.

#include "tests.h"

int main() {
  jlstm::test_functions();
  jlstm::test_runs();
  std::printf("all is well\n");
}
