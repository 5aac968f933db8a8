// Vectors as GCC and Clang define them, and the activation functions of an LSTM on vectors.
//
// A vector has as many lanes as one register of the processor that the file is compiled for. The source is the same for all.

#pragma once

#include <cstdint>
#include <cstring>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace jlstm {

#if defined(__AVX512F__)
constexpr int kRegisterBytes = 64;
#elif defined(__AVX__)
constexpr int kRegisterBytes = 32;
#else
constexpr int kRegisterBytes = 16;
#endif

template <class T>
constexpr int kLanes = kRegisterBytes / int(sizeof(T));

template <class T>
using Vector __attribute__((vector_size(kRegisterBytes))) = T;

template <class T>
struct Real;  // the constants of a floating-point type

template <>
struct Real<float> {
  using Int = int32_t;
  static constexpr int mantissa = 23, bias = 127;
  static constexpr float smallest = -104;                            // exp(-104) is 0
  static constexpr float saturated = 10;                             // tanh(10) is 1
  static constexpr float round = 0x1.8p23f;                          // x + round - round is the integer beside x
  static constexpr float log2e = 0x1.715476p0f;                      // 1 / ln 2
  static constexpr float ln2[] = {0x1.62e400p-1f, 0x1.7f7d1cp-20f};  // ln 2 in two parts; n times the first is exact
  // (exp(r) - 1 - r) / r² in powers of r, for |r| <= ln 2 / 2; off by 5e-10 of exp(r) - 1
  static constexpr float exp[] = {0.5f, 0.1666666716f, 0.04166646302f, 0.008333310485f, 0.001393368584f, 0.0001989103039f};
  // (tanh(x) - x) / x³ in powers of x², for |x| <= 9/16; off by 1.4e-10 of tanh(x)
  static constexpr float tanh[] = {-0.3333333433f,  0.1333332211f,    -0.05396406353f,
                                   0.02181190252f, -0.008499247953f, 0.002487614751f};
};

template <>
struct Real<double> {
  using Int = int64_t;
  static constexpr int mantissa = 52, bias = 1023;
  static constexpr double smallest = -746;
  static constexpr double saturated = 20;
  static constexpr double round = 0x1.8p52;
  static constexpr double log2e = 0x1.71547652b82fep0;
  static constexpr double ln2[] = {0x1.62e42fefa0000p-1, 0x1.cf79abc9e3b3ap-40};
  static constexpr double exp[] = {
      0.5,                       0.16666666666666665741,    0.041666666666666678231,   0.0083333333333332742371,
      0.0013888888888879712732,  0.00019841269841494379523, 2.4801587334242688343e-05, 2.7557318865066489252e-06,
      2.7557265741031401117e-07, 2.5052351234351944994e-08, 2.0917238110895926033e-09, 1.6011313411235466613e-10};
  static constexpr double tanh[] = {
      -0.33333333333333331483,   0.13333333333333333148,    -0.053968253968252798136,  0.021869488536087128977,
      -0.0088632355276908447034, 0.0035921279919641823167,  -0.0014558337915350806624, 0.00059002197117957863245,
      -0.0002390937768875619682, 9.6753362436833461636e-05, -3.8752864545871271672e-05, 1.4732885177525728703e-05,
      -4.6468104398878984636e-06, 8.5015210917938098463e-07};
};

template <class T>
inline Vector<T> fill(T value) {
  return Vector<T>{} + value;
}

template <class T>
inline Vector<T> load(const T* from) {
  Vector<T> v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

template <class T>
inline void store(T* to, const Vector<T>& v) {
  std::memcpy(to, &v, sizeof v);
}

// Loads or stores the first `lanes` numbers of a vector; `lanes` may be negative, or larger than a vector. Arrays without
// padding, such as ys, end inside of the last vector.
template <class T>
inline void store_some(T* to, const Vector<T>& v, int64_t lanes) {
  if (lanes >= kLanes<T>) return store<T>(to, v);
  if (lanes > 0) std::memcpy(to, &v, size_t(lanes) * sizeof(T));
}

template <class T>
inline Vector<T> load_some(const T* from, int64_t lanes) {
  if (lanes >= kLanes<T>) return load<T>(from);
  Vector<T> v{};
  if (lanes > 0) std::memcpy(&v, from, size_t(lanes) * sizeof(T));
  return v;
}

template <class T>
inline Vector<T> clamp(const Vector<T>& x, T low, T high) {
  const Vector<T> at_least = x < low ? fill<T>(low) : x;
  return at_least > high ? fill<T>(high) : at_least;
}

// Evaluates a polynomial by Horner's rule.
template <class T, int N>
inline Vector<T> polynomial(const T (&coefficients)[N], Vector<T> x) {
  Vector<T> sum = fill<T>(coefficients[N - 1]);
#pragma GCC unroll 16
  for (int k = N - 2; k >= 0; --k) sum = sum * x + coefficients[k];
  return sum;
}

// x times 2^n, for integers n. 2^n itself may be too small for a normal number, so x is multiplied by two powers, whose product
// is 2^n.
template <class T>
inline Vector<T> scale(const Vector<T>& x, const Vector<T>& n) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) return (Vector<T>)_mm512_scalef_ps((__m512)x, (__m512)n);
  if constexpr (sizeof(T) == 8) return (Vector<T>)_mm512_scalef_pd((__m512d)x, (__m512d)n);
