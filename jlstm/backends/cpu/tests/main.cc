// Tests without Python, to run with sanitizers. These find every read and write outside of an array and, on request, data races.

#include "tests.h"

int main() {
  jlstm::test_functions();
  jlstm::test_runs();
  std::printf("all is well\n");
}
