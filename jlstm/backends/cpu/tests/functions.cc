// Tests of the error of sigmoid and tanh, in units in the last place (ULP).

#include <cmath>
#include <cstdio>
#include <limits>

#include "tests.h"
#include "vector.h"

namespace jlstm {
namespace {

// The distance of `y` from `truth` in steps between floats of that size.
template <class T>
double ulp(T y, long double truth) {
  const int exponent = std::max(std::ilogb(T(truth)), std::numeric_limits<T>::min_exponent - 1);
  return double(std::fabs(y - truth) / std::ldexp(1.0L, exponent - std::numeric_limits<T>::digits + 1));
}

template <class T>
struct Worst {
  double error = 0;
  T at = 0;
};

template <class T, class F, class G>
Worst<T> worst(const std::vector<T>& xs, F function, G truth) {
  Worst<T> worst;
  for (size_t first = 0; first + kLanes<T> <= xs.size(); first += kLanes<T>) {
    T ys[kLanes<T>];
    store<T>(ys, function(load<T>(&xs[first])));
    for (int k = 0; k < kLanes<T>; ++k) {
      const T x = xs[first + k];
      if (std::isnan(x)) {
        if (!std::isnan(ys[k])) worst = {INFINITY, x};
        continue;
      }
      const double error = ulp<T>(ys[k], truth(static_cast<long double>(x)));
      if (!(error <= worst.error)) worst = {error, x};
    }
  }
  return worst;
}

template <class T, class F, class G>
void check(const char* name, const std::vector<T>& xs, F function, G truth) {
  const Worst<T> largest = worst<T>(xs, function, truth);
  std::printf("%s of %d bits: off by %.2f ULP at %a\n", name, int(8 * sizeof(T)), largest.error, double(largest.at));
  expect(largest.error <= 2, "within 2 ULP");
}

template <class T>
void check_all(const std::vector<T>& xs) {
  check<T>("sigmoid", xs, [](Vector<T> x) { return sigmoid<T>(x); },
           [](long double x) { return x > 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x)); });
  check<T>("tanh", xs, [](Vector<T> x) { return tanh<T>(x); }, [](long double x) { return std::tanh(x); });
}

}  // namespace

void test_functions() {
  // Every 4099th of the 2^32 floats, NaN and infinities among them. 4099 is odd, so that all patterns of low bits occur.
  std::vector<float> floats;
  for (uint64_t bits = 0; bits < 1ull << 32; bits += 4099) {
    const auto pattern = uint32_t(bits);
    float x;
    std::memcpy(&x, &pattern, sizeof x);
    floats.push_back(x);
  }
  floats.resize(floats.size() / kLanes<float> * kLanes<float>);
  check_all<float>(floats);
  std::vector<double> doubles;  // both signs, up to 40, and tiny numbers
  for (int k = 0; k < 1 << 16; ++k) {
    doubles.push_back((k % 2 ? -1 : 1) * (k % 3 ? 40.0 * k / (1 << 16) : std::exp(-40.0 * k / (1 << 16))));
  }
  check_all<double>(doubles);
}

}  // namespace jlstm
