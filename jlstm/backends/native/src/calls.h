// What the functions that XLA calls have in common: checks of the arrays that they are passed, and the cell of a call.

#pragma once

#include <algorithm>
#include <initializer_list>
#include <limits>
#include <string>
#include <string_view>

#include "cells.h"
#include "functions.h"
#include "xla/ffi/api/ffi.h"

namespace jlstm {

namespace ffi = xla::ffi;

using Shape = std::initializer_list<int64_t>;

// Checks arrays, and remembers the first error.
class Checks {
 public:
  template <class Buffer>
  void operator()(const char* name, const Buffer& buffer, ffi::DataType type, Shape shape) {
    const auto dimensions = buffer.dimensions();
    if (buffer.element_type() != type) return complain(name, "has the wrong dtype");
    if (dimensions.size() != shape.size() || !std::equal(shape.begin(), shape.end(), dimensions.begin())) {
      complain(name, "has a shape that does not fit to the other arrays");
    }
  }

  // Like operator(), for an array that may be absent. An absent array has no elements.
  template <class Buffer>
  void optional(const char* name, const Buffer& buffer, ffi::DataType type, Shape shape) {
    if (buffer.element_count() != 0) (*this)(name, buffer, type, shape);
  }

  void complain(const char* name, const char* problem) {
    if (complaint_.empty()) complaint_ = std::string("jlstm's kernel: ") + name + " " + problem;
  }

  bool failed() const { return !complaint_.empty(); }
  ffi::Error error() const { return ffi::Error::InvalidArgument(complaint_); }

 private:
  std::string complaint_;
};

template <class T>
constexpr ffi::DataType kType = sizeof(T) == 4 ? ffi::F32 : ffi::F64;

// The elements of an array; null if it has none.
template <class T, class Buffer>
T* data(const Buffer& buffer) {
  return buffer.element_count() ? static_cast<T*>(buffer.untyped_data()) : nullptr;
}

// The options of a cell, by the names that they have in Python.
struct CellOptions {
  std::string_view cell, activation, recurrent_activation, output_activation, coupled;
  double cell_clip, gate_clip;  // infinite if there is none
};

// The members of CellOptions, for structs of attributes that begin with it.
#define JLSTM_CELL_OPTIONS                                                                                                   \
  ffi::StructMember<std::string_view>("cell"), ffi::StructMember<std::string_view>("activation"),                            \
      ffi::StructMember<std::string_view>("recurrent_activation"), ffi::StructMember<std::string_view>("output_activation"), \
      ffi::StructMember<std::string_view>("coupled"), ffi::StructMember<double>("cell_clip"),                                \
      ffi::StructMember<double>("gate_clip")

// Calls f with the cell of a call.
template <class T, class F>
ffi::Error with_cell(const CellOptions& o, const ffi::AnyBuffer& peepholes, int64_t units, F&& f) {
  if (o.cell == "lstm") return f(Lstm<T>{});
  if (o.cell == "gru") return f(Gru<T>{});
  if (o.cell != "lstm variant") return ffi::Error::InvalidArgument("jlstm's kernel: there is no such cell");
  LstmVariant<T> cell;
  cell.recurrent = function_of<T>(o.recurrent_activation, o.gate_clip);
  cell.activation = function_of<T>(o.activation, o.gate_clip);
  cell.output = function_of<T>(o.output_activation, std::numeric_limits<double>::infinity());
  cell.cell_clip = T(o.cell_clip);
  using Coupled = typename LstmVariant<T>::Coupled;
  cell.coupled = o.coupled == "f=1-i" ? Coupled::kForget : o.coupled == "i=1-f" ? Coupled::kInput : Coupled::kNone;
  cell.weights = data<T>(peepholes);
  cell.units = units;
  return f(cell);
}

}  // namespace jlstm
