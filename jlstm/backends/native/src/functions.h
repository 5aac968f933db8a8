// The activation functions of a cell by name, for the functions that XLA calls.

#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>
#include <type_traits>

#include "cells.h"

namespace jlstm {

// The value of a function at a number.
template <class T>
T value_at(const Function<T>& f, T x) {
  const Vector<T> y = f.value(fill<T>(x));
  if constexpr (std::is_same_v<Vector<T>, T>) {
    return y;
  } else {
    return y[0];
  }
}

// Limits the argument too. What lies beyond the limit has the value of the limit.
//
// A GPU rounds sigmoid and tanh differently than this function, which runs on the CPU. So a value of theirs counts as that of the
// limit if it is nearly equal.
template <class T>
Function<T> clipped(Function<T> f, T limit) {
  f.clip = limit;
  const T low = value_at<T>(f, -limit), high = value_at<T>(f, limit);
  const T margin = f.kind == Function<T>::kLine ? 0 : 32 * std::numeric_limits<T>::epsilon();
  f.low = std::max(f.low, low + margin * std::abs(low));
  f.high = std::min(f.high, high - margin * std::abs(high));
  return f;
}

// The activation functions of a cell by name, as jlstm/activations.py has them.
template <class T>
Function<T> function_of(std::string_view name, double clip) {
  using F = Function<T>;
  constexpr T infinity = std::numeric_limits<T>::infinity();
  const auto line = [](T slope, T offset, T low, T high) { return F{F::kLine, slope, offset, low, high, infinity}; };
  const F f = name == "sigmoid" ? F{F::kSigmoid, 0, 0, -infinity, infinity, infinity}
              : name == "tanh" ? F{F::kTanh, 0, 0, -infinity, infinity, infinity}
              : name == "hard_sigmoid" ? line(T(1) / 6, T(0.5), 0, 1)
              : name == "hard_sigmoid_0.2" ? line(T(0.2), T(0.5), 0, 1)
              : name == "hard_tanh" ? line(1, 0, -1, 1)
              : name == "relu" ? line(1, 0, 0, infinity)
              : line(1, 0, -infinity, infinity);
  return clip < infinity ? clipped<T>(f, T(clip)) : f;
}

}  // namespace jlstm