#else
  using Ints = Vector<typename Real<T>::Int>;
  const Ints whole = (Ints)(n + Real<T>::round) - (Ints)fill<T>(Real<T>::round), half = whole >> 1;
  const auto power = [](const Ints& k) { return (Vector<T>)((k + Real<T>::bias) << Real<T>::mantissa); };
  return x * power(half) * power(whole - half);
#endif
}

// exp(x) = 2^n exp(r), where n is the integer nearest to x / ln 2, so that |r| <= ln 2 / 2. ln 2 is subtracted in two parts,
// since n times the first is exact and so r loses no digits.
template <class T>
inline Vector<T> exponential(const Vector<T>& x) {
  const Vector<T> n = (x * Real<T>::log2e + Real<T>::round) - Real<T>::round;
  const Vector<T> r = (x - n * Real<T>::ln2[0]) - n * Real<T>::ln2[1];
  return scale<T>(r * r * polynomial<T>(Real<T>::exp, r) + r + 1, n);
}

// a - b c, rounded once. A processor without such an instruction computes it with b and c split in halves, whose products are
// exact: Dekker, 1971, "A floating-point technique for extending the available precision", https://doi.org/10.1007/BF01397083.
template <class T>
inline Vector<T> remainder(const Vector<T>& a, const Vector<T>& b, const Vector<T>& c) {
#if defined(__FMA__) || defined(__aarch64__)
  return a - b * c;  // one instruction, since the file is compiled with -ffp-contract=fast
#else
  constexpr T split = T(int64_t(1) << (Real<T>::mantissa + 2) / 2) + 1;
  const Vector<T> product = b * c;
  const Vector<T> b_high = split * b - (split * b - b), b_low = b - b_high;
  const Vector<T> c_high = split * c - (split * c - c), c_low = c - c_high;
  return (a - product) - (((b_high * c_high - product) + b_high * c_low + b_low * c_high) + b_low * c_low);
#endif
}

// 1 / (1 + exp(-x)), computed from e = exp(-|x|), which cannot overflow: 1 / (1 + e) for positive x, else e / (1 + e). The
// quotient is corrected by two rounding errors, that of 1 + e (`lost`) and its own (`remainder`).
template <class T>
inline Vector<T> sigmoid(const Vector<T>& x) {
  Vector<T> low = x > 0 ? -x : x;
  low = low < Real<T>::smallest ? fill<T>(Real<T>::smallest) : low;
  const Vector<T> e = exponential<T>(low);
  const Vector<T> numerator = x > 0 ? fill<T>(1) : e;
  const Vector<T> denominator = 1 + e;
  const Vector<T> lost = e - (denominator - 1);
  const Vector<T> inverse = 1 / denominator;
  const Vector<T> y = numerator * inverse;
  return y + (remainder<T>(numerator, y, denominator) - y * lost) * inverse;
}

// tanh(x). Near 0 it is a polynomial, since the other form, 1 - 2 / (exp(2|x|) + 1), would lose digits there by cancellation.
template <class T>
inline Vector<T> tanh(const Vector<T>& x) {
  Vector<T> size = x < 0 ? -x : x;
  const Vector<T> square = x * x;
  const Vector<T> near = x * square * polynomial<T>(Real<T>::tanh, square) + x;
  const auto small = size < T(0.5625);
  size = size > Real<T>::saturated ? fill<T>(Real<T>::saturated) : size;
  const Vector<T> far = 1 - 2 / (exponential<T>(size + size) + 1);
  return small ? near : x < 0 ? -far : far;
}

}  // namespace jlstm
