// The cells: what happens to four pre-activations of each unit, forward and backward.
//
// A cell defines
//
//   input_gates, recurrent_gates   the pre-activations that depend on x and on h; the weights of the others must be zero
//   has_c                          whether the carry has c
//   keeps_h                        whether the new h of a unit depends on its old h other than by the recurrent kernel
//   peepholes                      the number of weights of each unit beside the kernels and the bias
//   step                           replaces pre-activations by the gates that the backward run needs and c by the new c; returns
//                                  the new h
//   differentiate                  from the gates and from dh and dc, the gradients of the new carry, computes those of the
//                                  pre-activations and adds those of the peepholes, and replaces dh and dc by the gradients of
//                                  the old carry. Of dh this is only what does not pass through the recurrent kernel, and it is
//                                  used only with keeps_h
//   unprojected                    from the gates and c before a step, the h that `step` returned, for a cell with c. Only what
//                                  has a projection of h calls it
//
// `unit` is the first unit of the vectors, and `lanes` how many units there are from it on.
//
// Each kernel has its own vector.h, which defines Vector<T> and functions on vectors: several units for a processor, one for a
// GPU.

#pragma once

#include "gates.h"
#include "vector.h"

namespace jlstm {

// Columns i, f, g, o:
//
//   c' = f c + i g                        h' = o tanh(c')
//   dc' += dh' o (1 - tanh(c')²)          dz_i = dc' g i (1 - i)     dz_g = dc' i (1 - g²)
//   dc = dc' f                            dz_f = dc' c f (1 - f)     dz_o = dh' tanh(c') o (1 - o)
template <class T>
struct Lstm {
  using V = Vector<T>;
  static constexpr Gates input_gates = kAllGates, recurrent_gates = kAllGates;
  static constexpr bool has_c = true, keeps_h = false;
  static constexpr int peepholes = 0;

  V step(V (&z)[4], const V&, V& c, int64_t, int64_t) const {
    z[0] = sigmoid<T>(z[0]);
    z[1] = sigmoid<T>(z[1]);
    z[2] = tanh<T>(z[2]);
    z[3] = sigmoid<T>(z[3]);
    c = z[1] * c + z[0] * z[2];
    return z[3] * tanh<T>(c);
  }

  V unprojected(const V (&gates)[4], const V& c) const { return gates[3] * tanh<T>(gates[1] * c + gates[0] * gates[2]); }

  void differentiate(const V (&gates)[4], const V&, const V& c, const V& dh, V& dc, V (&dz)[4], V*, int64_t, int64_t) const {
    const auto& [i, f, g, o] = gates;
    const V y = tanh<T>(f * c + i * g);
    dc += dh * o * (1 - y * y);
    dz[0] = dc * g * i * (1 - i);
    dz[1] = dc * c * f * (1 - f);
    dz[2] = dc * i * (1 - g * g);
    dz[3] = dh * y * o * (1 - o);
    dc *= f;
  }
};

// The GRU whose reset gate acts after the product. Columns z, r, a, b, of which a depends on x and b on h:
//
//   g = tanh(a + r b)                     h' = z h + (1 - z) g
//   dh = dh' z                            da = dh' (1 - z) (1 - g²)  db = da r
//   dz = dh' (h - g) z (1 - z)            dr = da b r (1 - r)
//
// It stores z, r, g and b.
template <class T>
struct Gru {
  using V = Vector<T>;
  static constexpr Gates input_gates = 0b0111, recurrent_gates = 0b1011;
  static constexpr bool has_c = false, keeps_h = true;
  static constexpr int peepholes = 0;

  V step(V (&z)[4], const V& h, V&, int64_t, int64_t) const {
    z[0] = sigmoid<T>(z[0]);
    z[1] = sigmoid<T>(z[1]);
    z[2] = tanh<T>(z[2] + z[1] * z[3]);
    return z[0] * h + (1 - z[0]) * z[2];
  }

  void differentiate(const V (&gates)[4], const V& h, const V&, V& dh, V&, V (&dz)[4], V*, int64_t, int64_t) const {
    const auto& [z, r, g, b] = gates;
    dz[0] = dh * (h - g) * z * (1 - z);
    dz[2] = dh * (1 - z) * (1 - g * g);
    dz[1] = dz[2] * b * r * (1 - r);
    dz[3] = dz[2] * r;
    dh *= z;
  }
};

// An activation function whose derivative follows from its value: sigmoid, tanh, or a line that is cut off at two values. `clip`
// limits its argument.
template <class T>
struct Function {
  using V = Vector<T>;
  enum Kind { kSigmoid, kTanh, kLine } kind;
  T slope, offset;  // of the line
  T low, high;      // the values at which the function is cut off. There its derivative is zero
  T clip;

