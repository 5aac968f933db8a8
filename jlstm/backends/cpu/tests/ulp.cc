#include "src/vector.h"
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <algorithm>
using namespace jlstm;
template <class F, class G> void check(const char* name, F f, G truth) {
  double worst = 0; float at = 0; double worst_normal = 0; float at_n = 0; long nanbad = 0;
  for (uint64_t u = 0; u < (1ull << 32); u += 16 * 7) {
    float in[16], out[16]; 
    for (int k = 0; k < 16; ++k) { uint32_t b = uint32_t(u + 7*k); std::memcpy(&in[k], &b, 4); }
    for (int k = 0; k < 16; k += kLanes<float>) store<float>(out + k, f(load<float>(in + k)));
    for (int k = 0; k < 16; ++k) {
      if (std::isnan(in[k])) { nanbad += !std::isnan(out[k]); continue; }
      double t = truth((double)in[k]); float r = (float)t;
      float a = std::fabs(r); double ulp = a < 0x1p-126f ? 0x1p-149 : std::ldexp(1.0, std::ilogb(a) - 23);
      double e = std::fabs((double)out[k] - t) / ulp;
      if (!(e <= worst)) worst = e, at = in[k];
      if (a >= 0x1p-126f && !(e <= worst_normal)) worst_normal = e, at_n = in[k];
    }
  }
  printf("%s worst %.3f ulp at %a (%g); normal results %.3f at %g; NaN lost %ld\n", name, worst, at, at, worst_normal, at_n, nanbad);
}
template <class F, class G> void check64(const char* name, F f, G truth) {
  double worst = 0, at = 0; srand(1);
  for (long i = 0; i < 2000000; ++i) {
    double in[8], out[8];
    for (int k = 0; k < 8; ++k) { double u = rand() / (double)RAND_MAX; in[k] = (rand() & 1 ? 1 : -1) * (rand() % 3 ? 25 * u : std::exp(-40 * u)); }
    for (int k = 0; k < 8; k += kLanes<double>) store<double>(out + k, f(load<double>(in + k)));
    for (int k = 0; k < 8; ++k) { long double t = truth((long double)in[k]); double e = std::fabs((double)((out[k] - t) / std::ldexp(1.0L, std::ilogb(t) - 52))); if (!(e <= worst)) worst = e, at = in[k]; }
  }
  printf("%s double worst %.3f ulp at %.17g\n", name, worst, at);
}
int main() {
  check("sigmoid", [](Vector<float> x) { return sigmoid<float>(x); }, [](double x) { return x > 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x)); });
  check("tanh", [](Vector<float> x) { return jlstm::tanh<float>(x); }, [](double x) { return std::tanh(x); });
  check64("sigmoid", [](Vector<double> x) { return sigmoid<double>(x); }, [](long double x) { return x > 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x)); });
  check64("tanh", [](Vector<double> x) { return jlstm::tanh<double>(x); }, [](long double x) { return std::tanh(x); });
}