  V value(V x) const {
    x = clamp<T>(x, -clip, clip);
    if (kind == kSigmoid) return sigmoid<T>(x);
    if (kind == kTanh) return tanh<T>(x);
    return clamp<T>(x * slope + offset, low, high);
  }

  V derivative(const V& y) const {
    const V inside = kind == kSigmoid ? y * (1 - y) : kind == kTanh ? 1 - y * y : fill<T>(slope);
    return (low < y) & (y < high) ? inside : V{};
  }
};

// The LSTM with all options that act on a unit alone. Columns i, f, g, o, with peepholes p:
//
//   i = σ(z_i + p_i c)                    c' = clip(f c + i g)       o = σ(z_o + p_o c')
//   f = σ(z_f + p_f c)                    h' = o ψ(c')               g = φ(z_g)
//
// or f = 1 - i, or i = 1 - f. Of the two, the gate that is computed from the other has no weights.
template <class T>
struct LstmVariant {
  using V = Vector<T>;
  static constexpr Gates input_gates = kAllGates, recurrent_gates = kAllGates;
  static constexpr bool has_c = true, keeps_h = false;
  static constexpr int peepholes = 3;
  enum Coupled { kNone, kForget, kInput };

  Function<T> recurrent, activation, output;  // σ, φ and ψ
  T cell_clip;                                // infinite if there is none
  Coupled coupled;                            // the gate that is computed from the other
  const T* weights;                           // p (3, units), rows i, f, o. Null if there are none
  int64_t units;

  V peephole(int row, int64_t unit, int64_t lanes) const {
    return weights ? load_some<T>(weights + row * units + unit, lanes) : V{};
  }
  V sum(const V& z, int row, const V& c, int64_t unit, int64_t lanes) const {
    return weights ? z + peephole(row, unit, lanes) * c : z;  // without peepholes c may be infinite
  }

  V step(V (&z)[4], const V&, V& c, int64_t unit, int64_t lanes) const {
    auto& [i, f, g, o] = z;
    if (coupled != kInput) i = recurrent.value(sum(i, 0, c, unit, lanes));
    if (coupled != kForget) f = recurrent.value(sum(f, 1, c, unit, lanes));
    if (coupled == kInput) i = 1 - f;
    if (coupled == kForget) f = 1 - i;
    g = activation.value(g);
    c = clamp<T>(f * c + i * g, -cell_clip, cell_clip);
    o = recurrent.value(sum(o, 2, c, unit, lanes));
    return o * output.value(c);
  }

  V unprojected(const V (&gates)[4], const V& c) const {
    return gates[3] * output.value(clamp<T>(gates[1] * c + gates[0] * gates[2], -cell_clip, cell_clip));
  }

  void differentiate(const V (&gates)[4], const V&, const V& c, const V& dh, V& dc, V (&dz)[4], V* dp, int64_t unit,
                     int64_t lanes) const {
    const auto& [i, f, g, o] = gates;
    const V unclipped = f * c + i * g, new_c = clamp<T>(unclipped, -cell_clip, cell_clip), y = output.value(new_c);
    dz[3] = dh * y * recurrent.derivative(o);
    dc += dh * o * output.derivative(y) + dz[3] * peephole(2, unit, lanes);
    dc = (-cell_clip < unclipped) & (unclipped < cell_clip) ? dc : V{};
    const V by_i = coupled == kForget ? g - c : g, by_f = coupled == kInput ? c - g : c;
    dz[0] = coupled == kInput ? V{} : dc * by_i * recurrent.derivative(i);
    dz[1] = coupled == kForget ? V{} : dc * by_f * recurrent.derivative(f);
    dz[2] = dc * i * activation.derivative(g);
    dc = dc * f + dz[0] * peephole(0, unit, lanes) + dz[1] * peephole(1, unit, lanes);
    dp[0] += dz[0] * c;
    dp[1] += dz[1] * c;
    dp[2] += dz[3] * new_c;
  }
};

}  // namespace jlstm
